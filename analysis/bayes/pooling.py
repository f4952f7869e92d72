"""Partial pooling over segments: every segment's effect, shrunken towards the common one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from klartext.analysis.bayes import hierarchy
from klartext.analysis.bayes.marginal import FloatArray
from klartext.analysis.bayes.scale import ScalePosterior
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.heterogeneity import segment_samples
from klartext.analysis.moments import Moments


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Estimated effects of the treatments in one segment or experiment, with their joint error.

    Parameters
    ----------
    key
        Of the segment or experiment.
    treatments
        Keys, length m.
    effects
        ``(m,)``: absolute in the metric's unit, or relative (0.03 is 3 %).
    covariance
        ``(m, m)``, positive definite; not diagonal, because the treatments share a control.
    """

    key: str
    treatments: tuple[str, ...]
    effects: FloatArray
    covariance: FloatArray


@dataclass(frozen=True, slots=True)
class PooledEffect:
    """One effect before and after pooling.

    Parameters
    ----------
    key, treatment
        Segment (or experiment) and treatment.
    estimate, std_error
        Of this segment alone.
    mean, sd, interval
        Posterior of its effect; the interval is equal-tailed.
    probability_positive
        Posterior probability that the effect is above zero.
    """

    key: str
    treatment: str
    estimate: float
    std_error: float
    mean: float
    sd: float
    interval: Interval
    probability_positive: float


@dataclass(frozen=True, slots=True)
class CommonEffect:
    """Posterior of the mean that the effects of one treatment vary around."""

    treatment: str
    mean: float
    sd: float
    interval: Interval
    probability_positive: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Posterior of the standard deviation between segments (or experiments)."""

    mean: float
    median: float
    sd: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Pooling:
    """Effects of all segments, the common effects, and how much segments differ."""

    effects: tuple[PooledEffect, ...]
    common: tuple[CommonEffect, ...]
    spread: Spread


def segment_effects(
    segments: Mapping[str, Mapping[str, Moments]],
    column: str,
    *,
    control: str,
    treatments: Sequence[str],
) -> tuple[Block, ...] | NotEstimable:
    """Differences of means per segment with their block covariance.

    Parameters
    ----------
    segments
        Moments per segment and variant. Segments are disjoint groups of units, by a property
        known before exposure.
    column
        What is compared.
    control, treatments
        Keys of the variants.

    Returns
    -------
    tuple of Block, or NotEstimable
        Refused: ``empty-segment`` (a variant is missing in one), and the reasons of
        `klartext.analysis.moments.unusable`, ``no-variance`` when a variant does not vary in a
        segment. No segment is left out silently: leave it out of ``segments``.

    Raises
    ------
    ValueError
        No treatments, or there is no such column.

    Notes
    -----
    ``V_g = diag(s_k^2 / n_k) + (s_C^2 / n_C) 11'``.
    """
    if not treatments:
        raise ValueError("a comparison needs at least one treatment")
    blocks: list[Block] = []
    for key, variants in segments.items():
        samples = segment_samples(key, variants, column, (control, *treatments))
        if isinstance(samples, NotEstimable):
            return samples
        base, *others = samples
        errors = np.array([sample.variance_of_mean for sample in others])
        blocks.append(
            Block(
                key=key,
                treatments=tuple(treatments),
                effects=np.array([sample.mean - base.mean for sample in others]),
                covariance=np.diag(errors) + base.variance_of_mean,
            )
        )
    return tuple(blocks)


def pool(
    blocks: Sequence[Block], *, mean_prior_sd: float | None, scale_prior_sd: float, level: float
) -> Pooling | NotEstimable:
    """Shrink the effects of segments towards their common mean, as far as the data say.

    Parameters
    ----------
    blocks
        One per segment, all with the same treatments; from `segment_effects`.
    mean_prior_sd
        Registered prior sd of a common effect around 0; None is flat.
    scale_prior_sd
        Of the half-normal prior of the sd between segments, in the unit of the effects. With
        few segments it matters: the spread of three effects says little about a spread.
    level
        Of the credible intervals; 0.95 is 95 %.

    Returns
    -------
    Pooling or NotEstimable
        Refused: ``too-few-segments`` (fewer than two).

    Raises
    ------
    ValueError
        The treatments differ between segments, or ``level`` is not between 0 and 1.

    Notes
    -----
    The model, its formulas and where it stops being valid: `hierarchy.posterior`. A segment with
    much data of its own keeps its estimate, one with little takes the common effect. Intervals
    are narrower than those of the segments alone and not centred on the estimates; on average
    over segments they cover ``level`` when the model holds, in an outlying segment less.
    """
    check_level(level)
    if len({block.treatments for block in blocks}) > 1:
        raise ValueError("every segment needs the same treatments")
    if len(blocks) < 2:
        return NotEstimable("too-few-segments", "two segments are needed for pooling")
    found = hierarchy.posterior(
        np.array([block.effects for block in blocks]),
        np.array([block.covariance for block in blocks]),
        mean_prior_sd=mean_prior_sd,
        scale_prior_sd=scale_prior_sd,
    )
    lower, upper = (found.means.quantile((1 + sign * level) / 2) for sign in (-1, 1))
    common = tuple(
        CommonEffect(treatment, mean, sd, Interval(low, high, level), positive)
        for treatment, mean, sd, low, high, positive in zip(
            blocks[0].treatments,
            found.means.mean.tolist(),
            found.means.sd.tolist(),
            lower.tolist(),
            upper.tolist(),
            found.means.probability_above(0.0).tolist(),
            strict=True,
        )
    )
    return Pooling(pooled_effects(blocks, found, level=level), common, spread_of(found, level))


def pooled_effects(
    blocks: Sequence[Block], found: hierarchy.Hierarchy, *, level: float
) -> tuple[PooledEffect, ...]:
    """Return the effects of all blocks, in their order; ``found`` may hold more treatments."""
    m = found.means.means.shape[1]
    posterior = found.effects
    means, sds = posterior.mean.tolist(), posterior.sd.tolist()
    lower = posterior.quantile((1 - level) / 2).tolist()
    upper = posterior.quantile((1 + level) / 2).tolist()
    positive = posterior.probability_above(0.0).tolist()
    return tuple(
        PooledEffect(
            key=block.key,
            treatment=treatment,
            estimate=float(block.effects[k]),
            std_error=math.sqrt(float(block.covariance[k, k])),
            mean=means[g * m + k],
            sd=sds[g * m + k],
            interval=Interval(lower[g * m + k], upper[g * m + k], level),
            probability_positive=positive[g * m + k],
        )
        for g, block in enumerate(blocks)
        for k, treatment in enumerate(block.treatments)
    )


def spread_of(found: hierarchy.Hierarchy, level: float) -> Spread:
    """Return what is known of the scale between groups."""
    scale: ScalePosterior = found.scale
    return Spread(scale.mean, scale.quantile(0.5), scale.sd, scale.interval(level))


def check_level(level: float) -> None:
    """Check the level of an interval.

    Raises
    ------
    ValueError
        It is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: it must lie between 0 and 1")
