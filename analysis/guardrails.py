"""Guardrails: how much worse a metric got, against how much worse it may get."""

from __future__ import annotations

import math
from dataclasses import dataclass

from klartext.analysis import proportions, ratio_metrics
from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, affine
from klartext.analysis.look import Look, nonzero
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import Moments, Sample
from klartext.analysis.ratio_metrics import Ratio, quantity
from klartext.experiments.experiment import Experiment, Guardrail, Metric


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
    treatment: Moments,
    control: Moments,
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
        Moments of mature units.
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
    """
    metric = experiment.metric(guardrail.metric)
    what = quantity(metric)
    if isinstance(what, Ratio):
        return _read_ratio(guardrail, (treatment, control), what, metric, look=look, alpha=alpha)
    one, base = treatment.sample(metric.key), control.sample(metric.key)
    counts = nonzero(treatment, control, metric.key)
    exact = metric.is_rate and look.mode == "fixed"
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
    worse = -1.0 if metric.direction == "increase" else 1.0
    if guardrail.at_most is not None:
        width = look.multiplier(treatment, control, ratio.numerator, alpha=alpha)
        region = (
            width
            if isinstance(width, NotEstimable)
            else ratio_metrics.level(treatment, ratio, multiplier=width, confidence=1 - alpha)
        )
        return GuardrailReading(metric.key, region, float(guardrail.at_most))
    found = ratio_metrics.difference(treatment, control, ratio)
    limit = float(guardrail.may_worsen_by or 0)
    if guardrail.may_worsen_by_relative is not None and not isinstance(found, NotEstimable):
        share = math.copysign(float(guardrail.may_worsen_by_relative), found.control)
        found, limit = found.times_control(1.0 + worse * share), 0.0
    read = look.read(found, alpha=alpha, burn_in=look.burn_in(treatment, control, ratio))
    region = read if isinstance(read, NotEstimable) else read.interval
    return GuardrailReading(metric.key, _harm(region, worse), limit)


def _harm(region: ConfidenceSet, worse: float) -> ConfidenceSet:
    return affine(region, scale=worse, shift=0.0)


def _difference(
    look: Look, one: Sample, base: Sample, counts: tuple[int, int], alpha: float
) -> ConfidenceSet:
    estimate = look.compare(one, base, alpha=alpha, nonzero=counts)
    return estimate if isinstance(estimate, NotEstimable) else estimate.interval


def _times(sample: Sample, factor: float) -> Sample:
    return Sample(sample.n, factor * sample.mean, factor**2 * sample.m2, factor**3 * sample.m3)


def _wilson(sample: Sample, *, alpha: float) -> ConfidenceSet:
    if sample.n < 1:
        return NotEstimable("no-units", "the variant has no units")
    lower, upper = proportions.wilson(sample, multiplier=multiplier_of(alpha))
    return Interval(lower, upper, 1 - alpha)
