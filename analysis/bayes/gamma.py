"""Posterior of a count per unit: Gamma-Poisson."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from klartext.analysis.bayes.marginal import TAIL, FloatArray, Points
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.moments import Sample

_INNER = (1e-6, 0.02)
_GRADED = tuple(10.0**-power for power in (14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1))

_SERIES = tuple(1 / math.factorial(k) for k in range(2, 14))
"""Coefficients of ``exp(t) - 1 - t`` from ``t^2`` on; twelve of them reach 1e-17 at 0.2."""

_LARGE = 1e5
"""Shape from which on the uniform expansion has all digits."""

_FIRST = (-1 / 3, 1 / 12, -2 / 135, 1 / 864, 1 / 2835, -139 / 777600)
_SECOND = (-1 / 540, -1 / 288, 1 / 378)
"""Series of Temme's first two coefficients in eta, DLMF 8.12.11 and 8.12.12."""

DISPERSION = 0.1
"""Variance over mean may differ from 1 by this much: the interval is then 5 % off in width."""


@dataclass(frozen=True, slots=True)
class GammaPosterior:
    """Posterior of a count per unit: Gamma(``shape``, ``rate``). A prior is one of imagined data.

    Parameters
    ----------
    shape
        Events, imagined ones included; at least 0.1.
    rate
        Units, imagined ones included. Zero only in an improper prior.

    Raises
    ------
    ValueError
        ``shape`` is not a finite number from 0.1, or ``rate`` not one from zero.
    """

    shape: float
    rate: float

    def __post_init__(self) -> None:
        if not (0.1 <= self.shape < math.inf and 0 <= self.rate < math.inf):
            raise ValueError(f"Gamma({self.shape}, {self.rate}): at least 0.1 and 0, both finite")

    def updated(self, *, units: int, events: int) -> GammaPosterior:
        """Return the posterior with ``events`` of ``units`` more.

        Raises
        ------
        ValueError
            Counts that cannot be: negative, or events without a unit.
        """
        if units < 0 or events < 0 or (events > 0 and units == 0):
            raise ValueError(f"{events} events of {units} units")
        return GammaPosterior(self.shape + events, self.rate + units)

    @property
    def mean(self) -> float:
        """Posterior mean of the count per unit, ``shape / rate``."""
        return self.shape / self.rate

    @property
    def sd(self) -> float:
        """Posterior standard deviation, ``sqrt(shape) / rate``."""
        return math.sqrt(self.shape) / self.rate

    @property
    def bounded(self) -> bool:
        """A count is not below 0."""
        return True

    @property
    def positive(self) -> bool:
        """A count is."""
        return True

    def interval(self, level: float) -> Interval:
        """Return the equal-tailed credible interval; ``level`` 0.95 is 95 %."""
        tail = np.array([(1 - level) / 2])
        return Interval(float(self.quantiles(tail)[0]), float(self.upper_quantiles(tail)[0]), level)

    def quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return counts per unit below which the given probabilities lie."""
        return np.asarray(special.gammaincinv(self.shape, probabilities) / self.rate)

    def upper_quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return counts per unit above which the given probabilities lie."""
        return np.asarray(special.gammainccinv(self.shape, probabilities) / self.rate)

    def cuts(self) -> Points:
        """Return counts per unit between which density and tails vary moderately."""
        if self.shape >= _LARGE:  # Wilson and Hilferty's cube root: right enough to cut
            z = special.ndtri(np.array((TAIL, *_INNER)))
            root = 1 - 1 / (9 * self.shape) + np.append(z, -z[::-1]) / (3 * math.sqrt(self.shape))
            return _counts(self.mean * root**3)
        lower = np.array((TAIL, *(_GRADED if self.shape < 8 else _INNER)))
        upper = np.array((TAIL, *_INNER))
        return _counts(np.append(self.quantiles(lower), self.upper_quantiles(upper)[::-1]))

    def coordinates(self, points: Points) -> FloatArray:
        """Return logarithms; of a negative count minus infinity."""
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(points.value, 0))

    def points(self, coordinates: FloatArray) -> Points:
        """Return the counts per unit at logarithms."""
        return _counts(np.exp(coordinates))

    def slope(self, points: Points) -> FloatArray:
        """Return the derivative of the count per unit by its logarithm: itself."""
        return points.value

    def log_density(self, coordinates: FloatArray) -> FloatArray:
        """Log of the density of the logarithm, relative to its mode, the logarithm of the mean.

        ``-shape (exp(t) - 1 - t)`` with ``t = log(x / mean)``.
        """
        return -self.shape * _expm1_minus(coordinates - math.log(self.mean))

    def tails(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """Return the probabilities below and above the points, both with their digits.

        From a shape of 1e5 by Temme's uniform expansion, DLMF 8.12.3 to 8.12.12: scipy's series
        does not converge there beyond 4.5 standard deviations (1.17: 3.2e-10 for 9.8e-10).
        """
        if self.shape >= _LARGE:
            return _temme(self.shape, np.maximum(points.value, 0.0) / self.mean)
        scaled = np.maximum(points.value, 0.0) * self.rate
        return (
            np.asarray(special.gammainc(self.shape, scaled)),
            np.asarray(special.gammaincc(self.shape, scaled)),
        )


JEFFREYS = GammaPosterior(0.5, 0.0)
"""Jeffreys' prior: half an event, of no unit. Improper, its posterior is not."""


def count(sample: Sample, *, prior: GammaPosterior) -> GammaPosterior | NotEstimable:
    """Posterior of the mean of a column of counts.

    Parameters
    ----------
    sample
        A column of one variant with whole numbers from zero: sessions, tickets, orders.
    prior
        `JEFFREYS`, or events and units that were imagined before.

    Returns
    -------
    GammaPosterior or NotEstimable
        Refused: ``no-units``, ``not-finite``, ``not-a-count`` (negative, or the sum is no whole
        number), ``overdispersed`` and ``underdispersed`` (the column is not Poisson).

    Notes
    -----
    In a Poisson column the variance equals the mean. A ratio that differs from 1 by more than
    `DISPERSION` and by more than four of its standard errors under Poisson,
    ``sqrt(2 / (n - 1) + 1 / (n mean))``, is refused: at a ratio of 2, common for orders and
    sessions, a 95 % interval would cover 83 %. The posterior of the mean,
    `klartext.analysis.bayes.student.level`, is right there.
    """
    if sample.n < 1:
        return NotEstimable("no-units", "the variant has no units")
    if not (math.isfinite(sample.mean) and math.isfinite(sample.m2)):
        return NotEstimable("not-finite", "a mean or variance is not a finite number")
    total = sample.n * sample.mean
    events = round(total)
    if sample.mean < 0 or sample.m2 < 0 or abs(total - events) > 1e-6 * max(1.0, total):
        return NotEstimable("not-a-count", "the column holds other values than counts")
    if sample.n >= 2 and events > 0:
        index = sample.variance / sample.mean
        chance = 4 * math.sqrt(2 / (sample.n - 1) + 1 / total)
        if abs(index - 1) > max(DISPERSION, chance):
            kind = "overdispersed" if index > 1 else "underdispersed"
            return NotEstimable(kind, f"the variance is {index:.3g} times the mean, not 1")
    return prior.updated(units=sample.n, events=events)


def _counts(values: FloatArray) -> Points:
    """Return counts per unit as points: they have no upper end."""
    return Points(values, np.full_like(values, math.inf))


def _expm1_minus(t: FloatArray) -> FloatArray:
    """Return ``exp(t) - 1 - t``, all digits kept near 0."""
    small = np.abs(t) < 0.2
    near = np.where(small, t, 0.0)
    series = np.zeros_like(near)
    for coefficient in reversed(_SERIES):
        series = series * near + coefficient
    return np.asarray(np.where(small, series * near * near, np.expm1(t) - t))


def _temme(shape: float, ratio: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the regularised incomplete gamma functions P and Q at ``shape * ratio``.

    ``P = erfc(-eta sqrt(a/2)) / 2 - S``, ``Q = erfc(eta sqrt(a/2)) / 2 + S`` with
    ``eta^2 / 2 = ratio - 1 - log(ratio)`` and
    ``S = exp(-a eta^2 / 2) / sqrt(2 pi a) (c0(eta) + c1(eta) / a)``. The series of c0 and c1 hold
    for a small eta; where eta is large here, S is 0.
    """
    with np.errstate(divide="ignore"):
        t = np.log(ratio)
    half = _expm1_minus(t)
    eta = np.where(ratio < 1, -1.0, 1.0) * np.sqrt(2 * half)
    scaled = eta * math.sqrt(shape)
    near = np.clip(eta, -1, 1)
    first, second = (np.polynomial.polynomial.polyval(near, each) for each in (_FIRST, _SECOND))
    rest = np.exp(-shape * half) / math.sqrt(2 * math.pi * shape) * (first + second / shape)
    return special.ndtr(scaled) - rest, special.ndtr(-scaled) + rest
