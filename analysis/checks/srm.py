"""Sample ratio mismatch: whether units are split between the variants as registered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from scipy import special

from klartext.analysis.estimate import SMALLEST_P_VALUE, NotEstimable
from klartext.analysis.multiplicity import holm
from klartext.analysis.result import Check

Period: TypeAlias = "tuple[Sequence[int], Sequence[int]]"
"""Units per variant while the weights stood still, and these weights."""

WARNING_P = 0.01
INVALID_P = 0.0005

CONCENTRATION = 100.0
"""Prior observations in the Dirichlet of the anytime test, spread over the registered weights.

The default of the method's author. With two even variants the imbalance that invalidates at
0.0005 is then 4.4 to 5.0 standard deviations anywhere from three hundred to two million units;
10,000 would make that 4.5 at a million but 13 at a thousand.
"""


def check(
    counts: Sequence[int], weights: Sequence[int], *, mode: Literal["anytime", "fixed"]
) -> Check:
    """Check the split with the test that is valid in this inference mode.

    Parameters
    ----------
    counts
        Units whose first exposure was in each variant, in the order of ``weights``.
    weights
        Registered weights in any unit (millionths). A zero has no degree of freedom here; its
        units are the business of `klartext.analysis.checks.zero_weight`.
    mode
        ``fixed``: Pearson's chi-square, or the anytime test when a variant expects fewer than
        five units, where chi-square is no approximation. ``anytime``: multinomial.

    Returns
    -------
    Check
        Code ``srm``, value p: ``warning`` below `WARNING_P`, ``invalid`` below `INVALID_P`;
        ``info`` without a value when there is nothing to test.

    Raises
    ------
    ValueError
        As for `chi_square`.
    """
    tested, shares = _tested(counts, weights)
    test, name = _test(tested, shares, mode)
    p = test(counts, weights)
    if isinstance(p, NotEstimable):
        return Check("srm", "info", None, p.detail)
    seen = " / ".join(f"{count:,}" for count in tested)
    planned = " / ".join(f"{sum(tested) * share:,.1f}" for share in shares)
    severity: Literal["ok", "warning", "invalid"] = "ok"
    if p < WARNING_P:
        severity = "invalid" if p < INVALID_P else "warning"
    return Check("srm", severity, p, f"p {p:.6g}: units {seen}, expected {planned} ({name} test)")


_Test: TypeAlias = Callable[[Sequence[int], Sequence[int]], float | NotEstimable]


def _test(
    tested: Sequence[int], shares: Sequence[float], mode: Literal["anytime", "fixed"]
) -> tuple[_Test, str]:
    crowded = bool(tested) and min(sum(tested) * share for share in shares) >= 5
    return (chi_square, "chi-square") if mode == "fixed" and crowded else (anytime, "anytime")


def smallest(
    parts: Mapping[str, Sequence[int]],
    weights: Sequence[int],
    *,
    mode: Literal["anytime", "fixed"],
) -> tuple[str, float | NotEstimable]:
    """Return the part of the units, such as a day, whose split is the most unusual, and its p.

    Parameters
    ----------
    parts
        Counts per part, in the order of ``weights``; disjoint or not, Holm holds in any case.
    weights, mode
        As for `check`.

    Returns
    -------
    tuple
        The part and its p-value times the number of parts (the first step of Holm's method), at
        most 1. ``no-units`` when there is no part.
    """
    found: list[float | NotEstimable] = []
    for counts in parts.values():
        tested, shares = _tested(counts, weights)
        test, _ = _test(tested, shares, mode)
        found.append(test(counts, weights))
    adjusted = dict(zip(parts, holm(found), strict=True))
    known = {part: p for part, p in adjusted.items() if not isinstance(p, NotEstimable)}
    if known:
        return min(known.items(), key=lambda pair: pair[1])
    return next(iter(adjusted.items()), ("", NotEstimable("no-units", "there is nothing to test")))


def check_moved(periods: Sequence[Period]) -> Check:
    """Check the split when the weights moved, each period by its own weights; valid at any look.

    Parameters
    ----------
    periods
        Counts and weights as for `check`, per period.

    Raises
    ------
    ValueError
        As for `chi_square`.
    """
    p = anytime_moved(periods)
    if isinstance(p, NotEstimable):
        return Check("srm", "info", None, p.detail)
    severity: Literal["ok", "warning", "invalid"] = "ok"
    if p < WARNING_P:
        severity = "invalid" if p < INVALID_P else "warning"
    units = zip(*(counts for counts, _ in periods), strict=True)
    expected = zip(*(_expected(*period) for period in periods), strict=True)
    seen = " / ".join(f"{sum(each):,}" for each in units)
    planned = " / ".join(f"{math.fsum(each):,.1f}" for each in expected)
    detail = f"units {seen}, expected {planned} over {len(periods)} splits (anytime test)"
    return Check("srm", severity, p, f"p {p:.6g}: {detail}")


def chi_square(counts: Sequence[int], weights: Sequence[int]) -> float | NotEstimable:
    """P-value of Pearson's chi-square test of the split; for a single look.

    Parameters
    ----------
    counts, weights
        As for `check`.

    Returns
    -------
    float or NotEstimable
        ``P(chi2_(k-1) >= sum (x_i - n w_i)^2 / (n w_i))`` over the k positive weights;
        ``no-units`` or ``one-variant`` when there is nothing to test.

    Raises
    ------
    ValueError
        Different lengths, a negative count or weight, or no positive weight.

    Notes
    -----
    Not valid when looked at repeatedly, nor when a variant expects fewer than five units.
    """
    tested, shares = _tested(counts, weights)
    refused = _nothing_to_test(tested)
    if refused is not None:
        return refused
    n = sum(tested)
    statistic = math.fsum(
        (count - n * share) ** 2 / (n * share) for count, share in zip(tested, shares, strict=True)
    )
    return max(float(special.chdtrc(len(tested) - 1, statistic)), SMALLEST_P_VALUE)


def anytime(counts: Sequence[int], weights: Sequence[int]) -> float | NotEstimable:
    """P-value of the split that stays valid however often one looks.

    Parameters
    ----------
    counts, weights
        As for `check`.

    Returns
    -------
    float or NotEstimable
        ``min(1, 1 / B)`` with B from `log_bayes_factor`; with the registered split the chance
        that it is *ever* at most p is at most p, at any number of units, without approximation.
        ``no-units`` or ``one-variant`` when there is nothing to test.

    Raises
    ------
    ValueError
        As for `chi_square`.
    """
    tested, _ = _tested(counts, weights)
    refused = _nothing_to_test(tested)
    if refused is not None:
        return refused
    return max(math.exp(min(0.0, -log_bayes_factor(counts, weights))), SMALLEST_P_VALUE)


def anytime_moved(periods: Sequence[Period]) -> float | NotEstimable:
    """P-value as that of `anytime` when the weights moved: Bayes factors of periods multiply.

    Parameters
    ----------
    periods
        Counts and weights per period. The weights of a period may depend on what happened in
        earlier ones (a bandit), not on its own units.

    Notes
    -----
    Each factor has mean 1 given the past if its period was split as registered, and so has their
    product. A period with a single variant of positive weight, or without units, has the factor 1.

    Raises
    ------
    ValueError
        As for `chi_square`.
    """
    told = [_nothing_to_test(_tested(counts, weights)[0]) for counts, weights in periods]
    refusals = [refused for refused in told if refused is not None]
    if len(refusals) == len(periods):
        return refusals[0] if refusals else NotEstimable("no-units", "no unit has been exposed yet")
    factor = math.fsum(log_bayes_factor(counts, weights) for counts, weights in periods)
    return max(math.exp(min(0.0, -factor)), SMALLEST_P_VALUE)


def log_bayes_factor(counts: Sequence[int], weights: Sequence[int]) -> float:
    """Natural log of the Bayes factor against the registered split.

    Parameters
    ----------
    counts, weights
        As for `check`. When weights moved see `anytime_moved`.

    Returns
    -------
    float
        ``ln B = sum ln G(a_i + x_i) - ln G(a_i) - x_i ln w_i - (ln G(c + n) - ln G(c))`` with
        ``a_i = c w_i`` and ``c`` the `CONCENTRATION`, over positive weights.

    Raises
    ------
    ValueError
        As for `chi_square`.

    Notes
    -----
    The Dirichlet-multinomial likelihood over the multinomial one: a martingale with mean 1 under
    the registered split if units arrive independently, so that Ville's inequality applies.

    References
    ----------
    Lindon, Malek (2022), "Anytime-valid inference for multinomial count data", NeurIPS 35.
    """
    tested, shares = _tested(counts, weights)
    terms = [math.lgamma(CONCENTRATION) - math.lgamma(CONCENTRATION + sum(tested))]
    for count, share in zip(tested, shares, strict=True):
        prior = CONCENTRATION * share
        terms += [math.lgamma(prior + count) - math.lgamma(prior), -count * math.log(share)]
    return math.fsum(terms)


def _expected(counts: Sequence[int], weights: Sequence[int]) -> list[float]:
    """Return the units each variant was to get of those in variants of positive weight."""
    tested, _ = _tested(counts, weights)
    return [sum(tested) * weight / sum(weights) for weight in weights]


def _tested(
    counts: Sequence[int], weights: Sequence[int]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return counts and shares of the variants that were to get units."""
    if len(counts) != len(weights):
        raise ValueError(f"{len(counts)} counts do not fit {len(weights)} weights")
    if min(weights, default=0) < 0 or min(counts, default=0) < 0:
        raise ValueError(f"counts {tuple(counts)} and weights {tuple(weights)} may not be negative")
    total = sum(weights)
    if total == 0:
        raise ValueError("no variant has a positive weight")
    pairs = [(x, w / total) for x, w in zip(counts, weights, strict=True) if w > 0]
    return tuple(x for x, _ in pairs), tuple(share for _, share in pairs)


def _nothing_to_test(tested: tuple[int, ...]) -> NotEstimable | None:
    if len(tested) < 2:
        return NotEstimable("one-variant", "only one variant has a positive weight")
    if sum(tested) == 0:
        return NotEstimable("no-units", "no unit has been exposed yet")
    return None
