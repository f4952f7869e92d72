"""Questions of a planned test: what is to be shown of one treatment, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from klartext.analysis.baseline import MARGIN, Baseline
from klartext.analysis.comparison import Comparison, Mode
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.outcome import Outcome
from klartext.analysis.projection import Outlook
from klartext.analysis.result import Number
from klartext.analysis.stakes import Money
from klartext.experiments.experiment import (
    MILLION,
    ContributionMargin,
    Experiment,
    Guardrail,
    Metric,
    Saving,
    Worth,
)

Kind = Literal["net_benefit", "metric", "guardrail"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How all comparisons of a plan are read.

    Parameters
    ----------
    treatment
        Compared with the control.
    mode
        Looks and boundaries.
    alpha
        Of the experiment; each treatment gets its equal part.
    """

    treatment: str
    mode: Mode
    alpha: float


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to be shown.

    Parameters
    ----------
    kind
        The net benefit that decides, a metric, or a guardrail kept.
    key
        Of the metric; ``net_benefit``.
    baseline
        Of the control; for the net benefit its margin per unit.
    comparison
        What planning asks, or why it cannot.
    effect
        What is assumed to be true, in the unit that ``comparison`` compares; 0 for a guardrail.
    lift
        The same as the lift of ``baseline``: what a person says.
    scale, shift
        An effect e is the lift ``(e + shift) / scale``.
    """

    kind: Kind
    key: str
    baseline: Baseline
    comparison: Comparison | NotEstimable
    effect: Number
    lift: Number
    scale: Number
    shift: float = 0.0

    def lift_of(self, effect: float) -> Number:
        """Return an effect as a lift of the baseline."""
        if isinstance(self.scale, NotEstimable):
            return self.scale
        return (effect + self.shift) / self.scale

    def effect_of(self, lift: float) -> Number:
        """Return a lift of the baseline as an effect."""
        if isinstance(self.scale, NotEstimable):
            return self.scale
        return lift * self.scale - self.shift


NO_LIFT = NotEstimable("no-expected-lift", "no lift is expected of it; say one with --lift")


def of_metric(
    experiment: Experiment, reading: Reading, metric: Metric, baseline: Baseline, lift: float | None
) -> Question:
    """Whether the metric moves in its direction."""
    scale = _scale(baseline)
    comparison: Comparison | NotEstimable
    if isinstance(baseline.outcome, NotEstimable):
        comparison = baseline.outcome
    else:
        comparison = _adjusted(
            replace(_comparison(experiment, reading, baseline.outcome), goal=metric.direction),
            baseline,
        )
    effect: Number = NO_LIFT
    if lift is not None:
        effect = scale if isinstance(scale, NotEstimable) else lift * scale
    return Question(
        "metric", metric.key, baseline, comparison, effect, NO_LIFT if lift is None else lift, scale
    )


def of_net_benefit(
    experiment: Experiment,
    reading: Reading,
    money: Money,
    horizon: Outlook | NotEstimable,
    *,
    margin_lift: Number,
) -> Question:
    """Whether the net benefit of the decision is above zero.

    Notes
    -----
    ``N s (p dm - dc) - F > 0`` is ``p dm > dc + F / (N s)``: per unit, ``p m - c`` has to rise by
    more than ``F / (N s)``. The effect here is what is left of that, and its lift is that of the
    margin, ``(effect + dc + F / (N s)) / (p margin)``.
    """
    margin, cost, sd = money.margin, money.cost, money.net_sd
    if isinstance(margin, NotEstimable):
        return _refused(margin, Baseline(margin), margin_lift)
    if isinstance(sd, NotEstimable):
        return _refused(sd, Baseline(sd), margin_lift)
    treated = None if money.treated_net_sd is None else money.treated_net_sd**2
    outcome = Outcome("net", margin, sd**2, treated, money.nonzero)
    baseline = Baseline(outcome, money.removed)
    if isinstance(cost, NotEstimable):
        return _refused(cost, baseline, margin_lift)
    if isinstance(horizon, NotEstimable):
        return _refused(horizon, baseline, margin_lift)
    fixed = horizon.fixed_cost - horizon.savings
    shift = cost + (fixed / horizon.units if fixed else 0.0)
    scale: Number = margin * horizon.persistence
    if margin <= 0:
        scale = NotEstimable("non-positive-mean", "the control earns no margin to be lifted")
    elif horizon.persistence == 0:
        scale = NotEstimable("no-persistence", "nothing of a rise is assumed to stay")
    effect: Number
    if isinstance(margin_lift, NotEstimable):
        effect = margin_lift
    elif isinstance(scale, NotEstimable):
        effect = scale
    else:
        effect = margin_lift * scale - shift
    return Question(
        "net_benefit",
        "net_benefit",
        baseline,
        _adjusted(_comparison(experiment, reading, outcome), baseline),
        effect,
        margin_lift,
        scale,
        shift,
    )


def _refused(reason: NotEstimable, baseline: Baseline, lift: Number) -> Question:
    return Question("net_benefit", "net_benefit", baseline, reason, reason, lift, reason)


def of_guardrail(
    experiment: Experiment, reading: Reading, guardrail: Guardrail, baseline: Baseline
) -> Question:
    """Whether a treatment that does no harm is shown to be inside the guardrail.

    Notes
    -----
    As `klartext.analysis.guardrails` reads it: a margin is that of ``mT - mC``; a relative one r
    is no margin but the contrast ``mT - (1 ∓ r) mC``; ``at_most`` compares the treatment's mean
    with a number, which has no error.
    """
    metric = experiment.metric(guardrail.metric)
    if guardrail.at_most is not None and baseline.treatment is not None:
        baseline = Baseline(baseline.treatment)
    return Question(
        "guardrail",
        guardrail.metric,
        baseline,
        _kept(experiment, reading, guardrail, metric, baseline),
        effect=0.0,
        lift=0.0,
        scale=_scale(baseline),
    )


def _kept(
    experiment: Experiment,
    reading: Reading,
    guardrail: Guardrail,
    metric: Metric,
    baseline: Baseline,
) -> Comparison | NotEstimable:
    outcome = baseline.outcome
    if isinstance(outcome, NotEstimable):
        return outcome
    goal = metric.direction
    if guardrail.at_most is not None:
        goal, margin = "decrease", float(guardrail.at_most) - outcome.mean
        if margin <= 0:
            detail = f"{metric.key} is {outcome.mean:.4g} already in the baseline"
            return NotEstimable("already-beyond", detail)
        outcome = _levels(outcome, control=0.0)
    elif guardrail.may_worsen_by_relative is not None:
        share = float(guardrail.may_worsen_by_relative)
        margin = share * abs(outcome.mean)
        signed = share if outcome.mean >= 0 else -share
        factor = 1 - signed if goal == "increase" else 1 + signed
        outcome = _levels(outcome, control=factor**2 * outcome.variance)
    else:
        margin = float(guardrail.may_worsen_by or 0)
    comparison = replace(_comparison(experiment, reading, outcome), goal=goal, margin=margin)
    # A level is read as it is; differences are adjusted.
    return comparison if guardrail.at_most is not None else _adjusted(comparison, baseline)


def _levels(outcome: Outcome, *, control: float) -> Outcome:
    """Give the control another variance; the treatment keeps the outcome's, whatever happens."""
    kind = "mean" if outcome.kind == "conversion" else outcome.kind
    return replace(outcome, kind=kind, variance=control, treated_variance=outcome.variance)


def _adjusted(comparison: Comparison, baseline: Baseline) -> Comparison | NotEstimable:
    """Leave the variance that the covariates of the baseline leave."""
    if not baseline.variance_factor > 0:
        return NotEstimable("no-variance", "the covariates explain it completely")
    return replace(comparison, variance_factor=baseline.variance_factor)


def margin_lift(
    experiment: Experiment,
    lifts: Mapping[str, float],
    baselines: Mapping[str, Baseline],
    margin: Number,
) -> Number:
    """Lift of the margin that the expected lifts of the valued metrics make together."""
    if MARGIN in lifts:
        return lifts[MARGIN]
    if isinstance(margin, NotEstimable):
        return margin
    rise, found = 0.0, False
    for entry in experiment.value:
        if isinstance(entry, Saving) or entry.metric not in lifts:
            continue
        outcome = baselines[entry.metric].outcome
        if isinstance(outcome, NotEstimable):
            return outcome
        rise += worth_of(entry) * lifts[entry.metric] * outcome.mean
        found = True
    if not found:
        return NO_LIFT
    if not margin > 0:
        return NotEstimable("non-positive-mean", "the control earns no margin to be lifted")
    return rise / margin


def worth_of(entry: ContributionMargin | Worth) -> float:
    """Money per unit of the metric that a value entry names."""
    return float(entry.each)


def _comparison(experiment: Experiment, reading: Reading, outcome: Outcome) -> Comparison:
    return Comparison(
        outcome,
        shares=(
            experiment.variant(reading.treatment).weight / MILLION,
            experiment.variant(experiment.control).weight / MILLION,
        ),
        mode=reading.mode,
        alpha=reading.alpha,
        treatments=len(experiment.treatments),
    )


def _scale(baseline: Baseline) -> Number:
    if isinstance(baseline.outcome, NotEstimable):
        return baseline.outcome
    if baseline.outcome.mean > 0:
        return baseline.outcome.mean
    return NotEstimable("non-positive-mean", "a lift of a mean that is not above zero")
