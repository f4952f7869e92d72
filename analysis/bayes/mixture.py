"""A quantity that is normal given a scale, and the scale known only by its posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from klartext.analysis.bayes.marginal import FloatArray

_STEPS = 200
"""Bisection alone would need 60; the bound is for rounding that never comes to rest."""


@dataclass(frozen=True, slots=True, eq=False)
class NormalMixture:
    """Mixtures of normals with common weights, one for each of several quantities.

    Parameters
    ----------
    weights
        ``(T,)``, sum 1.
    means, variances
        ``(T, N)``: of N quantities given the scale that the weight belongs to. Variances not
        negative; zero is a point.
    """

    weights: FloatArray
    means: FloatArray
    variances: FloatArray

    @property
    def mean(self) -> FloatArray:
        """``(N,)`` means."""
        return np.asarray(self.weights @ self.means)

    @property
    def sd(self) -> FloatArray:
        """``(N,)`` standard deviations: the mean variance plus the variance of the means."""
        spread = self.weights @ (self.means - self.mean) ** 2
        return np.sqrt(self.weights @ self.variances + spread)

    def probability_above(self, threshold: float) -> FloatArray:
        """``(N,)`` probabilities to lie above the threshold."""
        return np.asarray(self.weights @ special.ndtr(-self._standardised(np.asarray(threshold))))

    def quantile(self, probability: float) -> FloatArray:
        """``(N,)`` values below which the given probability lies.

        Newton's method inside a bracket that shrinks with every step; a step out of it is
        replaced by a bisection.
        """
        sds = np.sqrt(self.variances)
        reach = np.abs(special.ndtri(probability)) * sds
        lower, upper = (self.means - reach).min(axis=0), (self.means + reach).max(axis=0)
        size = np.maximum(upper - lower, 1e-300)
        x = np.clip(self.mean + special.ndtri(probability) * self.sd, lower, upper)
        for _ in range(_STEPS):
            z = self._standardised(x)
            excess = self.weights @ special.ndtr(z) - probability
            with np.errstate(divide="ignore", invalid="ignore"):
                density = self.weights @ (np.exp(-z * z / 2) / math.sqrt(2 * math.pi) / sds)
                step = excess / density
            lower, upper = np.where(excess < 0, x, lower), np.where(excess > 0, x, upper)
            inside = (x - step > lower) & (x - step < upper)
            following = np.where(inside, x - step, (lower + upper) / 2)
            following = np.where(excess == 0, x, following)
            moved = np.abs(following - x)
            x = following
            if (moved <= 1e-13 * size).all():
                break
        return np.asarray(x)

    def _standardised(self, x: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (x - self.means) / np.sqrt(self.variances)
        return np.asarray(np.nan_to_num(z, nan=0.0, posinf=np.inf, neginf=-np.inf))
