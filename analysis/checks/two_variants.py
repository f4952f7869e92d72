"""Units that were seen in two variants and therefore left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from klartext.analysis.checks import srm
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.result import Check

WARNING_SHARE = 0.01
INVALID_SHARE = 0.05


def check(kept: Sequence[int], excluded: Sequence[int], periods: Sequence[srm.Period]) -> Check:
    """Check how many units were left out, and whether alike in all variants.

    Parameters
    ----------
    kept
        Units seen in one variant only.
    excluded
        Units seen in two or more, by the variant they saw first.
    periods
        ``excluded`` by the split that assigned their first variant, each with its weights in the
        same order.

    Returns
    -------
    Check
        Code ``two_variants``, value the share excluded. ``invalid`` above `INVALID_SHARE`, or
        when the shares differ between variants and one of them is above `WARNING_SHARE`.
        ``warning`` above `WARNING_SHARE`, or when they differ by an amount too small to matter.

    Raises
    ------
    ValueError
        As for `srm.chi_square`.

    Notes
    -----
    First variants of units that are excluded for reasons unrelated to the variant follow the
    registered weights. That is tested with `srm.anytime_moved` at its 0.0005: exact for few units
    and valid at every look. Units drawn twice at random first see a small variant more often
    than its weight, so that the shares differ without harm; hence the floor.
    """
    lost = sum(excluded)
    total = lost + sum(kept)
    if total == 0:
        return Check("two_variants", "info", None, "no unit has been exposed yet")
    share = lost / total
    shares = [out / (out + stay) if out else 0.0 for out, stay in zip(excluded, kept, strict=True)]
    p = srm.anytime_moved(periods)
    differ = not isinstance(p, NotEstimable) and p < srm.INVALID_P
    severity: Literal["ok", "warning", "invalid"] = "ok"
    if share > INVALID_SHARE or (differ and max(shares) > WARNING_SHARE):
        severity = "invalid"
    elif share > WARNING_SHARE or differ:
        severity = "warning"
    by_variant = " / ".join(f"{each:.2%}" for each in shares)
    alike = "differing between variants" if differ else "alike in all variants"
    detail = f"{lost:,} of {total:,} units saw two variants ({by_variant}, {alike})"
    return Check("two_variants", severity, share, detail)
