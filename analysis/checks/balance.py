"""Pre-period balance: whether the variants were alike before they were exposed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.multiplicity import holm
from klartext.analysis.result import Check

WARNING_P = 0.01


def check(differences: Mapping[str, Estimate | NotEstimable]) -> Check:
    """Check the differences of what was known before exposure.

    Parameters
    ----------
    differences
        Per covariate and treatment, under a name to be shown: treatment minus control, by the
        method of the mode.

    Returns
    -------
    Check
        Code ``balance``, value the smallest of Holm's p-values: ``warning`` below `WARNING_P`,
        ``info`` when there is nothing to compare.

    Notes
    -----
    No treatment can change the past: what differs is the split, or data that come in differently.
    With anytime p-values valid at every look.
    """
    p_values = [
        one if isinstance(one, NotEstimable) else one.p_value for one in differences.values()
    ]
    adjusted = dict(zip(differences, holm(p_values), strict=True))
    known = {name: p for name, p in adjusted.items() if not isinstance(p, NotEstimable)}
    if not known:
        return Check("balance", "info", None, "nothing known before exposure could be compared")
    worst, p = min(known.items(), key=lambda pair: pair[1])
    found = differences[worst]
    value = 0.0 if isinstance(found, NotEstimable) else found.value
    severity: Literal["ok", "warning"] = "warning" if p < WARNING_P else "ok"
    detail = f"{worst}: difference {value:+.4g} before exposure, adjusted p {p:.3g}"
    return Check("balance", severity, p, f"{detail} ({len(differences)} compared)")
