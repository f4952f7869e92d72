"""BCa against scipy.stats.bootstrap, by hand, and its coverage."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from klartext.analysis import bootstrap
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import FloatArray

RNG = np.random.default_rng(21)
ONE, BASE = RNG.lognormal(0.2, 0.8, 80), RNG.lognormal(0.0, 0.8, 60)


def difference(one: FloatArray, base: FloatArray) -> float:
    return float(one.mean() - base.mean())


def log_spread(one: FloatArray, base: FloatArray) -> float:
    return float(np.log(one.std() / base.std()))


def run(
    one: FloatArray, base: FloatArray, statistic: bootstrap.Statistic, seed: int = 1, **kw: Any
) -> Any:
    options = {"alpha": 0.05, "single_look": True, "resamples": 4000, **kw}
    return bootstrap.bca(one, base, statistic, rng=np.random.default_rng(seed), **options)


def ends(estimate: Any) -> tuple[float, float]:
    assert isinstance(estimate, Estimate)
    assert isinstance(estimate.interval, Interval)
    return estimate.interval.lower, estimate.interval.upper


@pytest.mark.golden("scipy 1.17: stats.bootstrap, method BCa")
@pytest.mark.parametrize("statistic", [difference, log_spread])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_ends_equal_scipy_for_its_draws(statistic: bootstrap.Statistic, alpha: float) -> None:
    # scipy.stats.bootstrap, method BCa: its own draws through our ends and acceleration
    expected = stats.bootstrap(
        (ONE, BASE),
        statistic,
        n_resamples=2000,
        vectorized=False,
        confidence_level=1 - alpha,
        method="BCa",
        rng=np.random.default_rng(3),
    )
    skewness = bootstrap.acceleration((ONE, BASE), statistic)
    assert isinstance(skewness, float)
    region = bootstrap.bca_interval(
        expected.bootstrap_distribution, statistic(ONE, BASE), skewness, alpha=alpha
    )
    assert isinstance(region, Interval)
    ends_of_scipy = expected.confidence_interval
    assert (region.lower, region.upper) == pytest.approx(
        (ends_of_scipy.low, ends_of_scipy.high), rel=1e-9
    )


@pytest.mark.golden("scipy 1.17: stats.bootstrap, method BCa")
def test_own_draws_are_near_scipy() -> None:
    # Monte Carlo error of an end at 4,000 draws: se sqrt(0.025·0.975/4000)/0.058 = 0.043 se
    expected = stats.bootstrap(
        (ONE, BASE), difference, n_resamples=20_000, vectorized=False, rng=np.random.default_rng(4)
    ).confidence_interval
    result = run(ONE, BASE, difference)
    allowed = 4 * 0.043 * result.std_error
    assert ends(result) == pytest.approx((expected.low, expected.high), abs=allowed)
    assert result.std_error == pytest.approx(
        math.sqrt(ONE.var() / len(ONE) + BASE.var() / len(BASE)), rel=0.05
    )


def test_acceleration_of_a_mean_by_hand() -> None:
    # one variant: skewness / (6 sqrt(n)): 0, 0, 3 has u = -1 -1 2: 6 / (6 · 6^1.5) = 0.068041
    one = np.array([0.0, 0.0, 3.0])
    found = bootstrap.acceleration((one, np.zeros(2)), lambda a, _: float(a.mean()))
    assert found == pytest.approx(6 / (6 * 6**1.5), rel=1e-12)


@pytest.mark.golden("Efron, Tibshirani (1993), section 14.3: spatial test data")
def test_acceleration_of_the_variance_of_the_spatial_test_data() -> None:
    # table 14.1, column A; the plug-in variance is 171.5 and its acceleration 0.061
    spatial = np.array(
        [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6,
         0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41.0]
    )  # fmt: skip
    assert round(float(spatial.var()), 1) == 171.5
    found = bootstrap.acceleration((spatial, np.zeros(2)), lambda a, _: float(a.var()))
    assert isinstance(found, float)
    assert round(found, 3) == 0.061


def test_symmetric_draws_give_the_percentile_interval() -> None:
    draws = np.linspace(-1, 1, 2001)
    region = bootstrap.bca_interval(draws, 0.0, 0.0, alpha=0.1)
    assert isinstance(region, Interval)
    assert (region.lower, region.upper) == pytest.approx((-0.9, 0.9), abs=1e-12)


def test_seed_scale_shift_and_swap() -> None:
    first, again = run(ONE, BASE, difference), run(ONE, BASE, difference)
    assert first == again
    assert ends(run(ONE, BASE, difference, seed=2)) != ends(first)
    scaled = run(1e3 * ONE + 7, 1e3 * BASE + 7, difference)
    assert ends(scaled) == pytest.approx([1e3 * end for end in ends(first)], rel=1e-9)
    flipped = run(ONE, BASE, lambda a, b: difference(b, a))
    assert ends(flipped) == pytest.approx([-end for end in reversed(ends(first))], rel=1e-9)


def test_rows_with_several_columns() -> None:
    # a ratio of sums per variant: rows stay together
    one = np.column_stack([ONE, 1 + ONE])
    base = np.column_stack([BASE, 1 + BASE])
    result = run(
        one, base, lambda a, b: float(a[:, 0].sum() / a[:, 1].sum() - b[:, 0].sum() / b[:, 1].sum())
    )
    assert result.n == 80
    assert result.baseline_n == 60
    assert isinstance(result.p_value, NotEstimable)
    low, high = ends(result)
    assert low < result.value < high


@pytest.mark.parametrize(
    ("one", "base", "statistic", "reason"),
    [
        ([], [1.0, 2.0], difference, "too-few-units"),
        ([1.0], [1.0, 2.0], difference, "too-few-units"),
        ([1.0, math.nan], [1.0, 2.0], difference, "not-finite"),
        ([1.0, 1.0], [1.0, 1.0], difference, "no-variance"),
        ([1.0, 2.0], [1.0, 3.0], lambda _, __: 5.0, "no-variance"),
        (
            [1.0, 2.0],
            [1.0, 3.0],
            lambda a, _: math.inf if len(a) > np.ptp(a) + 1 else 1.0,
            "not-finite",
        ),
        ([*range(40)], [1.0, 3.0], lambda a, _: len(set(a)) + a.mean() / 1e3, "beyond-resamples"),
    ],
)
def test_degenerate_input_has_a_reason(
    one: list[float], base: list[float], statistic: bootstrap.Statistic, reason: str
) -> None:
    refused = run(np.array(one), np.array(base), statistic, resamples=1000)
    assert isinstance(refused, NotEstimable)
    assert refused.reason == reason


def test_mistakes_of_the_caller_raise() -> None:
    with pytest.raises(ValueError, match="resamples"):
        run(ONE, BASE, difference, resamples=99)
    with pytest.raises(ValueError, match="alpha"):
        run(ONE, BASE, difference, alpha=0)


@pytest.mark.slow
def test_coverage_of_a_skewed_ratio_of_means() -> None:
    # exponential amounts, 40 units each; 400 replications of 1,000 draws: se 0.011
    rng = np.random.default_rng(77)
    below = above = 0
    for _ in range(400):
        one, base = rng.exponential(2.0, 40), rng.exponential(1.0, 40)
        result = bootstrap.bca(
            one,
            base,
            lambda a, b: float(a.mean() / b.mean()),
            alpha=0.05,
            single_look=True,
            resamples=1000,
            rng=rng,
        )
        low, high = ends(result)
        below, above = below + (high < 2), above + (low > 2)
    assert 1 - (below + above) / 400 == pytest.approx(0.945, abs=4 * 0.011)
