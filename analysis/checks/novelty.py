"""Novelty: whether an effect wears off with the time since exposure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.multiplicity import holm
from klartext.analysis.result import Check

WARNING_P = 0.01

STRONG = 5.0
"""Standard errors that a mean must lie above zero before logarithms of it are normal."""


@dataclass(frozen=True, slots=True)
class Halves:
    """A metric in the first and in the second half of its window, over the units of a variant.

    Parameters
    ----------
    n
        Mature units.
    early, late
        Means per unit.
    early_variance, late_variance, covariance
        Of one unit, in the metric's unit squared.
    """

    n: int
    early: float
    late: float
    early_variance: float
    late_variance: float
    covariance: float


def check(
    metric: str, halves: Mapping[str, Halves], *, control: str, treatments: Sequence[str]
) -> Check:
    """Check whether the relative lift in the second half of the window differs from the first's.

    Parameters
    ----------
    metric
        What the halves are of.
    halves
        Per variant.
    control, treatments
        Keys of the variants.

    Returns
    -------
    Check
        Code ``novelty``, value the smallest of Holm's p-values over the treatments. ``warning``
        below `WARNING_P` if the later lift is the smaller one in size; ``info`` when it has
        grown, or when nothing can be tested.

    Notes
    -----
    The lift and not the difference: most events follow the exposure soon, so differences fade
    with their baseline whatever the treatment does. With ``L = ln(late_T / late_C)`` and
    ``E = ln(early_T / early_C)`` the statistic is ``(L - E) / se``, normal by the delta method,
    ``se^2 = sum over T and C of [v_l/l^2 + v_e/e^2 - 2 cov/(l e)] / n``: both halves are of the
    same units. Refused where a mean is below `STRONG` standard errors. Valid at one look; under
    many looks it warns more often, and it decides nothing.
    """
    found = {one: _difference(halves[one], halves[control]) for one in treatments}
    tests = {one: f if isinstance(f, NotEstimable) else f[2] for one, f in found.items()}
    adjusted = dict(zip(tests, holm(list(tests.values())), strict=True))
    known = {one: p for one, p in adjusted.items() if not isinstance(p, NotEstimable)}
    if not known:
        return Check("novelty", "info", None, f"{metric}: too few outcomes in a half of the window")
    worst, p = min(known.items(), key=lambda pair: pair[1])
    lifts = found[worst]
    if isinstance(lifts, NotEstimable):
        raise TypeError("a treatment with a p-value has lifts")
    early, late, _ = lifts
    severity: Literal["ok", "info", "warning"] = "ok"
    if p < WARNING_P:
        severity = "warning" if abs(late) < abs(early) else "info"
    detail = (
        f"{metric} {worst}: lift {math.expm1(early):+.1%} in the first half of the window, "
        f"{math.expm1(late):+.1%} in the second, p {p:.3g}"
    )
    return Check("novelty", severity, p, detail)


def _difference(one: Halves, base: Halves) -> tuple[float, float, float] | NotEstimable:
    """Return log lifts of both halves and the p-value of their difference."""
    variance = 0.0
    for half in (one, base):
        if half.n < 2:
            return NotEstimable("too-few-units", "a variant has fewer than two mature units")
        for mean, spread in ((half.early, half.early_variance), (half.late, half.late_variance)):
            if not (mean > 0 and mean * mean * half.n >= STRONG**2 * spread):
                return NotEstimable("weak-mean", "a mean is not far enough above zero")
        relative = half.early_variance / half.early**2 + half.late_variance / half.late**2
        relative -= 2 * half.covariance / (half.early * half.late)
        variance += max(relative, 0.0) / half.n
    early, late = math.log(one.early / base.early), math.log(one.late / base.late)
    if variance <= 0:
        return NotEstimable("no-variance", "the halves do not vary")
    return early, late, 2 * float(special.ndtr(-abs(late - early) / math.sqrt(variance)))
