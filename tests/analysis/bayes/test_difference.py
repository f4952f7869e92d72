"""Posterior of a difference and a ratio: exact laws, Monte Carlo, symmetries."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from klartext.analysis.bayes.beta import BetaPosterior
from klartext.analysis.bayes.difference import Difference
from klartext.analysis.bayes.gamma import GammaPosterior
from klartext.analysis.bayes.marginal import Marginal
from klartext.analysis.bayes.student import StudentPosterior
from klartext.analysis.estimate import NotEstimable
from tests.analysis.bayes.families import families, first_is_higher
from tests.analysis.bayes.test_best import PAIRS


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_probability_better_agrees_with_the_exact_sum(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    # Miller (2015), rational arithmetic
    found = Difference(BetaPosterior(*one), BetaPosterior(*other))
    exact = first_is_higher(one, other)
    assert found.probability_above(0.0) == pytest.approx(float(exact), abs=1e-13)
    assert found.probability_below(0.0) == pytest.approx(float(1 - exact), abs=1e-13)


def test_two_uniform_rates_have_a_triangular_difference() -> None:
    found = Difference(BetaPosterior(1, 1), BetaPosterior(1, 1))
    for d in (-0.9, -0.5, -0.1, 0.0, 0.3, 0.8):
        expected = (1 + d) ** 2 / 2 if d < 0 else 1 - (1 - d) ** 2 / 2
        assert found.probability_below(d) == pytest.approx(expected, abs=1e-13)
    interval = found.interval(0.95)
    assert interval.upper == pytest.approx(1 - math.sqrt(0.05), rel=1e-10)
    assert interval.lower == pytest.approx(-1 + math.sqrt(0.05), rel=1e-10)
    assert found.probability_between(-0.1, 0.1) == pytest.approx(0.19, abs=1e-13)
    # the ratio of two uniforms: P(T / C < q) = q / 2 up to 1, 1 - 1 / (2 q) above
    relative = found.relative(0.9)
    assert not isinstance(relative, NotEstimable)
    assert relative[0] == pytest.approx(0.0, abs=1e-9)
    assert relative[1].lower == pytest.approx(0.1 - 1, rel=1e-9)
    assert relative[1].upper == pytest.approx(10 - 1, rel=1e-9)


@pytest.mark.golden("scipy 1.17: stats.f")
@pytest.mark.parametrize(
    ("one", "other"),
    [((4.5, 3.0), (2.5, 4.0)), ((330.5, 1e4), (300.5, 1e4)), ((1e8, 1e6), (1.0001e8, 1e6))],
)
def test_ratio_of_counts_agrees_with_the_f_distribution(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    # (T rate_T / shape_T) / (C rate_C / shape_C) is F with 2 shape_T and 2 shape_C: scipy
    found = Difference(GammaPosterior(*one), GammaPosterior(*other)).relative(0.95)
    assert not isinstance(found, NotEstimable)
    median, interval = found
    factor = one[0] / one[1] / (other[0] / other[1])
    law = stats.f(2 * one[0], 2 * other[0])
    assert median + 1 == pytest.approx(factor * law.ppf(0.5), rel=1e-9)
    assert interval.lower + 1 == pytest.approx(factor * law.ppf(0.025), rel=1e-9)
    assert interval.upper + 1 == pytest.approx(factor * law.ppf(0.975), rel=1e-9)


def test_difference_of_two_exponentials_is_laplace() -> None:
    # shape 1: two exponentials with rates 2 and 5; P(T - C > d) = 5/7 exp(-2 d) for d > 0
    found = Difference(GammaPosterior(1, 2), GammaPosterior(1, 5))
    for d in (0.0, 0.1, 1.0, 4.0):
        expected = 5 / 7 * math.exp(-2 * d)
        assert found.probability_above(d) == pytest.approx(expected, rel=1e-10)
        below = 2 / 7 * math.exp(-5 * d)
        assert found.probability_below(-d) == pytest.approx(below, rel=1e-9)
    assert found.interval(0.95).upper == pytest.approx(math.log(5 / 7 / 0.025) / 2, rel=1e-9)


@pytest.mark.golden("Fisher, Yates, Statistical Tables, VI 1 (Sukhatme): Behrens-Fisher")
def test_difference_of_means_agrees_with_the_normal_limit_and_with_behrens() -> None:
    normal = Difference(StudentPosterior(1e9, 1.0, 0.3), StudentPosterior(1e9, 0.5, 0.4))
    interval = normal.interval(0.95)
    assert interval.lower == pytest.approx(0.5 - 1.959963984540054 * 0.5, rel=1e-7)
    assert interval.upper == pytest.approx(0.5 + 1.959963984540054 * 0.5, rel=1e-7)
    # Behrens-Fisher at 6 and 12 degrees of freedom, angle 45 degrees: Sukhatme's table (Fisher,
    # Yates, "Statistical Tables", VI 1): two-sided 5 % point 2.301 standard errors
    found = Difference(StudentPosterior(6, 0, 1), StudentPosterior(12, 0, 1)).interval(0.95)
    assert round(found.upper / math.sqrt(2), 2) == 2.30
    assert found.lower == pytest.approx(-found.upper, rel=1e-9)


def test_behrens_fisher_with_three_degrees_agrees_with_the_closed_form() -> None:
    # the sum of two independent Cauchy-like t variables: for t with 3 df the density has
    # characteristic function (1 + sqrt(3) u) exp(-sqrt(3) u), inverted here by scipy
    def characteristic(u: float) -> float:
        return (1 + math.sqrt(3) * u) * math.exp(-math.sqrt(3) * u)

    from scipy import integrate  # noqa: PLC0415 - only here

    found = Difference(StudentPosterior(3, 0, 1), StudentPosterior(3, 0, 2))
    for d in (0.5, 2.0, 6.0):
        tail, _ = integrate.quad(
            lambda u, d=d: characteristic(u) * characteristic(2 * u) * math.sin(u * d) / u,
            0,
            60,
            limit=500,
            epsabs=1e-13,
        )
        assert found.probability_below(d) == pytest.approx(0.5 + tail / math.pi, abs=1e-9)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BetaPosterior(0.5, 10.5), BetaPosterior(2.5, 8.5)),
        (BetaPosterior(51, 951), BetaPosterior(41, 961)),
        (GammaPosterior(0.5, 20), GammaPosterior(3.5, 25)),
        (StudentPosterior(3, 0.0, 1.0), StudentPosterior(9, 1.0, 0.2)),
    ],
)
def test_against_monte_carlo(one: Marginal, other: Marginal) -> None:
    # 200,000 draws by inversion of the tails; five standard errors
    draws, rng = 200_000, np.random.default_rng(92)
    u, v = rng.random(draws), rng.random(draws)
    difference = one.quantiles(u) - other.quantiles(v)
    found = Difference(one, other)
    for d in (-0.05, 0.0, 0.02):
        p = found.probability_below(d)
        assert p == pytest.approx((difference < d).mean(), abs=5 * math.sqrt(p * (1 - p) / draws))
    between = found.probability_between(-0.01, 0.02)
    inside = ((difference > -0.01) & (difference < 0.02)).mean()
    assert between == pytest.approx(inside, abs=5 * 0.5 / math.sqrt(draws))
    interval = found.interval(0.9)
    assert (difference < interval.lower).mean() == pytest.approx(
        0.05, abs=5 * 0.22 / math.sqrt(draws)
    )
    assert (difference > interval.upper).mean() == pytest.approx(
        0.05, abs=5 * 0.22 / math.sqrt(draws)
    )


@given(families.flatmap(lambda family: st.tuples(family, family)))
@settings(max_examples=60)
def test_swapping_variants_flips_signs(pair: tuple[Marginal, Marginal]) -> None:
    found, swapped = Difference(*pair), Difference(pair[1], pair[0])
    assert swapped.mean == -found.mean
    assert swapped.probability_above(0.0) == pytest.approx(found.probability_below(0.0), abs=1e-9)
    assert found.probability_above(0.0) + found.probability_below(0.0) == pytest.approx(1)
    interval, mirrored = found.interval(0.95), swapped.interval(0.95)
    width = interval.upper - interval.lower
    assert width > 0
    assert mirrored.lower == pytest.approx(-interval.upper, abs=1e-6 * width)
    assert mirrored.upper == pytest.approx(-interval.lower, abs=1e-6 * width)
    assert found.probability_below(interval.lower) == pytest.approx(0.025, abs=1e-7)
    assert found.probability_above(interval.upper) == pytest.approx(0.025, abs=1e-7)


def test_a_percentage_of_a_possible_loss_is_refused() -> None:
    found = Difference(StudentPosterior(20, 1.0, 0.1), StudentPosterior(20, 0.1, 0.1))
    relative = found.relative(0.95)
    assert isinstance(relative, NotEstimable)
    assert relative.reason == "may-be-negative"


def test_relative_lift_of_means() -> None:
    # log-normal-free check: P(T / C - 1 < r) = P(T - (1 + r) C < 0), normal with 10^9 df
    one, other = StudentPosterior(1e9, 11.0, 0.2), StudentPosterior(1e9, 10.0, 0.3)
    found = Difference(one, other).relative(0.95)
    assert not isinstance(found, NotEstimable)
    for end, p in ((found[1].lower, 0.025), (found[0], 0.5), (found[1].upper, 0.975)):
        z = (11 - (1 + end) * 10) / math.hypot(0.2, (1 + end) * 0.3)
        assert special.ndtr(-z) == pytest.approx(p, abs=1e-8)


def test_an_empty_region_raises() -> None:
    with pytest.raises(ValueError, match="empty"):
        Difference(BetaPosterior(1, 1), BetaPosterior(1, 1)).probability_between(0.1, -0.1)
