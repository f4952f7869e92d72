"""P(best): closed form for two arms, Monte Carlo for many, symmetry, extreme posteriors."""

from fractions import Fraction
from math import comb
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klartext.bandits.thompson import BetaPosterior, probability_best


def beta_reciprocal(a: int, b: int) -> int:
    """1 / B(a, b) for integers, exactly."""
    return a * comb(a + b - 1, a)


def first_is_higher(a1: int, b1: int, a2: int, b2: int) -> float:
    """P(p1 > p2), exact for integers: Evan Miller (2015), "Formulas for Bayesian A/B testing"."""
    return float(
        sum(
            Fraction(
                beta_reciprocal(1 + i, b1) * beta_reciprocal(a2, b2),
                (b1 + i) * beta_reciprocal(a2 + i, b1 + b2),
            )
            for i in range(a1)
        )
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 1), (1, 1)),
        ((4, 8), (2, 9)),
        ((40, 800), (50, 800)),
        ((400, 8_000), (450, 8_000)),
        ((1, 1), (5_000, 5_000)),
        ((1, 1_000_000), (2, 3)),
        ((2, 3), (1, 10**12)),
        ((3_000, 100), (20, 1)),
    ],
)
def test_two_arms_agree_with_the_exact_sum(one: tuple[int, int], other: tuple[int, int]) -> None:
    got = probability_best([BetaPosterior(*one), BetaPosterior(*other)], direction="increase")
    assert got[0] == pytest.approx(first_is_higher(*one, *other), abs=1e-11)
    assert got.sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    "arms",
    [
        [(1, 1)] * 5,
        [(31, 970), (41, 960), (51, 950), (38, 963), (45, 956)],
        [(1, 2), (50, 1_000), (500, 10_000), (50_000, 10**6), (5 * 10**6, 10**8)],
        [(5e7 + 1, 95e7), (5e7 + 8_000, 95e7), (10, 200)],
        [(5e11, 5e11), (5e11 + 5e5, 5e11), (1, 1), (3, 3)],
        [(1, 1e9), (2, 1e9), (1, 1e12)],
    ],
)
def test_many_arms_agree_with_monte_carlo(arms: list[tuple[float, float]]) -> None:
    draws, rng = 400_000, np.random.default_rng(20270112)
    best = np.array([rng.beta(a, b, draws) for a, b in arms]).argmax(axis=0)
    frequency = np.bincount(best, minlength=len(arms)) / draws
    got = probability_best([BetaPosterior(*arm) for arm in arms], direction="increase")
    tolerance = 5 * np.sqrt(got * (1 - got) / draws) + 1e-5
    assert (abs(got - frequency) < tolerance).all()


def test_two_arms_with_a_billion_trials_agree_with_the_normal_limit() -> None:
    n, z = 10**9, 1.0
    p = 0.05
    sd = np.sqrt(2 * p * (1 - p) / n)
    other = round(n * (p + z * sd))
    arms = [
        BetaPosterior.of(trials=n, successes=round(n * p)),
        BetaPosterior.of(trials=n, successes=other),
    ]
    got = probability_best(arms, direction="increase")
    assert got[1] == pytest.approx(0.8413447, abs=2e-5)  # normal table, z = 1


def test_a_certain_winner_and_a_single_arm() -> None:
    arms = [BetaPosterior.of(trials=10**8, successes=k * 10**7) for k in (1, 2, 9)]
    assert probability_best(arms, direction="increase").tolist() == pytest.approx([0, 0, 1])
    assert probability_best(arms[:1], direction="increase").tolist() == [1.0]


counts = st.integers(0, 10**9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(st.lists(counts, min_size=2, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_shares_sum_to_one_and_follow_their_arm(
    facts: list[tuple[int, int]], random: Random
) -> None:
    arms = [BetaPosterior.of(trials=n, successes=k) for n, k in facts]
    got = probability_best(arms, direction="increase")
    assert np.isfinite(got).all()
    assert (got >= 0).all()
    assert got.sum() == pytest.approx(1, abs=1e-12)
    order = list(range(len(arms)))
    random.shuffle(order)
    shuffled = probability_best([arms[i] for i in order], direction="increase")
    assert shuffled == pytest.approx(got[order], abs=1e-8)


@given(st.lists(counts, min_size=2, max_size=4))
@settings(max_examples=30, deadline=None)
def test_lowest_is_best_when_the_metric_should_decrease(facts: list[tuple[int, int]]) -> None:
    arms = [BetaPosterior.of(trials=n, successes=k) for n, k in facts]
    mirrored = [BetaPosterior.of(trials=n, successes=n - k) for n, k in facts]
    got = probability_best(arms, direction="decrease")
    assert got == pytest.approx(probability_best(mirrored, direction="increase"), abs=1e-12)


def test_decrease_of_two_arms_is_the_complement() -> None:
    arms = [BetaPosterior(4, 8), BetaPosterior(2, 9)]
    up = probability_best(arms, direction="increase")
    assert probability_best(arms, direction="decrease") == pytest.approx(1 - up, abs=1e-12)


@pytest.mark.parametrize(("trials", "successes"), [(3, 4), (-1, 0), (3, -1)])
def test_impossible_counts_are_refused(trials: int, successes: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        BetaPosterior.of(trials=trials, successes=successes)
