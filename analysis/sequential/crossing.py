"""First crossing of boundaries by a Brownian motion seen at looks: recursive integration.

At look k with information ``I_k`` the statistic is ``Z_k = S(I_k) / sqrt(I_k)``, where S is a
Brownian motion with drift ``d`` per unit of information: increments are independent, normal,
with mean ``d (I_k - I_{k-1})`` and variance ``I_k - I_{k-1}``. Estimates of a difference of
means at successive looks behave so, exactly for normal outcomes with known variance and in the
limit for others, with ``I = 1 / se^2``.

Let ``g_k(s)`` be the density of ``S(I_k) = s`` on paths that stayed inside the boundaries at all
looks before k. Then ``g_1`` is the normal density, and with the continuation region ``C_{k-1}``

    ``g_k(s) = integral over C_{k-1} of g_{k-1}(r) phi((s - r - d D) / sqrt(D)) / sqrt(D) dr``,

``D = I_k - I_{k-1}``; the probability to leave upwards at look k for the first time is
``integral over C_{k-1} of g_{k-1}(r) Phi((r + d D - u_k sqrt(I_k)) / sqrt(D)) dr``.

Each integral is taken by Gauss-Legendre panels no wider than a few kernel widths, so that the
integrand is smooth within a panel; the error is about 1e-12, far below that of any input.

References
----------
Armitage, McPherson, Rowe (1969), "Repeated significance tests on accumulating data", J. R.
Statist. Soc. A 132, 235-244. Jennison, Turnbull (2000), "Group Sequential Methods with
Applications to Clinical Trials", Chapman & Hall, chapter 19 (the recursion; there by Simpson's
rule).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from klartext.analysis.moments import FloatArray

CLOSEST = 1e-4
"""Share of new information below which two looks are too close together to be integrated."""

_REACH = 8.6
"""Standard deviations beyond which the density is left out: 8e-18 on each side."""

_PANEL = 4.0
"""Widest panel, in standard deviations of the kernel."""

_NEGLIGIBLE = 1e-12
"""A crossing probability below this is met by the boundary of a single look, which is wider."""

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(14)


@dataclass(frozen=True, slots=True)
class Crossing:
    """Probability of leaving first at each look, ``upper`` and ``lower`` apart, ``(n_looks,)``."""

    upper: tuple[float, ...]
    lower: tuple[float, ...]

    @property
    def upward(self) -> float:
        """Probability of ever leaving upwards."""
        return math.fsum(self.upper)

    @property
    def downward(self) -> float:
        """Probability of ever leaving downwards."""
        return math.fsum(self.lower)

    def expected(self, information: Sequence[float]) -> float:
        """Return the expected information at the end: at the crossing, else at the last look."""
        stopped = [up + down for up, down in zip(self.upper, self.lower, strict=True)]
        early = math.fsum(i * p for i, p in zip(information, stopped, strict=True))
        return early + information[-1] * (1 - math.fsum(stopped))


@dataclass(frozen=True, slots=True, eq=False)
class _Paths:
    """Paths still inside: quadrature nodes of S, their probabilities, and the information."""

    information: float
    nodes: FloatArray
    mass: FloatArray


_ORIGIN = _Paths(0.0, np.zeros(1), np.ones(1))


def probabilities(
    information: Sequence[float],
    lower: Sequence[float],
    upper: Sequence[float],
    *,
    drift: float = 0.0,
) -> Crossing:
    """Probability that Z leaves ``(lower, upper)`` for the first time, look by look.

    Parameters
    ----------
    information
        ``(n_looks,)``, increasing; in any unit that ``drift`` shares.
    lower, upper
        ``(n_looks,)`` bounds for Z; infinite where nothing is to be crossed.
    drift
        ``E Z_k = drift sqrt(I_k)``: the effect itself when ``I = 1 / se^2``, or the expected Z
        at the planned end when ``I`` is a fraction of the planned information.

    Raises
    ------
    ValueError
        Lengths differ, information does not increase or two looks are closer than `CLOSEST`, or
        a lower bound is not below its upper one.

    Examples
    --------
    >>> found = probabilities((1.0, 2.0), (-1.96, -1.96), (1.96, 1.96))
    >>> round(found.upward + found.downward, 3)  # two looks at 5 %: Armitage et al. 1969
    0.083
    """
    _check(information, lower, upper)
    return _probabilities(tuple(information), tuple(lower), tuple(upper), drift)


@lru_cache(maxsize=4096)  # a plan asks for the same ones again: bounds recur, and so do drifts
def _probabilities(
    information: tuple[float, ...],
    lower: tuple[float, ...],
    upper: tuple[float, ...],
    drift: float,
) -> Crossing:
    ups: list[float] = []
    downs: list[float] = []
    paths = _ORIGIN
    for k, now in enumerate(information):
        ups.append(_beyond(paths, now, upper[k], drift))
        downs.append(_beyond(_mirrored(paths), now, -lower[k], -drift))
        if k + 1 < len(information):
            paths = _advance(paths, (now, information[k + 1]), (lower[k], upper[k]), drift)
    return Crossing(tuple(ups), tuple(downs))


def boundary(
    information: Sequence[float], spent: Sequence[float], *, symmetric: bool
) -> tuple[float, ...]:
    """Upper bounds for Z that, without drift, are first crossed with the stated probability.

    Parameters
    ----------
    information
        ``(n_looks,)``, increasing.
    spent
        ``(n_looks,)`` cumulative probability of having crossed upwards, not decreasing.
    symmetric
        Whether the same bound stands below, so that the total error is twice ``spent``.

    Returns
    -------
    tuple of float
        Infinite at a look that spends nothing. An increment below 1e-12 gets the bound of a
        single look with that probability, which spends less than it may.

    Raises
    ------
    ValueError
        Lengths differ, information does not increase or two looks are closer than `CLOSEST`, or
        ``spent`` decreases or leaves ``[0, 0.5]``.
    """
    _check(information, (-math.inf,) * len(spent), (math.inf,) * len(spent))
    if not all(0 <= value <= 0.5 for value in spent) or list(spent) != sorted(spent):
        raise ValueError(f"spent is {tuple(spent)}: it must not decrease, from 0 up to 0.5")
    bounds: list[float] = []
    paths, before = _ORIGIN, 0.0
    for k, now in enumerate(information):
        bound = _solve(paths, now, spent[k] - before)
        bounds.append(bound)
        before = spent[k]
        if k + 1 < len(information):
            below = -bound if symmetric else -math.inf
            paths = _advance(paths, (now, information[k + 1]), (below, bound), 0.0)
    return tuple(bounds)


def beyond(
    information: Sequence[float],
    lower: Sequence[float],
    upper: Sequence[float],
    value: float,
) -> float:
    """Probability, without drift, to stay inside before the last look and end above ``value``.

    ``lower`` and ``upper`` are the bounds of the looks before the last one, so each is one
    shorter than ``information``.

    Raises
    ------
    ValueError
        As for `probabilities`.
    """
    _check(information[:-1], lower, upper)
    _check(information, (-math.inf,) * len(information), (math.inf,) * len(information))
    paths = _ORIGIN
    for k in range(len(information) - 1):
        pair = (information[k], information[k + 1])
        paths = _advance(paths, pair, (lower[k], upper[k]), 0.0)
    return _beyond(paths, information[-1], value, 0.0)


def _solve(paths: _Paths, now: float, probability: float) -> float:
    """Bound that paths, at information ``now``, end above with ``probability``."""
    if probability <= 0:
        return math.inf
    single = -float(special.ndtri(probability))
    # Paths that left earlier cannot end above again: the bound is never above a single look's,
    # and equal to it, up to rounding, when next to none left.
    alone = paths is _ORIGIN or probability < _NEGLIGIBLE
    if alone or _beyond(paths, now, single, 0.0) >= probability:
        return single
    low, step = single, 0.5
    while _beyond(paths, now, low, 0.0) <= probability:
        low, step = low - step, 2 * step
        if low < -_REACH:
            raise ValueError(f"no bound is crossed with probability {probability}")
    found = optimize.brentq(
        lambda z: math.log(max(_beyond(paths, now, z, 0.0), 1e-300)) - math.log(probability),
        low,
        single,
        xtol=1e-13,
        rtol=1e-13,
    )
    return float(found)


def _beyond(paths: _Paths, now: float, bound: float, drift: float) -> float:
    """Probability that paths are inside so far and above ``bound`` at information ``now``."""
    if bound == math.inf:
        return 0.0
    gap = now - paths.information
    ends = (paths.nodes + drift * gap - bound * math.sqrt(now)) / math.sqrt(gap)
    return float(paths.mass @ special.ndtr(ends))


def _mirrored(paths: _Paths) -> _Paths:
    return _Paths(paths.information, -paths.nodes, paths.mass)


def _advance(
    paths: _Paths, span: tuple[float, float], inside: tuple[float, float], drift: float
) -> _Paths:
    """Paths that stay ``inside`` at information ``span[0]``, on nodes fit for ``span[1]``."""
    now, after = span
    gap, root = now - paths.information, math.sqrt(now)
    centre = drift * now
    low = max(inside[0] * root, centre - _REACH * root)
    high = min(inside[1] * root, centre + _REACH * root)
    if not low < high:  # the drift has carried all but 1e-17 of the paths across
        return _Paths(now, np.zeros(1), np.zeros(1))
    finest = math.sqrt(min(gap, after - now))
    nodes, weights = _grid(low, high, math.ceil((high - low) / (_PANEL * finest)))
    scale = math.sqrt(gap)
    offsets = (nodes[:, None] - (paths.nodes[None, :] + drift * gap)) / scale
    kernel = np.exp(-0.5 * np.square(offsets)) / (scale * math.sqrt(2 * math.pi))
    return _Paths(now, nodes, weights * (kernel @ paths.mass))


def _grid(low: float, high: float, panels: int) -> tuple[FloatArray, FloatArray]:
    edges = np.linspace(low, high, panels + 1)
    half = (high - low) / (2 * panels)
    middle = edges[:-1] + half
    nodes = (middle[:, None] + half * _POINTS[None, :]).reshape(-1)
    return nodes, np.tile(half * _WEIGHTS, panels)


def _check(information: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> None:
    if not len(information) == len(lower) == len(upper):
        lengths = (len(information), len(lower), len(upper))
        raise ValueError(f"information and bounds have lengths {lengths}: they must agree")
    before = 0.0
    for now in information:
        if not (math.isfinite(now) and now - before >= CLOSEST * now > 0):
            raise ValueError(
                f"information {before:g} is followed by {now:g}: every look must bring at least "
                f"{CLOSEST:.2%} of what it sees"
            )
        before = now
    for below, above in zip(lower, upper, strict=True):
        if not below < above:
            raise ValueError(f"the bounds are {below} and {above}: lower must be below upper")
