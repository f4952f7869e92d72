"""Guardrails: how much worse a metric got, against how much worse it may get."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from klartext.analysis import adjustment, covariates, proportions, quantile_metrics, ratio_metrics
from klartext.analysis.contrast import Contrast
from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, affine
from klartext.analysis.look import Look, nonzero, numerator_burn_in
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import Moments, Sample
from klartext.analysis.quantiles import Observations
from klartext.analysis.ratio_metrics import Ratio, quantity
from klartext.analysis.sequential import mixture
from klartext.experiments.experiment import Experiment, Guardrail, Metric

Measured: TypeAlias = Moments | Observations | NotEstimable
"""What a metric is read from in one variant; observations for a quantile."""


@dataclass(frozen=True, slots=True)
class GuardrailReading:
    """One guardrail of one treatment.

    Parameters
    ----------
    metric
        Key of the metric.
    harm
        Confidence set of the harm in the metric's unit: larger is worse.
    limit
        Harm that is still allowed.
    """

    metric: str
    harm: ConfidenceSet
    limit: float

    @property
    def is_kept(self) -> bool:
        """Whether even the unfavourable bound is inside the limit."""
        return isinstance(self.harm, Interval) and self.harm.upper <= self.limit

    @property
    def is_broken(self) -> bool:
        """Whether the whole set lies beyond the limit."""
        return isinstance(self.harm, Interval) and self.harm.lower > self.limit


def read_guardrail(  # noqa: PLR0913 - a limit, two variants, and how they are read
    experiment: Experiment,
    guardrail: Guardrail,
    treatment: Measured,
    control: Measured,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    """Return the harm of a treatment to one metric.

    Parameters
    ----------
    experiment
        Resolved spec, for the metric's kind and direction.
    guardrail
        Exactly one limit is set.
    treatment, control
        What the metric is read from, see `klartext.analysis.readout.Readout.measured`.
    look
        How intervals are made.
    alpha
        Two-sided error.

    Notes
    -----
    ``may_worsen_by``: harm is the difference against the metric's direction. Relative: harm is
    that of ``mT - (1 ∓ r) mC``, which must not exceed 0, so that no ratio is taken. ``at_most``:
    harm is the treatment's mean itself. With conversions and a single look Newcombe's and Wilson's
    intervals are used, which hold at 0 of n; anytime a variant without outcomes has no set.
    A limit on the level asks nothing of the control, which may make no AI calls at all. A metric
    with covariates is compared by its adjusted levels (`klartext.analysis.adjustment.lin`).
    """
    metric = experiment.metric(guardrail.metric)
    if guardrail.at_most is not None and isinstance(control, NotEstimable):
        control = treatment
    match treatment, control:
        case Moments(), Moments():
            what = quantity(metric)
            if isinstance(what, Ratio):
                return _read_ratio(
                    experiment,
                    guardrail,
                    (treatment, control),
                    what,
                    metric,
                    look=look,
                    alpha=alpha,
                )
            pair = treatment, control
            return _read_mean(experiment, guardrail, pair, metric, look=look, alpha=alpha)
        case Observations(), Observations():
            return _read_quantile(guardrail, treatment, control, metric, look=look, alpha=alpha)
        case (NotEstimable() as refused, _) | (_, NotEstimable() as refused):
            return _unread(guardrail, refused)
        case _:
            raise TypeError(f"the variants measure {metric.key} by different things")


def _read_mean(  # noqa: PLR0913 - a limit, two variants, and how they are read
    experiment: Experiment,
    guardrail: Guardrail,
    pair: tuple[Moments, Moments],
    metric: Metric,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    treatment, control = pair
    one, base = treatment.sample(metric.key), control.sample(metric.key)
    counts = nonzero(treatment, control, metric.key)
    adjusted = _adjusted(experiment, metric, treatment, control)
    if adjusted is not None and guardrail.at_most is None:
        gate = mixture.burn_in(one, base, nonzero=counts) if look.mode == "anytime" else None
        return _read_contrast(guardrail, adjusted, metric, gate, look=look, alpha=alpha)
    exact = metric.is_rate and look.mode == "fixed" and treatment.regimes == 1
    worse = -1.0 if metric.direction == "increase" else 1.0
    if guardrail.at_most is not None:
        region = (
            _wilson(one, alpha=alpha)
            if exact
            else _difference(look, one, Sample(one.n, 0.0, 0.0, 0.0), (counts[0], counts[0]), alpha)
        )
        return GuardrailReading(metric.key, region, float(guardrail.at_most))
    if guardrail.may_worsen_by_relative is not None:
        share = float(guardrail.may_worsen_by_relative) * math.copysign(1.0, base.mean)
        allowed = _times(base, 1.0 + worse * share)
        region = _difference(look, one, allowed, counts, alpha)
        return GuardrailReading(metric.key, _harm(region, worse), 0.0)
    if exact:
        estimate = proportions.newcombe(one, base, alpha=alpha, single_look=look.deciding)
        region = estimate if isinstance(estimate, NotEstimable) else estimate.interval
    else:
        region = _difference(look, one, base, counts, alpha)
    return GuardrailReading(metric.key, _harm(region, worse), float(guardrail.may_worsen_by or 0))


def _read_ratio(  # noqa: PLR0913 - a limit, two variants, and how they are read
    experiment: Experiment,
    guardrail: Guardrail,
    variants: tuple[Moments, Moments],
    ratio: Ratio,
    metric: Metric,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    """Return the harm to a ratio metric: the level by Fieller, differences by the delta method."""
    treatment, control = variants
    if guardrail.at_most is not None:
        width = _level_multiplier(look, treatment, ratio.numerator, alpha)
        region = (
            width
            if isinstance(width, NotEstimable)
            else ratio_metrics.level(treatment, ratio, multiplier=width, confidence=1 - alpha)
        )
        return GuardrailReading(metric.key, region, float(guardrail.at_most))
    found = _adjusted(experiment, metric, treatment, control) or ratio_metrics.difference(
        treatment, control, ratio
    )
    gate = numerator_burn_in(treatment, control, ratio) if look.mode == "anytime" else None
    return _read_contrast(guardrail, found, metric, gate, look=look, alpha=alpha)


def _adjusted(
    experiment: Experiment, metric: Metric, treatment: Moments, control: Moments
) -> Contrast | None:
    """Return the contrast adjusted for the covariates of the metric; None where there is none.

    Degenerate data refuse it, such as no event at all; then the raw methods say what can be said.
    """
    names = covariates.columns(experiment, metric)
    if not names:
        return None
    found = adjustment.lin(treatment, control, quantity(metric), names)
    return None if isinstance(found, NotEstimable) else found.contrast


def _read_contrast(  # noqa: PLR0913 - a limit, two levels, and how they are read
    guardrail: Guardrail,
    found: Contrast | NotEstimable,
    metric: Metric,
    gate: NotEstimable | None,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    """Return the harm that two levels show, against an absolute or a relative limit."""
    worse = -1.0 if metric.direction == "increase" else 1.0
    limit = float(guardrail.may_worsen_by or 0)
    if guardrail.may_worsen_by_relative is not None and not isinstance(found, NotEstimable):
        share = math.copysign(float(guardrail.may_worsen_by_relative), found.control)
        found, limit = found.times_control(1.0 + worse * share), 0.0
    read = look.read(found, alpha=alpha, burn_in=gate)
    region = read if isinstance(read, NotEstimable) else read.interval
    return GuardrailReading(metric.key, _harm(region, worse), limit)


def _read_quantile(  # noqa: PLR0913 - a limit, two variants, and how they are read
    guardrail: Guardrail,
    treatment: Observations,
    control: Observations,
    metric: Metric,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    """Return the harm to a quantile; the relative one of ``T - (1 ∓ r) C``, by scaling C."""
    q = quantile_metrics.share_of(metric)
    if guardrail.at_most is not None:
        region = quantile_metrics.level_set(look, treatment, q, alpha=alpha)
        return GuardrailReading(metric.key, region, float(guardrail.at_most))
    worse = -1.0 if metric.direction == "increase" else 1.0
    limit = float(guardrail.may_worsen_by or 0)
    if guardrail.may_worsen_by_relative is not None:
        base = quantile_metrics.level(control, q)
        if isinstance(base, NotEstimable):
            return _unread(guardrail, base)
        share = math.copysign(float(guardrail.may_worsen_by_relative), base)
        control, limit = control.times(1.0 + worse * share), 0.0
    read = quantile_metrics.difference(look, treatment, control, q, alpha=alpha)
    region = read if isinstance(read, NotEstimable) else read.interval
    return GuardrailReading(metric.key, _harm(region, worse), limit)


def _unread(guardrail: Guardrail, why: NotEstimable) -> GuardrailReading:
    limits = (guardrail.at_most, guardrail.may_worsen_by)
    return GuardrailReading(
        guardrail.metric, why, float(next((one for one in limits if one is not None), 0))
    )


def _level_multiplier(
    look: Look, moments: Moments, column: str, alpha: float
) -> float | NotEstimable:
    """Half-width in standard errors for one variant's level: that of the mean of ``column``."""
    count = int(moments.nonzero[moments.columns.index(column)])
    nothing = Sample(moments.n, 0.0, 0.0, 0.0)
    read = look.compare(moments.sample(column), nothing, alpha=alpha, nonzero=(count, count))
    if isinstance(read, NotEstimable):
        return read
    if not isinstance(read.interval, Interval):
        return NotEstimable("unbounded", "the data do not bound it")
    return (read.interval.upper - read.interval.lower) / 2 / read.std_error


def _harm(region: ConfidenceSet, worse: float) -> ConfidenceSet:
    return affine(region, scale=worse, shift=0.0)


def _difference(
    look: Look, one: Sample, base: Sample, counts: tuple[int, int], alpha: float
) -> ConfidenceSet:
    estimate = look.compare(one, base, alpha=alpha, nonzero=counts)
    return estimate if isinstance(estimate, NotEstimable) else estimate.interval


def _times(sample: Sample, factor: float) -> Sample:
    return Sample(
        sample.n,
        factor * sample.mean,
        factor**2 * sample.m2,
        factor**3 * sample.m3,
        sample.missing,
    )


def _wilson(sample: Sample, *, alpha: float) -> ConfidenceSet:
    if sample.n < 1:
        return NotEstimable("no-units", "the variant has no units")
    lower, upper = proportions.wilson(sample, multiplier=multiplier_of(alpha))
    return Interval(lower, upper, 1 - alpha)
