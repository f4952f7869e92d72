"""Sample ratio: scipy, the shared data, and validity of the anytime test."""

import math
import sys
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from klartext.analysis.checks import srm
from klartext.analysis.estimate import NotEstimable

HILLSTROM = (21_306, 21_307, 21_387)
COOKIE_CATS = (44_700, 45_489)


def p_of(value: float | NotEstimable) -> float:
    assert isinstance(value, float)
    return value


@pytest.mark.golden("README of the shared data: Hillstrom and Cookie Cats")
def test_shared_data() -> None:
    # reference figures in the README of the shared data
    assert srm.chi_square(HILLSTROM, (1, 1, 1)) == pytest.approx(0.9036929576, abs=1e-10)
    assert srm.chi_square(COOKIE_CATS, (1, 1)) == pytest.approx(0.008608, abs=1e-6)
    assert srm.check(HILLSTROM, (1, 1, 1), mode="fixed").severity == "ok"
    assert srm.check(COOKIE_CATS, (1, 1), mode="fixed").severity == "warning"
    assert srm.check(COOKIE_CATS, (1, 1), mode="anytime").severity == "ok"


splits = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=2, max_size=6
).filter(lambda pairs: sum(x for x, _ in pairs) > 0)


@pytest.mark.golden("scipy 1.17: stats.chisquare")
@given(splits)
def test_chi_square_equals_scipy(pairs: list[tuple[int, int]]) -> None:
    counts, weights = zip(*pairs, strict=True)
    expected = np.array(weights) / sum(weights) * sum(counts)
    truth = float(stats.chisquare(counts, expected).pvalue)
    assert srm.chi_square(counts, weights) == pytest.approx(
        max(truth, sys.float_info.min), rel=1e-9
    )


@pytest.mark.golden("scipy 1.17: stats.dirichlet_multinomial")
@given(splits)
def test_bayes_factor_equals_scipy(pairs: list[tuple[int, int]]) -> None:
    # Dirichlet-multinomial over multinomial probability of the same counts
    counts, weights = zip(*pairs, strict=True)
    shares = np.array(weights) / sum(weights)
    n = sum(counts)
    above = float(stats.dirichlet_multinomial.logpmf(counts, srm.CONCENTRATION * shares, n))
    below = float(
        math.lgamma(n + 1)
        + sum(x * math.log(p) - math.lgamma(x + 1) for x, p in zip(counts, shares, strict=True))
    )
    assert srm.log_bayes_factor(counts, weights) == pytest.approx(above - below, rel=1e-8, abs=1e-6)


def test_bayes_factor_by_hand() -> None:
    # one unit: B = a_1/c / w_1 = 1; two units in variant 1 of two even ones, a = 50 each:
    # (50/100)(51/101) / 0.25 = 102/101
    assert srm.log_bayes_factor((1, 0), (1, 1)) == pytest.approx(0, abs=1e-12)
    assert srm.log_bayes_factor((2, 0), (1, 1)) == pytest.approx(math.log(102 / 101), abs=1e-12)
    assert srm.anytime((2, 0), (1, 1)) == pytest.approx(101 / 102, rel=1e-12)
    assert srm.anytime((1, 1), (1, 1)) == 1  # 1/B = 1.01, capped


@given(splits, st.integers(2, 9))
def test_scale_of_weights_and_order_do_not_matter(pairs: list[tuple[int, int]], scale: int) -> None:
    counts, weights = zip(*pairs, strict=True)
    for test in (srm.chi_square, srm.anytime):
        p = test(counts, weights)
        assert test(counts[::-1], [w * scale for w in weights[::-1]]) == pytest.approx(p, rel=1e-6)


def test_variants_of_weight_zero_have_no_degree_of_freedom() -> None:
    for test in (srm.chi_square, srm.anytime):
        assert test((450, 550, 0), (1, 1, 0)) == test((450, 550), (1, 1))
        assert test((450, 550, 77), (1, 1, 0)) == test((450, 550), (1, 1))


@pytest.mark.parametrize("mode", ["fixed", "anytime"])
def test_nothing_to_test_is_said(mode: Literal["fixed", "anytime"]) -> None:
    for counts, weights in (((0, 0), (1, 1)), ((5, 3), (1, 0)), ((5,), (1,))):
        check = srm.check(counts, weights, mode=mode)
        assert (check.code, check.severity, check.value) == ("srm", "info", None)
        assert check.detail
    assert isinstance(srm.anytime((0, 0), (1, 1)), NotEstimable)


@pytest.mark.parametrize(
    ("counts", "weights"), [((1, 2), (1,)), ((1, -2), (1, 1)), ((1, 2), (1, -1)), ((1, 2), (0, 0))]
)
def test_mistakes_of_the_caller_raise(counts: tuple[int, ...], weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"weight"):
        srm.chi_square(counts, weights)


def test_severities_and_detail() -> None:
    check = srm.check((5200, 4800), (1, 1), mode="fixed")
    assert check.severity == "invalid"
    assert check.value == pytest.approx(6.334e-5, rel=1e-3)  # z = 4: chi-square 16
    assert (
        check.detail
        == "p 6.33425e-05: units 5,200 / 4,800, expected 5,000.0 / 5,000.0 (chi-square test)"
    )
    assert srm.check((5300, 4700), (1, 1), mode="anytime").severity == "invalid"
    assert srm.check((10**7, 1), (1, 1), mode="fixed").value == sys.float_info.min


def test_few_expected_units_are_tested_exactly() -> None:
    # 1 unit where 0.01 is expected: chi-square says 5e-23, its true probability is 1 %
    check = srm.check((99, 1), (9999, 1), mode="fixed")
    assert "anytime" in check.detail
    assert check.severity == "ok"
    # but a hundred where half of one is expected is no accident
    assert srm.check((4900, 100), (9999, 1), mode="fixed").severity == "invalid"


@pytest.mark.parametrize("weights", [(1, 1), (95, 5), (5, 3, 2)])
def test_false_alarms_when_looking_every_day(weights: tuple[int, ...]) -> None:
    # 1,000 paths of 100 looks: no approximation, so at most alpha but for simulation error
    rng = np.random.default_rng(60)
    paths, looks = 1000, 100
    shares = np.array(weights) / sum(weights)
    counts = rng.multinomial(100, shares, size=(paths, looks)).cumsum(axis=1)
    smallest = np.array(
        [min(p_of(srm.anytime(look.tolist(), weights)) for look in path) for path in counts]
    )
    for level in (0.05, 0.2):
        assert (smallest <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / paths)


def test_power_against_a_mismatch_of_one_percentage_point() -> None:
    rng = np.random.default_rng(61)
    counts = rng.multinomial(200_000, (0.49, 0.51), size=200)
    found = [p_of(srm.anytime(row.tolist(), (1, 1))) < srm.INVALID_P for row in counts]
    assert np.mean(found) > 0.99


def test_moved_weights_multiply() -> None:
    # ten thousand at 50/50, then ten thousand at 90/10: pooled against either is nonsense
    total = srm.log_bayes_factor((5000, 5000), (1, 1)) + srm.log_bayes_factor((9000, 1000), (9, 1))
    assert math.exp(-total) > 1
    assert p_of(srm.anytime((14_000, 6000), (1, 1))) < 1e-100


def test_the_smallest_part_is_adjusted_for_all_parts() -> None:
    parts = {"Mon": (50, 50), "Tue": (80, 20), "Wed": (48, 52)}
    part, p = srm.smallest(parts, (1, 1), mode="fixed")
    # chi-square (80 - 50)^2 / 50 twice is 36, one degree of freedom; three parts.
    assert part == "Tue"
    assert p == pytest.approx(3 * stats.chi2.sf(36, 1))
    assert srm.smallest({}, (1, 1), mode="fixed")[0] == ""
    assert isinstance(srm.smallest({"Mon": (0, 0)}, (1, 1), mode="anytime")[1], NotEstimable)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fixed", "anytime"])
def test_the_smallest_of_many_parts_warns_as_often_as_one(
    mode: Literal["fixed", "anytime"],
) -> None:
    """20 days of 60 units each: at most 1 % of 3,000 tests are below 0.01 (band to 0.0155)."""
    rng = np.random.default_rng(7)
    alarms = 0
    for counts in rng.binomial(60, 0.3, (3_000, 20)):
        parts = {str(day): (int(x), 60 - int(x)) for day, x in enumerate(counts)}
        _, p = srm.smallest(parts, (3, 7), mode=mode)
        alarms += isinstance(p, float) and p < srm.WARNING_P
    assert alarms / 3_000 < 0.0155


def test_moved_weights_multiply_the_factors_of_their_periods() -> None:
    periods = [((500, 510), (1, 1)), ((800, 190), (8, 2)), ((7, 0), (1, 0)), ((0, 0), (1, 1))]
    product = math.exp(sum(srm.log_bayes_factor(*period) for period in periods))
    assert srm.anytime_moved(periods) == pytest.approx(min(1.0, 1 / product))
    assert srm.check_moved(periods).severity == "ok"
    assert srm.check((1307, 700), (1, 1), mode="anytime").severity == "invalid"  # pooled
    off = [((650, 500), (1, 1)), ((900, 100), (8, 2))]
    product = math.exp(-sum(srm.log_bayes_factor(*period) for period in off))
    assert srm.anytime_moved(off) == pytest.approx(product)
    check = srm.check_moved(off)
    assert check.severity == "invalid"
    assert "units 1,550 / 600, expected 1,375.0 / 775.0 over 2 splits" in check.detail


def test_one_period_is_the_test_without_moves() -> None:
    for counts in ((500, 510), (900, 100)):
        assert srm.anytime_moved([(counts, (1, 1))]) == srm.anytime(counts, (1, 1))


def test_a_variant_of_weight_zero_has_no_degree_of_freedom_in_its_period() -> None:
    both, one = ((500, 480), (1, 1)), ((700, 0), (1, 0))
    assert srm.anytime_moved([both, one]) == srm.anytime(*both)
    refused = srm.anytime_moved([one, one])
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "one-variant"
    assert srm.check_moved([one]).severity == "info"
    empty = srm.anytime_moved([])
    assert isinstance(empty, NotEstimable)
    assert empty.reason == "no-units"


def test_weights_that_follow_the_past_keep_the_error_at_every_look() -> None:
    """400 bandits, 20 looks each: the weights chase the larger count, which is no mismatch."""
    rng = np.random.default_rng(11)
    alarms = 0
    for _ in range(400):
        periods, weights = [], (500, 500)
        lowest = 1.0
        for _ in range(20):
            first = int(rng.binomial(100, weights[0] / 1000))
            periods.append(((first, 100 - first), weights))
            weights = (900, 100) if first * 1000 > 100 * weights[0] else (100, 900)
            p = srm.anytime_moved(periods)
            assert isinstance(p, float)
            lowest = min(lowest, p)
        alarms += lowest <= 0.05
    assert alarms <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)
