"""Nodes and weights for integrals over several posteriors at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from klartext.analysis.bayes.marginal import FloatArray, Marginal

NODES = 20
"""Gauss-Legendre nodes per panel."""

_WIDEST = 4.0
"""Widest panel on a logit or logarithm: the logistic function has poles pi away from the line."""

_NEAR = 0.3
"""A cut nearer to another one than this share of its own panel is not needed."""


@functools.cache
def rule(nodes: int) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes on [-1, 1] and their weights, ``(nodes,)`` each."""
    unit, weight = np.polynomial.legendre.leggauss(nodes)
    return unit, weight


def panels(cuts: FloatArray, *, nodes: int = NODES) -> tuple[FloatArray, FloatArray]:
    """Return Gauss-Legendre nodes ``(m,)`` and weights between increasing cuts."""
    unit, weight = rule(nodes)
    half = np.diff(cuts)[:, None] / 2
    return (cuts[:-1, None] + half * (1 + unit)).ravel(), (half * weight).ravel()


def merged(cuts: Sequence[FloatArray], *, scaled: bool) -> FloatArray:
    """Return the cuts of several posteriors in one increasing sequence.

    Parameters
    ----------
    cuts
        Increasing coordinates per posterior, at least two each.
    scaled
        Whether the coordinate has a scale of its own (a logit, a logarithm): no panel is then
        wider than 4.

    Notes
    -----
    Every posterior varies moderately between its own neighbouring cuts, so that a panel has to be
    at most as wide as the narrowest of these that overlap it. Cuts nearly on top of each other
    add nodes without resolving anything; the outermost ones always stay.
    """
    found: list[tuple[float, float]] = []
    for own in cuts:
        places = own.tolist()
        gaps = [b - a for a, b in pairwise(places)]
        found += zip(places, map(min, [gaps[0], *gaps], [*gaps, gaps[-1]]), strict=True)
    found.sort()
    kept, own_gap = [found[0][0]], found[0][1]
    for cut, gap in found[1:-1]:
        if cut - kept[-1] > _NEAR * gap:
            kept.append(cut)
            own_gap = gap
    last, gap = found[-1]
    # The end of a wide posterior must not take the place of a narrow one's cut beside it.
    if len(kept) > 1 and last - kept[-1] <= _NEAR * min(gap, own_gap):
        kept.pop()
    kept.append(last)
    if not scaled:
        return np.array(kept)
    split: list[float] = []
    for a, b in pairwise(kept):
        parts = math.ceil((b - a) / _WIDEST)
        split += [a + (b - a) * part / parts for part in range(parts)]
    return np.array([*split, last])


def mass(posterior: Marginal, coordinates: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the probability that each node of a quadrature stands for, ``(m,)``, sum 1."""
    share = np.exp(posterior.log_density(coordinates)) * weights
    return np.asarray(share / share.sum())
