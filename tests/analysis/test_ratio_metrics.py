"""Ratio metrics against gbstats, tea-tasting, statsmodels' clustered errors, and by simulation."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from klartext.analysis import contrast, ratio_metrics
from klartext.analysis.contrast import Contrast
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.ratio_metrics import Ratio
from tests.analysis.golden.units import COLUMNS, rows

METRIC = Ratio("revenue", "orders")
T, C = Moments.of(COLUMNS, rows(3000, 1, 1.05)), Moments.of(COLUMNS, rows(2500, 50_000, 1.0))


def fixed(one: Moments, base: Moments, metric: Ratio = METRIC) -> Estimate:
    found = contrast.fixed(
        ratio_metrics.difference(one, base, metric), alpha=0.05, single_look=True
    )
    assert isinstance(found, Estimate)
    return found


def ends(estimate: Estimate) -> tuple[float, float]:
    assert isinstance(estimate.interval, Interval)
    return estimate.interval.lower, estimate.interval.upper


def test_by_hand() -> None:
    # y 1 2 6, z 1 1 2: R = 9/4, y - R z = -1.25 -0.25 1.5, squares 1.5625 + 0.0625 + 2.25 =
    # 3.875, / 2 = 1.9375 per unit, / mean(z)^2 = 16/9: 1.08984375; / 3: 0.36328125
    one = Moments.of(("y", "z"), np.array([[1.0, 1], [2, 1], [6, 2]]))
    found = ratio_metrics.linearise(one, (Ratio("y", "z"),))
    assert not isinstance(found, NotEstimable)
    assert found.value[0] == pytest.approx(2.25, rel=1e-14)
    assert found.covariance[0, 0] / 3 == pytest.approx(0.36328125, rel=1e-14)


@pytest.mark.golden("gbstats 0.8.0: ratio metrics")
def test_equals_gbstats() -> None:
    # gbstats 0.8.0, golden/with_gbstats.py
    found = fixed(T, C)
    assert found.value == pytest.approx(1.4285183529091832, rel=1e-11)
    assert found.std_error == pytest.approx(0.25633217352032345, rel=1e-11)
    assert found.p_value == pytest.approx(2.6262059416026773e-08, rel=1e-9)
    assert ends(found) == pytest.approx((0.9260041073923803, 1.9310325984259862), rel=1e-10)


@pytest.mark.golden("tea-tasting 1.14.0: RatioOfMeans")
def test_equals_tea_tasting() -> None:
    # tea-tasting 1.14.0, golden/with_tea_tasting.py; its relative interval has its own df
    found = fixed(T, C)
    assert found.relative == pytest.approx(0.0501025311295733, rel=1e-11)
    assert isinstance(found.relative_interval, Interval)
    relative = (found.relative_interval.lower, found.relative_interval.upper)
    assert relative == pytest.approx((0.03216993716973837, 0.06834668030386282), abs=1e-7)


@pytest.mark.golden("statsmodels 0.15: WLS, clustered errors")
def test_equals_regression_clustered_by_unit() -> None:
    # the ratio is a weighted mean over orders: statsmodels WLS on a constant, errors clustered
    # by unit (df_correction off: n/(n-1) is ours)
    table = rows(400, 7, 1.0)
    ratio, weight = table[:, 0] / table[:, 1], table[:, 1]
    fit = sm.WLS(ratio, np.ones(400), weights=weight).fit(
        cov_type="cluster", cov_kwds={"groups": np.arange(400), "use_correction": False}
    )
    found = ratio_metrics.linearise(Moments.of(COLUMNS, table), (METRIC,))
    assert not isinstance(found, NotEstimable)
    assert found.value[0] == pytest.approx(fit.params[0], rel=1e-12)
    squared = found.covariance[0, 0] / 400
    assert math.sqrt(squared * 399 / 400) == pytest.approx(fit.bse[0], rel=1e-10)


def test_a_constant_denominator_gives_the_mean() -> None:
    table = np.column_stack([rows(300, 1, 1.0)[:, 0], np.full(300, 4.0)])
    other = np.column_stack([rows(200, 900, 1.0)[:, 0], np.full(200, 4.0)])
    one, base = (Moments.of(("y", "z"), each) for each in (table, other))
    ratio = fixed(one, base, Ratio("y", "z"))
    mean = contrast.fixed(
        contrast.of_means(one.sample("y"), base.sample("y")), alpha=0.05, single_look=True
    )
    assert isinstance(mean, Estimate)
    assert ratio.value == pytest.approx(mean.value / 4, rel=1e-12)
    assert ratio.std_error == pytest.approx(mean.std_error / 4, rel=1e-12)
    assert ratio.p_value == pytest.approx(mean.p_value, rel=1e-9)


@pytest.mark.golden("statsmodels 0.15: WLS, clustered errors")
def test_hillstrom_revenue_per_visit(shared_data: Path) -> None:
    # spend over visits, errors from statsmodels WLS per visit, clustered by customer
    table = pd.read_csv(shared_data / "hillstrom" / "hillstrom.csv")
    sides, fits = [], []
    for segment in ("Mens E-Mail", "No E-Mail"):
        part = table[table["segment"] == segment]
        values = part[["spend", "visit"]].to_numpy(float)
        sides.append(Moments.of(("spend", "visit"), values))
        visits = values[values[:, 1] > 0]
        fits.append(sm.OLS(visits[:, 0], np.ones(len(visits))).fit(cov_type="HC0"))
    found = fixed(sides[0], sides[1], Ratio("spend", "visit"))
    assert found.value == pytest.approx(fits[0].params[0] - fits[1].params[0], rel=1e-10)
    # over all n customers: the HC0 sum times n / (n - 1)
    error = math.hypot(*(f.bse[0] for f in fits))
    assert found.std_error == pytest.approx(error, rel=5e-5)


def test_anytime_is_the_same_contrast_with_a_wider_multiplier() -> None:
    subject = ratio_metrics.difference(T, C, METRIC)
    found = contrast.anytime(subject, alpha=0.05, planned_n=5500, burn_in=None)
    assert isinstance(found, Estimate)
    assert found.method == "anytime-ratio"
    assert found.value == fixed(T, C).value
    half = (ends(found)[1] - ends(found)[0]) / 2
    assert half == pytest.approx(3.035209 * found.std_error, rel=1e-6)


def test_swapping_scaling_merging_and_order() -> None:
    forward, backward = fixed(T, C), fixed(C, T)
    assert forward.value == -backward.value
    assert forward.p_value == pytest.approx(backward.p_value, rel=1e-12)
    scale = np.ones(6)
    scale[0] = 1000.0
    scaled = fixed(
        Moments.of(COLUMNS, rows(3000, 1, 1.05) * scale),
        Moments.of(COLUMNS, rows(2500, 50_000, 1.0) * scale),
    )
    assert scaled.value == pytest.approx(1000 * forward.value, rel=1e-10)
    assert scaled.relative == pytest.approx(forward.relative, rel=1e-10)
    table = rows(3000, 1, 1.05)[::-1]
    merged = Moments.of(COLUMNS, table[:100]) + Moments.of(COLUMNS, table[100:])
    assert fixed(merged, C).value == pytest.approx(forward.value, rel=1e-12)
    assert fixed(merged, C).std_error == pytest.approx(forward.std_error, rel=1e-11)


def test_fieller_per_variant_and_mover_tend_to_the_delta_method() -> None:
    found = ratio_metrics.mover(T, C, METRIC, alpha=0.05, single_look=True)
    delta = fixed(T, C)
    assert isinstance(found, Estimate)
    assert ends(found) == pytest.approx(ends(delta), abs=2e-3)
    assert found.std_error == pytest.approx(delta.std_error, rel=2e-3)
    assert found.p_value == pytest.approx(delta.p_value, rel=0.1)
    assert isinstance(found.relative, NotEstimable)


def test_mover_p_value_and_interval_agree() -> None:
    base = Moments.of(COLUMNS, rows(2500, 50_000, 1.02))
    found = ratio_metrics.mover(T, base, METRIC, alpha=0.05, single_look=True)
    assert isinstance(found, Estimate)
    assert isinstance(found.p_value, float)
    at = ratio_metrics.mover(T, base, METRIC, alpha=found.p_value, single_look=True)
    assert isinstance(at, Estimate)
    assert min(map(abs, ends(at))) == pytest.approx(0, abs=1e-6)


def column(*values: tuple[float, float]) -> Moments:
    return Moments.of(("y", "z"), np.array(values, dtype=float).reshape(-1, 2))


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (column(), "too-few-units"),
        (column((1, 1)), "too-few-units"),
        (column((1, 0), (2, 0), (3, 0)), "zero-denominator"),
        (column((1, 5), (2, -5), (3, 1)), "weak-denominator"),
        (column((math.nan, 1), (1, 1), (1, 2)), "not-finite"),
    ],
)
def test_degenerate_input_has_a_reason(one: Moments, reason: str) -> None:
    good = column((1, 10), (2, 11), (3, 10))
    for pair in ((one, good), (good, one)):
        found = ratio_metrics.difference(*pair, Ratio("y", "z"))
        assert isinstance(found, NotEstimable)
        assert found.reason == reason


def test_impossible_moments_have_a_reason() -> None:
    good = column((1, 10), (2, 11), (3, 10))
    broken = Moments(
        good.columns, 3, good.mean, np.array([[-1.0, 0], [0, 1]]), good.m3, good.nonzero
    )
    found = ratio_metrics.difference(broken, good, Ratio("y", "z"))
    assert isinstance(found, NotEstimable)
    assert found.reason == "invalid-moments"


def test_everybody_on_the_common_ratio_has_no_variance() -> None:
    one = column((2, 10), (4, 20), (3, 15))
    found = ratio_metrics.difference(one, one, Ratio("y", "z"))
    assert isinstance(found, NotEstimable)
    assert found.reason == "no-variance"
    weak = column((1, 5), (2, -5), (3, 1))
    refused = ratio_metrics.mover(weak, one, Ratio("y", "z"), alpha=0.05, single_look=True)
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "unbounded"


def draw(rng: np.random.Generator, n: int, mean: float, ratio: float, noise: float) -> FloatArray:
    """Draw skewed denominators and numerators correlated with them."""
    z = rng.exponential(mean, n)
    return np.column_stack([ratio * z + noise * rng.standard_normal(n) * np.sqrt(z), z])


@pytest.mark.slow
@pytest.mark.parametrize(("n", "method"), [(400, "delta"), (30, "mover"), (12, "mover")])
def test_coverage(n: int, method: str) -> None:
    # 3,000 replications: standard error of 95 % is 0.004; at 30 and 12 units the denominator is
    # weak (5.5 and 3.5 standard errors), where the delta method is refused. Fieller's limits
    # need normal means, which exponential ones of 12 units are not quite.
    rng = np.random.default_rng(41)
    hits = total = 0
    for _ in range(3000):
        one = Moments.of(("y", "z"), draw(rng, n, 1.0, 1.2, 1.0))
        base = Moments.of(("y", "z"), draw(rng, n, 1.5, 1.0, 1.0))
        found: Estimate | NotEstimable
        if method == "delta":
            subject = ratio_metrics.difference(one, base, Ratio("y", "z"))
            assert isinstance(subject, Contrast)
            found = contrast.fixed(subject, alpha=0.05, single_look=True)
        else:
            found = ratio_metrics.mover(one, base, Ratio("y", "z"), alpha=0.05, single_look=True)
        if isinstance(found, NotEstimable):
            assert found.reason == "unbounded"
            continue
        total += 1
        low, high = ends(found)
        hits += low <= 0.2 <= high
    assert total > 2800
    assert 0.935 <= hits / total <= 0.975
