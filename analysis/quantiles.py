"""Quantiles of observations that come in clusters, such as the latency of a unit's calls."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from klartext.analysis.contrast import Contrast, Source
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import FloatArray

IntArray = npt.NDArray[np.int64]

MINIMUM_TAIL = 200
"""Units needed beyond the quantile on its thinner side, ``n min(q, 1 - q)``."""

_BANDWIDTH = multiplier_of(0.05)
"""Ranks 1.96 standard errors to each side of the quantile measure the density between them."""


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Observations of one variant, reduced to their distinct values: all that quantiles need.

    Parameters
    ----------
    values
        ``(D,)``: distinct values in ascending order.
    counts
        ``(D,)`` integers: how many observations have the value.
    earlier
        ``(D,)`` integers: summed over these, how many observations of the same unit stand before
        one when they are sorted by value (in any order among ties).
    sizes
        ``(D,)`` integers: summed over these, how many observations the same unit has.
    n
        Units; those without an observation do not count.

    Notes
    -----
    With ``b`` of a unit's ``m`` observations at or below x, the sums over units of ``b``, ``b^2``
    and ``b m`` are those of ``counts``, ``2 earlier + counts`` and ``sizes`` over the values up
    to x. So an engine can reduce observations to this, exactly.
    """

    values: FloatArray
    counts: IntArray
    earlier: IntArray
    sizes: IntArray
    n: int

    @classmethod
    def of(cls, values: FloatArray, units: IntArray | None = None) -> Observations:
        """Reduce observations; without ``units`` every one is its own unit.

        Raises
        ------
        ValueError
            ``values`` and ``units`` are not of one length.
        """
        flat = np.asarray(values, dtype=np.float64).reshape(-1)
        keys = np.arange(len(flat)) if units is None else np.asarray(units).reshape(-1)
        if len(keys) != len(flat):
            raise ValueError(f"{len(flat)} values but {len(keys)} units")
        _, unit, size = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.lexsort((flat, unit))
        starts = np.cumsum(size) - size
        earlier = np.empty(len(flat), dtype=np.int64)
        earlier[order] = np.arange(len(flat)) - np.repeat(starts, size)
        distinct, place = np.unique(flat, return_inverse=True)

        def summed(each: IntArray) -> IntArray:
            total = np.zeros(len(distinct), dtype=np.int64)
            np.add.at(total, place, each)
            return total

        ones = np.ones(len(flat), dtype=np.int64)
        return cls(distinct, summed(ones), summed(earlier), summed(size[unit]), len(size))

    @property
    def total(self) -> int:
        """Number of observations."""
        return int(self.counts.sum())

    @property
    def is_finite(self) -> bool:
        """Whether every observation is a finite number."""
        return bool(np.isfinite(self.values).all())

    @property
    def is_clustered(self) -> bool:
        """Whether some unit has several observations."""
        return self.total > self.n

    def at_rank(self, share: Fraction) -> float:
        """Smallest observation with at least ``share`` of all at or below it.

        Rank ``ceil(N share)``, held inside 1 … N; ``numpy.quantile`` with ``inverted_cdf``.
        """
        rank = min(max(math.ceil(self.total * share), 1), self.total)
        return float(self.values[np.searchsorted(np.cumsum(self.counts), rank)])

    def times(self, factor: float) -> Observations:
        """Return the observations multiplied with a positive number.

        Raises
        ------
        ValueError
            ``factor`` is not positive: it would turn their order around.
        """
        if not factor > 0:
            raise ValueError(f"the factor is {factor}: it must be positive")
        return replace(self, values=self.values * factor)


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of one variant.

    Parameters
    ----------
    value
        In the observations' unit.
    variance
        Its squared standard error.
    inflation
        What clustering multiplies the variance by; 1 when a unit's observations are as
        independent as those of different units.
    n
        Units.
    """

    value: float
    variance: float
    inflation: float
    n: int


def quantile(observations: Observations, q: float) -> Quantile | NotEstimable:
    """Quantile of one variant with its clustered standard error.

    Parameters
    ----------
    observations
        Of one variant.
    q
        Share of the observations below it; 0.95 for the 95th percentile.

    Returns
    -------
    Quantile or NotEstimable
        Refused: ``not-finite``; ``too-few-units`` unless ``n min(q, 1 - q)`` is at least
        `MINIMUM_TAIL`, n units and not observations; ``tied-ranks`` when one of the three
        ranks below holds the value of another, since a quantile at an atom is not normal;
        ``no-variance`` when no unit has observations on only one side.

    Raises
    ------
    ValueError
        ``q`` is not between 0 and 1.

    Notes
    -----
    With N observations and ``w = z sqrt(q (1 - q) / N)``, z = 1.96 whatever the level of the
    interval, the observations at the ranks ``N (q ± w)`` give the standard error of independent
    observations, ``(x_U - x_L) / (2 z)``, without a density estimate. Its square is multiplied
    by ``s_cluster^2 / s_iid^2``: the delta method's variance of the share of observations at or
    below the quantile, a ratio of sums over units, and ``q (1 - q) / N``.

    Fixed-sample; asymptotic in units, hence the gate. The observations are weighted equally: a
    unit with many of them counts more, and a treatment that changes how many there are changes
    the quantile by that alone.

    References
    ----------
    Yao, Li, Lu (2024), "Privacy-preserving quantile treatment effect estimation for randomized
    controlled trials", arXiv 2401.14549, algorithm 1. Deng, Knoblich, Lu (2018), KDD 2018,
    section 4.2 ("outer CI with post-adjustment").
    """
    share = exact(q)
    if not observations.is_finite:
        return NotEstimable("not-finite", "an observation is not a finite number")
    if observations.n * min(share, 1 - share) < MINIMUM_TAIL:
        needed = math.ceil(MINIMUM_TAIL / min(share, 1 - share))
        detail = f"a variant has {observations.n} units; {needed} are needed for this quantile"
        return NotEstimable("too-few-units", detail)
    size = observations.total
    independent = q * (1 - q) / size
    width = Fraction(_BANDWIDTH * math.sqrt(independent))
    value = observations.at_rank(share)
    lower, upper = observations.at_rank(share - width), observations.at_rank(share + width)
    if not lower < value < upper:
        return NotEstimable("tied-ranks", "too many observations are equal at the quantile")
    inflation = _share_variance(observations, value) / independent
    if inflation <= 0:
        return NotEstimable("no-variance", "every unit has the same share below the quantile")
    spread = (upper - lower) / (2 * _BANDWIDTH)
    return Quantile(value, spread * spread * inflation, inflation, observations.n)


def difference(treatment: Observations, control: Observations, q: float) -> Contrast | NotEstimable:
    """Difference of a quantile between two independent variants, for a single look.

    Refused for the reasons of `quantile`, in either variant. The contrast is not for anytime
    multipliers: see `klartext.analysis.quantile_sequence`.

    Raises
    ------
    ValueError
        ``q`` is not between 0 and 1.
    """
    one, base = quantile(treatment, q), quantile(control, q)
    if isinstance(one, NotEstimable):
        return one
    if isinstance(base, NotEstimable):
        return base
    return Contrast(
        method="quantile",
        treatment=one.value,
        control=base.value,
        sources=(
            Source(one.variance, 0.0, 0.0, math.inf),
            Source(0.0, base.variance, 0.0, math.inf),
        ),
        n=one.n,
        baseline_n=base.n,
    )


def exact(q: float) -> Fraction:
    """Return q as the decimal it is written as: 0.07 of 100 is rank 7, not 8.

    Raises
    ------
    ValueError
        ``q`` is not between 0 and 1.
    """
    if not 0 < q < 1:
        raise ValueError(f"the quantile is {q}: it must lie between 0 and 1")
    return Fraction(str(q))


def _share_variance(observations: Observations, value: float) -> float:
    """Squared standard error of the share at or below ``value``, units being the clusters.

    ``sum (b - p m)^2 / (n (n - 1) mean(m)^2)``, with the sum in integers: it may be zero.
    """
    n, size = observations.n, observations.total
    upto = int(np.searchsorted(observations.values, value, side="right"))
    below, earlier, shared = (
        int(part[:upto].sum())
        for part in (observations.counts, observations.earlier, observations.sizes)
    )
    squares = size**2 * (2 * earlier + below) - 2 * below * size * shared
    squares += below**2 * int(observations.sizes.sum())
    return squares * n / (n - 1) / size**4
