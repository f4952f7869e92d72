"""Fieller's sets against an exact inversion of their definition, special cases and coverage."""

import math
from fractions import Fraction

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, Unbounded
from klartext.analysis.ratios import fieller


def contains(region: ConfidenceSet, r: float) -> bool:
    match region:
        case Interval(lower, upper, _):
            return lower <= r <= upper
        case Unbounded("line", _, _):
            return True
        case Unbounded("rays", (lower, upper), _):
            return r <= lower or r >= upper
        case Unbounded("left", (end,), _):
            return r <= end
        case Unbounded("right", (end,), _):
            return r >= end
    raise AssertionError(region)


def is_member(r: float, numbers: tuple[float, float, float, float, float], c: float) -> bool:
    """Decide the definition in exact rational arithmetic."""
    a, b, var_a, var_b, cov, x, m = map(Fraction, (*numbers, r, c))
    return (a - x * b) ** 2 <= m * m * (var_a - 2 * x * cov + x * x * var_b)


estimates = st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3)
errors = st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.5])
correlations = st.sampled_from([-1.0, -0.7, 0.0, 0.3, 0.99, 1.0])
multipliers = st.sampled_from([0.5, 1.96, 3.04])


@given(estimates, estimates, errors, errors, correlations, multipliers)
def test_equals_the_exact_inversion(
    a: float, b: float, se_a: float, se_b: float, correlation: float, c: float
) -> None:
    cov = correlation * se_a * se_b
    assume(abs(cov) <= se_a * se_b)
    numbers = (a, b, se_a**2, se_b**2, cov)
    region = fieller(*numbers, multiplier=c, level=0.95)
    if b == 0 and se_b == 0:
        assert isinstance(region, NotEstimable)
        return
    assert not isinstance(region, NotEstimable)
    bounds = (region.lower, region.upper) if isinstance(region, Interval) else region.bounds
    grid = [k / 7 for k in range(-140, 141)] + [10.0**k for k in range(2, 9)]
    grid += [-(10.0**k) for k in range(2, 9)]
    for end in bounds:  # just inside and outside of every end
        grid += [end + sign * max(abs(end), 1e-2) * 1e-5 for sign in (-1, 1)]
    far_apart = [r for r in grid if all(abs(r - e) > 1e-6 * max(abs(e), 1e-2) for e in bounds)]
    for r in far_apart:
        if is_member(r, numbers, c) != contains(region, r):
            # The only excuse is a parabola that touches zero to within rounding.
            value = (a - r * b) ** 2 - c * c * (numbers[2] - 2 * r * cov + r * r * numbers[3])
            assert abs(value) <= 1e-9 * (1 + r * r) * (a * a + b * b + 1)


def at(a: float, b: float, var_a: float, var_b: float, cov: float, c: float) -> ConfidenceSet:
    return fieller(a, b, var_a, var_b, cov, multiplier=c, level=0.9)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        # no variance in the denominator: a/b ± c se_a/|b|
        ((6, 2, 4, 0, 0, 1), Interval(2, 4, 0.9)),
        ((6, -2, 4, 0, 0, 1), Interval(-4, -2, 0.9)),
        # no variance at all: the point
        ((6, 2, 0, 0, 0, 3), Interval(3, 3, 0.9)),
        ((0, 2, 0, 0, 0, 3), Interval(0, 0, 0.9)),
        # numerator without variance: a / (b ± c se_b)
        ((3, 4, 0, 1, 0, 2), Interval(0.5, 1.5, 0.9)),
        # the same with zero inside b ± c se_b: outside of 3/(1-2) .. 3/(1+2)
        ((3, 1, 0, 1, 0, 2), Unbounded("rays", (-3, 1), 0.9)),
        # b = 0 exactly, symmetric: r^2 >= (a^2 - c^2 va) / (c^2 vb) = (25 - 16) / 4
        ((5, 0, 4, 1, 0, 2), Unbounded("rays", (-1.5, 1.5), 0.9)),
        # both consistent with zero: everything
        ((1, 1, 1, 1, 0, 2), Unbounded("line", (), 0.9)),
        ((0, 0, 1, 1, 0, 2), Unbounded("line", (), 0.9)),
        # |b| = c se_b: linear, -2 r ab + a^2 - c^2 va <= 0, r >= (9 - 4) / (2·3·2)
        ((3, 2, 1, 1, 0, 2), Unbounded("right", (5 / 12,), 0.9)),
        ((-3, 2, 1, 1, 0, 2), Unbounded("left", (-5 / 12,), 0.9)),
        ((0, 2, 1, 1, 0, 2), Unbounded("line", (), 0.9)),
        # perfectly correlated, a = 3 b throughout: the ratio is known
        ((6, 2, 9, 1, 3, 1), Interval(3, 3, 0.9)),
    ],
)
def test_special_cases(
    numbers: tuple[float, float, float, float, float, float], expected: ConfidenceSet
) -> None:
    found = at(*numbers)
    if isinstance(expected, Interval):
        assert isinstance(found, Interval)
        ends, truth = (found.lower, found.upper), (expected.lower, expected.upper)
    else:
        assert isinstance(found, Unbounded)
        assert isinstance(expected, Unbounded)
        assert found.shape == expected.shape
        ends, truth = found.bounds, expected.bounds  # type: ignore[assignment] # any length
    assert ends == pytest.approx(truth, rel=1e-14, abs=1e-15)


def test_nothing_to_divide_by() -> None:
    for numbers in ((6, 0, 4, 0, 0, 1), (0, 0, 0, 0, 0, 1), (6, 0, 4, 1, 0, 0)):
        found = at(*numbers)
        assert isinstance(found, NotEstimable)
        assert found.reason == "zero-denominator"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_a_reason(bad: float) -> None:
    for place in range(5):
        numbers = [1.0, 2.0, 1.0, 1.0, 0.0]
        numbers[place] = bad
        a, b, var_a, var_b, cov = numbers
        found = at(a, b, var_a, var_b, cov, 2)
        assert isinstance(found, NotEstimable)
        assert found.reason == "not-finite"


def test_an_end_beyond_every_number_is_a_reason() -> None:
    found = at(1e150, 1e-160, 1e298, 1e-322, 0, 2)
    assert isinstance(found, NotEstimable)
    assert found.reason == "not-finite"


def test_mistakes_of_the_caller_raise() -> None:
    with pytest.raises(ValueError, match="variances"):
        at(1, 1, -1, 1, 0, 2)
    with pytest.raises(ValueError, match="covariance"):
        at(1, 1, 1, 1, 1.1, 2)
    with pytest.raises(ValueError, match="multiplier"):
        at(1, 1, 1, 1, 0, -2)


def test_rounding_dust_in_the_covariance_does_not_raise() -> None:
    # a constant cost column: variance 0, covariance 1e-18 left over by the engine
    found = at(6, 2, 4, 0, 1e-18, 1)
    assert isinstance(found, Interval)
    assert (found.lower, found.upper) == pytest.approx((2, 4), rel=1e-15)


@given(st.integers(-60, 60), st.integers(-60, 60))
def test_units_do_not_matter(power_a: int, power_b: int) -> None:
    u, v = 10.0**power_a, 10.0**power_b
    for numbers in ((3, 4, 1, 1, 0.5), (3, 1, 1, 1, 0.5), (1, 1, 1, 1, 0.5)):
        a, b, var_a, var_b, cov = numbers
        plain = at(*numbers, c=2)
        scaled = at(a * u, b * v, var_a * u * u, var_b * v * v, cov * u * v, c=2)
        assert type(plain) is type(scaled)
        if isinstance(plain, Interval) and isinstance(scaled, Interval):
            assert scaled.lower == pytest.approx(plain.lower * u / v, rel=1e-9)
            assert scaled.upper == pytest.approx(plain.upper * u / v, rel=1e-9)
        if isinstance(plain, Unbounded) and isinstance(scaled, Unbounded):
            assert scaled.shape == plain.shape
            assert scaled.bounds == pytest.approx([x * u / v for x in plain.bounds], rel=1e-9)


def test_a_strong_denominator_gives_the_delta_method() -> None:
    # var of a/b to first order: (va - 2 (a/b) cov + (a/b)^2 vb) / b^2
    a, b, var_a, var_b, cov = 3.0, 5.0, 4e-8, 9e-8, 1e-8
    found = at(a, b, var_a, var_b, cov, 1.96)
    delta = 1.96 * math.sqrt((var_a - 2 * 0.6 * cov + 0.36 * var_b) / 25)
    assert isinstance(found, Interval)
    assert found.lower == pytest.approx(0.6 - delta, rel=1e-7)
    assert found.upper == pytest.approx(0.6 + delta, rel=1e-7)


@pytest.mark.golden("statsmodels 0.15: OLS t_test of intercept - r slope")
@pytest.mark.parametrize(
    ("slope", "level"), [(2.0, 0.95), (2.0, 0.8), (-0.5, 0.99), (0.1, 0.95), (0.02, 0.5)]
)
def test_ends_are_where_statsmodels_stops_rejecting(slope: float, level: float) -> None:
    # A line's intercept over its slope, two correlated coefficients. At the ends the t-test of
    # "intercept - r slope = 0" has just p = 1 - level; between them, or beyond them where the
    # slope is weak, more.
    rng = np.random.default_rng(17)
    x = rng.uniform(1, 5, 30)
    fit = sm.OLS(3 + slope * x + rng.standard_normal(30), sm.add_constant(x)).fit()
    (a, b), covariance = fit.params, fit.cov_params()
    found = fieller(
        a, b, covariance[0, 0], covariance[1, 1], covariance[0, 1],
        multiplier=float(stats.t.isf((1 - level) / 2, 28)), level=level,
    )  # fmt: skip
    assert not isinstance(found, NotEstimable)
    ends = (found.lower, found.upper) if isinstance(found, Interval) else found.bounds

    def p_value(r: float) -> float:
        return float(fit.t_test([1.0, -r]).pvalue)

    assert len(ends) == 2
    for end in ends:
        assert p_value(end) == pytest.approx(1 - level, rel=1e-6)
    assert (p_value(sum(ends) / 2) > 1 - level) == isinstance(found, Interval)
    assert p_value(a / b) == pytest.approx(1.0)


@pytest.mark.golden("README of the shared data: Hillstrom, by scipy and statsmodels")
def test_hillstrom_roi() -> None:
    # shared data's README: 21,307 units at 0.004998002943 USD, revenue +0.769827 ± 1.960036 se
    units, cost, value, se, t = 21_307, 106.492449, 0.7698271558945364, 0.14524656024868707, 1.96003
    found = fieller(units * value, cost, (units * se) ** 2, 0.0, 0.0, multiplier=t, level=0.95)
    assert isinstance(found, Interval)
    assert found.lower - 1 == pytest.approx(96.0667, abs=2e-3)
    assert found.upper - 1 == pytest.approx(209.9872, abs=2e-3)


@pytest.mark.parametrize("z", [0.5, 1.5, 3.0, 8.0])
def test_coverage_with_a_weak_denominator(z: float) -> None:
    # 10,000 replications: standard error of a coverage of 95 % is 0.0022. The set is exact for
    # normal estimates, also where most of them give no finite interval.
    rng = np.random.default_rng(30)
    b = z
    a, se_a, correlation = 2.0 * b, 1.5, 0.4
    noise = rng.standard_normal((10_000, 2))
    numerators = a + se_a * noise[:, 0]
    denominators = b + correlation * noise[:, 0] + math.sqrt(1 - correlation**2) * noise[:, 1]
    hits = bounded = 0
    for one, other in zip(numerators, denominators, strict=True):
        region = fieller(
            one, other, se_a**2, 1.0, correlation * se_a, multiplier=1.959964, level=0.95
        )
        hits += contains(region, 2.0)
        bounded += isinstance(region, Interval)
    assert hits / 10_000 == pytest.approx(0.95, abs=4 * 0.0022)
    assert (bounded < 5000) == (z < 1.96)
