"""Ratios of totals. Expected numbers are worked out in the tests."""

from __future__ import annotations

import numpy as np
import pytest

from klartext.analysis.estimate import Interval, NotEstimable, Unbounded
from klartext.analysis.moments import Moments
from klartext.analysis.roi import Totals, cost_per_outcome, per_unit, return_on_cost


def test_roi_with_a_certain_cost_is_the_margin_interval_over_the_cost() -> None:
    totals = Totals(300.0, 100.0, 25.0, 0.0, 0.0)
    value, region = return_on_cost(totals, multiplier=2.0, level=0.95)
    assert value == pytest.approx(2.0)
    assert isinstance(region, Interval)
    assert (region.lower, region.upper) == pytest.approx((1.9, 2.1))


def test_roi_may_be_below_minus_one() -> None:
    value, _ = return_on_cost(Totals(-50.0, 100.0, 1.0, 0.0, 0.0), multiplier=2.0, level=0.95)
    assert value == pytest.approx(-1.5)


@pytest.mark.parametrize("cost", [0.0, -3.0])
def test_there_is_no_roi_without_a_cost(cost: float) -> None:
    value, region = return_on_cost(Totals(1.0, cost, 1.0, 1.0, 0.0), multiplier=2.0, level=0.95)
    assert isinstance(value, NotEstimable)
    assert isinstance(region, NotEstimable)
    assert value.reason == "no-cost"


def test_an_uncertain_cost_leaves_roi_undetermined() -> None:
    _, region = return_on_cost(Totals(1.0, 1.0, 1.0, 1.0, 0.0), multiplier=2.0, level=0.95)
    assert isinstance(region, Unbounded)


def test_without_a_multiplier_there_is_a_value_and_a_reason() -> None:
    missing = NotEstimable("burn-in", "too early")
    value, region = return_on_cost(Totals(3.0, 1.0, 1.0, 0.0, 0.0), multiplier=missing, level=0.9)
    assert value == 2.0
    assert region is missing


@pytest.mark.parametrize("outcomes", [0.0, -1.0])
def test_there_is_no_cost_per_outcome_without_a_gain(outcomes: float) -> None:
    value, region = cost_per_outcome(
        Totals(5.0, outcomes, 0.0, 1.0, 0.0), multiplier=2.0, level=0.95
    )
    assert isinstance(value, NotEstimable)
    assert isinstance(region, NotEstimable)
    assert value.reason == "no-gain"


def test_per_unit_carries_the_joint_covariance() -> None:
    rng = np.random.default_rng(3)
    rows = [rng.normal(size=(n, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]]) for n in (50, 70)]
    one, base = (Moments.of(("a", "b"), values) for values in rows)
    found = per_unit(one, base, "a", "b")
    assert isinstance(found, Totals)
    sampling = np.cov(rows[0].T) / 50 + np.cov(rows[1].T) / 70
    assert found.covariance == pytest.approx(sampling[0, 1])
    assert (found.var_one, found.var_other) == pytest.approx((sampling[0, 0], sampling[1, 1]))


def test_a_constant_column_has_neither_variance_nor_covariance() -> None:
    rng = np.random.default_rng(4)
    rows = np.column_stack([rng.normal(size=1000), np.full(1000, 0.1)])
    moments = Moments.of(("a", "b"), rows)
    found = per_unit(moments, moments, "a", "b")
    assert isinstance(found, Totals)
    assert (found.var_other, found.covariance) == (0.0, 0.0)


def test_one_unit_is_too_few() -> None:
    one = Moments.of(("a", "b"), np.ones((1, 2)))
    assert isinstance(per_unit(one, one, "a", "b"), NotEstimable)
