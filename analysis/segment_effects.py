"""Effects by segment: every level, whether they differ, pooled, and averaged over the levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TypeAlias

from klartext.analysis.bayes.pooling import PooledEffect, pool, segment_effects
from klartext.analysis.estimate import ConfidenceSet, Estimate, NotEstimable
from klartext.analysis.heterogeneity import Heterogeneity, heterogeneity
from klartext.analysis.look import Look
from klartext.analysis.moments import Moments
from klartext.analysis.multiplicity import holm
from klartext.analysis.poststratification import post_stratified
from klartext.analysis.ratio_metrics import Quantity, Ratio
from klartext.analysis.result import MetricResult, Number
from klartext.analysis.segments import Level, LevelMoments, Segment

MIN_UNITS = 30
"""Mature units of a variant from which a level enters the comparison of levels."""

MIN_OUTCOMES = 20
"""Units with an outcome (of a rate: also without one) that it needs beside that."""

Read: TypeAlias = Callable[[Moments, Moments], tuple[str, Estimate | NotEstimable]]
"""Method and estimate of a treatment and its control, as the mode has it."""

_RATIO = NotEstimable("ratio-metric", "ratios of sums are compared level by level only")
_SPARSE = NotEstimable(
    "sparse-level", f"a variant has fewer than {MIN_UNITS} units or {MIN_OUTCOMES} outcomes there"
)


@dataclass(frozen=True, slots=True)
class LevelEffect:
    """The effect in one level.

    Parameters
    ----------
    level
        Which one.
    n, baseline_n
        Mature units.
    mean, baseline_mean
        Of the metric.
    method, estimate
        As the mode has it, for this level alone and without covariates.
    p_adjusted
        Holm's p-value over all levels of the property.
    pooled, pooled_interval, probability_positive
        Posterior mean of the effect, shrunken towards the common one, with its credible
        interval and the probability that it is above zero.
    """

    level: Level
    n: int
    baseline_n: int
    mean: Number
    baseline_mean: Number
    method: str
    estimate: Estimate | NotEstimable
    p_adjusted: Number
    pooled: Number
    pooled_interval: ConfidenceSet
    probability_positive: Number


@dataclass(frozen=True, slots=True)
class SegmentEffect:
    """A metric of one treatment by the levels of one property.

    Parameters
    ----------
    property
        Of the first exposure.
    metric, variant, baseline, primary, is_money, is_rate
        As in `klartext.analysis.result.MetricResult`.
    levels
        All of them, the largest first; none is left out.
    differs
        Cochran's test of equal effects, at a single look only.
    valid_for_look
        Whether its p-value may be read at this look.
    left_out
        Levels too sparse for that test and for pooling.
    raw, total
        The effect over all units as it is, and averaged over the levels with their shares of
        units (post-stratification): it takes out the luck of the split between levels.
    joined
        Levels that were one stratum in it, having too few units of a variant.
    """

    property: str
    metric: str
    variant: str
    baseline: str
    primary: bool
    is_money: bool
    is_rate: bool
    levels: tuple[LevelEffect, ...]
    differs: Heterogeneity | NotEstimable
    valid_for_look: bool
    left_out: tuple[Level, ...]
    raw: Estimate | NotEstimable
    total: Estimate | NotEstimable
    joined: tuple[Level, ...]


def is_dense(moments: Moments, column: str, *, is_rate: bool) -> bool:
    """Whether a normal approximation holds for a variant in a level, by units and outcomes."""
    outcomes = int(moments.nonzero[moments.columns.index(column)])
    if is_rate:
        outcomes = min(outcomes, moments.n - outcomes)
    if moments.n < MIN_UNITS or outcomes < MIN_OUTCOMES:
        return False
    return not moments.sample(column).is_constant


@dataclass(frozen=True, slots=True)
class _Cut:
    """One metric of one treatment in one segment."""

    segment: Segment
    what: Quantity
    treatment: str
    control: str
    is_rate: bool

    def pair(self, level: LevelMoments) -> tuple[Moments, Moments]:
        return level.moments[self.treatment], level.moments[self.control]

    def is_dense(self, level: LevelMoments) -> bool:
        """Whether normal approximations hold in a level, by its units and outcomes."""
        if isinstance(self.what, Ratio):
            return False
        return all(is_dense(one, self.what, is_rate=self.is_rate) for one in self.pair(level))


def segment_effect(  # noqa: PLR0913 - what is compared, and how it is read
    segment: Segment,
    result: MetricResult,
    what: Quantity,
    *,
    look: Look,
    read: Read,
    alpha: float,
    prior_relative_sd: float,
) -> SegmentEffect:
    """Return the effect of a treatment on a metric in every level of a segment.

    Parameters
    ----------
    segment
        Moments per level.
    result
        The metric over all units.
    what
        Its column or ratio.
    look
        How intervals are made.
    read
        The difference of two variants by the method of the mode.
    alpha
        Two-sided error of each interval; levels are adjusted by Holm's method.
    prior_relative_sd
        Registered sd of effects as a share of the control's mean: the prior of the common effect
        and, half-normal, of the spread between levels.

    Notes
    -----
    Segments decide nothing. Intervals of levels stand alone at ``1 - alpha``; ``p_adjusted`` says
    what is left when all levels of the property are looked at, not of all properties and metrics.
    """
    cut = _Cut(segment, what, result.variant, result.baseline, result.is_rate)
    dense = [level for level in segment.levels if cut.is_dense(level)]
    estimates = {level.level: read(*cut.pair(level)) for level in segment.levels}
    adjusted = holm([_p_value(found) for _, found in estimates.values()])
    pooled = _pooled(cut, dense, alpha=alpha, prior_relative_sd=prior_relative_sd)
    strata, joined = _strata(cut)
    total = [reduce(add, side) for side in zip(*strata.values(), strict=True)]
    raw = read(total[0], total[1])[1] if total else _NO_UNITS
    return SegmentEffect(
        property=segment.property,
        metric=result.metric,
        variant=result.variant,
        baseline=result.baseline,
        primary=result.primary,
        is_money=result.is_money,
        is_rate=result.is_rate,
        levels=tuple(
            _level(cut, level, estimates[level.level], p, pooled)
            for level, p in zip(segment.levels, adjusted, strict=True)
        ),
        differs=_differs(cut, dense),
        valid_for_look=look.mode == "fixed" and look.deciding,
        left_out=tuple(level.level for level in segment.levels if level not in dense),
        raw=raw,
        total=_total(cut, strata, raw, look=look, alpha=alpha),
        joined=joined,
    )


_NO_UNITS = NotEstimable("no-units", "no unit is mature")


def _p_value(found: Estimate | NotEstimable) -> Number:
    return found if isinstance(found, NotEstimable) else found.p_value


def _level(
    cut: _Cut,
    level: LevelMoments,
    read: tuple[str, Estimate | NotEstimable],
    p_adjusted: Number,
    pooled: Mapping[Level, PooledEffect] | NotEstimable,
) -> LevelEffect:
    one, base = cut.pair(level)
    method, estimate = read
    refused = _RATIO if isinstance(cut.what, Ratio) else _SPARSE
    shrunk = pooled if isinstance(pooled, NotEstimable) else pooled.get(level.level, refused)
    belief: tuple[Number, ConfidenceSet, Number] = (
        (shrunk, shrunk, shrunk)
        if isinstance(shrunk, NotEstimable)
        else (shrunk.mean, shrunk.interval, shrunk.probability_positive)
    )
    return LevelEffect(
        level=level.level,
        n=one.n,
        baseline_n=base.n,
        mean=_mean(one, cut.what),
        baseline_mean=_mean(base, cut.what),
        method=method,
        estimate=estimate,
        p_adjusted=p_adjusted,
        pooled=belief[0],
        pooled_interval=belief[1],
        probability_positive=belief[2],
    )


def _mean(moments: Moments, what: Quantity) -> Number:
    if moments.n == 0:
        return NotEstimable("no-units", "the variant has no mature units in this level")
    if not isinstance(what, Ratio):
        return moments.sample(what).mean
    below = moments.sample(what.denominator).mean
    if below == 0:
        return NotEstimable("zero-denominator", "the denominator's mean is zero")
    return moments.sample(what.numerator).mean / below


def _differs(cut: _Cut, dense: Sequence[LevelMoments]) -> Heterogeneity | NotEstimable:
    if isinstance(cut.what, Ratio):
        return _RATIO
    return heterogeneity(
        _by_name(dense), cut.what, control=cut.control, treatments=(cut.treatment,)
    )


def _pooled(
    cut: _Cut, dense: Sequence[LevelMoments], *, alpha: float, prior_relative_sd: float
) -> Mapping[Level, PooledEffect] | NotEstimable:
    if isinstance(cut.what, Ratio):
        return _RATIO
    if len(dense) < 2:
        return NotEstimable("too-few-segments", "two segments are needed for pooling")
    control = reduce(add, (level.moments[cut.control] for level in dense)).sample(cut.what).mean
    sd = prior_relative_sd * abs(control)
    if sd == 0:
        return NotEstimable("no-prior", "the control's mean is zero: no prior could refer to it")
    blocks = segment_effects(
        _by_name(dense), cut.what, control=cut.control, treatments=(cut.treatment,)
    )
    if isinstance(blocks, NotEstimable):
        return blocks
    found = pool(blocks, mean_prior_sd=sd, scale_prior_sd=sd, level=1 - alpha)
    if isinstance(found, NotEstimable):
        return found
    return {level.level: one for level, one in zip(dense, found.effects, strict=True)}


def _by_name(levels: Sequence[LevelMoments]) -> Mapping[str, Mapping[str, Moments]]:
    """Return moments of levels under names that differ, whatever the values are."""
    return {f"{place}": dict(level.moments) for place, level in enumerate(levels)}


def _strata(cut: _Cut) -> tuple[dict[str, tuple[Moments, Moments]], tuple[Level, ...]]:
    """Return the strata that hold every unit, and the levels that share one.

    By units alone, never by outcomes: levels with fewer than `MIN_UNITS` of a variant are one
    stratum; if that is too small still, it takes in the smallest of the others.
    """
    pairs = [(level.level, cut.pair(level)) for level in segment_levels(cut.segment)]
    pairs.sort(key=lambda pair: min(one.n for one in pair[1]))
    small = [pair for pair in pairs if min(one.n for one in pair[1]) < MIN_UNITS]
    rest = pairs[len(small) :]
    while small and rest and min(_joined(small, side).n for side in (0, 1)) < MIN_UNITS:
        small.append(rest.pop(0))
    strata = {f"{place}": pair for place, (_, pair) in enumerate(rest)}
    if small:
        strata["joined"] = (_joined(small, 0), _joined(small, 1))
    return strata, tuple(level for level, _ in small) if len(small) > 1 else ()


def segment_levels(segment: Segment) -> Iterator[LevelMoments]:
    """Yield the levels with any unit in the moments."""
    return (level for level in segment.levels if any(one.n for one in level.moments.values()))


def _joined(levels: Sequence[tuple[Level, tuple[Moments, Moments]]], side: int) -> Moments:
    return reduce(add, (pair[side] for _, pair in levels))


def _total(
    cut: _Cut,
    strata: Mapping[str, tuple[Moments, Moments]],
    raw: Estimate | NotEstimable,
    *,
    look: Look,
    alpha: float,
) -> Estimate | NotEstimable:
    """Return the post-stratified effect; its burn-in is that of the raw one."""
    if isinstance(cut.what, Ratio):
        return _RATIO
    found = post_stratified(strata, cut.what)
    if isinstance(found, NotEstimable):
        return found
    gate = raw if look.mode != "fixed" and isinstance(raw, NotEstimable) else None
    return look.read(found.contrast, alpha=alpha, burn_in=gate)
