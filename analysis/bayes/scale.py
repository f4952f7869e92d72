"""Posterior of a scale with a half-normal prior, by adaptive quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import optimize

from klartext.analysis.bayes import quadrature
from klartext.analysis.bayes.marginal import FloatArray
from klartext.analysis.estimate import Interval

LogDensity: TypeAlias = Callable[[FloatArray], FloatArray]
"""Log of a density up to a constant at ``(m,)`` scales, ``(m,)``."""

_NODES = 16
_NEGLIGIBLE = 1e-16
_CONVERGED = 1e-13
_ROUNDS = 40


@dataclass(frozen=True, slots=True, eq=False)
class ScalePosterior:
    """Posterior of a scale as nodes with weights.

    Parameters
    ----------
    nodes, weights
        ``(T,)`` scales and their probabilities, sum 1.
    cuts
        ``(P + 1,)`` ends of the panels, each with 16 of the nodes.
    log_density
        Log of the density up to a constant, for quantiles between the nodes.
    """

    nodes: FloatArray
    weights: FloatArray
    cuts: FloatArray
    log_density: LogDensity

    @property
    def mean(self) -> float:
        """Posterior mean of the scale."""
        return float(self.weights @ self.nodes)

    @property
    def mean_square(self) -> float:
        """Posterior mean of the squared scale."""
        return float(self.weights @ self.nodes**2)

    @property
    def sd(self) -> float:
        """Posterior standard deviation of the scale."""
        return float(np.sqrt(self.weights @ (self.nodes - self.mean) ** 2))

    def quantile(self, probability: float) -> float:
        """Return the scale below which the given probability lies."""
        share = self.weights.reshape(-1, _NODES).sum(axis=1)
        before = np.concatenate(([0.0], np.cumsum(share)))
        panel = min(int(np.searchsorted(before, probability, side="right")) - 1, len(share) - 1)
        left, right = float(self.cuts[panel]), float(self.cuts[panel + 1])
        whole = _integral(self.log_density, left, right)
        wanted = float((probability - before[panel]) / share[panel])

        def gap(x: float) -> float:
            return _integral(self.log_density, left, x) / whole - wanted

        return float(optimize.brentq(gap, left, right, xtol=1e-13 * right, rtol=1e-14))

    def interval(self, level: float) -> Interval:
        """Return the equal-tailed credible interval; ``level`` 0.95 is 95 %."""
        return Interval(self.quantile((1 - level) / 2), self.quantile((1 + level) / 2), level)


def posterior(log_likelihood: LogDensity, *, prior_sd: float, finest: float) -> ScalePosterior:
    """Posterior of a scale from its likelihood and a half-normal prior.

    Parameters
    ----------
    log_likelihood
        Log of the likelihood of the scale up to a constant, bounded above.
    prior_sd
        Of the normal whose positive half is the prior: the scale is below it with 68 % and below
        twice of it with 95 %.
    finest
        Scale below which the likelihood is flat, such as the smallest standard error.

    Raises
    ------
    ValueError
        ``prior_sd`` is not a finite number above zero.

    Notes
    -----
    Panels double in width from ``finest`` to where the density has fallen by ``exp(-40)``, each
    with 16 Gauss-Legendre nodes. A panel is halved until its integral and that of its halves
    agree to 1e-13 of the whole; panels with less than 1e-16 of it are left out.

    References
    ----------
    Gelman (2006), "Prior distributions for variance parameters in hierarchical models", Bayesian
    Analysis 1, 515-534 (half-t priors on a scale, of which the half-normal is the limit).
    """
    if not 0 < prior_sd < math.inf:
        raise ValueError(f"the prior's sd is {prior_sd}: it must be finite and above zero")

    def log_density(scale: FloatArray) -> FloatArray:
        return np.asarray(log_likelihood(scale) - (scale / prior_sd) ** 2 / 2)

    cuts = _first_cuts(log_density, prior_sd=prior_sd, finest=min(finest, prior_sd))
    peak = _peak(log_density, cuts)

    def lowered(scale: FloatArray) -> FloatArray:
        return log_density(scale) - peak

    left, right = _refined(lowered, cuts)
    half = (right - left)[:, None] / 2
    unit, weight = quadrature.rule(_NODES)
    nodes = (left[:, None] + half * (1 + unit)).ravel()
    mass = np.exp(lowered(nodes)) * (half * weight).ravel()
    return ScalePosterior(nodes, mass / mass.sum(), np.append(left, right[-1]), lowered)


def _first_cuts(log_density: LogDensity, *, prior_sd: float, finest: float) -> FloatArray:
    """Return 0 and doubling scales, up to where nothing is left of the density."""
    top = 9 * prior_sd
    while True:
        doublings = math.ceil(math.log2(top / finest)) + 4
        cuts = np.append(0.0, top * 2.0 ** -np.arange(doublings, -1, -1.0))
        seen = log_density(cuts)
        if seen[-1] < seen.max() - 40:
            return cuts
        top *= 2


def _peak(log_density: LogDensity, cuts: FloatArray) -> float:
    """Return about the largest log density, so that its exponential neither over- nor underflows.

    A narrow peak between the cuts is found by looking closer where the density is highest.
    """
    low, high = float(cuts[0]), float(cuts[-1])
    grid, best = cuts, -math.inf
    for _ in range(_ROUNDS):
        seen = log_density(grid)
        top = int(seen.argmax())
        if seen[top] - best < 1:
            return float(max(seen[top], best))
        best = float(seen[top])
        low, high = float(grid[max(top - 1, 0)]), float(grid[min(top + 1, len(grid) - 1)])
        grid = np.linspace(low, high, 9)
    return best


def _refined(log_density: LogDensity, cuts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return left and right ends of adjoining panels that resolve the density."""
    left, right = cuts[:-1], cuts[1:]
    value = _integrals(log_density, left, right)
    done: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    settled = 0.0
    for _ in range(_ROUNDS):
        middle = (left + right) / 2
        halves = np.array(
            [_integrals(log_density, left, middle), _integrals(log_density, middle, right)]
        )
        whole = settled + halves.sum()
        good = np.abs(halves.sum(axis=0) - value) <= _CONVERGED * whole
        done.append((left[good], right[good], value[good]))
        settled += float(value[good].sum())
        if good.all():
            break
        rest = ~good
        left, right, value = (
            np.concatenate((left[rest], middle[rest])),
            np.concatenate((middle[rest], right[rest])),
            np.concatenate((halves[0, rest], halves[1, rest])),
        )
    else:  # as fine as floating point allows
        done.append((left, right, value))
    lefts, rights, values = (np.concatenate(parts) for parts in zip(*done, strict=True))
    order = np.argsort(lefts)
    lefts, rights, values = lefts[order], rights[order], values[order]
    kept = np.flatnonzero(values > _NEGLIGIBLE * values.sum())
    between = slice(kept[0], kept[-1] + 1)
    return lefts[between], rights[between]


def _integrals(log_density: LogDensity, left: FloatArray, right: FloatArray) -> FloatArray:
    """Integrals of the density over panels, ``(P,)``."""
    half = (right - left)[:, None] / 2
    unit, weight = quadrature.rule(_NODES)
    nodes = left[:, None] + half * (1 + unit)
    density = np.exp(log_density(nodes.ravel())).reshape(nodes.shape)
    return np.asarray((half * weight * density).sum(axis=1))


def _integral(log_density: LogDensity, left: float, right: float) -> float:
    return float(_integrals(log_density, np.array([left]), np.array([right]))[0])
