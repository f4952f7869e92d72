"""Random experiments, drawn as the sums that estimators read; exact, not approximated.

Units of a normal outcome enter through their mean (normal) and sum of squares (chi-square), 0/1
units through their count (binomial), revenue through its buyers only. All three are exactly
what single units would give, at a fraction of the time. Only the third moment of a normal
outcome is taken for zero; it opens the burn-in gate and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from klartext.analysis.moments import FloatArray, Moments, Sample


@dataclass(frozen=True, slots=True)
class Population:
    """Distribution of one outcome per unit.

    Parameters
    ----------
    kind
        ``normal``; ``binary``; ``revenue``: nothing, or with probability ``rate`` a lognormal
        amount.
    location, scale
        Mean and standard deviation of ``normal``; of the logarithm of ``revenue``.
    rate
        Of ``binary`` and ``revenue``.
    """

    kind: Literal["normal", "binary", "revenue"]
    location: float = 0.0
    scale: float = 1.0
    rate: float = 1.0

    @property
    def mean(self) -> float:
        """Mean per unit."""
        match self.kind:
            case "normal":
                return self.location
            case "binary":
                return self.rate
            case "revenue":
                return self.rate * float(np.exp(self.location + self.scale**2 / 2))

    @property
    def variance(self) -> float:
        """Variance per unit."""
        match self.kind:
            case "normal":
                return self.scale**2
            case "binary":
                return self.rate * (1 - self.rate)
            case "revenue":
                square = self.rate * float(np.exp(2 * self.location + 2 * self.scale**2))
                return square - self.mean**2


@dataclass(frozen=True, slots=True, eq=False)
class Cumulative:
    """Moments of one variant at each look, for all replications: ``(replications, looks)``."""

    n: FloatArray
    mean: FloatArray
    m2: FloatArray
    m3: FloatArray
    nonzero: FloatArray

    def sample(self, replication: int, look: int) -> Sample:
        """Return the column of one replication at one look."""
        return Sample(
            int(self.n[look]),
            float(self.mean[replication, look]),
            float(self.m2[replication, look]),
            float(self.m3[replication, look]),
        )

    def outcomes(self, replication: int, look: int) -> int:
        """Return its units with an outcome."""
        return int(self.nonzero[replication, look])


def draw(
    population: Population, steps: FloatArray, replications: int, rng: np.random.Generator
) -> Cumulative:
    """Draw one variant that gains ``steps[k]`` units before look k."""
    n = np.cumsum(steps)
    shape = (replications, len(steps))
    if population.kind == "normal":
        sums = steps * population.location + population.scale * np.sqrt(
            steps
        ) * rng.standard_normal(shape)
        within = population.scale**2 * rng.chisquare(np.maximum(steps - 1, 1e-9), shape)
        total, square = sums.cumsum(axis=1), (within + sums**2 / steps).cumsum(axis=1)
        mean = total / n
        zero = np.zeros(shape)
        return Cumulative(n, mean, square - n * mean**2, zero, np.broadcast_to(n, shape))
    buyers = rng.binomial(steps.astype(np.int64), population.rate, shape)
    count = buyers.cumsum(axis=1).astype(np.float64)
    binary = population.kind == "binary"
    total, square, cube = (count,) * 3 if binary else amounts(population, buyers, rng)
    mean = total / n
    m2 = square - n * mean**2
    m3 = cube - 3 * mean * square + 2 * n * mean**3
    return Cumulative(n, mean, m2, m3, count)


def amounts(
    population: Population, buyers: np.ndarray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Cumulative sums of the buyers' amounts, their squares and cubes."""
    sums = np.zeros((3, *buyers.shape))
    for row, counts in enumerate(buyers):  # a row at a time keeps memory small
        amounts = rng.lognormal(population.location, population.scale, int(counts.sum()))
        edges = np.concatenate(([0], counts.cumsum()))
        for power in range(3):
            running = np.concatenate(([0.0], np.cumsum(amounts ** (power + 1))))
            sums[power, row] = running[edges[1:]]
    return sums[0], sums[1], sums[2]


PAIR = ("margin", "cost")


SPREAD = np.array([[144.0, 28.8], [28.8, 16.0]])
"""Covariance of margin and cost per unit: sd 12 and 4, correlation 0.6."""


def margin_and_cost(
    mean: tuple[float, float], n: int, replications: int, rng: np.random.Generator
) -> list[Moments]:
    """Draw two correlated normal columns: means normal, sums of squares Wishart."""
    means = rng.multivariate_normal(mean, SPREAD / n, replications)
    scatter = np.asarray(stats.wishart(df=n - 1, scale=SPREAD).rvs(replications, random_state=rng))
    return _moments(n, means, scatter)


def orders(n: int, replications: int, rng: np.random.Generator) -> list[Moments]:
    """Draw revenue and orders per unit, unit by unit: 10 per order on average.

    Orders are Poisson with mean 1.5, the revenue of x orders is gamma with shape 2 x, scale 5.
    """
    means, scatter = np.empty((replications, 2)), np.empty((replications, 2, 2))
    for row in range(replications):
        count = rng.poisson(1.5, n).astype(np.float64)
        values = np.column_stack([rng.standard_gamma(2 * count) * 5, count])
        means[row] = values.mean(axis=0)
        deviation = values - means[row]
        scatter[row] = deviation.T @ deviation
    return _moments(n, means, scatter)


def _moments(n: int, means: FloatArray, scatter: FloatArray) -> list[Moments]:
    nothing, everybody = np.zeros(2), np.full(2, n)
    return [
        Moments(PAIR, n, mean, square, nothing, everybody)
        for mean, square in zip(means, scatter, strict=True)
    ]
