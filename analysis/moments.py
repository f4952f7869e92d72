"""Moments per variant: all that estimators need, exactly mergeable, with no unit rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from klartext.analysis.estimate import NotEstimable

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One column of one variant: count, mean and central moments.

    Parameters
    ----------
    n
        Units.
    mean
        In the column's unit.
    m2
        Sum of squared deviations from the mean.
    m3
        Sum of cubed deviations from the mean.
    missing
        Why the others are NaN; None when they are not.
    """

    n: int
    mean: float
    m2: float
    m3: float
    missing: NotEstimable | None = None

    @property
    def variance(self) -> float:
        """Sample variance, ``m2 / (n - 1)``; only defined for ``n >= 2``."""
        return self.m2 / (self.n - 1)

    @property
    def variance_of_mean(self) -> float:
        """Squared standard error of the mean, ``m2 / (n (n - 1))``; only for ``n >= 2``."""
        return self.variance / self.n

    @property
    def is_constant(self) -> bool:
        """Whether all units have one value, up to rounding.

        Rows that all hold 0.1 leave a mean off by an ulp and an ``m2`` of about n ulp^2; a test
        on such dust finds "significance". A standard deviation of 1e-12 of the mean is dust: a
        column with mean 1e9 and sd 1 is a thousand times above it.
        """
        return self.m2 <= self.n * (1e-12 * self.mean) ** 2


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, means, centred second moments and third central moments of unit columns.

    Parameters
    ----------
    columns
        Names, length k.
    n
        Units.
    mean
        ``(k,)``.
    m2
        ``(k, k)``: sums of products of deviations from the means (not divided by n).
    m3
        ``(k,)``: sums of cubed deviations from the means.
    nonzero
        ``(k,)`` counts of units whose value is not zero, for the burn-in gate.
    regimes
        From how many split regimes they are combined, see `klartext.analysis.regimes`. Above 1
        they are those of the combination, and no column is binomial.
    missing
        Why means and sums are NaN; None when they are not.
    rest
        ``(k,)``: the mean less its float64 in ``mean``, which only merging needs.

    Notes
    -----
    Two `Moments` merge with ``+``, exactly up to rounding. With ``d = mean_b - mean_a`` and
    ``n = n_a + n_b``:

    - ``m2 = m2_a + m2_b + d d' n_a n_b / n``
    - ``m3 = m3_a + m3_b + d^3 n_a n_b (n_a - n_b) / n^2 + 3 d (n_a m2_b - n_b m2_a) / n``

    Both are sums over the rows of ``(x - mean)^k`` with ``x - mean`` split into the part inside
    its group and the shift of the group's mean, ``-d n_b / n`` or ``d n_a / n``.

    A float64 near ``mu`` is off by ``u = 2^-53 mu``, so that ``d`` of two of them is off by
    ``2 u``: at mean 1e9 and sd 1 by 2e-7 of the sd. With weights ``w = n_a n_b / n`` that puts
    ``2 u (w_1 |d_1| + ...)`` into a product with another column of shifts ``d_1, ...``, and
    ``6 u m2`` into ``m3``. Hence a mean is the unevaluated sum of two floats, ``mean + rest``:
    ``d`` is then right to a few units in *its own* last place, as is all that is made of it.

    References
    ----------
    Pebay (2008), "Formulas for robust, one-pass parallel computation of covariances and
    arbitrary-order statistical moments", Sandia report SAND2008-6212. Knuth, The Art of Computer
    Programming 2, 4.2.2, theorem B, for the sum of two floats without loss.
    """

    columns: tuple[str, ...]
    n: int
    mean: FloatArray
    m2: FloatArray
    m3: FloatArray
    nonzero: npt.NDArray[np.int64]
    regimes: int = 1
    missing: NotEstimable | None = None
    rest: FloatArray | float = 0.0

    @classmethod
    def of(cls, columns: tuple[str, ...], rows: FloatArray) -> Moments:
        """Compute moments of unit rows ``(n, k)``; for tests and small data."""
        k = len(columns)
        values = np.asarray(rows, dtype=np.float64).reshape(-1, k)
        n = len(values)
        mean = values.mean(axis=0) if n else np.zeros(k)
        deviation = values - mean
        return cls.about(
            columns,
            n,
            mean,
            sums=deviation.sum(axis=0),  # all that rounding took from the mean
            products=deviation.T @ deviation,
            cubes=np.einsum("ij,ij,ij->j", deviation, deviation, deviation),
            nonzero=np.array([np.count_nonzero(column) for column in (values != 0).T], np.int64),
        )

    @classmethod
    def about(  # noqa: PLR0913 - the sums by name
        cls,
        columns: tuple[str, ...],
        n: int,
        origin: FloatArray,
        *,
        sums: FloatArray,
        products: FloatArray,
        cubes: FloatArray,
        nonzero: npt.NDArray[np.int64],
        rest: FloatArray | float = 0.0,
    ) -> Moments:
        """Return moments from sums of deviations ``d`` from any ``origin``.

        Parameters
        ----------
        columns, n, nonzero
            As they are.
        origin, rest
            ``(k,)``: their sum is what the deviations are from.
        sums, products, cubes
            ``(k,)``, ``(k, k)``, ``(k,)``: sums of ``d``, ``d d'`` and ``d^3``.

        Notes
        -----
        With ``e = sums / n``: ``m2 = products - n e e'`` and ``m3 = cubes - 3 e diag(products) +
        2 n e^3``. Each loses the digits of ``(e / sd)^2``: see `is_far`. A sum of ``n`` terms is
        known to ``n 2^-53`` of itself at worst (Higham, Accuracy and Stability of Numerical
        Algorithms, 4.2); a second moment within four of that is 0, not dust of either sign.
        """
        e = sums / n if n else sums
        mean, left = two_sum(origin, e + rest)
        m2 = products - n * np.outer(e, e)
        constant = np.diag(m2) <= 4 * n * 2.0**-53 * np.diag(products)
        m2[constant, :] = m2[:, constant] = 0.0
        m3 = cubes - 3 * e * np.diag(products) + 2 * n * e**3
        return cls(
            columns=columns,
            n=n,
            mean=mean,
            m2=m2,
            m3=np.where(constant, 0.0, m3),
            nonzero=nonzero,
            rest=left,
        )

    def is_far(self, origin: FloatArray) -> bool:
        """Whether sums about ``origin`` lose more than three digits of some second moment."""
        if self.n == 1:  # whose deviation from itself is 0 to the last digit
            return False
        distance = self.n * (self.mean - origin) ** 2
        return bool(np.any(distance > 1e3 * np.diag(self.m2)))

    def __add__(self, other: Moments) -> Moments:
        if self.columns != other.columns:
            raise ValueError(f"cannot merge columns {self.columns} with {other.columns}")
        if max(self.regimes, other.regimes) > 1:
            raise ValueError("moments combined from several split regimes cannot be merged")
        if other.n == 0:
            return self
        if self.n == 0:
            return other
        n = self.n + other.n
        delta = (other.mean - self.mean) + (other.rest - self.rest)
        weight = self.n * other.n / n
        m2 = self.m2 + other.m2 + np.outer(delta, delta) * weight
        m3 = (
            self.m3
            + other.m3
            + delta**3 * weight * (self.n - other.n) / n
            + 3 * delta * (self.n * np.diag(other.m2) - other.n * np.diag(self.m2)) / n
        )
        mean, rest = two_sum(self.mean, delta * (other.n / n) + self.rest)
        return Moments(self.columns, n, mean, m2, m3, self.nonzero + other.nonzero, rest=rest)

    def shifted(self, by: Mapping[str, float]) -> Moments:
        """Return the moments with a constant added to every unit's value of some columns.

        Only means move. ``nonzero`` stays that of the facts: a constant is no outcome.
        """
        constants = np.array([by.get(column, 0.0) for column in self.columns])
        if not constants.any():
            return self
        mean, rest = two_sum(self.mean, constants + self.rest)
        return replace(self, mean=mean, rest=rest)

    def only(self, columns: Sequence[str]) -> Moments:
        """Return the moments of these columns.

        Raises
        ------
        ValueError
            There is no such column.
        """
        places = np.array([self.columns.index(column) for column in columns])
        return replace(
            self,
            columns=tuple(columns),
            mean=self.mean[places],
            m2=self.m2[places[:, None], places],
            m3=self.m3[places],
            nonzero=self.nonzero[places],
            rest=np.broadcast_to(self.rest, self.mean.shape)[places],
        )

    def sample(self, column: str) -> Sample:
        """Return one column as a `Sample`.

        Raises
        ------
        ValueError
            There is no such column.
        """
        i = self.columns.index(column)
        return Sample(
            self.n, float(self.mean[i]), float(self.m2[i, i]), float(self.m3[i]), self.missing
        )

    def covariance(self, one: str, other: str) -> float:
        """Sample covariance of two columns, ``m2 / (n - 1)``; only defined for ``n >= 2``."""
        i, j = self.columns.index(one), self.columns.index(other)
        return float(self.m2[i, j]) / (self.n - 1)


def two_sum(one: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the float64 sum, and what rounding took from it: together they are exact."""
    total = one + other
    part = total - one
    return total, (one - (total - part)) + (other - part)


def unusable(*samples: Sample) -> NotEstimable | None:
    """Why no difference of means can be estimated from these samples, or None when one can.

    Reasons: that of a sample which is missing; ``too-few-units`` (a sample has fewer than two
    units), ``not-finite`` (a moment is NaN or infinite), ``invalid-moments`` (a sum of squares is
    negative), ``no-variance`` (every sample is constant, so that there is no standard error).
    """
    for sample in samples:
        if sample.missing is not None:
            return sample.missing
    smallest = min(sample.n for sample in samples)
    if smallest < 2:
        return NotEstimable("too-few-units", f"a variant has {smallest} units; two are needed")
    if not all(math.isfinite(sample.mean) and math.isfinite(sample.m2) for sample in samples):
        return NotEstimable("not-finite", "a mean or variance is not a finite number")
    if any(sample.m2 < 0 for sample in samples):
        return NotEstimable("invalid-moments", "a sum of squared deviations is negative")
    if all(sample.is_constant for sample in samples):
        return NotEstimable("no-variance", "every unit of every variant has the same value")
    return None
