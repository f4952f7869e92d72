"""Moments per variant: all that estimators need, exactly mergeable, with no unit rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    """

    n: int
    mean: float
    m2: float
    m3: float

    @property
    def variance(self) -> float:
        """Sample variance, ``m2 / (n - 1)``; only defined for ``n >= 2``."""
        return self.m2 / (self.n - 1)


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

    Notes
    -----
    Two `Moments` merge with ``+`` exactly up to rounding: Pebay (2008), "Formulas for robust,
    one-pass parallel computation of covariances and arbitrary-order statistical moments",
    Sandia report SAND2008-6212, eqs. 2.1 (M2, covariance) and 2.2 (M3).
    """

    columns: tuple[str, ...]
    n: int
    mean: FloatArray
    m2: FloatArray
    m3: FloatArray
    nonzero: npt.NDArray[np.int64]

    @classmethod
    def of(cls, columns: tuple[str, ...], rows: FloatArray) -> Moments:
        """Compute moments of unit rows ``(n, k)``; for tests and small data."""
        k = len(columns)
        values = np.asarray(rows, dtype=np.float64).reshape(-1, k)
        n = len(values)
        mean = values.mean(axis=0) if n else np.zeros(k)
        deviation = values - mean
        return cls(
            columns=columns,
            n=n,
            mean=mean,
            m2=deviation.T @ deviation,
            m3=(deviation**3).sum(axis=0),
            nonzero=np.count_nonzero(values, axis=0).astype(np.int64).reshape(k),
        )

    def __add__(self, other: Moments) -> Moments:
        if self.columns != other.columns:
            raise ValueError(f"cannot merge columns {self.columns} with {other.columns}")
        n = self.n + other.n
        if n == 0:
            return self
        delta = other.mean - self.mean
        weight = self.n * other.n / n
        m2 = self.m2 + other.m2 + np.outer(delta, delta) * weight
        m3 = (
            self.m3
            + other.m3
            + delta**3 * weight * (self.n - other.n) / n
            + 3 * delta * (self.n * np.diag(other.m2) - other.n * np.diag(self.m2)) / n
        )
        mean = self.mean + delta * (other.n / n)
        return Moments(self.columns, n, mean, m2, m3, self.nonzero + other.nonzero)

    def sample(self, column: str) -> Sample:
        """Return one column as a `Sample`.

        Raises
        ------
        ValueError
            There is no such column.
        """
        i = self.columns.index(column)
        return Sample(self.n, float(self.mean[i]), float(self.m2[i, i]), float(self.m3[i]))

    def covariance(self, one: str, other: str) -> float:
        """Sample covariance of two columns, ``m2 / (n - 1)``; only defined for ``n >= 2``."""
        i, j = self.columns.index(one), self.columns.index(other)
        return float(self.m2[i, j]) / (self.n - 1)
