"""The decision view: twelve months by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from klartext.analysis import posterior
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.look import planned_look
from klartext.analysis.means import welch
from klartext.analysis.projection import decision_view, outlook_of
from klartext.analysis.result import DecisionView
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Costs,
    DecisionRule,
    Experiment,
    Inference,
    Plan,
    Rollout,
    Saving,
    Variant,
)
from tests.analysis.samples import DAY, START, experiment, readout, shop

FIXED = Inference("fixed", Decimal("0.05"), Decimal("0.1"))
ROLLOUT = Rollout(*(Assumption(Decimal(x)) for x in ("500000", "0.8", "0.7", "0.1")))
LINES = (
    CostLine("engineering", "amortised", Assumption(Decimal(24_000)), "ai", life_months=24),
    CostLine("qa", "once", Assumption(Decimal(1000)), None),
    CostLine("monitoring", "month", Assumption(Decimal(250), high=Decimal(400)), "ai"),
    CostLine("licences", "month", Assumption(Decimal(100)), None),
    CostLine("licences", "month", Assumption(Decimal(60)), "control"),
)
SAVING = Saving(
    "copy", Assumption(Decimal(12)), Assumption(Decimal(60)), Assumption(Decimal("0.5")), "ai"
)
SPEC = experiment(
    registration="retrospective",
    inference=FIXED,
    rollout=ROLLOUT,
    costs=Costs(None, None, LINES),
    decision=DecisionRule(Decimal("0.3"), Decimal("0.8"), Decimal(1000), 14 * DAY, None),
)


def view_of(spec: Experiment, *, seed: int = 5, bound: str = "base", n: int = 3000) -> DecisionView:
    rng = np.random.default_rng(seed)
    rows = {
        "control": shop(rng, n, rate=0.1),
        "ai": shop(rng, n, rate=0.13, cost=0.2),
    }
    rows["ai"]["cost_high"] = rows["ai"]["cost"] * 2
    found = readout(spec, rows)
    look = planned_look(spec, "ai", mature=2 * n)
    return decision_view(
        spec,
        found,
        "ai",
        test_months=Fraction(3),
        look=look,
        bound="high" if bound == "high" else "base",
    )


def test_the_horizon_holds_future_avoidable_cost_only() -> None:
    found = outlook_of(SPEC, "ai", mature=10, test_months=Fraction(3))
    assert found.units == 400_000
    assert found.fixed_cost == 12 * (250 + 100)
    assert found.invested == 25_000
    assert found.sunk == 12_000 + 1000
    assert outlook_of(SPEC, "ai", mature=10, test_months=Fraction(3), bound="high").fixed_cost == (
        12 * (400 + 100)
    )


def test_the_controls_cost_ends_when_everybody_gets_the_treatment() -> None:
    whole = replace(SPEC, rollout=replace(ROLLOUT, share=Assumption(Decimal(1))))
    assert outlook_of(whole, "ai", mature=10, test_months=Fraction(3)).fixed_cost == 12 * 290


def test_savings_persist_like_the_margin() -> None:
    spec = replace(SPEC, value=(*SPEC.value, SAVING))
    found = outlook_of(spec, "ai", mature=10, test_months=Fraction(3))
    assert found.savings == pytest.approx(0.7 * 12 * 12 * 60 * 0.5)


@pytest.mark.parametrize(
    ("total", "units"),
    [(40_000, 20_000.0), (None, 10.0)],
)
def test_without_a_rollout_the_test_itself_is_the_horizon(total: int | None, units: float) -> None:
    spec = replace(SPEC, rollout=None, plan=Plan(START, None, total, {}))
    found = outlook_of(spec, "ai", mature=10, test_months=Fraction(3))
    assert (found.units, found.persistence, found.months) == (units, 1.0, 3.0)
    assert found.fixed_cost == 3 * (250 + 100 - 60)
    assert found.sunk == 3000 + 1000


def test_net_benefit_is_the_outlook_column_times_units_minus_fixed_cost() -> None:
    rng = np.random.default_rng(5)
    rows = {"control": shop(rng, 3000, rate=0.1), "ai": shop(rng, 3000, rate=0.13, cost=0.2)}
    found = readout(SPEC, rows)
    one, base = (found.moments[key].sample("outlook") for key in ("ai", "control"))
    expected = welch(one, base, alpha=0.05, single_look=True)
    assert not isinstance(expected, NotEstimable)
    assert isinstance(expected.interval, Interval)
    view = view_of(SPEC)
    assert view.net_benefit == pytest.approx(400_000 * expected.value - 4200)
    assert isinstance(view.interval, Interval)
    assert view.interval.lower == pytest.approx(400_000 * expected.interval.lower - 4200)
    assert view.rule_interval == view.interval


def test_the_rule_uses_a_stricter_level_with_more_treatments() -> None:
    spec = replace(SPEC, variants=(*SPEC.variants, Variant("other", 0, {})))
    rng = np.random.default_rng(5)
    rows = {key: shop(rng, 3000, rate=0.1) for key in ("control", "ai", "other")}
    view = decision_view(
        spec,
        readout(spec, rows),
        "ai",
        test_months=Fraction(3),
        look=planned_look(spec, "ai", mature=9000),
    )
    assert isinstance(view.interval, Interval)
    assert isinstance(view.rule_interval, Interval)
    assert (view.interval.level, view.rule_interval.level) == (0.95, 0.975)
    assert view.rule_interval.lower < view.interval.lower


def test_the_posterior_is_that_of_the_joint_effect() -> None:
    rng = np.random.default_rng(5)
    rows = {"control": shop(rng, 3000, rate=0.1), "ai": shop(rng, 3000, rate=0.13, cost=0.2)}
    found = readout(SPEC, rows)
    effect = posterior.effect(
        found.moments["ai"], found.moments["control"], margin="margin", cost="cost"
    )
    assert not isinstance(effect, NotEstimable)
    prior_sd = 0.1 * found.moments["control"].sample("margin").mean
    belief = posterior.update(effect, prior_sd=prior_sd)
    frame = posterior.Horizon(400_000, 0.7, 1.0, 4200.0)
    benefit = posterior.net_benefit(belief, frame)
    over = posterior.net_benefit(belief, frame, hurdle_roi=0.3)
    view = view_of(SPEC)
    assert (view.posterior_mean, view.posterior_sd) == pytest.approx((benefit.mean, benefit.sd))
    assert view.probability_positive == pytest.approx(benefit.probability_above(0))
    flat = posterior.net_benefit(effect, frame)
    assert view.probability_without_prior == pytest.approx(flat.probability_above(0))
    assert view.probability_hurdle == pytest.approx(over.probability_at_least(0))
    assert view.expected_loss == pytest.approx(benefit.expected_loss())
    assert view.posterior_roi == pytest.approx(benefit.mean / (400_000 * belief.cost + 4200))


def test_without_an_interval_the_data_alone_say_nothing() -> None:
    """Forty units of one in ten: a posterior there is, the burn-in asks for 100 buyers."""
    anytime = replace(SPEC, inference=Inference("anytime", Decimal("0.05"), Decimal("0.1")))
    rng = np.random.default_rng(5)
    rows = {"control": shop(rng, 40, rate=0.1), "ai": shop(rng, 40, rate=0.4)}
    view = decision_view(
        anytime,
        readout(anytime, rows),
        "ai",
        test_months=Fraction(3),
        look=planned_look(anytime, "ai", mature=80),
    )
    assert isinstance(view.probability_positive, float)
    assert isinstance(view.probability_without_prior, NotEstimable)


def test_the_hurdle_multiplies_the_cost_and_not_the_savings() -> None:
    saved = view_of(replace(SPEC, value=(*SPEC.value, SAVING)))
    plain = view_of(SPEC)
    extra = 0.7 * 12 * 360
    assert saved.net_benefit == pytest.approx(_figure(plain.net_benefit) + extra)
    assert saved.posterior_mean == pytest.approx(_figure(plain.posterior_mean) + extra)
    assert _figure(saved.probability_hurdle) > _figure(plain.probability_hurdle)


def test_the_worst_case_takes_every_open_cost_at_its_upper_bound() -> None:
    base, worst = view_of(SPEC), view_of(SPEC, bound="high")
    lost = 400_000 * 0.2 + 12 * 150
    assert worst.net_benefit == pytest.approx(_figure(base.net_benefit) - lost)


def test_net_present_value_discounts_twelve_month_ends() -> None:
    view = view_of(SPEC)
    monthly = _figure(view.net_benefit) / 12
    rate = 1.1 ** (1 / 12) - 1
    annuity = (1 - (1 + rate) ** -12) / rate
    assert view.npv == pytest.approx(monthly * annuity)
    undiscounted = replace(SPEC, rollout=replace(ROLLOUT, discount_rate=Assumption(Decimal(0))))
    assert view_of(undiscounted).npv == pytest.approx(view.net_benefit)


def test_payback_is_linear_inside_the_month() -> None:
    view = view_of(SPEC)
    assert view.payback_months == pytest.approx(25_000 / (_figure(view.net_benefit) / 12))
    assert view.full_cost_net_benefit == pytest.approx(_figure(view.net_benefit) - 13_000)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (replace(SPEC, rollout=None), "no-rollout"),
        (replace(SPEC, costs=Costs(None, None, ())), "no-investment"),
        (
            replace(
                SPEC,
                costs=Costs(
                    None, None, (CostLine("qa", "once", Assumption(Decimal(10**9)), "ai"),)
                ),
            ),
            "beyond-horizon",
        ),
        (
            replace(
                SPEC,
                costs=Costs(
                    None,
                    None,
                    (*LINES, CostLine("other", "month", Assumption(Decimal(10**9)), "ai")),
                ),
            ),
            "no-gain",
        ),
    ],
)
def test_there_is_no_payback_without_something_to_pay_back(spec: Experiment, reason: str) -> None:
    found = view_of(spec).payback_months
    assert isinstance(found, NotEstimable)
    assert found.reason == reason


def test_a_control_without_margin_gives_no_posterior() -> None:
    rng = np.random.default_rng(5)
    rows = {"control": shop(rng, 500, rate=0.0), "ai": shop(rng, 500, rate=0.2)}
    view = decision_view(
        SPEC,
        readout(SPEC, rows),
        "ai",
        test_months=Fraction(3),
        look=planned_look(SPEC, "ai", mature=1000),
    )
    assert isinstance(view.posterior_mean, NotEstimable)
    assert view.posterior_mean.reason == "no-prior"
    assert isinstance(view.interval, Interval)


def _figure(value: float | NotEstimable) -> float:
    assert not isinstance(value, NotEstimable)
    assert math.isfinite(value)
    return value
