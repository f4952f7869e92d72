"""What a report says about numbers, sets and reasons, in its language.

Codes and numbers of the analysis become sentences through the message catalogue. An unknown code
falls back to the English ``detail``; a test walks the code that makes codes, so that none is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from statistics import NormalDist
from typing import Literal, TypeAlias

from klartext.analysis import covariates
from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, Unbounded
from klartext.analysis.result import (
    Adjustment,
    Analysis,
    Check,
    CostItem,
    DecisionView,
    MetricResult,
    Number,
)
from klartext.experiments.inputs import Input, InputUnit
from klartext.reports.document import ReportDocument
from klartext.reports.language import MISSING, Language, Locale

NBSP = "\N{NO-BREAK SPACE}"
NET = "net"
"""Key of the primary metric that no spec declares: margin minus AI cost per unit."""

_EVIDENCE = {
    "cost line of the spec": "costs.from_spec",
    "no price": "costs.unpriced",
    "": "costs.no_evidence",
}
Show: TypeAlias = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Said:
    """A text for a place that wants a number; ``reason`` says why there is none."""

    text: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class CheckSaid:
    """A quality check in words."""

    name: str
    severity: str
    severity_text: str
    value: str
    advice: str


def locale_of(document: ReportDocument, language: Language) -> Locale:
    """Return the locale of a report: its language, currency and time zone."""
    return Locale(language, document.analysis.currency, document.experiment.timezone)


def level(locale: Locale, alpha: float) -> str:
    """Return the coverage ``1 - alpha`` as percent with the decimals it needs.

    Examples
    --------
    >>> level(Locale("en", "EUR", "UTC"), 0.025)
    '97.5%'
    """
    decimals = next(
        d for d in range(5) if d == 4 or math.isclose(alpha * 100, round(alpha * 100, d))
    )
    sign = "%" if locale.language == "en" else "\N{NO-BREAK SPACE}%"
    return locale.number((1 - alpha) * 100, decimals=decimals) + sign


def mode(locale: Locale, analysis: Analysis) -> str:
    """Say the inference mode, and at which planned look of it this is."""
    said = locale.text(f"mode.{analysis.mode}", level=level(locale, analysis.alpha))
    look = analysis.look
    if look is None:
        return said
    fraction = locale.percent(look.fraction, like=1.0)
    if look.number is not None:
        looks = locale.integer(len(look.planned))
        number = locale.integer(look.number)
        where = locale.text("mode.look", number=number, looks=looks, fraction=fraction)
    else:
        after = (
            locale.text("mode.none_left")
            if look.due_at is None
            else locale.text("mode.due_at", fraction=locale.percent(look.due_at, like=1.0))
        )
        where = locale.text("mode.unplanned", fraction=fraction, next=after)
    return f"{said}; {where}"


def horizon(document: ReportDocument, locale: Locale) -> str:
    """Say which future the decision view covers."""
    return locale.text("horizon.planned" if document.experiment.rollout is None else "horizon.year")


def reason(locale: Locale, missing: NotEstimable) -> str:
    """Say why there is no number."""
    key = f"missing.{missing.reason}"
    return locale.text(key) if locale.has(key) else missing.detail


def number(locale: Locale, value: Number, show: Show) -> Said:
    """Return a number as text, or a dash with its reason."""
    if isinstance(value, NotEstimable):
        return Said(MISSING, reason(locale, value))
    if not math.isfinite(value):
        return Said(MISSING, locale.text("missing.not-finite"))
    return Said(show(value))


def region(  # noqa: PLR0911 - one return per kind of set
    locale: Locale, found: ConfidenceSet, show: Show
) -> str:
    """Say a confidence set: its ends, or that the data do not determine the value."""
    match found:
        case NotEstimable():
            return reason(locale, found)
        case Interval(lower, upper):
            if not (math.isfinite(lower) and math.isfinite(upper)):
                return locale.text("set.line")
            return locale.text("range.between", low=show(lower), high=show(upper))
        case Unbounded("left", bounds):
            return locale.text("set.left", high=show(bounds[0]))
        case Unbounded("right", bounds):
            return locale.text("set.right", low=show(bounds[0]))
        case Unbounded("rays", bounds):
            return locale.text("set.rays", low=show(bounds[0]), high=show(bounds[1]))
        case Unbounded():
            return locale.text("set.line")


def labelled_region(
    locale: Locale,
    found: ConfidenceSet,
    show: Show,
    *,
    alpha: float,
    kind: Literal["labelled", "credible"] = "labelled",
) -> str:
    """Say a confidence set with its level, if it has one."""
    said = region(locale, found, show)
    if isinstance(found, Interval):
        return locale.text(f"range.{kind}", level=level(locale, alpha), range=said)
    return said


def credible(outlook: DecisionView, *, alpha: float) -> ConfidenceSet:
    """Return the central range of the posterior net benefit, which is normal.

    The confidence set of the raw estimate does not belong to the posterior mean: with a narrow
    prior the mean may even lie outside of it.
    """
    mean, sd = outlook.posterior_mean, outlook.posterior_sd
    if isinstance(mean, NotEstimable):
        return mean
    if isinstance(sd, NotEstimable):
        return sd
    reach = NormalDist().inv_cdf(1 - alpha / 2) * sd
    return Interval(mean - reach, mean + reach, 1 - alpha)


def is_pulled(outlook: DecisionView) -> bool:
    """Whether the prior moved the best estimate out of the interval of the measured one."""
    mean, found = outlook.posterior_mean, outlook.interval
    return (
        isinstance(found, Interval)
        and not isinstance(mean, NotEstimable)
        and not found.lower <= mean <= found.upper
    )


def money_like(locale: Locale, value: Number) -> Show:
    """Return how amounts beside ``value`` are shown: with its decimals."""
    like = value if not isinstance(value, NotEstimable) and math.isfinite(value) else None
    return lambda amount: locale.money(amount, like=like)


def roi_like(locale: Locale, value: Number, *, short: bool = False) -> Show:
    """Return how an ROI is shown: percent below 1,000 %, from there on a multiple of the cost."""
    if not isinstance(value, NotEstimable) and abs(value) >= 10:
        decimals = 0 if abs(value) >= 1000 else 1
        unit = "unit.times_short" if short else "unit.times"
        return lambda roi: locale.text(unit, number=locale.number(roi, decimals=decimals))
    return lambda roi: locale.percent(roi, like=1.0)


def quantity(
    locale: Locale, value: float, *, signed: bool = False, like: float | None = None
) -> str:
    """Return a number of no particular unit with about four significant digits."""
    size = abs(value if like is None else like)
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 4
    return locale.number(value, decimals=decimals, signed=signed)


def metric_mean(locale: Locale, metric: MetricResult, value: Number) -> Said:
    """Say a mean of a metric in its unit."""
    if metric.is_rate:
        like = min(
            0.05, 0.05 if isinstance(metric.baseline_mean, NotEstimable) else metric.baseline_mean
        )
        return number(locale, value, lambda x: locale.percent(x, like=like))
    if metric.is_money:
        return number(locale, value, locale.money)
    return number(locale, value, lambda x: quantity(locale, x))


def metric_difference(locale: Locale, metric: MetricResult, like: float) -> Show:
    """Return how differences of a metric are shown, with the decimals that ``like`` needs."""
    if metric.is_rate:
        return lambda x: locale.points(x, like=like)
    if metric.is_money:
        return lambda x: locale.money(x, like=like, signed=True)
    return lambda x: quantity(locale, x, signed=True, like=like)


def relative_like(locale: Locale, value: Number) -> Show:
    """Return how relative changes are shown, with the decimals of the estimate."""
    like = value if not isinstance(value, NotEstimable) and math.isfinite(value) else 1.0
    return lambda x: locale.percent(x, like=like, signed=True)


def metric_name(locale: Locale, metric: MetricResult) -> str:
    """Name a metric: its key, or words for the net value that no spec declares."""
    return locale.text("metrics.net") if metric.primary and metric.metric == NET else metric.metric


def adjustment(locale: Locale, found: Adjustment) -> str:
    """Say what an estimate is adjusted for, and how much of its variance that removed."""
    names = ", ".join(_covariate(locale, name) for name in found.covariates) or MISSING
    removed = number(locale, found.variance_removed, lambda x: locale.percent(x, like=x))
    return locale.text("metrics.adjusted", covariates=names, share=removed.text)


def _covariate(locale: Locale, column: str) -> str:
    found = covariates.looked_back(column)
    if found is None or found[1] % timedelta(days=1):
        return covariates.readable(column)
    span = locale.plural("days", found[1].days)
    return locale.text("metrics.covariate_days", metric=found[0], span=span)


def evidence(locale: Locale, item: CostItem) -> str | None:
    """Say where a cost comes from; None when that is a price proof, shown as it was recorded."""
    key = _EVIDENCE.get(item.evidence)
    return None if key is None else locale.text(key)


def method(locale: Locale, name: str) -> str:
    """Name an estimator."""
    key = f"method.{name}"
    return locale.text(key) if locale.has(key) else name


def coded(locale: Locale, group: str, code: str) -> str:
    """Name a code of a closed list, such as a cost category; an unknown one stays as it is."""
    key = f"{group}.{code}"
    return locale.text(key) if locale.has(key) else code


def check(locale: Locale, found: Check) -> CheckSaid:
    """Say a quality check: its name, its value, and what to do about it."""
    name = f"check.{found.code}.name"
    advice = f"check.{found.code}.{found.severity}"
    return CheckSaid(
        name=locale.text(name) if locale.has(name) else found.code,
        severity=found.severity,
        severity_text=locale.text(f"severity.{found.severity}"),
        value=_check_value(locale, found),
        advice=locale.text(advice) if locale.has(advice) else found.detail,
    )


def _check_value(locale: Locale, found: Check) -> str:
    if found.value is None:
        return MISSING
    match CHECK_VALUES.get(found.code, "number"):
        case "p_value":
            said = locale.p_value(found.value)
            return (f"p {said}" if said.startswith("<") else f"p = {said}").replace(" ", NBSP)
        case "share":
            return locale.percent(found.value, like=0.05)
        case _:
            return quantity(locale, found.value)


CHECK_VALUES: dict[str, str] = {
    "ai_units": "share",
    "ai_version": "share",
    "balance": "p_value",
    "missing_outcomes": "p_value",
    "novelty": "p_value",
    "srm_days": "p_value",
    "aliases": "share",
    "cost_complete": "share",
    "foreign_currency": "share",
    "missing_amount": "share",
    "negative_refund": "share",
    "no_currency": "share",
    "srm": "p_value",
    "srm_exposure": "p_value",
    "srm_segments": "p_value",
    "two_variants": "share",
    "variants": "share",
    "zero_weight": "share",
}
"""What the value of a check is: a p-value, a share, else a number."""


def left_out(locale: Locale, analysis: Analysis) -> str:
    """Name the cost categories that have no entry at all."""
    names = [coded(locale, "cost_category", code) for code in analysis.completeness.left_out]
    if not names:
        return locale.text("costs.nothing_left_out")
    return locale.text("costs.left_out", categories=", ".join(names))


def ledger(locale: Locale, analysis: Analysis) -> list[str]:
    """Say what the books hold of the experiment, and what of it does not count."""
    view = analysis.ledger
    currency = analysis.currency
    said = []
    if view.as_of is not None:
        said.append(locale.text("costs.ledger_as_of", as_of=locale.instant(view.as_of)))
    if view.recorded_until is None:
        return said
    said.insert(
        0,
        locale.text(
            "costs.ledger",
            lines=locale.integer(view.lines),
            total=locale.exact(view.total),
            currency=currency,
            until=locale.instant(view.recorded_until),
        ),
    )
    for name, amount in (("outside", view.outside), ("unused", view.unused)):
        if amount:
            shown = locale.exact(amount)
            said.append(locale.text(f"costs.{name}", amount=shown, currency=currency))
    return said


def completeness(locale: Locale, analysis: Analysis) -> list[str]:
    """Say how many calls are priced, and how many the comparison does not know."""
    found = analysis.completeness
    if found.calls == 0 and found.calls_after == 0:
        return [locale.text("costs.no_calls")]
    said = []
    if found.calls:
        priced = locale.integer(found.priced_calls)
        share = locale.percent(found.priced_calls / found.calls, like=0.5)
        calls = locale.integer(found.calls)
        said.append(locale.text("costs.completeness", priced=priced, calls=calls, share=share))
        known = locale.percent(found.money_share, like=0.5)
        said.append(locale.text("costs.known_money", share=known))
    others = {"unattributed": found.unattributed_calls, "after": found.calls_after}
    said += [
        locale.text(f"costs.{name}", count=locale.integer(count))
        for name, count in others.items()
        if count
    ]
    return said


def assumption(locale: Locale, one: Input) -> str:
    """Name a stated input."""
    subject, line = coded(locale, "cost_category", one.subject), one.line
    months = "" if line is None or line.life_months is None else locale.integer(line.life_months)
    said = locale.text(f"assumptions.{one.topic}", subject=subject, months=months)
    if line is not None and line.hours is not None and line.rate is not None:
        hours = locale.text("unit.hours", number=locale.plain(line.hours))
        factors = locale.text(
            "assumptions.hours_times_rate", hours=hours, rate=locale.money(line.rate)
        )
        said += f" ({factors})"
    if one.variant is not None:
        said += ", " + locale.text("assumptions.for_variant", variant=one.variant)
    return said


def assumption_value(locale: Locale, one: Input, which: str = "base") -> str:
    """Return a stated value, exactly as stated."""
    return stated(locale, one.unit, getattr(one.assumption, which))


def stated(locale: Locale, unit: InputUnit, value: Decimal) -> str:
    """Return a value of an input exactly as it was stated."""
    match unit:
        case "fraction":
            return locale.share(value)
        case "money":
            return locale.exact(value)
        case "hours":
            return locale.text("unit.hours", number=locale.plain(value))
        case "count":
            return locale.plain(value)


def input_value(locale: Locale, one: Input, value: float) -> str:
    """Return a computed value of an input in its unit, rounded."""
    match one.unit:
        case "fraction":
            return locale.percent(value, like=0.05)
        case "money":
            return locale.money(value)
        case "hours":
            return locale.text("unit.hours", number=locale.number(value, decimals=1))
        case "count":
            return locale.number(value, decimals=0)


def assumption_span(locale: Locale, one: Input) -> Said:
    """Return the stated range, or that none was given."""
    if one.assumption.low is None and one.assumption.high is None:
        return Said(MISSING, locale.text("assumptions.missing_span"))
    low, high = (
        MISSING if getattr(one.assumption, end) is None else assumption_value(locale, one, end)
        for end in ("low", "high")
    )
    return Said(locale.text("range.between", low=low, high=high))
