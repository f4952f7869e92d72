"""Units in a variant that was to get none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from klartext.analysis.result import Check

INVALID_SHARE = 0.05


def check(counts: Sequence[int], weights: Sequence[int]) -> Check:
    """Flag units exposed to variants whose registered weight is zero.

    Parameters
    ----------
    counts
        Units whose first exposure was in each variant, in the order of ``weights``.
    weights
        Registered weights.

    Returns
    -------
    Check
        Code ``zero_weight``, value the share of all units: ``warning`` for any such unit,
        ``invalid`` above `INVALID_SHARE`. No test is needed: their probability was zero.
    """
    strays = sum(x for x, weight in zip(counts, weights, strict=True) if weight == 0)
    if strays == 0:
        return Check("zero_weight", "ok", 0.0, "no unit in a variant of weight zero")
    share = strays / sum(counts)
    severity: Literal["warning", "invalid"] = "invalid" if share > INVALID_SHARE else "warning"
    return Check("zero_weight", severity, share, f"{strays:,} units in a variant of weight zero")
