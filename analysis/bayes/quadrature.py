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
    spacing = [np.diff(own) for own in cuts]
    gaps = np.concatenate(
        [np.minimum(np.append(gap, gap[-1]), np.insert(gap, 0, gap[0])) for gap in spacing]
    )
    joined = np.concatenate(cuts)
    order = np.argsort(joined, kind="stable")
    joined, gaps = joined[order], gaps[order]
    kept = [float(joined[0])]
    for cut, gap in zip(joined[1:-1].tolist(), gaps[1:-1].tolist(), strict=True):
        if cut - kept[-1] > _NEAR * gap:
            kept.append(cut)
    last = float(joined[-1])
    if len(kept) > 1 and last - kept[-1] <= _NEAR * gaps[-1]:
        kept.pop()
    kept.append(last)
    if not scaled:
        return np.array(kept)
    parts = [math.ceil((b - a) / _WIDEST) for a, b in pairwise(kept)]
    split = [
        np.linspace(a, b, n, endpoint=False)
        for (a, b), n in zip(pairwise(kept), parts, strict=True)
    ]
    return np.concatenate([*split, [last]])


def mass(posterior: Marginal, coordinates: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the probability that each node of a quadrature stands for, ``(m,)``, sum 1."""
    share = np.exp(posterior.log_density(coordinates)) * weights
    return np.asarray(share / share.sum())
