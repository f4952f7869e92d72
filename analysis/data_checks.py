"""All checks of one experiment's data, in the order in which a reader should see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from klartext.analysis import covariates
from klartext.analysis.checks import (
    ai_version,
    balance,
    missing_outcomes,
    novelty,
    srm,
    two_variants,
    zero_weight,
)
from klartext.analysis.columns import counted_metrics
from klartext.analysis.conditions import COMPLETE_SHARE
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.look import Look, planned_units
from klartext.analysis.readout import Readout
from klartext.analysis.result import Check, CostCompleteness
from klartext.experiments.experiment import Experiment

INVALID_STRANGERS = 0.01
"""Share of units in unregistered variants from which the variants do not match the spec."""

WARNING_ALIASES = 0.01
"""Contested and unresolved aliases per unit from which the reader is warned."""

INVALID_FOREIGN = 0.01
"""Share of a metric's amounts in another currency, or of money in none, from which the metric
cannot be read."""


def data_checks(
    experiment: Experiment, readout: Readout, completeness: CostCompleteness
) -> tuple[Check, ...]:
    """Run every check on the data of one look.

    Parameters
    ----------
    experiment
        Resolved spec.
    readout
        Counts, amounts and calls.
    completeness
        How much of the AI cost is known.

    Returns
    -------
    tuple of Check
        Those with severity ``invalid`` mean that nothing can be read from the data.
    """
    kept = [count.exposed for count in readout.counts]
    excluded = [count.excluded for count in readout.counts]
    splits = list(_splits(experiment, readout))
    mode: Literal["fixed", "anytime"] = "anytime"
    if experiment.registration == "retrospective":
        mode = "fixed"
    checks: list[Check] = []
    split = _assignment(experiment, splits, mode=mode)
    if readout.assigned is not None:
        every = list(_splits(experiment, readout.assigned))
        checks.append(_assignment(experiment, every, mode=mode))
        split = replace(split, code="srm_exposure")
    checks.append(split)
    checks.append(
        zero_weight.check(
            [count for split in splits for count in split.first],
            [weight for split in splits for weight in split.weights],
        )
    )
    if experiment.kind == "ab" and len(splits) == 1:
        checks.extend(_days(readout, splits[0].weights, mode=mode))
        checks.extend(_segments(readout, splits[0].weights, mode=mode))
    checks.extend(_regimes(experiment, readout))
    out = [(split.excluded, split.weights) for split in splits]
    checks.append(two_variants.check(kept, excluded, out))
    checks.append(_strangers(readout))
    checks.extend(_aliases(readout))
    checks.extend(_amounts(readout))
    checks.extend(_balance(experiment, readout, mode=mode))
    checks.append(_missing(experiment, readout))
    checks.extend(_diagnosed(experiment, readout))
    checks.append(_cost(experiment, readout, completeness))
    checks.extend(_ai_units(readout))
    checks.extend(_caps(readout))
    return tuple(checks)


class _Split(NamedTuple):
    """Units per variant that were assigned by one split: first exposures, and those left out."""

    first: list[int]
    excluded: list[int]
    weights: list[int]


def _splits(experiment: Experiment, readout: Readout) -> Iterator[_Split]:
    keys = [variant.key for variant in experiment.variants]
    if experiment.kind == "ab" and len(readout.regimes) < 2:
        yield _Split(
            [readout.all_units[key] for key in keys],
            [count.excluded for count in readout.counts],
            _intended([variant.weight for variant in experiment.variants]),
        )
        return
    for regime in readout.regimes:
        yield _Split(
            [regime.first[key] for key in keys],
            [regime.excluded[key] for key in keys],
            _intended([regime.weights[key] for key in keys]),
        )


def _assignment(
    experiment: Experiment, splits: list[_Split], *, mode: Literal["fixed", "anytime"]
) -> Check:
    """Return whether units went where the weights of their time sent them."""
    if not splits:
        return Check("srm", "info", None, "not tested: no policy has been published yet")
    if len(splits) == 1 and experiment.kind == "ab":
        return srm.check(splits[0].first, splits[0].weights, mode=mode)
    return srm.check_moved([(split.first, split.weights) for split in splits])


def _regimes(experiment: Experiment, readout: Readout) -> Iterator[Check]:
    """Yield how the comparison is combined, when the weights moved."""
    filled = max(found.regimes for found in readout.moments.values())
    if filled < 2:
        return
    lacking = [key for key, found in readout.moments.items() if found.missing is not None]
    detail = f"the weights moved: units are compared within {filled} splits, each with its share"
    if experiment.kind == "bandit":
        detail += "; they follow the outcomes, so the intervals are approximate and never give a GO"
    if lacking:
        detail += f"; {', '.join(lacking)} cannot be compared: some split has too few of its units"
    severity: Literal["info", "warning"] = "warning" if lacking else "info"
    yield Check("split_regimes", severity, float(filled), detail)


def _intended(weights: list[int]) -> list[int]:
    """Return the weights before rounding: three equal shares are not exact in millionths."""
    return [1] * len(weights) if max(weights) - min(weights) == 1 else weights


def _days(
    readout: Readout, weights: list[int], *, mode: Literal["fixed", "anytime"]
) -> Iterator[Check]:
    """Yield the worst split of a day, adjusted for all of them; it never invalidates."""
    if readout.diagnostics is None or len(readout.diagnostics.days) < 2:
        return  # a single day is the whole, which is tested anyway
    days = {day: list(units.values()) for day, units in readout.diagnostics.days.items()}
    worst, p = srm.smallest(days, weights, mode=mode)
    if isinstance(p, NotEstimable):
        yield Check("srm_days", "info", None, p.detail)
        return
    severity: Literal["ok", "warning"] = "warning" if p < srm.WARNING_P else "ok"
    units = " / ".join(f"{count:,}" for count in days[worst])
    detail = f"smallest of {len(days)} days, adjusted p {p:.6g}: {worst}, units {units}"
    yield Check("srm_days", severity, p, detail)


def _balance(
    experiment: Experiment, readout: Readout, *, mode: Literal["fixed", "anytime"]
) -> Iterator[Check]:
    """Yield the largest difference before exposure; as for the split, valid at every live look."""
    columns = covariates.all_columns(experiment)
    if not columns:
        return
    differences = {
        f"{covariates.readable(column)} {treatment}": Look(
            mode, planned_units(experiment, treatment), deciding=True
        ).difference(
            readout.moments[treatment], readout.moments[experiment.control], column, alpha=0.05
        )
        for column in columns
        for treatment in experiment.treatments
    }
    yield balance.check(differences)


def _missing(experiment: Experiment, readout: Readout) -> Check:
    """Ask the columns of the metrics, and the observations of those that have none: quantiles."""
    outcomes = {
        metric.key: {
            variant: int(moments.nonzero[moments.columns.index(metric.key)])
            for variant, moments in readout.moments.items()
        }
        for metric in counted_metrics(experiment)
    }
    for metric, found in readout.observations.items():
        if not isinstance(found, NotEstimable):  # too many of them is not none
            outcomes[metric] = {variant: one.n for variant, one in found.items()}
    return missing_outcomes.check(
        {
            metric: {
                variant: missing_outcomes.Outcomes(readout.moments[variant].n, count)
                for variant, count in counts.items()
            }
            for metric, counts in outcomes.items()
        }
    )


def _diagnosed(experiment: Experiment, readout: Readout) -> Iterator[Check]:
    found = readout.diagnostics
    if found is None:
        return
    if found.halved is not None:
        yield novelty.check(
            found.halved,
            found.halves,
            control=experiment.control,
            treatments=experiment.treatments,
        )
    registered = {variant.key: variant.ai for variant in experiment.variants}
    if found.calls or any(registered.values()):
        yield ai_version.check(registered, found.calls)


def _segments(
    readout: Readout, weights: list[int], *, mode: Literal["fixed", "anytime"]
) -> Iterator[Check]:
    """Yield the worst split within a level, adjusted for all levels; it never invalidates."""
    levels = {
        f"{segment.property} {level.level.kind} {level.level.value!r}": list(level.units.values())
        for segment in readout.segments
        for level in segment.levels
    }
    if not levels:
        return
    worst, p = srm.smallest(levels, weights, mode=mode)
    if isinstance(p, NotEstimable):
        yield Check("srm_segments", "info", None, p.detail)
        return
    severity: Literal["ok", "warning"] = "warning" if p < srm.WARNING_P else "ok"
    units = " / ".join(f"{count:,}" for count in levels[worst])
    detail = f"smallest of {len(levels)} levels, adjusted p {p:.6g}: {worst}, units {units}"
    yield Check("srm_segments", severity, p, detail)


def _strangers(readout: Readout) -> Check:
    strangers, total = readout.strangers, sum(readout.all_units.values())
    if not strangers:
        return Check("variants", "ok", 0.0, "every exposure names a variant of the spec")
    share = strangers / (total + strangers)
    severity: Literal["warning", "invalid"] = "invalid" if share > INVALID_STRANGERS else "warning"
    detail = f"{strangers:,} units were exposed to variants that the spec does not have"
    return Check("variants", severity, share, detail)


def _aliases(readout: Readout) -> Iterator[Check]:
    """Yield nothing when no alias concerns an exposed unit."""
    found, units = readout.aliases, sum(readout.all_units.values())
    if found is None or not (found.merged or found.contested or found.unresolved):
        return
    doubtful = found.contested + found.unresolved
    share = doubtful / max(units, 1)
    severity: Literal["ok", "warning"] = "warning" if share > WARNING_ALIASES else "ok"
    detail = f"{found.merged:,} ids were merged into units by aliases"
    if found.contested:
        detail += f"; {found.contested:,} are claimed by several units and went to the first"
    if found.unresolved:
        detail += f"; {found.unresolved:,} are claimed in a circle or too long a chain and stayed"
    yield Check("aliases", severity, share, detail)


def _amounts(readout: Readout) -> Iterator[Check]:
    for found in readout.amounts:
        total = found.events + found.refunds
        if found.missing:
            detail = f"{found.missing:,} of {total:,} events of {found.metric} have no amount"
            yield Check("missing_amount", "warning", found.missing / total, detail)
        if found.foreign:
            share = found.foreign / total
            severity: Literal["warning", "invalid"] = (
                "invalid" if share > INVALID_FOREIGN else "warning"
            )
            detail = f"{found.foreign:,} of {total:,} events of {found.metric} are in another "
            yield Check("foreign_currency", severity, share, f"{detail}currency and not counted")
        if found.bare:
            share = found.bare / total
            severity = "invalid" if share > INVALID_FOREIGN else "warning"
            detail = (
                f"{found.bare:,} of {total:,} events of {found.metric} have an amount without a "
            )
            yield Check("no_currency", severity, share, f"{detail}currency and are not counted")
        if found.negative_refunds:
            detail = (
                f"{found.negative_refunds:,} of {found.refunds:,} refunds of {found.metric} are "
                "below zero and add to it; refunds are positive amounts"
            )
            share = found.negative_refunds / found.refunds
            yield Check("negative_refund", "warning", share, detail)


def _cost(experiment: Experiment, readout: Readout, known: CostCompleteness) -> Check:
    share = min(known.priced_share, known.money_share)
    left_out = f"; no cost stated for {', '.join(known.left_out)}" if known.left_out else ""
    if not known.calls and not known.calls_after:
        source = experiment.costs.usage_source
        if source is None:
            return Check("cost_complete", "info", share, f"no AI calls were imported{left_out}")
        detail = f"no AI calls of the source {source} were imported{left_out}"
        return Check("cost_complete", "warning", share, detail)
    came = "came after the cost window of their unit"
    if known.calls:
        detail = (
            f"{known.priced_calls:,} of {known.calls:,} AI calls have a price, "
            f"{known.unattributed_calls:,} belong to no variant"
        )
        if known.calls_after:
            detail += f", {known.calls_after:,} more {came}"
    else:  # the cost is known: it is none
        detail = f"no AI call counts: {known.calls_after:,} {came}"
    detail += _elsewhere(experiment, readout)
    severity: Literal["ok", "warning"] = "ok" if share >= COMPLETE_SHARE else "warning"
    return Check("cost_complete", severity, share, f"{detail}{left_out}")


def _ai_units(readout: Readout) -> Iterator[Check]:
    """Yield that AI calls name too few units for intervals, with the least share of a variant."""
    if readout.calls is None:
        return
    found = [of["ai.error_rate"] for of in readout.calls.coverage.values()]
    worst = min((one for one in found if one.calls), key=lambda one: one.with_unit / one.calls)
    if not worst.is_enough:
        detail = (
            f"{worst.with_unit:,} of {worst.calls:,} AI calls of a variant name one of its units; "
            "AI metrics show levels without intervals"
        )
        yield Check("ai_units", "warning", worst.with_unit / worst.calls, detail)


def _caps(readout: Readout) -> Iterator[Check]:
    """Yield for each percentile cap what it is, and whether it can still change."""
    for cap in readout.caps:
        name = f"{cap.metric}, p{(cap.percentile * 100).normalize():f}"
        if cap.value is None:
            detail = (
                f"{name}: {cap.units:,} of the {cap.needed:,} units with a value that it asks for; "
                "nothing is capped, and there is no GO on its value, until it is resolved"
            )
            yield Check("cap_pending", "warning", None, detail)
            continue
        origin = "events before the start" if cap.source == "pre_period" else "mature units"
        detail = f"{name}: {float(cap.value):.10g}, of {cap.units:,} units with a value ({origin})"
        if cap.frozen_at is None:
            detail += "; provisional: the next recorded look freezes it"
            yield Check("cap_provisional", "info", float(cap.value), detail)
        else:
            frozen = f"{detail}; frozen on {cap.frozen_at:%Y-%m-%d}"
            yield Check("cap_frozen", "ok", float(cap.value), frozen)


def _elsewhere(experiment: Experiment, readout: Readout) -> str:
    declared = experiment.costs.usage_source
    others = sorted({usage.source for usage in readout.usage} - {declared})
    if declared is None or not others:
        return ""
    return f" (the spec counts {declared} only, not {', '.join(others)})"
