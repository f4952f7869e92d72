"""Posterior of a rate: Beta-Bernoulli."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from klartext.analysis.bayes.marginal import TAIL, FloatArray, Points
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.moments import Sample
from klartext.analysis.proportions import not_proportions

_INNER = (1e-6, 0.02)
_GRADED = tuple(10.0**-power for power in (14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1))

_SERIES = tuple((-1.0) ** (k + 1) / k for k in range(2, 22))
"""Coefficients of ``log(1 + t) - t`` from ``t^2`` on; 20 of them reach 1e-17 at 0.1."""


@dataclass(frozen=True, slots=True)
class BetaPosterior:
    """Posterior of a rate: Beta(``a``, ``b``). A prior is the posterior of imagined data.

    Parameters
    ----------
    a, b
        Successes and failures, imagined ones included; at least 0.1.

    Raises
    ------
    ValueError
        ``a`` or ``b`` is not a finite number from 0.1. Less imagined data than that puts so much
        probability on rates below every number that quadrature cannot see it.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (0.1 <= self.a < math.inf and 0.1 <= self.b < math.inf):
            raise ValueError(f"Beta({self.a}, {self.b}): both must be finite and at least 0.1")

    @classmethod
    def of(cls, *, trials: int, successes: int) -> BetaPosterior:
        """Update the uniform prior Beta(1, 1) with ``successes`` in ``trials``.

        Raises
        ------
        ValueError
            Counts that cannot be: negative, or more successes than trials.

        Examples
        --------
        >>> BetaPosterior.of(trials=10, successes=3)
        BetaPosterior(a=4.0, b=8.0)
        """
        return UNIFORM.updated(trials=trials, successes=successes)

    def updated(self, *, trials: int, successes: int) -> BetaPosterior:
        """Return the posterior with ``successes`` in ``trials`` more.

        Raises
        ------
        ValueError
            Counts that cannot be: negative, or more successes than trials.
        """
        if not 0 <= successes <= trials:
            raise ValueError(f"{successes} successes in {trials} trials")
        return BetaPosterior(self.a + successes, self.b + (trials - successes))

    @property
    def mean(self) -> float:
        """Posterior mean of the rate, ``a / (a + b)``."""
        return self.a / (self.a + self.b)

    @property
    def sd(self) -> float:
        """Posterior standard deviation, ``sqrt(a b / (a + b + 1)) / (a + b)``."""
        total = self.a + self.b
        return math.sqrt(self.a / total * (self.b / total) / (total + 1))

    @property
    def bounded(self) -> bool:
        """A rate is between 0 and 1."""
        return True

    @property
    def positive(self) -> bool:
        """A rate is."""
        return True

    def interval(self, level: float) -> Interval:
        """Return the equal-tailed credible interval; ``level`` 0.95 is 95 %."""
        tail = np.array([(1 - level) / 2])
        return Interval(float(self.quantiles(tail)[0]), float(self.upper_quantiles(tail)[0]), level)

    def quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return rates below which the given probabilities lie."""
        return np.asarray(special.betaincinv(self.a, self.b, probabilities), dtype=np.float64)

    def upper_quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return rates above which the given probabilities lie."""
        return np.asarray(special.betainccinv(self.a, self.b, probabilities), dtype=np.float64)

    def cuts(self) -> Points:
        """Return rates between which density and tails vary moderately.

        A distribution function that starts like ``x^a`` with a small ``a`` is not smooth there
        for a shifted argument; cuts by powers of ten of the probability grade the panels.
        """
        tail = np.array((TAIL, *(_GRADED if self.a < 8 else _INNER)))
        value, rest = (
            special.betaincinv(self.a, self.b, tail),
            special.betainccinv(self.b, self.a, tail),
        )
        tail = np.array((TAIL, *(_GRADED if self.b < 8 else _INNER)))[::-1]
        upper, below_one = (
            special.betainccinv(self.a, self.b, tail),
            special.betaincinv(self.b, self.a, tail),
        )
        return Points(np.append(value, upper), np.append(rest, below_one))

    def coordinates(self, points: Points) -> FloatArray:
        """Return logits; of a rate outside [0, 1] minus or plus infinity."""
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(points.value, 0)) - np.log(np.maximum(points.rest, 0))

    def points(self, coordinates: FloatArray) -> Points:
        """Return the rates at logits; ``rest`` is the rate of failures."""
        return Points(special.expit(coordinates), special.expit(-coordinates))

    def slope(self, points: Points) -> FloatArray:
        """Return the derivative of the rate by the logit."""
        return points.value * points.rest

    def log_density(self, coordinates: FloatArray) -> FloatArray:
        """Log of the density of the logit, relative to its mode, which is the logit of the mean.

        ``a (log(1 + t) - t)`` with ``t = x / mean - 1``, and the same for failures: the linear
        terms of both cancel, so that they need not be computed.
        """
        total = self.a + self.b
        mean, rest = self.a / total, self.b / total
        points = self.points(coordinates)
        near = points.value < 0.5
        deviation = np.where(near, points.value - mean, rest - points.rest)
        return self.a * _log1p_minus(deviation / mean, points.value / mean) + self.b * _log1p_minus(
            -deviation / rest, points.rest / rest
        )

    def tails(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """Return the probabilities below and above the points.

        The incomplete beta function is taken from the end of the support that is nearer, where
        the distance to that end has all its digits.
        """
        value, rest = np.clip(points.value, 0, 1), np.clip(points.rest, 0, 1)
        near = value < 0.5
        part = special.betainc(
            np.where(near, self.a, self.b),
            np.where(near, self.b, self.a),
            np.where(near, value, rest),
        )
        return np.where(near, part, 1 - part), np.where(near, 1 - part, part)


UNIFORM = BetaPosterior(1.0, 1.0)
"""Bayes' and Laplace's prior: every rate alike, worth one success and one failure."""

JEFFREYS = BetaPosterior(0.5, 0.5)
"""Jeffreys' prior, the same for every way to state a rate."""


def rate(sample: Sample, *, prior: BetaPosterior) -> BetaPosterior | NotEstimable:
    """Posterior of the rate of a 0/1 column.

    Parameters
    ----------
    sample
        A 0/1 column of one variant; 0 of n and n of n are fine.
    prior
        `UNIFORM`, `JEFFREYS`, or successes and failures that were imagined before.

    Returns
    -------
    BetaPosterior or NotEstimable
        Refused: ``no-units``, ``not-finite``, ``not-a-proportion``.

    Notes
    -----
    Units are independent and have the same rate: units that come in clusters, or rates that
    drift while the split changes, make the posterior too narrow. Looking repeatedly does not
    change a posterior, but stopping at a favourable look makes statements such as "P(better) is
    95 %" wrong more often than they say unless the prior is the true one.
    """
    refused = not_proportions(sample)
    if refused is not None:
        return refused
    ones = sample.n * sample.mean
    successes = round(ones)
    if abs(ones - successes) > 1e-6 * max(1.0, ones):
        return NotEstimable("not-a-proportion", "the sum of the column is not a whole number")
    return prior.updated(trials=sample.n, successes=successes)


def _log1p_minus(t: FloatArray, one_plus_t: FloatArray) -> FloatArray:
    """Return ``log(1 + t) - t``, all digits kept near ``t = 0`` and near ``t = -1``."""
    small = np.abs(t) < 0.1
    near = np.where(small, t, 0.0)
    series = np.zeros_like(near)
    for coefficient in reversed(_SERIES):
        series = series * near + coefficient
    with np.errstate(divide="ignore"):  # the support's end has density 0, its logarithm -inf
        far = np.log(one_plus_t) - t
    return np.where(small, series * near * near, far)
