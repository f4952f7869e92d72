"""Moments without the last digits, which differ between runs and would change every draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from klartext.analysis.moments import FloatArray, Moments


def settled(moments: Moments) -> Moments:
    """Return the moments rounded far below what they are known to.

    Parameters
    ----------
    moments
        From an engine, whose sums differ in their last digits from run to run.

    Notes
    -----
    A sampler is chaotic: a difference of 1e-16 in the data gives other draws from the same seed.
    Means are rounded to at most a millionth of their standard error, third moments to a millionth
    of ``m2^1.5 / sqrt(n)``, and products to 1e-9 of ``sqrt(m2_ii m2_jj)``, each step a power of
    ten. Does not help where a mean is more than about 1e8 of its standard errors: there the noise
    is above these steps.
    """
    if moments.n < 2:
        return moments
    squares = np.diag(moments.m2)
    root = np.sqrt(np.maximum(squares, 0.0))
    error = root / np.sqrt(moments.n * (moments.n - 1.0))
    return replace(
        moments,
        mean=_rounded(moments.mean, 1e-6 * error),
        m2=_rounded(moments.m2, 1e-9 * np.outer(root, root)),
        m3=_rounded(moments.m3, 1e-6 * root**3 / np.sqrt(moments.n)),
    )


def _rounded(values: FloatArray, step: FloatArray) -> FloatArray:
    """Round to a power of ten at most ``step``; where that is zero, not at all."""
    positive = step > 0
    power = 10.0 ** np.floor(np.log10(np.where(positive, step, 1.0)))
    return np.where(positive, np.round(values / power) * power, values)
