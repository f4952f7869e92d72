"""The scorecard: an analysis as plain text that is read in ten seconds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from klartext.app.cli.beside import value_text, what_if_mark
from klartext.app.cli.columns import columns
from klartext.app.cli.words import counted, with_legend

if TYPE_CHECKING:
    from klartext.analysis.estimate import ConfidenceSet
    from klartext.analysis.result import (
        Analysis,
        MetricResult,
        Number,
        Reason,
        Sway,
        TreatmentResult,
    )
    from klartext.analysis.segment_effects import SegmentEffect

_MARKS = {True: "yes", False: "no", None: "–"}
_SHARES = frozenset(
    {
        "cost_bounded_limited",
        "cost_complete",
        "hurdle_probability",
        "predictive_probability",
        "probability_positive",
        "probability_without_prior",
    }
)


_SWAYS = 5
"""Inputs that the scorecard shows of a tornado."""

_CORRECTED = {
    "holm": "P HOLM",
    "benjamini_hochberg": "P BH",
    "benjamini_yekutieli": "P BY",
}
"""Heads of the column of adjusted p-values."""


def scorecard(analysis: Analysis) -> str:
    """Return the verdict, why, the money, the metrics and the checks, in this order.

    A what-if is marked as one above and below.
    """
    sections = [
        _head(analysis),
        _conditions(analysis),
        _money(analysis),
        *(_tornado(analysis, one) for one in analysis.treatments),
        _metrics(analysis),
        _adjustments(analysis),
        _intention_to_treat(analysis),
        *(_segment(effect) for effect in analysis.segments if effect.primary),
        _ledger(analysis),
        _checks(analysis),
    ]
    text = with_legend("\n\n".join(section for section in sections if section))
    mark = what_if_mark(analysis.assumed) if analysis.is_what_if else ""
    return f"{mark}\n\n{text}\n\n{mark}" if mark else text


def _head(analysis: Analysis) -> str:
    decision, level = analysis.decision, 1 - analysis.alpha
    named = f" {decision.variant}" if decision.variant else ""
    marked = "" if analysis.registered else "  (not registered before the data existed)"
    units = ", ".join(f"{c.variant} {c.mature:,} of {c.exposed:,}" for c in analysis.counts)
    stricter = (
        f", {1 - analysis.rule_alpha:.4g} in the rule" if len(analysis.treatments) > 1 else ""
    )
    seen = f"facts up to {analysis.watermark.cutoff:%Y-%m-%d %H:%M} UTC"
    lines = [
        (
            f"{'what if: ' if analysis.is_what_if else ''}{decision.verdict}{named}"
            f"  by rule {decision.rule}{marked}"
        ),
        f"{analysis.experiment}: {analysis.title}",
        f"{seen}; {analysis.mode.replace('_', ' ')} intervals at {level:.4g}{stricter}",
        *_planned(analysis),
        f"mature units: {units}",
    ]
    left_out = analysis.completeness.left_out
    if left_out:
        said = f"cost left out: {', '.join(name.replace('_', ' ') for name in left_out)}"
        lines.extend(textwrap.wrap(said, 98, subsequent_indent="  "))
    return "\n".join(lines)


def _planned(analysis: Analysis) -> Iterator[str]:
    """Yield at which planned look of a group sequential test this is."""
    look = analysis.look
    if look is None:
        return
    where = f"{look.fraction:.0%} of the planned units ({look.spending})"
    if look.number is not None:
        yield f"planned look {look.number} of {len(look.planned)} at {where}"
        return
    after = "the last was taken" if look.due_at is None else f"the next is due at {look.due_at:.0%}"
    yield f"no planned look at {where}; {after}: anytime intervals, nothing is decided"


def _conditions(analysis: Analysis) -> str:
    rows = [_condition(reason) for reason in analysis.decision.reasons]
    return columns(["WHY", "SEEN", "ASKED", "MET", "MEANING"], rows) if rows else ""


def _condition(reason: Reason) -> list[str]:
    def shown(value: float | None) -> str:
        if value is None:
            return "–"
        if reason.code in _SHARES:
            return f"{value:.1%}"
        return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"

    code = reason.code.replace("_", " ")
    if reason.code in {"guardrail", "other_treatment"}:
        code = f"{code} {reason.subject}"
    seen, asked = shown(reason.value), shown(reason.threshold)
    return [code, seen, asked, _MARKS[reason.met], reason.detail]


def _money(analysis: Analysis) -> str:
    treatments = analysis.treatments
    header = [f"IN THE TEST, {analysis.currency}", *(one.variant for one in treatments)]
    found = zip(*(_money_rows(one) for one in treatments), strict=True)
    rows = [
        [row[0][0], *("–" if text is None else text for _, text in row)]
        for row in found
        if any(text is not None for _, text in row)
    ]
    split = next(place for place, row in enumerate(rows) if row[0] == "treated units")
    ahead = [f"AFTER A GO, {analysis.currency}", *header[1:]]
    rows.insert(split, [""] * len(header))
    rows.insert(split + 1, ahead)
    return columns(header, rows)


def _money_rows(one: TreatmentResult) -> Iterator[tuple[str, str | None]]:
    """Yield the same rows for every treatment; None where this one has no such row."""
    window, outlook = one.window, one.outlook
    yield (
        "incremental margin",
        _with(window.incremental_margin, window.incremental_margin_interval),
    )
    yield "  of it realised savings", _figure(window.savings)
    yield "AI cost, fully loaded", _figure(window.cost)
    yield "net benefit", _with(window.net_benefit, window.net_benefit_interval)
    yield "ROI (1 is 100 %)", _with(window.roi, window.roi_interval, places=3)
    margin, roi = None, None
    if one.unadjusted:
        before = one.unadjusted[0]
        margin = f"margin {_with(before.incremental_margin, before.incremental_margin_interval)}"
        roi = f"ROI {_with(before.roi, before.roi_interval, places=3)}"
    yield "  before the adjustment", margin
    yield "", roi
    yield (
        "cost per extra conversion",
        _with(
            window.cost_per_incremental_conversion,
            window.cost_per_incremental_conversion_interval,
        ),
    )
    yield "treated units", f"{outlook.units:,.0f}"
    yield "net benefit, raw", _with(outlook.net_benefit, outlook.interval)
    plain = one.unadjusted[1] if one.unadjusted else None
    yield (
        "  before the adjustment",
        _with(plain.net_benefit, plain.interval) if plain else None,
    )
    yield "net benefit, posterior", _figure(outlook.posterior_mean)
    yield "P(net benefit > 0)", _percent(outlook.probability_positive)
    yield "expected loss", _figure(outlook.expected_loss)
    yield "net present value, raw", _figure(outlook.npv)
    yield from _prospect(one)
    yield "verdict", f"{one.decision.verdict} ({one.decision.rule})"


def _prospect(one: TreatmentResult) -> Iterator[tuple[str, str | None]]:
    """Yield what waiting may bring, where there is something to wait for."""
    chance, expected = None, None
    if one.decision.verdict == "CONTINUE":
        if isinstance(one.prospect.predictive_probability, float):
            chance = _percent(one.prospect.predictive_probability)
        if isinstance(one.prospect.forecast, datetime):
            expected = f"{one.prospect.forecast:%Y-%m-%d %H:%M} UTC"
    yield "shown > 0 by the end, at most", chance
    yield "decision expected by", expected


def _tornado(analysis: Analysis, one: TreatmentResult) -> str:
    """One line per input that moves the net benefit most; all of them are in the JSON."""
    if analysis.decision.verdict == "INVALID":
        return ""
    widest = [sway for sway in one.tornado if sway.width][:_SWAYS]
    if not widest:
        return ""
    named = f" of {one.variant}" if len(analysis.treatments) > 1 else ""
    header = [
        f"WHAT MOVES THE NET BENEFIT{named}, {analysis.currency}",
        "RANGE",
        "AT LOW",
        "AT HIGH",
        "ZERO AT",
    ]
    return columns(header, [_sway(sway) for sway in widest])


def _sway(sway: Sway) -> list[str]:
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    stated, fraction = sway.input.assumption, sway.input.unit == "fraction"

    low, high = (stated.base if end is None else end for end in (stated.low, stated.high))
    zero = f"– ({sway.break_even.reason})" if isinstance(sway.break_even, NotEstimable) else ""
    if not isinstance(sway.break_even, NotEstimable):
        shown = f"{sway.break_even:.2%}" if fraction else f"{sway.break_even:,.2f}"
        zero = shown if sway.in_range else f"{shown}, outside"
    return [
        sway.input.path,
        f"{value_text(low, sway.input.unit)} to {value_text(high, sway.input.unit)}",
        _figure(sway.at_low),
        _figure(sway.at_high),
        zero,
    ]


def _metrics(analysis: Analysis) -> str:
    names = [_CORRECTED[one.correction] for one in analysis.metrics if one.correction is not None]
    adjusted = names[:1]  # without secondary metrics there is nothing to adjust for
    header = ["METRIC", "VARIANT", "CONTROL", "TREATED", "METHOD", "LIFT", "P", *adjusted]
    rows = [_metric(result) for result in analysis.metrics]
    if not adjusted:
        rows = [[*row[:7], row[8]] for row in rows]
    return columns([*header, "DIFFERENCE"], rows)


def _intention_to_treat(analysis: Analysis) -> str:
    every = analysis.intention_to_treat
    if every is None:
        return ""
    units = ", ".join(f"{c.variant} {c.mature:,} of {c.exposed:,}" for c in every.counts)
    return f"ALL UNITS, whether they reached the event or not (mature: {units})\n{_metrics(every)}"


def _segment(effect: SegmentEffect) -> str:
    """One line per level for the primary metric; the others are in the JSON and the report."""
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    rows = []
    for found in effect.levels:
        # A value is what somebody sent: nothing in it may reach the terminal as a command.
        name = ascii(found.level.value)[:40] if found.level.kind == "value" else found.level.kind
        units = f"{found.n:,} / {found.baseline_n:,}"
        if isinstance(found.estimate, NotEstimable):
            rows.append([name, units, "–", "–", f"– {found.estimate.detail}"])
            continue
        p = found.p_adjusted
        rows.append(
            [
                name,
                units,
                "–" if isinstance(p, NotEstimable) else f"{p:.2g}",
                _figure(found.pooled, places=4),
                f"{found.estimate.value:+.4g} {_interval(found.estimate.interval, places=None)}",
            ]
        )
    test, look = effect.differs, "" if effect.valid_for_look else ", for a single look"
    differs = "not tested" if isinstance(test, NotEstimable) else f"p {test.p_value:.2g}{look}"
    title = f"{effect.metric} {effect.variant} by {effect.property}; levels differ: {differs}"
    header = ["LEVEL", f"{effect.variant} / {effect.baseline}", "P (HOLM)", "POOLED", "DIFFERENCE"]
    return f"{title}\n{columns(header, rows)}"


def _adjustments(analysis: Analysis) -> str:
    """One line per adjusted metric: for what, and how much of the variance that removed."""
    from klartext.analysis.covariates import readable  # noqa: PLC0415 - heavy

    lines = []
    for result in analysis.metrics:
        if result.adjustment is not None:
            used = ", ".join(map(readable, result.adjustment.covariates)) or "nothing"
            removed = _percent(result.adjustment.variance_removed)
            dropped = "".join(
                f"; {readable(name)} is {why}" for name, why in result.adjustment.dropped
            )
            lines.append(
                f"{result.metric} {result.variant}: adjusted for {used}, "
                f"{removed} of the variance removed{dropped}"
            )
    return "\n".join(lines)


def _metric(result: MetricResult) -> list[str]:
    """One row: the first method that may be read at this look, else the first there is."""
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    found = [(m, e) for m, e in result.estimates if not isinstance(e, NotEstimable)]
    readable = [(m, e) for m, e in found if e.valid_for_look] or found
    name = f"{result.metric} *" if result.primary else result.metric
    base, treated = _mean(result.baseline_mean, result), _mean(result.mean, result)
    if not readable:
        method, refused = result.estimates[0]
        reason = refused.detail if isinstance(refused, NotEstimable) else ""
        return [name, result.variant, base, treated, method, "–", "–", "–", f"– {reason}"]
    method, estimate = readable[0]
    shown = method if estimate.valid_for_look else f"({method})"
    p = estimate.p_value
    return [
        name,
        result.variant,
        base,
        treated,
        shown,
        _percent(estimate.relative),
        *(
            "–" if isinstance(x, NotEstimable | None) else f"{x:.2g}"
            for x in (p, result.adjusted_p)
        ),
        f"{estimate.value:+.4g} {_interval(estimate.interval, places=None)}",
    ]


def _ledger(analysis: Analysis) -> str:
    """Say what the books hold, and for which AI calls a bill, a price or an estimate counts."""
    view = analysis.ledger
    if not view.lines:
        return ""
    head = f"LEDGER: {counted(view.lines, 'line')}, {view.total:,.2f} {analysis.currency}"
    head += "" if view.as_of is None else f", as of {view.as_of:%Y-%m-%d %H:%M} UTC"
    head += f"; outside the test {view.outside:,.2f}" if view.outside else ""
    head += f"; estimates of priced calls {view.unused:,.2f}" if view.unused else ""
    rows = [
        [
            one.provider,
            f"{one.start:%Y-%m-%d}",
            one.variant or "all",
            one.source,
            f"{one.booked:,.2f}",
            f"{one.priced:,.2f}",
            f"{one.difference:+,.2f}",
        ]
        for one in view.sources
    ]
    header = ["CALLS OF", "FROM", "VARIANT", "COUNTS", "LEDGER", "BY PRICE", "DIFFERENCE"]
    return f"{head}\n{columns(header, rows)}" if rows else head


def _checks(analysis: Analysis) -> str:
    rows = [[check.code, check.severity, check.detail] for check in analysis.checks]
    return columns(["CHECK", "RESULT", "DETAIL"], rows)


def _mean(value: Number, result: MetricResult) -> str:
    return _percent(value) if result.is_rate else _figure(value, places=4)


def _percent(value: Number) -> str:
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    return "–" if isinstance(value, NotEstimable) else f"{value:.2%}"


def _figure(value: Number, *, places: int = 2) -> str:
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    return f"– ({value.reason})" if isinstance(value, NotEstimable) else f"{value:,.{places}f}"


def _with(value: Number, region: ConfidenceSet, *, places: int = 2) -> str:
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    if isinstance(value, NotEstimable):
        return f"– ({value.reason})"
    return f"{_figure(value, places=places)} {_interval(region, places=places)}"


def _interval(region: ConfidenceSet, *, places: int | None) -> str:
    from klartext.analysis.estimate import Interval, NotEstimable  # noqa: PLC0415 - heavy

    match region:
        case Interval(lower, upper, _):
            form = "+.4g" if places is None else f",.{places}f"
            return f"[{lower:{form}}, {upper:{form}}]"
        case NotEstimable():
            return f"[– {region.reason}]"
        case _:
            return "[cannot be determined reliably]"
