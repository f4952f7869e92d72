"""Baselines against NumPy and statsmodels, and as somebody types them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm

from klartext.analysis.baseline import Given, from_given, from_moments
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.outcome import Outcome
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Covariate, Metric
from tests.analysis.samples import CONVERSION, DAY, REVENUE, experiment

COUNT = Metric("orders", "count", "purchase", None, 14 * DAY, "increase")
RATIO = Metric(
    "basket", "ratio", None, None, 0 * DAY, "increase", numerator="revenue", denominator="orders"
)


def moments(seed: int = 1) -> tuple[Moments, np.ndarray]:
    rng = np.random.default_rng(seed)
    before = rng.exponential(20, 400)
    revenue = 0.7 * before + rng.exponential(10, 400)
    orders = rng.poisson(1.4, 400).astype(float)
    rows = np.column_stack([revenue, orders, before])
    return Moments.of(("revenue", "orders", "revenue.before.672h"), rows), rows


def outcome(found: Outcome | NotEstimable) -> Outcome:
    assert isinstance(found, Outcome)
    return found


def test_mean_count_and_ratio_are_those_of_numpy() -> None:
    found, rows = moments()
    revenue, orders = rows[:, 0], rows[:, 1]
    spec = experiment(metrics=(REVENUE, COUNT, RATIO))
    mean = outcome(from_moments(spec, REVENUE, found).outcome)
    assert (mean.mean, mean.variance) == pytest.approx((revenue.mean(), revenue.var(ddof=1)))
    count = outcome(from_moments(spec, COUNT, found).outcome)
    assert count.nonzero_rate == pytest.approx((orders > 0).mean())
    ratio = outcome(from_moments(spec, RATIO, found).outcome)
    linear = (revenue - revenue.mean() / orders.mean() * orders) / orders.mean()
    assert ratio.mean == pytest.approx(revenue.mean() / orders.mean())
    assert ratio.variance == pytest.approx(linear.var(ddof=1))


@pytest.mark.golden("statsmodels 0.15: OLS rsquared_adj")
def test_variance_removed_is_the_adjusted_r_squared_of_statsmodels() -> None:
    found, rows = moments()
    metric = replace(REVENUE, covariates=(Covariate(lookback=28 * DAY),))
    baseline = from_moments(experiment(metrics=(metric,)), metric, found)
    fitted = sm.OLS(rows[:, 0], sm.add_constant(rows[:, 2])).fit()
    assert baseline.removed == pytest.approx(fitted.rsquared_adj, abs=2e-5)
    assert baseline.variance_factor == pytest.approx(1 - fitted.rsquared_adj, abs=2e-5)
    assert baseline.covariates == ("revenue.before.672h",)


def test_a_constant_covariate_removes_nothing_and_says_so() -> None:
    rows = np.column_stack([np.arange(9.0), np.zeros(9)])
    metric = replace(REVENUE, covariates=(Covariate(lookback=28 * DAY),))
    found = from_moments(
        experiment(metrics=(metric,)), metric, Moments.of(("revenue", "revenue.before.672h"), rows)
    )
    assert isinstance(found.removed, NotEstimable)
    assert found.variance_factor == 1


def test_nobody_converted() -> None:
    found = from_moments(experiment(), CONVERSION, Moments.of(("conversion",), np.zeros((9, 1))))
    assert isinstance(found.outcome, NotEstimable)


def test_typed_numbers() -> None:
    rate = from_given("conversion", Given(0.06, removed=0.25), metric=CONVERSION)
    assert outcome(rate.outcome).variance == pytest.approx(0.06 * 0.94)
    assert rate.variance_factor == 0.75
    mean = from_given("revenue", Given(-3.2, sd=11, nonzero=0.06), metric=REVENUE)
    assert outcome(mean.outcome) == Outcome("mean", -3.2, 121, nonzero_rate=0.06)
    assert outcome(from_given("b", Given(3, sd=2), metric=RATIO).outcome).kind == "ratio"
    assert mean.given


@pytest.mark.parametrize(
    ("given", "metric", "says"),
    [
        (Given(1.2), CONVERSION, "between 0% and 100%"),
        (Given(0.0), CONVERSION, "between 0% and 100%"),
        (Given(0.1, sd=2), CONVERSION, "one number"),
        (Given(3.2), REVENUE, "needs the standard deviation"),
        (Given(3.2, sd=0), REVENUE, "without variation"),
        (Given(3.2, sd=-1), None, "above 0"),
        (Given(-1, sd=2), COUNT, "not negative"),
        (Given(3.2, sd=1, nonzero=0), REVENUE, "nonzero"),
        (Given(3.2, sd=1, removed=1), REVENUE, "removed"),
        (Given(float("inf"), sd=1), REVENUE, "finite"),
    ],
)
def test_typed_nonsense_is_refused(given: Given, metric: Metric | None, says: str) -> None:
    with pytest.raises(KlartextError, match=says):
        from_given("x", given, metric=metric)
