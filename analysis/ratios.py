"""Confidence sets of a ratio that stay true when the denominator may be zero (Fieller)."""

from __future__ import annotations

import math
from typing import Literal

from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, Unbounded

_ROUNDING = 1e-9
"""How far a covariance may leave its range, in units of the sizes of numerator and denominator.

A constant column leaves a variance and a covariance of rounding dust that do not fit each other.
"""


def fieller(  # noqa: PLR0913 - the five numbers of a bivariate normal estimate
    a: float,
    b: float,
    var_a: float,
    var_b: float,
    cov: float,
    *,
    multiplier: float,
    level: float,
) -> ConfidenceSet:
    """Confidence set of the ratio ``A / B`` of two means estimated by ``a`` and ``b``.

    Parameters
    ----------
    a, b
        Estimates of numerator and denominator, each in its own unit.
    var_a, var_b, cov
        Their squared standard errors and covariance.
    multiplier
        Half-width c in standard errors: 1.96, a Student quantile, or that of a confidence
        sequence, which makes the set anytime-valid.
    level
        Confidence the multiplier stands for; only carried into the result.

    Returns
    -------
    Interval or Unbounded or NotEstimable
        `Interval` when the denominator is away from zero, ``|b| > c se_b``. Else `Unbounded`:
        ``rays`` when only a gap can be excluded, ``line`` when nothing can, ``left`` or
        ``right`` on the boundary ``|b| = c se_b``. `NotEstimable`: ``not-finite`` (an input is
        NaN or infinite, or an end overflows) or ``zero-denominator`` (b is exactly 0 with
        variance 0).

    Raises
    ------
    ValueError
        A negative variance, a covariance no pair of variables can have, or a multiplier that
        is negative or not finite: mistakes of the caller, not of the data.

    Notes
    -----
    The set is ``{r : (a - r b)^2 <= c^2 (var_a - 2 r cov + r^2 var_b)}``, all ratios which the
    test of ``A - r B = 0`` does not reject, that is ``Q(r) = p r^2 - 2 q r + s <= 0`` with
    ``p = b^2 - c^2 var_b``, ``q = a b - c^2 cov``, ``s = a^2 - c^2 var_a``, and
    ``(q^2 - p s) / c^2 = b^2 Var(a - (a/b) b) - c^2 (var_a var_b - cov^2)``, in which the
    leading terms no longer cancel.

    As exact as the normality of ``a - r b`` for the true r, however small the denominator; the
    delta method is not (simulated coverage 87 % instead of 95 % at a weak effect). An
    `Interval` contains ``a / b``; so does every unbounded set unless b is 0.

    References
    ----------
    Fieller (1954), "Some problems in interval estimation", J. R. Statist. Soc. B 16, 175-185.
    von Luxburg, Franz (2009), "A geometric approach to confidence sets for ratios: Fieller's
    theorem, generalizations and bootstrap", Statistica Sinica 19, 1095-1117 (the three shapes).

    Examples
    --------
    >>> fieller(2.0, 4.0, 0.0, 1.0, 0.0, multiplier=2.0, level=0.95)
    Interval(lower=0.3333333333333333, upper=1.0, level=0.95)
    >>> fieller(1.0, 0.5, 1.0, 1.0, 0.0, multiplier=2.0, level=0.95)
    Unbounded(shape='line', bounds=(), level=0.95)
    """
    if not all(map(math.isfinite, (a, b, var_a, var_b, cov))):
        return NotEstimable("not-finite", "a mean or variance is not a finite number")
    if not (math.isfinite(multiplier) and multiplier >= 0):
        raise ValueError(f"the multiplier is {multiplier}: it must be finite and not negative")
    if var_a < 0 or var_b < 0:
        raise ValueError(f"the variances are {var_a} and {var_b}: none may be negative")
    # In units of the numerator's and the denominator's own size nothing over- or underflows.
    se_a, se_b = math.sqrt(var_a), math.sqrt(var_b)
    size_a, size_b = max(abs(a), se_a), max(abs(b), se_b)
    limit = se_a * se_b
    if abs(cov) > limit + _ROUNDING * size_a * size_b:
        raise ValueError(f"the covariance is {cov}: larger than the variances allow")
    cov = max(-limit, min(limit, cov))
    if b == 0 and multiplier * var_b == 0:
        return NotEstimable("zero-denominator", "the denominator is exactly zero")
    if size_a == 0:  # 0 / B: any unit will do
        size_a = 1.0
    shape, ends = _solve(
        (a / size_a, b / size_b),
        (se_a / size_a, se_b / size_b),
        cov / size_a / size_b,
        multiplier,
    )
    bounds = tuple(end * (size_a / size_b) for end in ends)
    if not all(map(math.isfinite, bounds)):
        return NotEstimable("not-finite", "an end of the set is beyond every number")
    if shape == "interval":
        return Interval(bounds[0], bounds[1], level)
    return Unbounded(shape, bounds, level)


def _solve(
    estimate: tuple[float, float], std_error: tuple[float, float], cov: float, multiplier: float
) -> tuple[Literal["interval", "line", "rays", "left", "right"], tuple[float, ...]]:
    """Shape and ends of ``{r : p r^2 - 2 q r + s <= 0}``, with the signs factored out."""
    (a, b), (se_a, se_b) = estimate, std_error
    width_a, width_b = multiplier * se_a, multiplier * se_b
    p = (abs(b) - width_b) * (abs(b) + width_b)
    s = (abs(a) - width_a) * (abs(a) + width_a)
    q = a * b - multiplier * multiplier * cov
    if p == 0:
        if q == 0:
            return "line", ()
        return ("right" if q > 0 else "left"), (s / (2 * q),)
    correlation = max(-1.0, min(1.0, cov / (se_a * se_b))) if se_a * se_b > 0 else 0.0
    # (q^2 - p s) / multiplier^2, completed to a square plus a term with the sign of p.
    apart = a * se_b - correlation * b * se_a
    discriminant = apart * apart + (1 - correlation**2) * se_a * se_a * p
    if discriminant <= 0 and p < 0:
        return "line", ()
    root = multiplier * math.sqrt(max(0.0, discriminant))
    far = q + math.copysign(root, q)  # no cancellation; the other root is s / far
    ends = sorted((far / p, s / far)) if far != 0 else [0.0, 0.0]
    return ("interval" if p > 0 else "rays"), tuple(ends)
