"""Evaluation: from a registered experiment, its readout and its accruals to the whole analysis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from klartext.analysis import attribution, decision, quantile_metrics
from klartext.analysis.adjusted import money as adjusted_money
from klartext.analysis.ai_metrics import ai_metrics
from klartext.analysis.beliefs import believed
from klartext.analysis.breakdown import cost_items
from klartext.analysis.corrections import corrected
from klartext.analysis.data_checks import data_checks
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.guardrails import read_guardrail
from klartext.analysis.look import Look, planned_look, planned_units
from klartext.analysis.metric_estimates import metric_estimates, unadjusted
from klartext.analysis.moments import Moments
from klartext.analysis.projection import decision_view
from klartext.analysis.prospect import prospect_of
from klartext.analysis.ratio_metrics import Quantity, Ratio, quantity
from klartext.analysis.readout import Readout
from klartext.analysis.result import (
    Analysis,
    Check,
    CostCompleteness,
    MetricResult,
    Number,
    PlannedLook,
    TreatmentResult,
)
from klartext.analysis.running import Calendar, calendar, drift_check, drift_of, running
from klartext.analysis.segment_effects import SegmentEffect, segment_effect
from klartext.analysis.sequential import group
from klartext.analysis.sequential.replay import Running
from klartext.analysis.uncapped import uncapped_net_benefit
from klartext.analysis.value import Period, accruals_of, spent, window_view
from klartext.analysis.windows import windows
from klartext.experiments.experiment import AI_KEYS, ContributionMargin, Experiment, Metric
from klartext.experiments.ledger.accrual import Accrual, left_out

PRIMARY = "net"
"""The primary metric: margin minus AI cost per unit."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What the registry knows about an experiment.

    Parameters
    ----------
    version, sha256
        The version in force and its hash.
    recorded_at
        When the rule that binds was recorded.
    approved
        Roles that have signed a GO.
    gates
        Latest result of each preflight check that has one.
    incidents
        Reasons of the open incidents.
    looks
        Planned looks of a group sequential test that were recorded.
    stopped_at
        When the test was stopped; None while it runs.
    """

    version: int
    sha256: str
    recorded_at: datetime
    approved: frozenset[str] = frozenset()
    gates: Mapping[str, Decimal] = field(default_factory=dict)
    incidents: tuple[str, ...] = ()
    looks: tuple[group.Look, ...] = ()
    stopped_at: datetime | None = None


def analyse(
    experiment: Experiment,
    registration: Registration,
    readout: Readout,
    accruals: Iterable[Accrual],
    *,
    period: Period | None,
) -> Analysis:
    """Return the analysis of one experiment at one watermark.

    Parameters
    ----------
    experiment
        Resolved spec.
    registration
        Version, hash and time of registration.
    readout
        Moments, counts and sums.
    accruals
        Cost lines of the window, from `klartext.analysis.value.accruals_of`.
    period
        The time they cover, from `klartext.analysis.value.period_of`.

    Returns
    -------
    Analysis
        A pure function of its arguments; looking changes nothing.
    """
    experiment = _as_started(experiment, readout)
    mature = sum(count.mature for count in readout.counts)
    subject = _subject(experiment, registration, readout, accruals, period=period, mature=mature)
    found = _analysed(subject, registration)
    if readout.assigned is None:
        return found
    # Whether a look decides is said by the units that the plan counts, those of the analysis.
    every = replace(experiment, exposure_event=None, segments=())
    charged = accruals_of(every, readout.assigned, period)
    of_all = _subject(every, registration, readout.assigned, charged, period=period, mature=mature)
    return replace(found, intention_to_treat=_analysed(of_all, registration))


def _subject(  # noqa: PLR0913 - everything that an analysis is made of
    experiment: Experiment,
    registration: Registration,
    readout: Readout,
    accruals: Iterable[Accrual],
    *,
    period: Period | None,
    mature: int,
) -> _Subject:
    completeness = _completeness(experiment, readout)
    days = calendar(readout.daily, moved=len(readout.regimes) > 1)
    values = _running_values(experiment, days)
    return _Subject(
        experiment=experiment,
        readout=readout,
        accruals=tuple(accruals),
        months=Fraction(0) if period is None else period.months,
        registered=_is_registered(experiment, registration, readout),
        registration=registration,
        checks=(
            *data_checks(experiment, readout, completeness),
            *((drift_check(values.items()),) if values else ()),
        ),
        days=days,
        values=values,
        completeness=completeness,
        mature=mature,
    )


def _segments(subject: _Subject, metrics: Iterable[MetricResult]) -> Iterator[SegmentEffect]:
    """Yield every metric by every segment, segments first."""
    experiment, alpha = subject.experiment, float(subject.experiment.inference.alpha)
    compared = tuple(metrics)
    for segment in subject.readout.segments:
        for result in compared:
            known = next((m for m in experiment.metrics if m.key == result.metric), None)
            if result.metric in AI_KEYS or (known is not None and known.kind == "quantile"):
                continue  # of calls and of single events, which no moments of units tell apart
            what = PRIMARY if known is None else quantity(known)
            look = subject.look(result.variant)

            def read(
                one: Moments,
                base: Moments,
                *,
                what: Quantity = what,
                look: Look = look,
                is_rate: bool = result.is_rate,
            ) -> tuple[str, Estimate | NotEstimable]:
                return unadjusted(look, one, base, what, alpha, is_rate=is_rate)[0]

            yield segment_effect(
                segment,
                result,
                what,
                look=look,
                read=read,
                alpha=alpha,
                prior_relative_sd=float(experiment.inference.prior_relative_sd),
            )


def _analysed(subject: _Subject, registration: Registration) -> Analysis:
    experiment, readout = subject.experiment, subject.readout
    treatments = tuple(_treatment(subject, variant) for variant in experiment.treatments)
    alpha = float(experiment.inference.alpha)
    results = [one for variant in experiment.treatments for one in _metrics(subject, variant)]
    metrics = believed(experiment, readout.moments, corrected(experiment, results))
    return Analysis(
        experiment=experiment.key,
        title=experiment.title,
        version=registration.version,
        spec_sha256=registration.sha256,
        registered=subject.registered,
        mode=experiment.inference.mode,
        alpha=alpha,
        rule_alpha=alpha / len(experiment.treatments),
        currency=experiment.currency,
        watermark=readout.watermark,
        counts=readout.counts,
        checks=subject.checks,
        metrics=metrics,
        treatments=treatments,
        completeness=subject.completeness,
        decision=decision.decide_overall(treatments),
        look=_planned_look(subject, subject.look(experiment.treatments[0]), treatments),
        segments=tuple(_segments(subject, metrics)),
    )


def _as_started(experiment: Experiment, readout: Readout) -> Experiment:
    """Return the experiment with the weights it began with: plan and rule follow from them."""
    if experiment.kind == "bandit" or len(readout.regimes) < 2:
        return experiment
    weights = readout.regimes[0].weights
    began = tuple(replace(one, weight=weights[one.key]) for one in experiment.variants)
    return replace(experiment, variants=began)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is the same for all treatments."""

    experiment: Experiment
    readout: Readout
    accruals: tuple[Accrual, ...]
    months: Fraction
    registered: bool
    registration: Registration
    checks: tuple[Check, ...]
    days: Calendar
    values: Mapping[str, Running | NotEstimable]
    completeness: CostCompleteness
    mature: int

    def look(self, treatment: str) -> Look:
        return planned_look(
            self.experiment,
            treatment,
            mature=self.mature,
            taken=self.registration.looks,
            ended=self.is_over and self.ran_to_its_end,
        )

    @property
    def is_over(self) -> bool:
        """Whether no more units will come: a finished experiment, or its end and they are mature.

        At ``plan.latest_end``, or one wait later if some never mature.
        """
        if self.experiment.registration == "retrospective":
            return True
        end, cutoff = self.experiment.plan.latest_end, self.readout.watermark.cutoff
        if end is None or cutoff < end:
            return False
        waiting = any(count.mature < count.exposed for count in self.readout.counts)
        return not waiting or cutoff >= end + _wait(self.experiment)

    @property
    def ran_to_its_end(self) -> bool:
        """Whether nobody stopped the test before its end, which a good day may have tempted to."""
        end, stopped = self.experiment.plan.latest_end, self.registration.stopped_at
        return stopped is None or (end is not None and stopped >= end)


def _running_values(experiment: Experiment, days: Calendar) -> dict[str, Running | NotEstimable]:
    """Return what the decision reads, replayed day by day; nothing outside of anytime mode."""
    if experiment.inference.mode != "anytime":
        return {}
    return {
        variant: _running(experiment, days, variant, "outlook", share=len(experiment.treatments))
        for variant in experiment.treatments
    }


def _running(
    experiment: Experiment, days: Calendar, treatment: str, column: str, *, share: int = 1
) -> Running | NotEstimable:
    return running(
        days,
        (treatment, experiment.control),
        column,
        alpha=float(experiment.inference.alpha) / share,
        planned_n=planned_units(experiment, treatment),
    )


def _is_registered(experiment: Experiment, registration: Registration, readout: Readout) -> bool:
    """Whether the rule was recorded before there was anything to see."""
    if experiment.registration == "retrospective":
        return False
    first = (readout.assigned or readout).first_exposure  # not the exposure event: data come before
    return first is None or registration.recorded_at <= first


def _metrics(subject: _Subject, treatment: str) -> Iterator[MetricResult]:
    """Yield the primary metric first, then those of the spec, of one treatment.

    Without a value entry there is no net value to speak of, and the first metric is primary.
    """
    experiment, readout = subject.experiment, subject.readout
    one, base = readout.moments[treatment], readout.moments[experiment.control]
    money = {amounts.metric for amounts in readout.amounts if amounts.is_money}
    money |= {e.metric for e in experiment.value if isinstance(e, ContributionMargin)}
    look, alpha = subject.look(treatment), float(experiment.inference.alpha)
    columns: list[tuple[str, Quantity, Metric | None]]
    columns = [
        (metric.key, quantity(metric), metric)
        for metric in experiment.metrics
        if metric.kind != "quantile"
    ]
    if experiment.value:
        columns.insert(0, (PRIMARY, PRIMARY, None))
        money.add(PRIMARY)
    for place, (key, what, metric) in enumerate(columns):
        found = metric_estimates(experiment, metric, what, one, base, look=look, alpha=alpha)
        yield MetricResult(
            metric=key,
            kind="mean" if metric is None else metric.kind,
            variant=treatment,
            baseline=experiment.control,
            primary=place == 0,
            is_money=_is_money(what, money),
            is_rate=metric is not None and metric.is_rate,
            mean=_level(one, what),
            baseline_mean=_level(base, what),
            estimates=found.estimates,
            adjustment=found.adjustment,
            running=(
                None
                if isinstance(what, Ratio) or experiment.inference.mode != "anytime"
                else _running(experiment, subject.days, treatment, what)
            ),
        )
    for metric in experiment.metrics:
        if metric.kind == "quantile":
            yield _quantile(subject, treatment, metric, is_money=metric.key in money)
    yield from ai_metrics(readout.calls, treatment, experiment.control, look=look, alpha=alpha)


def _quantile(subject: _Subject, treatment: str, metric: Metric, *, is_money: bool) -> MetricResult:
    """Return a quantile metric of one treatment against the control."""
    control, look = subject.experiment.control, subject.look(treatment)
    found = subject.readout.observations[metric.key]
    q, alpha = quantile_metrics.share_of(metric), float(subject.experiment.inference.alpha)
    method = "quantile" if look.mode == "fixed" else "anytime-quantile"
    estimates: tuple[tuple[str, Estimate | NotEstimable], ...]
    levels: tuple[Number, Number]
    if isinstance(found, NotEstimable):
        levels, estimates = (found, found), ((method, found),)
    else:
        one, base = found[treatment], found[control]
        levels = quantile_metrics.level(one, q), quantile_metrics.level(base, q)
        estimates = quantile_metrics.estimates(look, one, base, q, alpha=alpha)
    return MetricResult(
        metric=metric.key,
        kind=metric.kind,
        variant=treatment,
        baseline=control,
        primary=metric == subject.experiment.metrics[0] and not subject.experiment.value,
        is_money=is_money,
        is_rate=False,
        mean=levels[0],
        baseline_mean=levels[1],
        estimates=estimates,
    )


def _is_money(what: Quantity, money: set[str]) -> bool:
    """Revenue per order is money; orders per visit and the share of margin in revenue are not."""
    if isinstance(what, Ratio):
        return what.numerator in money and what.denominator not in money
    return what in money


def _level(moments: Moments, what: Quantity) -> Number:
    if moments.n == 0:
        return NotEstimable("no-units", "the variant has no mature units")
    if moments.missing is not None:
        return moments.missing
    if not isinstance(what, Ratio):
        return moments.sample(what).mean
    below = moments.sample(what.denominator).mean
    if below == 0:
        return NotEstimable("zero-denominator", "the denominator's mean is zero")
    return moments.sample(what.numerator).mean / below


def _treatment(subject: _Subject, treatment: str) -> TreatmentResult:
    experiment, readout, look = subject.experiment, subject.readout, subject.look(treatment)
    one, base = readout.moments[treatment], readout.moments[experiment.control]
    alpha = float(experiment.inference.alpha)
    raw = readout
    money = adjusted_money(experiment, one, base, look=look, alpha=alpha)
    readout = replace(
        readout,
        moments={
            **readout.moments,
            treatment: money.treatment,
            experiment.control: money.control,
        },
    )
    view, worst = (
        decision_view(
            experiment, readout, treatment, test_months=subject.months, look=look, bound=bound
        )
        for bound in _BOUNDS
    )
    prospect = prospect_of(experiment, readout, treatment, look=look, view=view)
    evidence = decision.Evidence(
        variant=treatment,
        rule=experiment.decision,
        registered=subject.registered,
        retrospective=experiment.registration == "retrospective",
        adaptive=experiment.kind == "bandit",
        deciding=look.deciding,
        mode=look.mode,
        at_end=subject.is_over or _is_last(look),
        checks=subject.checks,
        spent=spent(experiment, readout),
        budget=experiment.costs.budget,
        guardrails=tuple(
            read_guardrail(
                experiment,
                guardrail,
                raw.measured(experiment.metric(guardrail.metric), treatment),
                raw.measured(experiment.metric(guardrail.metric), experiment.control),
                look=look,
                alpha=alpha / len(experiment.treatments),
            )
            for guardrail in experiment.guardrails
        ),
        view=view,
        worst=worst,
        duration=_duration(experiment, readout),
        uncapped=uncapped_net_benefit(experiment, one, base, view),
        drift=drift_of(subject.values[treatment]) if subject.values else None,
        completeness=subject.completeness,
        approved=subject.registration.approved,
        gates=tuple(
            (gate, subject.registration.gates.get(gate.check))
            for gate in experiment.decision.preflight
        ),
        incidents=subject.registration.incidents,
        prospect=prospect,
    )
    window, before = (
        window_view(experiment, seen, subject.accruals, treatment, months=subject.months, look=look)
        for seen in (readout, raw)
    )
    plain = decision_view(experiment, raw, treatment, test_months=subject.months, look=look)
    return TreatmentResult(
        variant=treatment,
        baseline=experiment.control,
        window=window,
        outlook=view,
        costs=cost_items(experiment, readout, subject.accruals, treatment),
        decision=decision.decide(evidence),
        prospect=prospect,
        guardrails=evidence.guardrails,
        unadjusted=None if money.adjustment is None else (before, plain),
    )


_BOUNDS: tuple[Literal["base", "high"], ...] = ("base", "high")


def _wait(experiment: Experiment) -> timedelta:
    return windows(experiment).maturity + experiment.lateness


def _duration(experiment: Experiment, readout: Readout) -> timedelta:
    """Return the time from the first exposure to that of the youngest mature unit.

    Waiting after the last exposure does not count: it adds no weekday to the comparison.
    """
    if readout.first_exposure is None or readout.last_exposure is None:
        return timedelta(0)
    youngest = min(readout.watermark.cutoff - _wait(experiment), readout.last_exposure)
    return youngest - readout.first_exposure


def _is_last(look: Look) -> bool:
    """Whether no later look can decide: this is the one of a fixed design, or the last planned."""
    if look.place is not None:
        due = look.place.due
        return isinstance(due, group.Look) and due.number == len(look.place.fractions)
    return look.mode == "fixed" and look.deciding


def _planned_look(
    subject: _Subject, look: Look, treatments: Iterable[TreatmentResult]
) -> PlannedLook | None:
    """Return where a group sequential test stands; the place is the same for all treatments.

    A look whose boundary no treatment could use, in its burn-in, is not taken: its alpha is spent
    at the next one. Where one of several could, it is; the others then spend a little less.
    """
    if look.place is None:
        return None
    due, taken = look.place.due, subject.registration.looks
    is_due = isinstance(due, group.Look)
    readable = any(not isinstance(one.outlook.rule_interval, NotEstimable) for one in treatments)
    return PlannedLook(
        spending=look.place.spending,
        planned=look.place.fractions,
        number=due.number if isinstance(due, group.Look) else None,
        fraction=due.fraction,
        information=subject.mature,
        due_at=due.due_at if isinstance(due, group.Unplanned) else None,
        spends=is_due and readable and len(look.place.taken) == len(taken),
    )


def _completeness(experiment: Experiment, readout: Readout) -> CostCompleteness:
    """Return how much of the calls and of their money is priced and belongs to a variant."""
    calls = sum(usage.calls for usage in readout.usage)
    unpriced = sum(usage.unpriced for usage in readout.usage)
    nobody = [usage for usage in readout.usage if usage.charged_to == attribution.NOBODY]
    owned = [usage for usage in readout.usage if usage.charged_to != attribution.NOBODY]
    known = sum((usage.amount for usage in owned), Decimal(0))
    possible = known + sum((usage.amount for usage in nobody), Decimal(0))
    possible += unpriced * (readout.highest_price or Decimal(0))
    if calls:
        calls_share = sum(usage.calls - usage.unpriced for usage in owned) / calls
        money_share = float(known / possible) if possible > 0 else calls_share
    else:  # a source that was promised and delivered nothing is not complete
        calls_share = money_share = 1.0 if experiment.costs.usage_source is None else 0.0
    used = {usage.category for usage in owned}
    return CostCompleteness(
        calls=calls,
        priced_calls=calls - unpriced,
        unattributed_calls=sum(usage.calls for usage in nobody),
        priced_share=calls_share,
        left_out=left_out(experiment.costs.lines, used),
        money_share=money_share,
    )
