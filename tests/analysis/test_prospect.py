"""The prospect of a test: the calendar by hand, and futures that were simulated."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.look import planned_look
from klartext.analysis.projection import decision_view
from klartext.analysis.prospect import prospect_of
from klartext.analysis.result import DecisionView, Prospect
from klartext.analysis.result import VariantCounts as Counts
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Costs,
    DecisionRule,
    Experiment,
    Inference,
    Plan,
    Rollout,
)
from klartext.experiments.watermark import Watermark
from tests.analysis.samples import DAY, START, evaluated, experiment, readout, shop

ANYTIME = Inference("anytime", Decimal("0.05"), Decimal("0.1"))
WEEK = 7 * DAY
RULE = DecisionRule(Decimal(0), Decimal("0.8"), Decimal(1000), 14 * DAY, None)
ROLLOUT = Rollout(*(Assumption(Decimal(x)) for x in (100000, 1, 1, 0)))
NOW = START + 60 * DAY


def running(**given: Any) -> Experiment:
    """Return a test that runs for 100 days and is planned for 20,000 units."""
    fields: dict[str, Any] = {
        "inference": ANYTIME,
        "decision": RULE,
        "rollout": ROLLOUT,
        "plan": Plan(START, START + 100 * DAY, 20_000, {}),
    }
    return experiment(**(fields | given))


def outcome(
    spec: Experiment, *, seed: int = 1, lift: float = 0.0, n: int = 4000, cost: float = 0.0,
    **given: Any
) -> tuple[Prospect, DecisionView]:  # fmt: skip
    rng = np.random.default_rng(seed)
    rows = {
        "control": shop(rng, n, rate=0.1),
        "ai": shop(rng, n, rate=0.1 + lift, cost=cost),
    }
    fields: dict[str, Any] = {
        "watermark": Watermark(7, NOW),
        "last_exposure": NOW - timedelta(hours=1),
    }
    found = readout(spec, rows, **(fields | given))
    look = planned_look(spec, "ai", mature=2 * n)
    view = decision_view(spec, found, "ai", test_months=Fraction(2), look=look)
    return prospect_of(spec, found, "ai", look=look, view=view), view


def number(value: float | NotEstimable) -> float:
    assert not isinstance(value, NotEstimable)
    return value


def test_a_test_that_goes_on_ends_when_its_last_units_are_mature() -> None:
    spec = running(lateness=2 * DAY)
    found, _ = outcome(spec, lift=-0.001)
    longest = max(metric.closes_after for metric in spec.metrics)
    assert found.forecast == START + 100 * DAY + longest + 2 * DAY
    assert 0 < number(found.predictive_probability) < 1
    assert 0 < number(found.wait_value) <= number(found.perfect_information)


def test_a_strong_effect_is_expected_earlier() -> None:
    # 60 days gave 8,000 units; the interval is forecast to leave zero out before the end
    spec = running(decision=replace(RULE, expected_loss=Decimal(10**6)))
    for seed in range(50):
        found, view = outcome(spec, seed=seed, lift=0.02)
        assert isinstance(view.rule_interval, Interval)
        if view.rule_interval.lower < 0 < number(view.net_benefit) / 2:
            break
    assert isinstance(found.forecast, datetime)
    assert NOW < found.forecast < START + 110 * DAY
    assert number(found.predictive_probability) > 0.2


def test_the_minimum_duration_holds_the_forecast_back() -> None:
    spec = running(decision=replace(RULE, min_duration=91 * DAY))
    found, _ = outcome(spec, lift=0.05)
    assert isinstance(found.forecast, datetime)
    assert found.forecast >= START + 91 * DAY


def test_after_a_mailing_only_its_own_units_are_waited_for() -> None:
    spec = running()
    counts = tuple(
        Counts(key, 500_000, exposed=5000, mature=4000, excluded=0) for key in ("control", "ai")
    )
    mailed, _ = outcome(spec, last_exposure=NOW - 8 * DAY, counts=counts)
    assert isinstance(mailed.forecast, datetime)
    assert mailed.forecast < START + 100 * DAY
    nobody, _ = outcome(spec, last_exposure=START)
    # all mature, nobody comes: what we know is all we shall know
    for left in (nobody.forecast, nobody.predictive_probability, nobody.wait_value):
        assert isinstance(left, NotEstimable)
        assert left.reason == "no-time"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"registration": "retrospective"}, "finished"),
        ({"plan": Plan(START, None, 20_000, {})}, "no-end"),
    ],
)
def test_what_cannot_be_foreseen_has_its_reason(given: dict[str, Any], reason: str) -> None:
    found, _ = outcome(running(**given))
    assert isinstance(found.predictive_probability, NotEstimable)
    assert found.predictive_probability.reason == reason
    assert number(found.perfect_information) > 0
    assert isinstance(found.forecast, NotEstimable)


def test_a_fixed_test_looks_once_more() -> None:
    fixed = Inference("fixed", Decimal("0.05"), Decimal("0.1"))
    plan = Plan(START, START + 100 * DAY, 12_000, {})
    once, _ = outcome(running(inference=fixed, plan=plan), lift=0.01)
    often, _ = outcome(running(plan=plan), lift=0.01)
    # one look with 1.96 standard errors against many with wider ones: both chances are real
    assert 0 < number(once.predictive_probability) < 1
    assert number(once.predictive_probability) > number(often.predictive_probability)
    # 8,000 units in 60 days will not become 20,000 in 100: no look, no GO
    never, _ = outcome(running(inference=fixed), lift=0.01)
    assert never.predictive_probability == 0.0


def test_monthly_cost_is_charged_to_waiting() -> None:
    line = CostLine("monitoring", "month", Assumption(Decimal(3000)), "ai")
    dear, _ = outcome(running(costs=Costs(None, None, (line,))))
    assert isinstance(dear.wait_weeks, int)
    # by hand: 3000 a month are 36,000 in 365.2425 days, 689.95 a week
    weekly = 36_000 * 7 / 365.2425
    assert number(dear.wait_cost) >= dear.wait_weeks * weekly - 1e-6


def test_a_hopeless_test_is_stopped_and_says_why() -> None:
    # the AI costs 3 a unit and brings nothing; two more months would cost more than they tell
    spec = running(
        costs=Costs(
            None, None, (CostLine("monitoring", "month", Assumption(Decimal(3000)), "ai"),)
        ),
        rollout=replace(ROLLOUT, units_per_year=Assumption(Decimal(2000))),
    )
    rng = np.random.default_rng(8)
    rows = {"control": shop(rng, 4000, rate=0.1), "ai": shop(rng, 4000, rate=0.1, cost=0.1)}
    found = readout(spec, rows, watermark=Watermark(7, NOW), last_exposure=NOW - timedelta(hours=1))
    analysis = evaluated(spec, found)
    (one,) = analysis.treatments
    assert (one.decision.verdict, one.decision.rule) in {("STOP", "futility"), ("STOP", "loss")}


def test_the_predictive_probability_agrees_with_futures_that_were_simulated() -> None:
    # truth from today's posterior, units to come from the truth, the same looks: five standard
    # errors, plus 0.01 for the normal approximation of 4,000 units
    spec = running()
    found, view = outcome(spec, seed=4, lift=0.006)
    look = planned_look(spec, "ai", mature=8000)
    rng, draws = np.random.default_rng(11), 40_000
    rate = 8000 / ((NOW - timedelta(hours=1) - START) / WEEK)
    wait = max(metric.closes_after for metric in spec.metrics) + spec.lateness
    weeks = math.ceil((START + 100 * DAY + wait - NOW) / WEEK)
    mean, sd = number(view.posterior_mean), number(view.posterior_sd)
    assert isinstance(view.interval, Interval)
    multiplier = look.multiplier_ahead(8000, alpha=0.05)
    assert multiplier is not None
    error = (view.interval.upper - view.interval.lower) / 2 / multiplier
    truth = rng.normal(mean, sd, draws)
    total, before = np.full(draws, number(view.net_benefit) * 8000), 8000
    passed = np.zeros(draws, dtype=bool)
    for week in range(1, weeks + 1):
        entered = min(NOW + week * WEEK - wait, START + 100 * DAY)
        units = 8000 + math.floor(rate * ((entered - (NOW - wait)) / WEEK))
        more = units - before
        if units * 1000 < before * 1001:
            continue
        total += truth * more + rng.normal(0, error * math.sqrt(8000 * more), draws)
        width = look.multiplier_ahead(units, alpha=0.05)
        assert width is not None
        passed |= total / units - width * error * math.sqrt(8000 / units) > 0
        before = units
    share = passed.mean()
    spread = 5 * math.sqrt(share * (1 - share) / draws) + 0.01
    assert number(found.predictive_probability) == pytest.approx(share, abs=spread)
