"""Split regimes: when the weights moved, units are compared within a split and then combined.

Pooled over different splits, the variants would be compared at different times: a variant that got
more units lately would look like lately (Simpson's paradox).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments

SMALLEST = 2
"""Units of a variant in a regime below which it has no variance there."""


def combined(regimes: Sequence[Mapping[str, Moments]]) -> dict[str, Moments]:
    """Return one `Moments` per variant, in which each regime has the weight of its units.

    Parameters
    ----------
    regimes
        Per split, moments per variant: the same variants and columns in each. One without any
        unit does not count.

    Returns
    -------
    dict
        With a single regime its moments themselves. Else ``n`` and ``nonzero`` are sums, and
        ``mean``, ``m2``, ``m3`` are such that

        - ``mean`` is the combined mean,
        - ``m2 / (n (n - 1))`` the covariance of the combined means,
        - ``m3 / n^3`` the third cumulant of each,

        so that whatever reads mean, standard error and skewness of a variant reads those of the
        combination. ``regimes`` says how many there are. A variant with fewer than two units in
        some regime has ``missing``: ``regime-lacks-variant``.

    Raises
    ------
    ValueError
        No regime.

    Notes
    -----
    With ``n_r`` units of all variants in regime r, ``w_r = n_r / n`` and the regimes independent:

    - ``mean_v = sum_r w_r mean_vr`` estimates what all compared units had had under v,
    - ``cov(mean_v) = sum_r w_r^2 m2_vr / (n_vr (n_vr - 1))``,
    - ``k3(mean_v) = sum_r w_r^3 m3_vr / n_vr^3``, a third cumulant of a mean being that of one
      unit over ``n_vr^2``, and cumulants of independent parts adding up.

    The weights are the same for all variants and do not depend on outcomes, so a trend over the
    regimes cancels from a difference. Stops being valid where a method knows more of a column
    than these moments: binomial variances (Wald, Newcombe, Wilson), and degrees of freedom, which
    are taken from ``n`` although the smallest share of a large regime decides: with fewer than
    about thirty units of a variant there, intervals of a fixed look are too narrow. Where the
    effect differs between regimes, totals of the treated (``n_v`` times a difference) use the
    average over all units and not over theirs. The result may not be merged any more.

    References
    ----------
    Imbens, Rubin (2015), "Causal Inference", section 9.5: stratified experiments, with strata
    weighted by their share of units.
    """
    filled = [regime for regime in regimes if sum(found.n for found in regime.values())]
    if len(filled) < 2:
        return dict(filled[0] if filled else regimes[0])
    sizes = np.array([sum(found.n for found in regime.values()) for regime in filled])
    shares = sizes / sizes.sum()
    return {
        variant: _variant([regime[variant] for regime in filled], shares) for variant in filled[0]
    }


def _variant(parts: Sequence[Moments], shares: np.ndarray) -> Moments:
    n = sum(part.n for part in parts)
    columns, k = parts[0].columns, len(parts[0].columns)
    mean, m2, m3 = np.zeros(k), np.zeros((k, k)), np.zeros(k)
    lacking = [place for place, part in enumerate(parts, start=1) if part.n < SMALLEST]
    missing = None
    if lacking:
        where = ", ".join(map(str, lacking))
        detail = f"the weights moved, and in split {where} of {len(parts)} a variant has no units"
        missing = NotEstimable("regime-lacks-variant", detail)
        mean, m2, m3 = mean * np.nan, m2 * np.nan, m3 * np.nan
    else:
        for part, share in zip(parts, shares, strict=True):
            mean += share * part.mean
            m2 += share**2 * part.m2 * (n * (n - 1) / (part.n * (part.n - 1)))
            m3 += share**3 * part.m3 * (n / part.n) ** 3
    return Moments(
        columns=columns,
        n=n,
        mean=mean,
        m2=m2,
        m3=m3,
        nonzero=np.sum([part.nonzero for part in parts], axis=0),
        regimes=len(parts),
        missing=missing,
    )
