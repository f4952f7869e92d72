"""CUPED and Lin against statsmodels, gbstats, tea-tasting, Hillstrom, and by simulation."""

import math
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from klartext.analysis import adjustment, contrast
from klartext.analysis.adjustment import Adjusted
from klartext.analysis.contrast import Contrast
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.ratio_metrics import Quantity, Ratio
from tests.analysis.golden.units import COLUMNS, rows

ROWS, BASE = rows(3000, 1, 1.05), rows(2500, 50_000, 1.0)
T, C = Moments.of(COLUMNS, ROWS), Moments.of(COLUMNS, BASE)
PLACES = (2, 4, 3)
COVARIATES = tuple(COLUMNS[place] for place in PLACES)


def found(result: Adjusted | NotEstimable) -> Adjusted:
    assert isinstance(result, Adjusted)
    return result


def fixed(result: Adjusted | NotEstimable) -> Estimate:
    estimate = contrast.fixed(found(result).contrast, alpha=0.05, single_look=True)
    assert isinstance(estimate, Estimate)
    return estimate


def ends(estimate: Estimate) -> tuple[float, float]:
    assert isinstance(estimate.interval, Interval)
    return estimate.interval.lower, estimate.interval.upper


def interacted(places: tuple[int, ...]) -> Any:
    """Fit revenue on treatment, centred covariates and their products."""
    table = np.vstack([ROWS, BASE])
    is_treatment = np.repeat([1.0, 0.0], [len(ROWS), len(BASE)])
    x = table[:, places] - table[:, places].mean(axis=0)
    design = np.column_stack([np.ones(len(table)), is_treatment, x, is_treatment[:, None] * x])
    return sm.OLS(table[:, 0], design)


def test_cuped_by_hand() -> None:
    # T: (y, x) = (3, 1) (5, 3), C: (1, 0) (2, 2). merged: x 1 3 0 2, mean 1.5, Sxx 5;
    # y 3 5 1 2, mean 2.75, Sxy = -0.5·0.25 + 1.5·2.25 + 1.5·1.75 + 0.5·(-0.75) = 5.5;
    # theta 1.1; difference 2.5 - 1.1 = 1.4; y - theta x: T 1.9 1.7, C 1.0 -0.2:
    # variances 0.02 and 0.72, squared error 0.37
    one = Moments.of(("y", "x"), np.array([[3.0, 1], [5, 3]]))
    base = Moments.of(("y", "x"), np.array([[1.0, 0], [2, 2]]))
    refused = adjustment.cuped(one, base, "y", ["x"])
    assert isinstance(refused, NotEstimable)  # two units and one covariate: three are needed
    double = [m + m for m in (one, base)]  # the same numbers, variances times 2·(1/3)/(1/1)
    result = found(adjustment.cuped(double[0], double[1], "y", ["x"]))
    assert result.contrast.value == pytest.approx(1.4, rel=1e-12)
    assert result.contrast.variance == pytest.approx(0.37 / 3, rel=1e-12)


@pytest.mark.golden("gbstats 0.8.0 and tea-tasting 1.14.0: CUPED, one covariate")
def test_cuped_equals_gbstats_and_tea_tasting() -> None:
    # golden/with_gbstats.py (0.8.0), golden/with_tea_tasting.py (1.14.0)
    estimate = fixed(adjustment.cuped(T, C, "revenue", ["before_revenue"]))
    assert estimate.value == pytest.approx(4.0898639738048175, rel=1e-11)
    assert estimate.std_error == pytest.approx(1.190030766061121, rel=1e-11)
    assert estimate.p_value == pytest.approx(0.000593124845612497, rel=1e-9)
    assert ends(estimate) == pytest.approx((1.7569245048812472, 6.422803442728743), rel=1e-10)
    assert estimate.relative == pytest.approx(0.047821691235711006, rel=1e-10)


@pytest.mark.golden("tea-tasting 1.14.0: CUPED of a ratio of means")
def test_cuped_for_a_ratio_equals_tea_tasting() -> None:
    # golden/with_tea_tasting.py (1.14.0): covariate before_revenue / before_orders
    before = Ratio("before_revenue", "before_orders")
    result = found(adjustment.cuped(T, C, Ratio("revenue", "orders"), [before]))
    estimate = fixed(result)
    assert estimate.value == pytest.approx(1.4496009504758725, rel=1e-11)
    assert ends(estimate) == pytest.approx((0.9737947511211041, 1.9254071498306407), rel=1e-10)
    assert estimate.p_value == pytest.approx(2.4837285707641893e-09, rel=1e-8)
    assert result.unadjusted.method == "ratio"


@pytest.mark.golden("statsmodels 0.15: OLS slopes of the merged rows")
def test_one_slope_equals_regression_on_merged_rows() -> None:
    # theta is the slope of statsmodels OLS of revenue on the covariates, without treatment
    table = np.vstack([ROWS, BASE])
    slopes = sm.OLS(table[:, 0], sm.add_constant(table[:, PLACES])).fit().params[1:]
    adjusted = [side[:, 0] - side[:, PLACES] @ slopes for side in (ROWS, BASE)]
    result = found(adjustment.cuped(T, C, "revenue", COVARIATES))
    assert result.contrast.value == pytest.approx(adjusted[0].mean() - adjusted[1].mean(), rel=1e-9)
    variance = sum(side.var(ddof=1) / len(side) for side in adjusted)
    assert result.contrast.variance == pytest.approx(variance, rel=1e-9)
    plain = sum(side[:, 0].var(ddof=1) / len(side) for side in (ROWS, BASE))
    assert result.variance_removed == pytest.approx(1 - variance / plain, rel=1e-9)


@pytest.mark.golden("statsmodels 0.15: OLS with interactions")
@pytest.mark.parametrize("places", [(2,), (2, 4), PLACES])
def test_lin_equals_the_interacted_regression(places: tuple[int, ...]) -> None:
    fit = interacted(places).fit()
    result = found(adjustment.lin(T, C, "revenue", [COLUMNS[place] for place in places]))
    assert result.contrast.value == pytest.approx(fit.params[1], rel=1e-10)
    assert result.contrast.control == pytest.approx(fit.params[0], rel=1e-10)


@pytest.mark.golden("statsmodels 0.15: OLS get_prediction of each variant")
@pytest.mark.parametrize("places", [(2,), (2, 4), PLACES])
def test_lin_variance_is_two_predictions_and_the_error_of_their_place(
    places: tuple[int, ...],
) -> None:
    # statsmodels: squared se_mean of each variant's own OLS at the common mean of covariates,
    # plus (bT - bC)' Sx (bT - bC) / n, which no HC variance of the regression has
    centre = np.vstack([ROWS, BASE])[:, places].mean(axis=0)
    total, slopes = 0.0, []
    for side in (ROWS, BASE):
        fit = sm.OLS(side[:, 0], sm.add_constant(side[:, places])).fit()
        total += fit.get_prediction(np.append(1.0, centre)[None, :]).se_mean[0] ** 2
        slopes.append(fit.params[1:])
    n = len(ROWS) + len(BASE)
    spread = sum(len(s) * np.cov(s[:, places].T) for s in (ROWS, BASE)) / n
    gap = slopes[0] - slopes[1]
    total += float(gap @ np.atleast_2d(spread) @ gap) / n
    result = found(adjustment.lin(T, C, "revenue", [COLUMNS[place] for place in places]))
    assert result.contrast.variance == pytest.approx(total, rel=1e-9)


@pytest.mark.golden("statsmodels 0.15: OLS HC2 and HC3")
@pytest.mark.parametrize(("kind", "tolerance"), [("HC2", 1.5e-3), ("HC3", 3e-3)])
def test_lin_variance_against_heteroscedasticity_consistent_ones(
    kind: str, tolerance: float
) -> None:
    # HC2 and HC3 allow the residual variance to move with x, which changes terms of order
    # 1/n^2 only, and leave out the error of the common mean; HC3 is larger than unbiased by
    # about (p + 1)/n = 4/2500
    fit = interacted(PLACES).fit(cov_type=kind)
    result = found(adjustment.lin(T, C, "revenue", COVARIATES)).contrast
    own = [sm.OLS(s[:, 0], sm.add_constant(s[:, PLACES])).fit() for s in (ROWS, BASE)]
    gap = own[0].params[1:] - own[1].params[1:]
    n = len(ROWS) + len(BASE)
    spread = sum(len(s) * np.cov(s[:, PLACES].T) for s in (ROWS, BASE)) / n
    without = result.variance - float(gap @ spread @ gap) / n
    assert without == pytest.approx(fit.bse[1] ** 2, rel=tolerance)


@pytest.mark.golden("statsmodels 0.15: OLS residual variance")
def test_lin_with_equal_slopes_is_the_classical_analysis_of_covariance() -> None:
    # the same units in both variants, shifted: slopes are equal, the error of the mean is 0
    shifted = BASE.copy()
    shifted[:, 0] += 7
    result = found(
        adjustment.lin(Moments.of(COLUMNS, shifted), C, "revenue", ["before_revenue", "age"])
    )
    assert result.contrast.value == pytest.approx(7, rel=1e-10)
    fit = sm.OLS(BASE[:, 0], sm.add_constant(BASE[:, (2, 4)])).fit()
    assert result.contrast.variance == pytest.approx(2 * fit.mse_resid / len(BASE), rel=1e-9)


@pytest.mark.golden("README of the shared data: Hillstrom, by scipy and statsmodels")
@pytest.mark.parametrize(
    ("segment", "value", "share"),
    [("Mens E-Mail", 0.767438, 0.000434), ("Womens E-Mail", 0.422701, 0.000378)],
)
def test_hillstrom(shared_data: Path, segment: str, value: float, share: float) -> None:
    # values in the README of the shared data; the share removed is the squared correlation
    table = pd.read_csv(shared_data / "hillstrom" / "hillstrom.csv")
    names = ("spend", "history")
    one, base = (
        table.loc[table["segment"] == key, list(names)].to_numpy(float)
        for key in (segment, "No E-Mail")
    )
    result = found(
        adjustment.cuped(Moments.of(names, one), Moments.of(names, base), "spend", ["history"])
    )
    assert result.contrast.value == pytest.approx(value, abs=6e-7)
    assert result.variance_removed == pytest.approx(share, abs=6e-7)
    both = np.vstack([one, base])
    assert share == pytest.approx(np.corrcoef(both.T)[0, 1] ** 2, rel=0.1)
    assert result.variance_removed < 0.001  # so little that a tool must say so


@pytest.mark.slow
def test_joint_error_of_the_levels_against_the_bootstrap() -> None:
    # 4,000 bootstrap resamples, seeded: a standard deviation is right to 1.1 %
    rng = np.random.default_rng(9)
    one, base = ROWS[:600], BASE[:400]
    names: list[Quantity] = ["before_revenue", "age"]
    result = found(
        adjustment.lin(Moments.of(COLUMNS, one), Moments.of(COLUMNS, base), "revenue", names)
    )
    draws = np.empty((4000, 2))
    for place in range(4000):
        # n of each variant is random given the whole, but fixed here as in the formula
        a = one[rng.integers(0, 600, 600)]
        b = base[rng.integers(0, 400, 400)]
        each = adjustment.lin(Moments.of(COLUMNS, a), Moments.of(COLUMNS, b), "revenue", names)
        draws[place] = found(each).contrast.treatment, found(each).contrast.control
    var_treatment, var_control, covariance = result.contrast.covariance
    truth = np.cov(draws.T)
    assert math.sqrt(var_treatment) == pytest.approx(math.sqrt(truth[0, 0]), rel=0.045)
    assert math.sqrt(var_control) == pytest.approx(math.sqrt(truth[1, 1]), rel=0.045)
    assert covariance == pytest.approx(truth[0, 1], abs=0.06 * math.sqrt(truth[0, 0] * truth[1, 1]))
    lift = draws[:, 0] / draws[:, 1]
    _, region = contrast.log_ratio(result.contrast, multiplier=1.0, level=0.68)
    assert isinstance(region, Interval)
    assert (region.upper - region.lower) / 2 == pytest.approx(lift.std(), rel=0.045)


def test_an_irrelevant_covariate_may_cost() -> None:
    rng = np.random.default_rng(15)
    table = rng.standard_normal((60, 7))
    columns = ("y", *"abcdef")
    one, base = Moments.of(columns, table[:30]), Moments.of(columns, table[30:])
    result = found(adjustment.lin(one, base, "y", tuple("abcdef")))
    assert result.variance_removed < 0


@pytest.mark.parametrize("method", [adjustment.cuped, adjustment.lin])
def test_constant_and_collinear_covariates_are_dropped_with_a_reason(method: Any) -> None:
    extra = [
        np.column_stack([side, 2 * side[:, 2] - side[:, 4] + 5, np.full(len(side), 0.1)])
        for side in (ROWS, BASE)
    ]
    names = (*COLUMNS, "sum", "constant")
    one, base = (Moments.of(names, side) for side in extra)
    plain = found(method(one, base, "revenue", ["before_revenue", "age"]))
    result = found(method(one, base, "revenue", ["before_revenue", "age", "sum", "constant"]))
    assert result.used == ("before_revenue", "age")
    assert result.dropped == (("sum", "collinear"), ("constant", "constant"))
    assert result.contrast == plain.contrast
    refused = method(one, base, "revenue", ["constant"])
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "no-covariate"
    assert "constant" in refused.detail


@pytest.mark.parametrize("method", [adjustment.cuped, adjustment.lin])
def test_order_of_covariates_units_and_merging_do_not_matter(method: Any) -> None:
    first = found(method(T, C, "revenue", COVARIATES)).contrast
    for order in permutations(COVARIATES):
        other = found(method(T, C, "revenue", order)).contrast
        assert other.value == pytest.approx(first.value, rel=1e-9)
        assert other.variance == pytest.approx(first.variance, rel=1e-9)
    parts = ROWS[::-1]
    merged = Moments.of(COLUMNS, parts[:17]) + Moments.of(COLUMNS, parts[17:])
    other = found(method(merged, C, "revenue", COVARIATES)).contrast
    assert other.value == pytest.approx(first.value, rel=1e-9)
    assert other.variance == pytest.approx(first.variance, rel=1e-9)


def scaled(side: FloatArray, factors: list[float], shift: list[float]) -> Moments:
    return Moments.of(COLUMNS, side * np.array(factors) + np.array(shift))


@pytest.mark.parametrize("method", [adjustment.cuped, adjustment.lin])
@given(st.floats(1e-4, 1e4), st.floats(1e-4, 1e4), st.floats(-1e3, 1e3))
def test_units_of_measurement_do_not_matter(
    method: Any, money: float, size: float, origin: float
) -> None:
    factors = [money, 1.0, size, 1.0, -size, 1.0]
    shift = [0.0, 0.0, origin * size, 0.0, 0.0, 0.0]
    moved = method(
        scaled(ROWS[:200], factors, shift),
        scaled(BASE[:150], factors, shift),
        "revenue",
        COVARIATES,
    )
    plain = method(
        Moments.of(COLUMNS, ROWS[:200]), Moments.of(COLUMNS, BASE[:150]), "revenue", COVARIATES
    )
    one, other = found(moved).contrast, found(plain).contrast
    assert one.value == pytest.approx(money * other.value, rel=1e-6)
    assert one.std_error == pytest.approx(money * other.std_error, rel=1e-6)


@pytest.mark.parametrize("method", [adjustment.cuped, adjustment.lin])
def test_swapping_the_variants_flips_the_sign(method: Any) -> None:
    forward = found(method(T, C, "revenue", COVARIATES)).contrast
    backward = found(method(C, T, "revenue", COVARIATES)).contrast
    assert backward.value == pytest.approx(-forward.value, rel=1e-9)
    assert backward.variance == pytest.approx(forward.variance, rel=1e-9)
    assert backward.df == pytest.approx(forward.df, rel=1e-9)


def test_anytime_runs_the_same_contrast() -> None:
    result = found(adjustment.lin(T, C, "revenue", COVARIATES))
    estimate = contrast.anytime(result.contrast, alpha=0.05, planned_n=5500, burn_in=None)
    assert isinstance(estimate, Estimate)
    assert estimate.method == "anytime-lin"
    half = (ends(estimate)[1] - ends(estimate)[0]) / 2
    assert half == pytest.approx(3.035209 * result.contrast.std_error, rel=1e-6)


def small(*values: tuple[float, float]) -> Moments:
    return Moments.of(("y", "x"), np.array(values, dtype=float).reshape(-1, 2))


GOOD = small((1, 2), (2, 1), (4, 5), (3, 2), (2, 2))


@pytest.mark.parametrize("method", [adjustment.cuped, adjustment.lin])
@pytest.mark.parametrize(
    ("one", "base", "reason"),
    [
        (small(), GOOD, "too-few-units"),
        (small((1, 1)), GOOD, "too-few-units"),
        (small((1, 1), (2, 3)), GOOD, "too-few-units"),
        (small((1, math.nan), (2, 3), (2, 2)), GOOD, "not-finite"),
        (small((1, 1), (1, 2), (1, 4)), small((1, 1), (1, 2), (1, 3)), "no-variance"),
        (small((1, 3), (2, 3), (4, 3)), small((1, 3), (0, 3), (1, 3)), "no-covariate"),
    ],
)
def test_degenerate_input_has_a_reason(
    method: Any, one: Moments, base: Moments, reason: str
) -> None:
    for pair in ((one, base), (base, one)):
        refused = method(*pair, "y", ["x"])
        assert isinstance(refused, NotEstimable)
        assert refused.reason == reason


@pytest.mark.parametrize("method", [adjustment.cuped, adjustment.lin])
def test_impossible_covariances_have_a_reason(method: Any) -> None:
    m2 = GOOD.m2.copy()
    m2[0, 1] = m2[1, 0] = 5 * math.sqrt(m2[0, 0] * m2[1, 1])
    broken = Moments(GOOD.columns, GOOD.n, GOOD.mean, m2, GOOD.m3, GOOD.nonzero)
    refused = method(broken, broken, "y", ["x"])
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "invalid-moments"


@pytest.mark.parametrize("method", [adjustment.cuped, adjustment.lin])
def test_a_covariate_that_explains_everything_leaves_no_error(method: Any) -> None:
    one, base = small((2, 1), (4, 2), (6, 3)), small((0, 0), (2, 1), (8, 4))
    result = found(method(one, base, "y", ["x"]))
    assert result.variance_removed == pytest.approx(1, abs=1e-12)
    refused = contrast.fixed(result.contrast, alpha=0.05, single_look=True)
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "no-variance"


def test_mistakes_of_the_caller_raise() -> None:
    with pytest.raises(ValueError, match="covariate"):
        adjustment.lin(GOOD, GOOD, "y", [])
    with pytest.raises(ValueError, match="not in"):
        adjustment.cuped(GOOD, GOOD, "y", ["z"])


def covers(subject: Contrast, truth: float) -> tuple[bool, bool]:
    """Whether the fixed interval is wholly below, and wholly above the truth."""
    estimate = contrast.fixed(subject, alpha=0.05, single_look=True)
    assert isinstance(estimate, Estimate)
    low, high = ends(estimate)
    return high < truth, low > truth


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(60, 60), (300, 1500), (1500, 300)])
@pytest.mark.parametrize("method", [adjustment.cuped, adjustment.lin])
def test_coverage_with_different_slopes(method: Any, n: int, m: int) -> None:
    # the effect moves with x (slopes 3 and 1), x is skewed, residuals differ: 4,000
    # replications, standard error 0.0034. Without the error of the common mean Lin's variance
    # would be short by 4 Var(x)/(n + m) of about 9/n + 2/m: a tenth at equal sizes.
    rng = np.random.default_rng(100 * n + m)
    below = above = 0
    for _ in range(4000):
        x, z = rng.gamma(4.0, 0.5, n), rng.gamma(4.0, 0.5, m)
        one = np.column_stack([1 + 3 * x + 2 * rng.standard_normal(n), x])
        base = np.column_stack([2 + 1 * z + rng.standard_normal(m), z])
        result = found(
            method(Moments.of(("y", "x"), one), Moments.of(("y", "x"), base), "y", ["x"])
        )
        left, right = covers(result.contrast, 3.0)
        below, above = below + left, above + right
    assert 1 - (below + above) / 4000 == pytest.approx(0.95, abs=4 * 0.0034)
