"""Posterior of a mean with unknown variance: normal-inverse-gamma, its marginal a Student t."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from klartext.analysis.bayes.marginal import TAIL, FloatArray, Points
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.moments import Sample

_INNER = (1e-6, 0.02)


@dataclass(frozen=True, slots=True)
class StudentPosterior:
    """Posterior of a mean: ``location + scale t`` with Student's t.

    Parameters
    ----------
    df
        Degrees of freedom, at least 2: at 1 there is no posterior mean, and just above it
        nearly all of an expected loss comes from levels nobody has seen.
    location, scale
        In the metric's unit; ``scale`` above zero.

    Raises
    ------
    ValueError
        ``df`` is below 2, or ``scale`` is not above zero, or one is not finite.
    """

    df: float
    location: float
    scale: float

    def __post_init__(self) -> None:
        proper = 2 <= self.df < math.inf and 0 < self.scale < math.inf
        if not (proper and math.isfinite(self.location)):
            raise ValueError(f"t({self.df}, {self.location}, {self.scale}) has no mean or scale")

    @property
    def mean(self) -> float:
        """Posterior mean, the location."""
        return self.location

    @property
    def sd(self) -> float:
        """Posterior standard deviation; infinite up to two degrees of freedom."""
        return self.scale * math.sqrt(self.df / (self.df - 2)) if self.df > 2 else math.inf

    @property
    def bounded(self) -> bool:
        """A mean has no bounds."""
        return False

    @property
    def positive(self) -> bool:
        """Whether P(mean < 0) is below 1e-9."""
        return float(special.stdtr(self.df, -self.location / self.scale)) < 1e-9

    def interval(self, level: float) -> Interval:
        """Return the equal-tailed credible interval, the shortest one too; 0.95 is 95 %."""
        reach = -self.scale * float(special.stdtrit(self.df, (1 - level) / 2))
        return Interval(self.location - reach, self.location + reach, level)

    def quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return levels below which the given probabilities lie."""
        return np.asarray(self.location + self.scale * special.stdtrit(self.df, probabilities))

    def upper_quantiles(self, probabilities: FloatArray) -> FloatArray:
        """Return levels above which the given probabilities lie."""
        return np.asarray(self.location - self.scale * special.stdtrit(self.df, probabilities))

    def cuts(self) -> Points:
        """Return levels between which density and tails vary moderately.

        A tail like ``x^-df`` is followed until its part of an expectation is negligible, in
        steps of about a factor of ten in x.
        """
        if self.df >= 60:
            tail = np.array((TAIL, *_INNER))
        else:
            step = min(self.df, 4.0)
            decades = np.arange(1.0, 17 * self.df / (self.df - 1) / step + 1)
            tail = np.append(10.0 ** (-step * decades), 0.1)
        lower = self.quantiles(np.unique(tail))
        return self.points(np.append(lower, (2 * self.location - lower)[::-1]))

    def coordinates(self, points: Points) -> FloatArray:
        """Return the values: a mean is its own coordinate."""
        return points.value

    def points(self, coordinates: FloatArray) -> Points:
        """Return the coordinates as levels."""
        return Points(coordinates, np.full_like(coordinates, math.inf))

    def slope(self, points: Points) -> FloatArray:
        """Return 1: a mean is its own coordinate."""
        return np.ones_like(points.value)

    def log_density(self, coordinates: FloatArray) -> FloatArray:
        """Log of the density, relative to its mode."""
        t = (coordinates - self.location) / self.scale
        return np.asarray(-(self.df + 1) / 2 * np.log1p(t * t / self.df))

    def tails(self, points: Points) -> tuple[FloatArray, FloatArray]:
        """Return the probabilities below and above the points, both with their digits."""
        t = (points.value - self.location) / self.scale
        return np.asarray(special.stdtr(self.df, t)), np.asarray(special.stdtr(self.df, -t))


@dataclass(frozen=True, slots=True)
class NormalInverseGamma:
    """Mean and variance of normal outcomes: ``m | v ~ N(mean, v / strength)``, 1/v gamma.

    Parameters
    ----------
    mean
        In the metric's unit.
    strength
        Units the mean is worth, from zero.
    shape, scale
        Of the inverse-gamma distribution of the variance; ``scale`` in squared units. Below or
        at zero only in an improper prior.
    """

    mean: float
    strength: float
    shape: float
    scale: float

    def updated(self, sample: Sample) -> NormalInverseGamma:
        """Return the posterior with a sample more.

        Notes
        -----
        ``strength' = strength + n``, ``mean' = mean + (y - mean) n / strength'``,
        ``shape' = shape + n/2``,
        ``scale' = scale + m2/2 + strength n (y - mean)^2 / (2 strength')``.

        References
        ----------
        Gelman et al. (2013), "Bayesian Data Analysis", 3rd ed., section 3.3 (there with
        ``nu = 2 shape`` and ``nu sigma^2 = 2 scale``).
        """
        strength = self.strength + sample.n
        gap = sample.mean - self.mean
        return NormalInverseGamma(
            mean=self.mean + gap * (sample.n / strength),
            strength=strength,
            shape=self.shape + sample.n / 2,
            scale=self.scale + sample.m2 / 2 + self.strength * (sample.n / strength) * gap**2 / 2,
        )

    def marginal(self) -> StudentPosterior:
        """Posterior of the mean alone: t with ``2 shape`` degrees of freedom.

        Its squared scale is ``scale / (shape strength)``.
        """
        return StudentPosterior(
            2 * self.shape, self.mean, math.sqrt(self.scale / self.shape / self.strength)
        )


REFERENCE = NormalInverseGamma(0.0, 0.0, -0.5, 0.0)
"""The improper prior ``1/v``: the posterior of the mean is Student's classical t, df n - 1."""


def level(sample: Sample, *, prior: NormalInverseGamma) -> StudentPosterior | NotEstimable:
    """Posterior of the mean of a column.

    Parameters
    ----------
    sample
        One column of one variant.
    prior
        `REFERENCE`, or what a sample imagined before was worth.

    Returns
    -------
    StudentPosterior or NotEstimable
        Refused: ``no-units``, ``not-finite``, ``invalid-moments``, ``no-variance`` (every unit
        has one value and the prior knows no variance), ``too-few-units`` (fewer than two
        degrees of freedom: with `REFERENCE` below three units).

    Notes
    -----
    Exact for normal outcomes. For other ones it is right as far as the mean of the sample is
    normal around the true one; with skewed money and few non-zero outcomes it is not, see
    `klartext.analysis.sequential.mixture.burn_in`.
    """
    if sample.n < 1:
        return NotEstimable("no-units", "the variant has no units")
    if not (math.isfinite(sample.mean) and math.isfinite(sample.m2)):
        return NotEstimable("not-finite", "a mean or variance is not a finite number")
    if sample.m2 < 0:
        return NotEstimable("invalid-moments", "a sum of squared deviations is negative")
    if sample.is_constant and prior.scale <= 0:
        return NotEstimable("no-variance", "every unit of the variant has the same value")
    posterior = prior.updated(sample)
    if 2 * posterior.shape < 2:
        return NotEstimable(
            "too-few-units", f"{sample.n} units leave fewer than two degrees of freedom"
        )
    return posterior.marginal()
