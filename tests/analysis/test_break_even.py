"""Break-even lift and cost of the test, by hand and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.analysis.break_even import BreakEven, break_even, cost_of_test
from klartext.analysis.estimate import NotEstimable


def test_by_hand() -> None:
    # 50,000 units at 3 cents plus 1,000 fixed cost 2,500, so 5 cents each; 2.5 % of 2 euros.
    # With half of the rise staying it has to be twice as large.
    found = break_even(
        baseline_margin=2.0, cost_per_unit=0.03, fixed_cost=1000, treated_units=50_000
    )
    assert isinstance(found, BreakEven)
    assert (found.margin_per_unit, found.cost) == pytest.approx((0.05, 2500))
    assert found.relative_lift == pytest.approx(0.025)
    half = break_even(
        baseline_margin=2.0, cost_per_unit=0.03, fixed_cost=1000, treated_units=50_000,
        persistence=0.5, cost_persistence=2.0,
    )  # fmt: skip
    assert isinstance(half, BreakEven)
    assert half.margin_per_unit == pytest.approx((0.06 + 0.02) / 0.5)


@given(st.floats(0, 10), st.floats(0, 1e6), st.floats(1, 1e7), st.floats(0.01, 1), st.floats(0, 3))
def test_the_decision_view_is_zero_there(
    cost: float, fixed: float, units: float, persistence: float, factor: float
) -> None:
    found = break_even(
        baseline_margin=3.0, cost_per_unit=cost, fixed_cost=fixed, treated_units=units,
        persistence=persistence, cost_persistence=factor,
    )  # fmt: skip
    assert isinstance(found, BreakEven)
    benefit = units * (persistence * found.margin_per_unit - factor * cost) - fixed
    assert benefit == pytest.approx(0, abs=1e-9 * (found.cost + 1))


def test_what_cannot_break_even() -> None:
    gone = break_even(
        baseline_margin=2.0, cost_per_unit=0.1, fixed_cost=0, treated_units=10, persistence=0
    )
    assert isinstance(gone, NotEstimable)
    assert gone.reason == "no-persistence"
    loss = break_even(baseline_margin=-1.0, cost_per_unit=0.1, fixed_cost=0, treated_units=10)
    assert isinstance(loss, BreakEven)
    assert isinstance(loss.relative_lift, NotEstimable)
    with pytest.raises(ValueError, match="units"):
        break_even(baseline_margin=1.0, cost_per_unit=0.1, fixed_cost=0, treated_units=0)
    with pytest.raises(ValueError, match="finite"):
        break_even(baseline_margin=math.nan, cost_per_unit=0.1, fixed_cost=0, treated_units=1)


@pytest.mark.parametrize(
    ("effect", "forgone"), [(0.5, 1000 * 0.7 * 0.5), (-0.5, 1000 * 0.3 * 0.5), (0.0, 0.0)]
)
def test_cost_with_a_known_effect_by_hand(effect: float, forgone: float) -> None:
    # 300 of 1,000 units treated: 700 miss a gain, or 300 bear a loss
    found = cost_of_test(
        total_units=1000, treatment_share=0.3, cost_per_unit=0.2, running_cost=40,
        effect_mean=effect, effect_sd=0,
    )  # fmt: skip
    assert found.ai_cost == pytest.approx(60)
    assert found.forgone == pytest.approx(forgone)
    assert found.total == pytest.approx(40 + forgone)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.4), (0.3, 0.4), (-0.6, 0.2)])
def test_forgone_equals_simulation(mean: float, sd: float) -> None:
    found = cost_of_test(
        total_units=1.0, treatment_share=0.5, cost_per_unit=0, running_cost=0,
        effect_mean=mean, effect_sd=sd,
    )  # fmt: skip
    draws = np.random.default_rng(81).normal(mean, sd, 1_000_000)
    lost = np.maximum(0, draws) - 0.5 * draws
    assert found.forgone == pytest.approx(lost.mean(), abs=4 * lost.std() / 1000)
    if mean == 0:
        assert found.forgone == pytest.approx(sd / math.sqrt(2 * math.pi), rel=1e-12)


def test_impossible_costs_are_errors() -> None:
    with pytest.raises(ValueError, match="share"):
        cost_of_test(
            total_units=1, treatment_share=1.2, cost_per_unit=0, running_cost=0,
            effect_mean=0, effect_sd=1,
        )  # fmt: skip
    with pytest.raises(ValueError, match="finite"):
        cost_of_test(
            total_units=math.inf, treatment_share=0.2, cost_per_unit=0, running_cost=0,
            effect_mean=0, effect_sd=1,
        )  # fmt: skip
