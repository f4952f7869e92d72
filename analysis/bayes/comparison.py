"""All variants of a metric compared by their posteriors: levels, standing, advantages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from klartext.analysis.bayes.best import Direction, standing
from klartext.analysis.bayes.difference import Difference
from klartext.analysis.bayes.marginal import Marginal
from klartext.analysis.estimate import Interval, NotEstimable


@dataclass(frozen=True, slots=True)
class Region:
    """Differences too small to matter, in the metric's unit: the region of practical equivalence.

    Parameters
    ----------
    lower, upper
        Finite, ``lower <= 0 <= upper``.

    Raises
    ------
    ValueError
        No difference at all would lie outside the region.
    """

    lower: float
    upper: float

    def __post_init__(self) -> None:
        if not (-math.inf < self.lower <= 0 <= self.upper < math.inf):
            raise ValueError(f"a region from {self.lower} to {self.upper} does not hold 0")


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of one variant.

    Parameters
    ----------
    variant
        Key.
    mean, interval
        Of its level, in the metric's unit; equal-tailed.
    probability_best
        That no other variant is better.
    expected_loss
        What choosing it loses on average against the best, metric's unit per unit.
    """

    variant: str
    mean: float
    interval: Interval
    probability_best: float
    expected_loss: float


@dataclass(frozen=True, slots=True)
class Advantage:
    """What is believed of a treatment against the control.

    Parameters
    ----------
    variant
        Key of the treatment.
    mean, interval
        Of the difference of levels, in the metric's unit; equal-tailed.
    probability_better
        That the difference is on the good side of 0.
    probability_equivalent
        That the difference lies in the region of practical equivalence; `NotEstimable`
        (``no-region``) when none is registered.
    relative, relative_interval
        Posterior median and interval of the relative lift (0.03 is 3 %).
    """

    variant: str
    mean: float
    interval: Interval
    probability_better: float
    probability_equivalent: float | NotEstimable
    relative: float | NotEstimable
    relative_interval: Interval | NotEstimable


@dataclass(frozen=True, slots=True)
class Comparison:
    """Beliefs per variant in the order given, and advantages of all but the control."""

    beliefs: tuple[Belief, ...]
    advantages: tuple[Advantage, ...]


def compare(
    posteriors: Mapping[str, Marginal | NotEstimable],
    *,
    control: str,
    direction: Direction,
    level: float,
    region: Region | None,
) -> Comparison | NotEstimable:
    """Compare the variants of a metric by closed forms and quadrature, without draws.

    Parameters
    ----------
    posteriors
        Per variant, of one family: from `beta.rate`, `gamma.count` or `student.level`.
    control
        Key of the control.
    direction
        ``increase`` when the highest level is best, ``decrease`` when the lowest is.
    level
        Of the credible intervals; 0.95 is 95 %.
    region
        Differences too small to matter, or None.

    Returns
    -------
    Comparison or NotEstimable
        Refused for the first variant that has no posterior, with its reason: the best of all is
        not to be had without it.

    Raises
    ------
    ValueError
        The control is not among the variants, or ``level`` is not between 0 and 1.

    Notes
    -----
    Independent posteriors per variant, each with its own prior: there is no shrinking of the
    difference towards zero. The sceptical prior on an effect is that of
    `klartext.analysis.posterior`.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: it must lie between 0 and 1")
    if control not in posteriors:
        raise ValueError(f"the control {control} has no posterior")
    known: dict[str, Marginal] = {}
    for key, posterior in posteriors.items():
        if isinstance(posterior, NotEstimable):
            return NotEstimable(posterior.reason, f"{key}: {posterior.detail}")
        known[key] = posterior
    found = standing(tuple(known.values()), direction=direction)
    beliefs = tuple(
        Belief(key, posterior.mean, posterior.interval(level), best, loss)
        for (key, posterior), best, loss in zip(
            known.items(),
            found.probability_best.tolist(),
            found.expected_loss.tolist(),
            strict=True,
        )
    )
    advantages = tuple(
        _advantage(key, Difference(posterior, known[control]), direction, level, region)
        for key, posterior in known.items()
        if key != control
    )
    return Comparison(beliefs, advantages)


def _advantage(
    variant: str,
    difference: Difference,
    direction: Direction,
    level: float,
    region: Region | None,
) -> Advantage:
    relative = difference.relative(level)
    lift, lift_interval = (relative, relative) if isinstance(relative, NotEstimable) else relative
    return Advantage(
        variant=variant,
        mean=difference.mean,
        interval=difference.interval(level),
        probability_better=(
            difference.probability_above(0.0)
            if direction == "increase"
            else difference.probability_below(0.0)
        ),
        probability_equivalent=(
            NotEstimable("no-region", "no region of practical equivalence is registered")
            if region is None
            else difference.probability_between(region.lower, region.upper)
        ),
        relative=lift,
        relative_interval=lift_interval,
    )
