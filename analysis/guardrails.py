"""Guardrails: how much worse a metric got, against how much worse it may get."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from klartext.analysis import (
    adjustment,
    covariates,
    noninferiority,
    proportions,
    quantile_metrics,
    ratio_metrics,
)
from klartext.analysis import contrast as contrasts
from klartext.analysis.contrast import Contrast
from klartext.analysis.estimate import ConfidenceSet, Estimate, Interval, NotEstimable, affine
from klartext.analysis.look import Look, nonzero
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import Moments, Sample
from klartext.analysis.noninferiority import Margin
from klartext.analysis.quantiles import Observations
from klartext.analysis.ratio_metrics import Ratio, quantity
from klartext.analysis.sequential import binomial
from klartext.experiments.experiment import Experiment, Guardrail, Metric

EXACT_SHARE = 0.2
"""Share of alpha for the exact set of a rate, which is read until the mode's own set opens."""

_NO_TEST = NotEstimable("no-test", "this set has no p-value of its own")

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
    method
        How ``harm`` was read.
    p_value
        One-sided, of a harm at or beyond the limit: small when the guardrail is kept.
    """

    metric: str
    harm: ConfidenceSet
    limit: float
    method: str = ""
    p_value: float | NotEstimable = _NO_TEST

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
    Harm is ``w (mT - f mC)``, w the metric's bad direction, and may not exceed a limit:
    ``may_worsen_by`` has ``f = 1``; a relative one ``f = 1 + w r`` and the limit 0, so that no
    ratio is taken; ``at_most`` looks at the treatment alone, ``f = 0``. The p-value is that of
    the one-sided test against the same limit, `klartext.analysis.noninferiority`.

    Rates are bounded from the first unit on: at a fixed look by Newcombe's and Wilson's
    intervals, which hold at 0 of n; in the other modes by the exact confidence sequence of
    `klartext.analysis.sequential.binomial` until the mode's own set opens. The exact one has
    `EXACT_SHARE` of alpha and the mode's own the rest: first the one and then the other err with
    alpha together at most.

    A limit on the level asks nothing of the control, which may make no AI calls at all. A metric
    with covariates is compared by its adjusted levels (`klartext.analysis.adjustment.lin`).
    """
    metric = experiment.metric(guardrail.metric)
    form = _form(guardrail, metric)
    if form.alone and isinstance(control, NotEstimable):
        control = treatment
    match treatment, control:
        case Moments(), Moments():
            what, pair = quantity(metric), (treatment, control)
            if isinstance(what, Ratio):
                return _read_ratio(experiment, form, pair, metric, look=look, alpha=alpha)
            return _read_mean(experiment, form, pair, metric, look=look, alpha=alpha)
        case Observations(), Observations():
            return _read_quantile(form, treatment, control, metric, look=look, alpha=alpha)
        case (NotEstimable() as refused, _) | (_, NotEstimable() as refused):
            return form.reading(refused, look.named(metric.kind), refused)
        case _:
            raise TypeError(f"the variants measure {metric.key} by different things")


def _read_mean(  # noqa: PLR0913 - a limit, two variants, and how they are read
    experiment: Experiment,
    form: _Form,
    pair: tuple[Moments, Moments],
    metric: Metric,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    treatment, control = pair
    one, base = treatment.sample(metric.key), control.sample(metric.key)
    counts = nonzero(treatment, control, metric.key)
    binomial_rate = metric.is_rate and treatment.regimes == 1  # combined ones are not
    splits = binomial_rate and look.mode != "fixed"
    own = (1 - EXACT_SHARE) * alpha if splits else alpha
    adjusted = None if form.alone else _adjusted(experiment, metric, treatment, control)
    if adjusted is not None:
        gate = look.burn_in_of(one, base, nonzero=counts)
        found = _read_contrast(form, adjusted, gate, look=look, alpha=own)
        if not (splits and isinstance(found.harm, NotEstimable)):
            return found
    elif binomial_rate and not splits and form.relative is None:
        return _read_fixed_rate(form, one, base, look=look, alpha=alpha)
    if form.alone:
        base, counts = Sample(one.n, 0.0, 0.0, 0.0), (counts[0], counts[0])
    factor = form.factor(base.mean)
    allowed = _times(base, factor)
    estimate = look.compare(one, allowed, alpha=own, nonzero=counts)
    if splits and isinstance(estimate, NotEstimable) and min(one.n, base.n) > 0:
        spent = EXACT_SHARE * alpha
        exact = (
            binomial.interval(counts[0], one.n, alpha=spent / 2)
            if form.alone
            else binomial.difference(
                (counts[0], one.n), (counts[1], base.n), factor=factor, alpha=spent
            )
        )
        return form.reading(exact, "exact", _NO_TEST)
    gate = look.burn_in_of(one, allowed, nonzero=counts)
    tested = _tested(form, contrasts.of_means(one, base), look, own, gate)
    return form.reading(estimate, look.named("welch"), tested)


@dataclass(frozen=True, slots=True)
class _Form:
    """What a guardrail asks: ``worse (mT - f mC) <= limit``, or of the treatment ``alone``.

    ``relative`` is the share of the control's level that may be lost; None for other limits.
    """

    metric: str
    worse: float
    limit: float
    alone: bool = False
    relative: float | None = None

    @property
    def margin(self) -> Margin | None:
        """The same as a margin; None where the whole level may be lost, which nothing can miss."""
        better: Literal["higher", "lower"] = "higher" if self.worse < 0 else "lower"
        if self.relative is None:
            return Margin(self.limit, relative=False, better=better)
        return Margin(self.relative, relative=True, better=better) if self.relative < 1 else None

    def factor(self, control: float) -> float:
        """Return f: what a relative limit makes of the control's level, else 1."""
        if self.relative is None:
            return 1.0
        return 1.0 + self.worse * math.copysign(self.relative, control)

    def reading(
        self, region: ConfidenceSet | Estimate, method: str, p_value: float | NotEstimable
    ) -> GuardrailReading:
        """Return the reading, with the region's direction turned to harm."""
        found = region.interval if isinstance(region, Estimate) else region
        harm = affine(found, scale=self.worse, shift=0.0)
        return GuardrailReading(self.metric, harm, self.limit, method, p_value)


def _form(guardrail: Guardrail, metric: Metric) -> _Form:
    if guardrail.at_most is not None:
        return _Form(metric.key, 1.0, float(guardrail.at_most), alone=True)
    worse = -1.0 if metric.direction == "increase" else 1.0
    if guardrail.may_worsen_by_relative is not None:
        return _Form(metric.key, worse, 0.0, relative=float(guardrail.may_worsen_by_relative))
    return _Form(metric.key, worse, float(guardrail.may_worsen_by or 0))


def _tested(
    form: _Form,
    contrast: Contrast | NotEstimable,
    look: Look,
    alpha: float,
    gate: NotEstimable | None,
) -> float | NotEstimable:
    if form.margin is None:
        return _NO_TEST
    return look.inside(contrast, form.margin, alpha=alpha, burn_in=gate)


def _read_fixed_rate(
    form: _Form, one: Sample, base: Sample, *, look: Look, alpha: float
) -> GuardrailReading:
    """Return the harm to a rate at a fixed look: Newcombe's interval, of a level Wilson's."""
    if form.alone or form.margin is None:
        return form.reading(_wilson(one, alpha=alpha), "wilson", _NO_TEST)
    estimate = proportions.newcombe(one, base, alpha=alpha, single_look=look.deciding)
    test = noninferiority.newcombe(
        one, base, form.margin, alpha=alpha / 2, single_look=look.deciding
    )
    p_value = test if isinstance(test, NotEstimable) else test.p_value
    return form.reading(estimate, "newcombe", p_value)


def _read_ratio(  # noqa: PLR0913 - a limit, two variants, and how they are read
    experiment: Experiment,
    form: _Form,
    variants: tuple[Moments, Moments],
    metric: Metric,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    """Return the harm to a ratio metric: the level by Fieller, differences by the delta method."""
    treatment, control = variants
    ratio = quantity(metric)
    if not isinstance(ratio, Ratio):
        raise TypeError(f"{metric.key} is no ratio")
    if form.alone:
        width = _level_multiplier(look, treatment, ratio.numerator, alpha)
        region = (
            width
            if isinstance(width, NotEstimable)
            else ratio_metrics.level(treatment, ratio, multiplier=width, confidence=1 - alpha)
        )
        return form.reading(region, look.named("ratio"), _NO_TEST)
    found = _adjusted(experiment, metric, treatment, control) or ratio_metrics.difference(
        treatment, control, ratio
    )
    gate = look.burn_in(treatment, control, ratio)
    return _read_contrast(form, found, gate, look=look, alpha=alpha)


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


def _read_contrast(
    form: _Form,
    found: Contrast | NotEstimable,
    gate: NotEstimable | None,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    """Return the harm that two levels show, against an absolute or a relative limit."""
    if isinstance(found, NotEstimable):
        return form.reading(found, look.named("ratio"), found)
    allowed = found.times_control(form.factor(found.control))
    read = look.read(allowed, alpha=alpha, burn_in=gate)
    tested = _tested(form, found, look, alpha, gate)
    return form.reading(read, look.named(found.method), tested)


def _read_quantile(  # noqa: PLR0913 - a limit, two variants, and how they are read
    form: _Form,
    treatment: Observations,
    control: Observations,
    metric: Metric,
    *,
    look: Look,
    alpha: float,
) -> GuardrailReading:
    """Return the harm to a quantile; the relative one of ``T - (1 ∓ r) C``, by scaling C."""
    q = quantile_metrics.share_of(metric)
    name = "quantile" if look.mode == "fixed" else "anytime-quantile"
    if form.alone:
        region = quantile_metrics.level_set(look, treatment, q, alpha=alpha)
        return form.reading(region, name, _NO_TEST)
    if form.relative is not None:
        base = quantile_metrics.level(control, q)
        if isinstance(base, NotEstimable):
            return form.reading(base, name, base)
        control = control.times(form.factor(base))
    read = quantile_metrics.difference(look, treatment, control, q, alpha=alpha)
    return form.reading(read, name, _NO_TEST)


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
