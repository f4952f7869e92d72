"""What quadrature needs to know about the posterior of one variant's level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from klartext.analysis.estimate import Interval

FloatArray = npt.NDArray[np.float64]

TAIL = 1e-16
"""Posterior mass left out on either side of a central range."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Levels, each by its distance from both ends of the support.

    Parameters
    ----------
    value
        ``(m,)``, in the level's unit.
    rest
        ``(m,)`` distance to the upper end of the support, with digits where ``end - value`` has
        none left; infinite when there is no such end.
    """

    value: FloatArray
    rest: FloatArray

    def moved(self, *, factor: float, shift: float) -> Points:
        """Return the points ``(1 + factor) value + shift``."""
        step = factor * self.value + shift
        return Points(self.value + step, self.rest - step)


class Marginal(Protocol):
    """Posterior of a level: a rate, a count per unit, or a mean.

    Posteriors of one family share a coordinate on which no density has a singularity: the logit
    of a rate, the logarithm of a count per unit, a mean itself. Levels are only compared within a
    family.
    """

    @property
    def mean(self) -> float:
        """Posterior mean of the level."""
        ...

    @property
    def sd(self) -> float:
        """Posterior standard deviation of the level; infinite when there is none."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether the support has an end: the coordinate is then a logit or a logarithm."""
        ...

    @property
    def positive(self) -> bool:
        """Whether the level cannot be negative, up to a probability of 1e-9."""
        ...

    def interval(self, level: float) -> Interval:
        """Return the equal-tailed credible interval; ``level`` 0.95 is 95 %."""
        ...

    def quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return levels below which the given probabilities lie, lower tails exact."""
        ...

    def upper_quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return levels above which the given probabilities lie, upper tails exact."""
        ...

    def cuts(self) -> Points:
        """Return increasing levels between which density and tails vary moderately.

        The first and the last leave `TAIL` or less outside.
        """
        ...

    def coordinates(self, points: Points) -> FloatArray:
        """Return where levels lie on the line; outside the support minus or plus infinity."""
        ...

    def points(self, coordinates: FloatArray) -> Points:
        """Return the levels at coordinates."""
        ...

    def slope(self, points: Points) -> FloatArray:
        """Return the derivative of the level by the coordinate."""
        ...

    def log_density(self, coordinates: FloatArray) -> FloatArray:
        """Log of the density by the coordinate, up to a constant."""
        ...

    def tails(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """Return the probabilities below and above the points, the smaller one exact."""
        ...
