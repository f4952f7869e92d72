"""Baselines against NumPy and statsmodels, and as somebody types them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import statsmodels.api as sm

from klartext.analysis import quantile_metrics
from klartext.analysis.baseline import Given, from_given, from_moments, from_observations
from klartext.analysis.comparison import Anytime, Comparison, Fixed, GroupSequential, Mode
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.look import Look
from klartext.analysis.moments import Moments
from klartext.analysis.outcome import Outcome
from klartext.analysis.planning import Plan, detectable
from klartext.analysis.quantiles import Observations, Quantile, quantile
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


def calls(rng: np.random.Generator, units: int) -> Observations:
    """Waiting times of 1 to 3 calls of a unit, its own speed in each; every fifth has none."""
    keys = np.repeat(np.arange(units), rng.integers(1, 4, units))
    speed = rng.lognormal(0, 0.5, units)
    seen = keys % 5 > 0
    return Observations.of((speed[keys] * rng.exponential(1, len(keys)))[seen], keys[seen])


def test_the_variance_of_a_quantile_is_its_known_limit() -> None:
    # q (1 - q) / f^2: uniform on (0, 10) f = 1/10; exponential with mean 10 f = (1 - q) / 10
    middles = (np.arange(200_000) + 0.5) / 200_000
    for draw, q, limit in (
        (10 * middles, 0.5, 0.25 * 100),
        (-10 * np.log1p(-middles), 0.9, 0.9 / 0.1 * 100),
    ):
        found = outcome(from_observations(Observations.of(draw), q, units=400_000))
        # half of the units have an observation: twice the variance per unit; 526 ranks at the 90 %
        assert found.variance == pytest.approx(2 * limit, rel=5e-3)
        assert (found.nonzero_rate, found.quantile) == (0.5, q)


def test_a_plan_of_a_quantile_is_the_error_the_analysis_finds_at_that_size() -> None:
    rng = np.random.default_rng(6)
    history = outcome(from_observations(calls(rng, 400_000), 0.9, units=400_000))
    drawn = [quantile(calls(rng, 4000), 0.9) for _ in range(300)]
    known = [one for one in drawn if isinstance(one, Quantile)]
    assert len(known) == 300
    planned = np.sqrt(history.variance / 4000)
    # relative standard errors: 1 / sqrt(2 * 1.96 sqrt(640,000 q (1 - q))) = 3.3 % of the planned
    # error, 4.1 % of the spread of 300 draws; three of these
    assert np.mean([one.variance for one in known]) ** 0.5 == pytest.approx(planned, rel=0.1)
    assert np.std([one.value for one in known]) == pytest.approx(planned, rel=0.16)


def test_a_quantile_is_shown_as_often_as_planned_in_every_mode() -> None:
    # exponential calls, one a unit; fixed by the normal interval, the others by the sequence
    rng = np.random.default_rng(7)
    repeats, q = 300, 0.5
    measured = Outcome("quantile", np.log(2), 1.0, nonzero_rate=1.0, quantile=q)
    modes: tuple[tuple[Mode, Look], ...] = (
        (Fixed(), Look("fixed", 4000, deciding=True)),
        (GroupSequential("pocock", (0.5, 1.0)), Look("group_sequential", 4000, deciding=True)),
        (Anytime((0.3, 0.6, 1.0)), Look("anytime", 4000, deciding=True)),
    )
    for mode, look in modes:
        comparison = Comparison(measured, (0.4, 0.6), mode, 0.05)
        found = detectable(comparison, total_units=4000, power=0.7)
        assert isinstance(found, Plan)
        shown = 0
        for _ in range(repeats):
            treated = found.effect + rng.exponential(1, 1600)
            control = rng.exponential(1, 2400)
            for fraction in (1.0,) if isinstance(mode, Fixed) else mode.fractions:
                read = quantile_metrics.difference(
                    look,
                    Observations.of(treated[: round(1600 * fraction)]),
                    Observations.of(control[: round(2400 * fraction)]),
                    q,
                    alpha=0.05,
                )
                assert isinstance(read, Estimate)
                assert isinstance(read.interval, Interval)
                if read.interval.lower > 0:
                    shown += 1
                    break
        # three standard errors of a share of 300, and 4 % for the limit
        assert shown / repeats == pytest.approx(0.7, abs=3 * (0.21 / repeats) ** 0.5 + 0.04)


def test_typed_quantiles_and_calls() -> None:
    median = replace(REVENUE, key="median", kind="quantile", quantile=Decimal("0.5"))
    assert from_given("median", Given(7, sd=2), metric=median).outcome == Outcome(
        "quantile", 7, 4, quantile=0.5
    )
    for bad, message in ((Given(7), "needs the standard"), (Given(7, 2, None, 0.1), "covariates")):
        with pytest.raises(KlartextError, match=message):
            from_given("median", bad, metric=median)
