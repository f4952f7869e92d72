"""Nodes and weights for integrals over several posteriors at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from klartext.analysis.bayes.marginal import FloatArray, Marginal

NODES = 20
"""Gauss-Legendre nodes per panel."""

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


def merged(cuts: Sequence[FloatArray]) -> FloatArray:
    """Return the cuts of several posteriors in one increasing sequence.

    Parameters
    ----------
    cuts
        Increasing coordinates per posterior, at least two each.

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
    return np.array([*kept, last])


def mass(posterior: Marginal, coordinates: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the probability that each node of a quadrature stands for, ``(m,)``, sum 1."""
    share = np.exp(posterior.log_density(coordinates)) * weights
    return np.asarray(share / share.sum())
