"""Exact confidence sequences of proportions: by hand, by scipy, and by counting every path."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from klartext.analysis.sequential import binomial


def test_one_and_two_units_by_hand() -> None:
    # B(1/2, 3/2) / B(1/2, 1/2) = 1/2: (1/2) / (1 - p) = 1 / alpha, so p = 1 - alpha / 2
    assert binomial.interval(0, 1, alpha=0.05).upper == pytest.approx(0.975, rel=1e-12)
    assert binomial.interval(1, 1, alpha=0.05).lower == pytest.approx(0.025, rel=1e-12)
    # B(1/2, 5/2) / B(1/2, 1/2) = 3/8: (3/8) / (1 - p)^2 = 20, so p = 1 - sqrt(3/160)
    expected = 1 - math.sqrt(3 / 160)
    assert binomial.interval(0, 2, alpha=0.05).upper == pytest.approx(expected, rel=1e-12)
    # B(3/2, 3/2) / B(1/2, 1/2) = 1/8: p (1 - p) = 1/160, p = (1 ± sqrt(1 - 1/40)) / 2
    both = binomial.interval(1, 2, alpha=0.05)
    assert both.lower == pytest.approx((1 - math.sqrt(1 - 1 / 40)) / 2, rel=1e-12)
    assert both.upper == pytest.approx((1 + math.sqrt(1 - 1 / 40)) / 2, rel=1e-12)
    assert binomial.interval(0, 5, alpha=0.05).lower == 0
    assert binomial.interval(5, 5, alpha=0.05).upper == 1


@pytest.mark.golden("scipy 1.17: stats.betabinom and stats.binom")
@pytest.mark.parametrize(("successes", "n"), [(0, 30), (3, 30), (30, 30), (7, 4000), (500, 1200)])
@pytest.mark.parametrize("p", [0.001, 0.02, 0.4, 0.97])
def test_the_mixture_equals_scipy(successes: int, n: int, p: float) -> None:
    # scipy.stats: the beta-binomial over the binomial probability of the same count
    expected = stats.betabinom.logpmf(successes, n, 0.5, 0.5) - stats.binom.logpmf(successes, n, p)
    assert binomial.log_mixture(successes, n, p) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_mixture_is_the_integral() -> None:
    def ratio(q: float) -> float:
        return (q / 0.1) ** 4 * ((1 - q) / 0.9) ** 16 / (math.pi * math.sqrt(q * (1 - q)))

    expected, _ = integrate.quad(ratio, 0, 1, epsabs=1e-13, epsrel=1e-12, limit=200)
    assert math.exp(binomial.log_mixture(4, 20, 0.1)) == pytest.approx(expected, rel=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(1e-6, 0.999))
def test_the_ends_are_where_the_mixture_reaches_its_limit(
    n: int, share: float, alpha: float
) -> None:
    successes = round(n * share)
    found = binomial.interval(successes, n, alpha=alpha)
    assert 0 <= found.lower <= successes / n <= found.upper <= 1
    for end in (found.lower, found.upper):
        if 0 < end < 1 - 1e-9:
            at = binomial.log_mixture(successes, n, end)
            assert at == pytest.approx(-math.log(alpha), abs=1e-6 + 1e-9 * n)
    mirrored = binomial.interval(n - successes, n, alpha=alpha)
    assert mirrored.lower == pytest.approx(1 - found.upper, abs=1e-9)


@pytest.mark.parametrize("p", [0.002, 0.03, 0.5])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_every_path_of_400_units_counted(p: float, alpha: float) -> None:
    """The exact probability that p is ever outside, over all 2^400 paths (dynamic programming)."""
    horizon = 400
    mass = np.zeros(horizon + 1)
    mass[0], outside = 1.0, 0.0
    for n in range(1, horizon + 1):
        mass[1:] = (1 - p) * mass[1:] + p * mass[:-1]
        mass[0] *= 1 - p
        for successes in np.flatnonzero(mass > 0).tolist():
            if binomial.log_mixture(successes, n, p) >= -math.log(alpha):
                outside += mass[successes]
                mass[successes] = 0.0
    assert 0 < outside <= alpha
    assert mass.sum() + outside == pytest.approx(1, abs=1e-12)


def test_a_difference_contains_what_both_sets_allow() -> None:
    one, other = (binomial.interval(k, 5000, alpha=0.0125) for k in (30, 20))
    found = binomial.difference((30, 5000), (20, 5000), factor=1.2, alpha=0.05)
    assert found.lower == one.lower - 1.2 * other.upper
    assert found.upper == one.upper - 1.2 * other.lower
    back = binomial.difference((20, 5000), (30, 5000), alpha=0.05)
    forth = binomial.difference((30, 5000), (20, 5000), alpha=0.05)
    assert back.lower == pytest.approx(-forth.upper, rel=1e-12)


def test_fifty_looks_at_a_rare_difference() -> None:
    """4,000 tests of 2 x 5,000 units at 0.4 %, read at fifty looks: each side errs at alpha / 2."""
    rng = np.random.default_rng(6)
    repetitions, looks, step, p = 4000, 50, 100, 0.004
    counts = rng.binomial(step, p, (2, repetitions, looks)).cumsum(axis=2)
    table: dict[tuple[int, int], tuple[float, float]] = {}

    def ends(successes: int, n: int) -> tuple[float, float]:
        if (successes, n) not in table:
            found = binomial.interval(successes, n, alpha=0.05 / 4)
            table[successes, n] = (found.lower, found.upper)
        return table[successes, n]

    above = below = 0
    for i in range(repetitions):
        sides = set()
        for look in range(looks):
            n = step * (look + 1)
            one, other = ends(int(counts[0, i, look]), n), ends(int(counts[1, i, look]), n)
            sides |= {"above"} if one[0] - other[1] > 0 else set()
            sides |= {"below"} if one[1] - other[0] < 0 else set()
        above, below = above + ("above" in sides), below + ("below" in sides)
    limit = 0.025 + 3 * math.sqrt(0.025 * 0.975 / repetitions)
    assert max(above, below) / repetitions <= limit


@pytest.mark.parametrize(
    ("successes", "n", "alpha"),
    [(-1, 3, 0.05), (4, 3, 0.05), (0, 0, 0.05), (1, 3, 0.0), (1, 3, 1.0)],
)
def test_mistakes_of_the_caller_raise(successes: int, n: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"impossible|between 0 and 1"):
        binomial.interval(successes, n, alpha=alpha)
    with pytest.raises(ValueError, match="not be negative"):
        binomial.difference((1, 3), (1, 3), factor=-1.0, alpha=0.05)
