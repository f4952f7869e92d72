"""The window view: what the test itself brought and cost, over its mature units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from klartext.analysis import roi
from klartext.analysis.booked import Booked
from klartext.analysis.estimate import ConfidenceSet, NotEstimable
from klartext.analysis.look import Look, scaled
from klartext.analysis.moments import Moments
from klartext.analysis.readout import Readout
from klartext.analysis.result import Number, VariantCounts, WindowView
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment, Metric, Saving, Worth
from klartext.experiments.ledger.accrual import Accrual, accrue, months_between, rounded

FIXED_BEHAVIOURS = frozenset({"once", "amortised", "month"})


@dataclass(frozen=True, slots=True)
class Period:
    """The time the test has cost money, in UTC, and its calendar months."""

    start: datetime
    end: datetime
    months: Fraction


def period_of(
    experiment: Experiment, readout: Readout, *, started_at: datetime | None
) -> Period | None:
    """Return the period that monthly amounts are charged for; None before the first exposure.

    From the start (or the first exposure, if earlier) until the last unit is mature, as far as
    the facts go.
    """
    first, last = readout.first_exposure, readout.last_exposure
    if first is None or last is None:
        return None
    start = first if started_at is None else min(first, started_at)
    end = min(readout.watermark.cutoff, last + windows(experiment).maturity)
    end = max(start, end)
    return Period(start, end, months_between(start, end, experiment.timezone))


def accruals_of(
    experiment: Experiment, readout: Readout, period: Period | None
) -> tuple[Accrual, ...]:
    """Return the cost lines of the window: variable ones for the mature units, fixed ones whole.

    The fixed ones are charged in proportion mature / exposed by `window_view`.
    """
    if period is None:
        return ()
    return accrue(
        experiment.costs.lines,
        start=period.start,
        end=period.end,
        timezone=experiment.timezone,
        units={count.variant: count.mature for count in readout.counts},
        events=readout.events,
        treatments=experiment.treatments,
    )


def spent(booked: Booked) -> Decimal:
    """Return the variable cost of the whole test so far, exactly: what the budget caps.

    All calls of the experiment (of the declared source, if the spec declares one), also those of
    nobody, at what their bills say where there are bills; variable lines of the ledger; and the
    spec's lines per unit and per event of all exposed units, mature or not, in all variants, for
    the share of the test in which no line of the ledger is in their place.
    """
    experiment, readout = booked.experiment, booked.readout
    total = called(experiment, readout)
    total += sum(
        (charge.amount for charge in booked.charges if charge.behaviour != "replaced"), Decimal(0)
    )
    for line in experiment.costs.lines:
        if line.behaviour in FIXED_BEHAVIOURS:
            continue
        own = 1 - booked.replaced.get(line, Fraction(0))
        for variant in (line.variant,) if line.variant else readout.all_units:
            times = (
                readout.all_units.get(variant, 0)
                if line.event is None
                else readout.all_events.get((variant, line.event), 0)
            )
            total += rounded(times * own * Fraction(line.amount.base))
    return total


def called(experiment: Experiment, readout: Readout) -> Decimal:
    """Return what the calls of `spent` cost by their prices, exactly."""
    declared = experiment.costs.usage_source
    calls = [usage for usage in readout.usage if declared in {None, usage.source}]
    return sum((usage.amount for usage in calls), Decimal(0))


def monthly_saving(experiment: Experiment, variant: str) -> Decimal:
    """Return the realised saving of ``variant`` per month: hours x rate x realised share."""
    return sum(
        (
            entry.hours.base * entry.rate.base * entry.realised.base
            for entry in experiment.value
            if isinstance(entry, Saving) and entry.variant == variant
        ),
        Decimal(0),
    )


def mature_share(count: VariantCounts) -> float:
    """Mature units over exposed ones; 0 before the first."""
    return count.mature / count.exposed if count.exposed else 0.0


def conversion_metric(experiment: Experiment) -> Metric | None:
    """Return the metric that "cost per incremental conversion" is about.

    The conversion that the spec gives a worth, else the one called ``conversion``, else the first.
    """
    rates = [metric for metric in experiment.metrics if metric.kind == "conversion"]
    worth = {entry.metric for entry in experiment.value if isinstance(entry, Worth)}
    preferred = [
        *(metric for metric in rates if metric.key in worth),
        *(metric for metric in rates if metric.key == "conversion"),
        *rates,
    ]
    return preferred[0] if preferred else None


def window_view(  # noqa: PLR0913 - the experiment, its data, and how both are read
    experiment: Experiment,
    readout: Readout,
    accruals: Iterable[Accrual],
    treatment: str,
    *,
    months: Fraction,
    look: Look,
) -> WindowView:
    """Return what ``treatment`` brought and cost in the window, against the control.

    Parameters
    ----------
    experiment
        Resolved spec.
    readout
        Moments of mature units.
    accruals
        From `accruals_of`.
    treatment
        Key of a variant.
    months
        Calendar months of the window, for savings.
    look
        How intervals are made.

    Returns
    -------
    WindowView
        Per unit effects times the mature treated units; savings and fixed cost in proportion
        mature / exposed. Incremental throughout: what the control has or costs is taken off.
    """
    alpha = float(experiment.inference.alpha)
    one, base = readout.moments[treatment], readout.moments[experiment.control]
    fixed, savings = _fixed(experiment, readout, accruals, treatment, months=months)
    per_unit = roi.per_unit(one, base, "margin", "cost")
    if isinstance(per_unit, NotEstimable):
        return _nothing(per_unit, fixed=fixed, savings=savings)
    money = per_unit.scaled(one.n, plus_one=savings, plus_other=fixed)
    margin = look.difference(one, base, "margin", alpha=alpha)
    net = look.difference(one, base, "net", alpha=alpha)
    returned, returned_set = roi.return_on_cost(
        money, multiplier=look.multiplier(one, base, "net", alpha=alpha), level=1 - alpha
    )
    outcomes = _conversions(experiment, one, base, look, fixed=fixed)
    return WindowView(
        incremental_margin=money.one,
        incremental_margin_interval=scaled(margin, scale=one.n, shift=savings),
        incremental_cost=money.other - fixed,
        fixed_cost=fixed,
        cost=money.other,
        net_benefit=money.one - money.other,
        net_benefit_interval=scaled(net, scale=one.n, shift=savings - fixed),
        roi=returned,
        roi_interval=returned_set,
        incremental_conversions=outcomes.count,
        incremental_conversions_interval=outcomes.count_interval,
        cost_per_incremental_conversion=outcomes.cost,
        cost_per_incremental_conversion_interval=outcomes.cost_interval,
        break_even_cost_per_unit=(money.one - fixed) / one.n,
        savings=savings,
    )


@dataclass(frozen=True, slots=True)
class _Conversions:
    count: Number
    count_interval: ConfidenceSet
    cost: Number
    cost_interval: ConfidenceSet


def _conversions(
    experiment: Experiment, one: Moments, base: Moments, look: Look, *, fixed: float
) -> _Conversions:
    metric = conversion_metric(experiment)
    if metric is None:
        none = NotEstimable("no-conversion-metric", "the spec has no conversion metric")
        return _Conversions(none, none, none, none)
    alpha = float(experiment.inference.alpha)
    joint = roi.per_unit(one, base, "cost", metric.key)
    if isinstance(joint, NotEstimable):
        return _Conversions(joint, joint, joint, joint)
    totals = joint.scaled(one.n, plus_one=fixed, plus_other=0.0)
    _, estimate = look.estimates(one, base, metric.key, alpha=alpha, is_rate=True)[0]
    width = look.multiplier(one, base, metric.key, alpha=alpha)
    cost, cost_set = roi.cost_per_outcome(totals, multiplier=width, level=1 - alpha)
    return _Conversions(totals.other, scaled(estimate, scale=one.n), cost, cost_set)


def _fixed(
    experiment: Experiment,
    readout: Readout,
    accruals: Iterable[Accrual],
    treatment: str,
    *,
    months: Fraction,
) -> tuple[float, float]:
    """Return fixed cost and savings of the window, incremental and in proportion to maturity."""
    cost, savings = 0.0, 0.0
    for sign, variant in ((1, treatment), (-1, experiment.control)):
        share = sign * mature_share(readout.count(variant))
        charged = [
            accrual.amount
            for accrual in accruals
            if accrual.variant == variant and accrual.line.behaviour in FIXED_BEHAVIOURS
        ]
        cost += share * float(sum(charged, Decimal(0)))
        savings += share * float(months) * float(monthly_saving(experiment, variant))
    return cost, savings


def _nothing(reason: NotEstimable, *, fixed: float, savings: float) -> WindowView:
    return WindowView(
        incremental_margin=reason,
        incremental_margin_interval=reason,
        incremental_cost=reason,
        fixed_cost=fixed,
        cost=reason,
        net_benefit=reason,
        net_benefit_interval=reason,
        roi=reason,
        roi_interval=reason,
        incremental_conversions=reason,
        incremental_conversions_interval=reason,
        cost_per_incremental_conversion=reason,
        cost_per_incremental_conversion_interval=reason,
        break_even_cost_per_unit=reason,
        savings=savings,
    )
