"""Exact confidence sequences for proportions: valid at every look, from the first unit on.

For independent 0/1 outcomes with probability p the mixture of likelihood ratios

    ``M_n(p) = integral of (q/p)^S ((1-q)/(1-p))^(n-S) dBeta(a, b)(q)
             = B(a + S, b + n - S) / B(a, b) / (p^S (1-p)^(n-S))``,

S the outcomes among n units, is a non-negative martingale that starts at 1. By Ville's inequality
it ever reaches ``1/alpha`` with probability alpha at most, so ``{p : M_n(p) < 1/alpha}`` holds the
true p at all n at once with probability ``1 - alpha``. Nothing is asymptotic: zero outcomes are as
good as many. With ``a = b = 1/2`` the set grows with n only like the square root of ``ln n``.

References
----------
Robbins (1970), "Statistical methods related to the law of the iterated logarithm", Ann. Math.
Statist. 41, 1397-1409 (mixtures of likelihood ratios). Lai (1976), "On confidence sequences",
Ann. Statist. 4, 265-280, section 3 (the binomial case with a beta mixture).
"""

from __future__ import annotations

import math

from scipy import optimize, special

from klartext.analysis.estimate import Interval

_A = _B = 0.5
_FARTHEST = 700.0
"""Log-odds beyond which a proportion is 0 or 1 in double precision."""


def log_mixture(successes: int, n: int, p: float) -> float:
    """Log of ``M_n(p)``; it is convex in the log-odds of p, with its minimum at ``S/n``."""
    return _log_mixture(successes, n, float(special.logit(p)))


def interval(successes: int, n: int, *, alpha: float) -> Interval:
    """Confidence sequence of a proportion at this look.

    Parameters
    ----------
    successes
        Units with the outcome.
    n
        Units, at least one.
    alpha
        Error over all looks together; each end alone errs with at most alpha as well.

    Raises
    ------
    ValueError
        The counts are impossible, or ``alpha`` is not between 0 and 1.

    Examples
    --------
    >>> interval(0, 1, alpha=0.05).upper  # B(1/2, 3/2) / B(1/2, 1/2) = 1/2, so 1 - p = alpha / 2
    0.975
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"{successes} of {n} units: impossible")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: it must lie between 0 and 1")
    lower = 0.0 if successes == 0 else _end(successes, n, alpha)
    # The upper end is one minus the lower end of the complement, which keeps its digits.
    upper = 1.0 if successes == n else 1.0 - _end(n - successes, n, alpha)
    return Interval(lower, upper, 1 - alpha)


def difference(
    treatment: tuple[int, int], control: tuple[int, int], *, factor: float = 1.0, alpha: float
) -> Interval:
    """Confidence sequence of ``pT - factor pC``, from those of both proportions.

    Parameters
    ----------
    treatment, control
        Units with the outcome, and units, of independent or dependent variants.
    factor
        Not negative.
    alpha
        Two-sided error over all looks together; each side errs with at most half of it.

    Notes
    -----
    ``[L_T - f U_C, U_T - f L_C]`` with each proportion's set at ``alpha / 4``. A side fails only
    when one of two sets does. Wider than an asymptotic sequence once there are many outcomes.

    Raises
    ------
    ValueError
        As `interval`, or ``factor`` is negative.
    """
    if not 0 <= factor < math.inf:
        raise ValueError(f"factor is {factor}: it must not be negative")
    one, other = (interval(*counts, alpha=alpha / 4) for counts in (treatment, control))
    return Interval(one.lower - factor * other.upper, one.upper - factor * other.lower, 1 - alpha)


def _end(successes: int, n: int, alpha: float) -> float:
    """Return the lower end, for at least one success."""
    limit = -math.log(alpha)
    failures = n - successes
    high = math.log(successes / failures) if failures else _FARTHEST / 10
    while _log_mixture(successes, n, high) >= limit:  # only for n of n, whose minimum is at 1
        high += 1.0

    def excess(odds: float) -> float:
        return _log_mixture(successes, n, odds) - limit

    low, step = high - 1.0, 2.0
    while excess(low) < 0:
        low, step = low - step, 2 * step
    odds = float(optimize.brentq(excess, low, high, xtol=1e-12, rtol=1e-14))
    return float(special.expit(odds))


def _log_mixture(successes: int, n: int, odds: float) -> float:
    failures = n - successes
    mixed = special.betaln(_A + successes, _B + failures) - special.betaln(_A, _B)
    plain = successes * special.log_expit(odds) + failures * special.log_expit(-odds)
    return float(mixed - plain)
