"""Welch against scipy, the published Hillstrom figures, and its coverage."""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.means import degrees_of_freedom, multiplier_of, welch
from klartext.analysis.moments import FloatArray, Moments, Sample


def sample(values: FloatArray) -> Sample:
    return Moments.of(("x",), values.reshape(-1, 1)).sample("x")


def estimated(treatment: Sample, control: Sample, alpha: float = 0.05) -> Estimate:
    result = welch(treatment, control, alpha=alpha, single_look=True)
    assert isinstance(result, Estimate)
    return result


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert isinstance(estimate.interval, Interval)
    return estimate.interval.lower, estimate.interval.upper


def test_by_hand() -> None:
    # {1, 2, 3} vs {0, 2}: means 2 and 1, variances 1 and 2, se^2 1/3 + 1 = 4/3,
    # df = (4/3)^2 / ((1/3)^2/2 + 1^2/1) = 16/9 / (19/18) = 32/19
    treatment, control = sample(np.array([1.0, 2.0, 3.0])), sample(np.array([0.0, 2.0]))
    result = estimated(treatment, control)
    assert result.value == 1
    assert result.std_error == pytest.approx(math.sqrt(4 / 3), rel=1e-15)
    assert degrees_of_freedom(treatment, control) == pytest.approx(32 / 19, rel=1e-15)
    assert (result.n, result.baseline_n, result.method) == (3, 2, "welch")


@pytest.mark.golden("scipy 1.17: stats.ttest_ind(equal_var=False)")
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
@pytest.mark.parametrize(("n", "sd"), [((2, 40), (1, 3)), ((500, 30), (2, 0.1)), ((9, 9), (1, 1))])
def test_equals_scipy(n: tuple[int, int], sd: tuple[float, float], alpha: float) -> None:
    rng = np.random.default_rng(11)
    one, other = (rng.normal(3, s, size=k) for k, s in zip(n, sd, strict=True))
    result = estimated(sample(one), sample(other), alpha)
    expected = stats.ttest_ind(one, other, equal_var=False)
    interval = expected.confidence_interval(1 - alpha)
    assert result.value / result.std_error == pytest.approx(expected.statistic, rel=1e-10)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert bounds(result) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert isinstance(result.interval, Interval)
    assert result.interval.level == 1 - alpha


@pytest.mark.golden("README of the shared data: Hillstrom, by scipy and statsmodels")
@pytest.mark.parametrize(
    ("segment", "value", "lower", "upper", "t", "p"),
    [
        ("Mens E-Mail", 0.769827, 0.485140, 1.054515, 5.300140, 1.1638e-7),
        ("Womens E-Mail", 0.424412, 0.168957, 0.679868, 3.256372, 1.1294e-3),
    ],
)
def test_hillstrom_spend(
    shared_data: Path, segment: str, value: float, lower: float, upper: float, t: float, p: float
) -> None:
    # reference figures computed with scipy and statsmodels, in the README of the shared data
    table = pd.read_csv(shared_data / "hillstrom" / "hillstrom.csv")
    spend = {key: group["spend"].to_numpy(float) for key, group in table.groupby("segment")}
    result = estimated(sample(spend[segment]), sample(spend["No E-Mail"]))
    assert result.value == pytest.approx(value, abs=6e-7)
    assert bounds(result) == pytest.approx((lower, upper), abs=6e-7)
    assert result.value / result.std_error == pytest.approx(t, abs=6e-7)
    assert result.p_value == pytest.approx(p, rel=5e-5)


@pytest.mark.golden("README of the shared data: Cookie Cats, by scipy and statsmodels")
def test_cookie_cats_rounds_and_their_outlier(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "cookie_cats" / "cookie_cats.csv")
    for rows, value, p in (
        (table, -1.157488, 0.375924),
        (table[table["sum_gamerounds"] < 49_854], -0.043335, 0.949469),
    ):
        by = {k: g["sum_gamerounds"].to_numpy(float) for k, g in rows.groupby("version")}
        result = estimated(sample(by["gate_40"]), sample(by["gate_30"]))
        assert result.value == pytest.approx(value, abs=6e-7)
        assert result.p_value == pytest.approx(p, abs=6e-7)


positive = st.floats(1e-3, 1e3)


@given(st.integers(2, 10**6), st.integers(2, 10**6), positive, positive, st.floats(-1e3, 1e3))
def test_swapping_the_variants_flips_the_sign(
    n: int, m: int, var_n: float, var_m: float, mean: float
) -> None:
    one, other = Sample(n, mean, var_n * (n - 1), 0.0), Sample(m, 1.0, var_m * (m - 1), 0.0)
    forward, backward = estimated(one, other), estimated(other, one)
    assert forward.value == -backward.value
    assert forward.p_value == pytest.approx(backward.p_value, rel=1e-9)
    assert bounds(forward)[0] == pytest.approx(-bounds(backward)[1], rel=1e-9, abs=1e-12)
    df = degrees_of_freedom(one, other)
    assert (min(n, m) - 1) * (1 - 1e-9) <= df <= (n + m - 2) * (1 + 1e-9)


@given(st.floats(1e-6, 1e6), positive, positive)
def test_scale_of_the_metric_does_not_matter(scale: float, var_n: float, var_m: float) -> None:
    def scaled(factor: float) -> Estimate:
        one = Sample(30, 2 * factor, 29 * var_n * factor**2, 0.0)
        return estimated(one, Sample(50, 1 * factor, 49 * var_m * factor**2, 0.0))

    assert scaled(scale).p_value == pytest.approx(scaled(1).p_value, rel=1e-9)
    assert scaled(scale).value == pytest.approx(scaled(1).value * scale, rel=1e-9)
    assert scaled(scale).relative == pytest.approx(scaled(1).relative, rel=1e-9)


def test_degenerate_input_is_refused_with_a_reason() -> None:
    good, constant = Sample(9, 1.0, 4.0, 0.0), Sample(9, 2.0, 0.0, 0.0)
    for bad, reason in (
        ((Sample(1, 1.0, 0.0, 0.0), good), "too-few-units"),
        ((constant, constant), "no-variance"),
        ((Sample(9, math.inf, 1.0, 0.0), good), "not-finite"),
    ):
        refused = welch(*bad, alpha=0.05, single_look=True)
        assert isinstance(refused, NotEstimable)
        assert refused.reason == reason


@pytest.mark.golden("scipy 1.17: stats.ttest_1samp")
def test_one_constant_variant_is_a_one_sample_test() -> None:
    # against scipy.stats.ttest_1samp: df is that of the variant which varies
    rng = np.random.default_rng(2)
    values = rng.normal(size=20)
    result = estimated(sample(values), Sample(9, 0.3, 0.0, 0.0))
    expected = stats.ttest_1samp(values, 0.3)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-10)


def test_constants_with_rounding_dust_are_not_significant() -> None:
    one = Moments.of(("x",), np.full((7919, 1), 0.1)) + Moments.of(("x",), np.full((3, 1), 0.1))
    other = Moments.of(("x",), np.full((104_729, 1), 0.1))
    refused = welch(one.sample("x"), other.sample("x"), alpha=0.05, single_look=True)
    assert isinstance(refused, NotEstimable)


def test_a_tiny_p_value_is_a_bound_and_never_zero() -> None:
    far = estimated(Sample(10**6, 1e3, 10**6, 0.0), Sample(10**6, 0.0, 10**6, 0.0))
    assert far.p_value == sys.float_info.min
    # 1 - cdf would be 0 here
    tail = estimated(Sample(10**6, 0.0425, 10**6, 0.0), Sample(10**6, 0.0, 10**6, 0.0))
    t = tail.value / tail.std_error
    assert tail.p_value == pytest.approx(2 * stats.t.sf(t, 2 * 10**6 - 2), rel=1e-8)
    assert isinstance(tail.p_value, float)
    assert 0 < tail.p_value < 1e-190


@pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan])
def test_alpha_must_be_a_probability(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        multiplier_of(alpha)
    with pytest.raises(ValueError, match="alpha"):
        welch(Sample(9, 1.0, 4.0, 0.0), Sample(9, 1.0, 4.0, 0.0), alpha=alpha, single_look=True)


def test_multiplier() -> None:
    assert multiplier_of(0.05) == pytest.approx(1.959963984540054, rel=1e-14)


def test_coverage_with_unequal_variances_and_sizes() -> None:
    # 20,000 replications: standard error of a coverage of 95 % is 0.00154; Welch's own
    # approximation error at (8, 25) units is below 0.002
    rng = np.random.default_rng(20)
    replications, hits = 20_000, 0
    small = rng.normal(1.0, 4.0, size=(replications, 8))
    large = rng.normal(1.0, 1.0, size=(replications, 25))
    one = [small.mean(axis=1), small.var(axis=1) * 8]
    other = [large.mean(axis=1), large.var(axis=1) * 25]
    for m1, s1, m2, s2 in zip(*one, *other, strict=True):
        lower, upper = bounds(estimated(Sample(8, m1, s1, 0.0), Sample(25, m2, s2, 0.0)))
        hits += lower <= 0 <= upper
    assert hits / replications == pytest.approx(0.95, abs=4 * 0.00154 + 0.002)
