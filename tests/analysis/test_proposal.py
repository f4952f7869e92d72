"""Proposals: by hand, against statsmodels, and by simulation through the real analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

from klartext.analysis.baseline import Baseline, Given, from_given
from klartext.analysis.comparison import Anytime, Fixed, GroupSequential, Mode, evenly
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.guardrails import read_guardrail
from klartext.analysis.history import NO_CALLS
from klartext.analysis.look import planned_look
from klartext.analysis.plan_answers import Asked
from klartext.analysis.planning import Plan as UnitsPlan
from klartext.analysis.proposal import Proposal, propose
from klartext.analysis.proposal_document import proposal_json, spec_lines
from klartext.analysis.question import Reading
from klartext.analysis.result import Number
from klartext.analysis.stakes import Money
from klartext.experiments.experiment import (
    AI_METRICS,
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    Experiment,
    Guardrail,
    Inference,
    Plan,
    Rollout,
    Saving,
    Variant,
)
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    evaluated,
    experiment,
    readout,
)

BASELINES: dict[str, Baseline] = {
    "conversion": from_given("conversion", Given(0.1), metric=CONVERSION),
    "revenue": from_given("revenue", Given(5.0, sd=20.0, nonzero=0.1), metric=REVENUE),
}
MONEY = Money(margin=5.0, net_sd=20.0, treated_net_sd=None, nonzero=0.1, cost=0.1)
YEAR = Rollout(*(Assumption(Decimal(x)) for x in ("100000", "0.5", "0.8", "0.1")))
MONTHLY = Costs(
    None, None, (CostLine("monitoring", "month", Assumption(Decimal(250)), "ai"),
                 CostLine("engineering", "once", Assumption(Decimal(4000)), "ai")),
)  # fmt: skip


def plan(
    spec: Experiment | None = None,
    *,
    mode: Mode | None = None,
    money: Money = MONEY,
    units_per_day: Number = 1000.0,
    baselines: Mapping[str, Baseline] = BASELINES,
    **given: Any,
) -> Proposal:
    fields: dict[str, Any] = {"lifts": {"revenue": 0.1}, "power": 0.8} | given
    reading = Reading("ai", mode or Fixed(), 0.05)
    return propose(
        spec or experiment(),
        Asked(reading=reading, **fields),
        baselines,
        money,
        units_per_day=units_per_day,
        history=None,
    )


def planned(found: UnitsPlan | NotEstimable) -> UnitsPlan:
    assert isinstance(found, UnitsPlan)
    return found


def test_the_net_benefit_by_hand() -> None:
    # Roll-out: 50,000 treated units a year, persistence 80 %, 12 months of 250 EUR. The margin
    # pays from (0.1 + 3000 / 50000) / 0.8 = 0.2 EUR, 4 % of 5 EUR. Of an expected 10 % (0.5 EUR)
    # 0.8 · 0.5 - 0.16 = 0.24 EUR of outlook are left, with the sd of 20 given for it.
    found = plan(experiment(rollout=YEAR, costs=MONTHLY))
    question = found.lead.question
    assert question.effect == pytest.approx(0.24)
    assert question.lift == pytest.approx(0.1)
    assert found.stakes.break_even.margin_per_unit == pytest.approx(0.2)  # type: ignore[union-attr]
    assert found.stakes.break_even.relative_lift == pytest.approx(0.04)  # type: ignore[union-attr]
    # with the 4,000 EUR spent once: (0.1 + 7000 / 50000) / 0.8 = 0.3
    assert found.stakes.full_break_even.margin_per_unit == pytest.approx(0.3)  # type: ignore[union-attr]
    treated = NormalIndPower().solve_power(
        effect_size=0.24 / 20, alpha=0.025, power=0.8, ratio=1.0, alternative="larger"
    )
    assert found.needed == pytest.approx(2 * treated, abs=2)
    assert found.binding == "net_benefit"
    # what is detectable is said as a lift of the margin: (e + 0.16) / (0.8 · 5)
    at = planned(found.lead.detectable)
    assert found.lead.detectable_lift == pytest.approx((at.effect + 0.16) / 4)
    assert found.lead.detectable_lift == pytest.approx(0.1, rel=1e-3)


def test_no_effect_below_the_break_even_can_be_shown_to_pay() -> None:
    found = plan(experiment(rollout=YEAR, costs=MONTHLY), lifts={"revenue": 0.03})
    assert isinstance(found.lead.needed, NotEstimable)
    assert found.lead.needed.reason == "no-advantage"
    # the metric itself could be shown to rise
    assert isinstance(found.metrics[1].needed, UnitsPlan)


def test_a_test_without_a_roll_out_has_to_earn_its_own_months() -> None:
    # 1,000 a day, half treated: 250 EUR a month are 250 / (30.44 · 500) = 0.0164 EUR per treated
    # unit, and some more because the last units take 16 days to mature
    found = plan(experiment(costs=MONTHLY))
    size = found.needed
    assert isinstance(size, int)
    days = 7 * math.ceil(size / 7000) + 16
    own = 250 * days / (365.2425 / 12) / (size / 2)
    assert found.lead.question.shift == pytest.approx(0.1 + own, rel=1e-3)
    unknown = plan(experiment(costs=MONTHLY), units_per_day=NotEstimable("no-traffic", "unknown"))
    assert isinstance(unknown.lead.needed, NotEstimable)
    assert unknown.binding == "revenue"  # what can be planned without money
    free = plan(units_per_day=NotEstimable("no-traffic", "unknown"))
    assert isinstance(free.needed, int)


def test_savings_lower_what_has_to_be_earned() -> None:
    hours, rate, realised = (Assumption(Decimal(one)) for one in ("12", "60", "0.5"))
    saving = Saving("time", hours, rate, realised, "ai")
    value = (ContributionMargin("revenue", Assumption(Decimal(1))), saving)
    spec = experiment(rollout=YEAR, costs=MONTHLY, value=value)
    found = plan(spec)
    # 12 h · 60 EUR · 50 % · 12 months · 80 % persistence = 3,456 EUR against 3,000 EUR
    assert found.stakes.fixed_cost == pytest.approx(3000 - 3456)
    assert found.stakes.break_even.margin_per_unit == pytest.approx(  # type: ignore[union-attr]
        (0.1 - 456 / 50_000) / 0.8
    )


@pytest.mark.golden("statsmodels 0.15: NormalIndPower")
def test_metrics_equal_statsmodels() -> None:
    found = plan(lifts={"conversion": 0.2, "revenue": 0.1})
    # 10 % to 12 % by hand, as in test_planning: 3,838.1 a variant
    assert planned(found.metrics[0].needed).total_units == 7677
    treated = NormalIndPower().solve_power(
        effect_size=0.5 / 20, alpha=0.025, power=0.8, ratio=1.0, alternative="larger"
    )
    assert planned(found.metrics[1].needed).total_units == pytest.approx(2 * treated, abs=2)
    removed = {
        **BASELINES,
        "revenue": from_given("revenue", Given(5.0, sd=20.0, removed=0.36), metric=REVENUE),
    }
    less = plan(baselines=removed)
    assert planned(less.metrics[1].needed).total_units == pytest.approx(0.64 * 2 * treated, abs=2)


def test_covariates_reach_the_money_and_the_guardrails() -> None:
    spec = experiment(guardrails=(Guardrail("conversion", may_worsen_by=Decimal("0.01")),))
    removed = BASELINES | {
        "conversion": from_given("conversion", Given(0.1, removed=0.36), metric=CONVERSION)
    }
    plain, less = plan(spec), plan(spec, money=replace(MONEY, removed=0.36), baselines=removed)
    for one, other in ((plain.lead, less.lead), (plain.guardrails[0], less.guardrails[0])):
        expected = 0.64 * planned(one.needed).total_units
        assert planned(other.needed).total_units == pytest.approx(expected, abs=1)
    level = experiment(guardrails=(Guardrail("conversion", at_most=Decimal("0.11")),))
    same = (plan(level).guardrails[0], plan(level, baselines=removed).guardrails[0])
    assert same[0].needed == same[1].needed  # a level is not adjusted


def test_guardrails_by_hand() -> None:
    less = replace(CONVERSION, key="unsubscribe", direction="decrease")
    baselines = BASELINES | {"unsubscribe": from_given("u", Given(0.02), metric=less)}
    z = 1.959964 + 0.841621

    def needed(guardrail: Guardrail) -> UnitsPlan | NotEstimable:
        spec = experiment(metrics=(CONVERSION, REVENUE, less), guardrails=(guardrail,))
        return plan(spec, baselines=baselines).guardrails[0].needed

    variance = 0.02 * 0.98
    absolute = planned(needed(Guardrail("unsubscribe", may_worsen_by=Decimal("0.005"))))
    assert absolute.total_units == pytest.approx(z**2 * 4 * variance / 0.005**2, abs=2)
    # mT - 1.25 mC against 0: the control's variance times 1.25 squared
    relative = planned(needed(Guardrail("unsubscribe", may_worsen_by_relative=Decimal("0.25"))))
    expected = z**2 * 2 * variance * (1 + 1.25**2) / 0.005**2
    assert relative.total_units == pytest.approx(expected, abs=2)
    # the treatment's rate alone against 2.5 %
    level = planned(needed(Guardrail("unsubscribe", at_most=Decimal("0.025"))))
    assert level.total_units == pytest.approx(z**2 * 2 * variance / 0.005**2, abs=2)
    beyond = needed(Guardrail("unsubscribe", at_most=Decimal("0.01")))
    assert isinstance(beyond, NotEstimable)
    assert beyond.reason == "already-beyond"
    # of revenue, where more is better: 5 EUR may fall by 2 %
    falls = planned(needed(Guardrail("revenue", may_worsen_by_relative=Decimal("0.02"))))
    assert falls.total_units == pytest.approx(z**2 * 2 * 400 * (1 + 0.98**2) / 0.1**2, abs=3)


MEDIAN = replace(REVENUE, key="median", kind="quantile", quantile=Decimal("0.5"))


def test_a_quantile_and_its_guardrails_by_hand() -> None:
    # exponential with mean 10: the median is 10 ln 2, its density 1/20, so that the variance per
    # unit is (1/4) 20^2 = 100
    z, median = 1.959964 + 0.841621, 10 * math.log(2)
    baselines = BASELINES | {"median": from_given("median", Given(median, sd=10.0), metric=MEDIAN)}

    def planned_with(**limit: Decimal) -> Proposal:
        spec = experiment(
            metrics=(CONVERSION, REVENUE, MEDIAN), guardrails=(Guardrail("median", **limit),)
        )
        return plan(spec, baselines=baselines, lifts={"median": 0.05})

    found = planned_with(may_worsen_by=Decimal("0.2"))
    needed = planned(found.metrics[2].needed)
    assert needed.total_units == pytest.approx(z**2 * 4 * 100 / (0.05 * median) ** 2, abs=2)
    assert found.metrics[2].detectable_lift == pytest.approx(
        z * math.sqrt(400 / float(found.size)) / median,  # type: ignore[arg-type]
        rel=1e-4,
    )
    kept = planned(found.guardrails[0].needed)
    assert kept.total_units == pytest.approx(z**2 * 400 / 0.2**2, abs=2)
    relative = planned(planned_with(may_worsen_by_relative=Decimal("0.03")).guardrails[0].needed)
    expected = z**2 * 200 * (1 + 0.97**2) / (0.03 * median) ** 2
    assert relative.total_units == pytest.approx(expected, abs=2)
    level = planned(planned_with(at_most=Decimal("7.5")).guardrails[0].needed)
    assert level.total_units == pytest.approx(z**2 * 200 / (7.5 - median) ** 2, abs=2)


def test_ai_metrics_need_a_baseline_of_calls() -> None:
    p95 = next(metric for metric in AI_METRICS if metric.key == "ai.latency_p95")
    spec = experiment(
        guardrails=(
            Guardrail("ai.error_rate", at_most=Decimal("0.01")),
            Guardrail("ai.latency_p95", at_most=Decimal(2000)),
        )
    )
    found = plan(spec, lifts={"revenue": 0.1, "ai.tokens": -0.2})
    assert [answer.question.key for answer in found.metrics] == [
        "conversion",
        "revenue",
        "ai.tokens",
    ]
    for answer in (found.metrics[2], *found.guardrails):
        assert answer.needed == NO_CALLS
    assert found.binding == "net_benefit"
    # the limit on a level asks the earlier treatment; a control made no calls
    earlier = from_given("ai.latency_p95", Given(1500, sd=20_000.0), metric=p95).outcome
    known = BASELINES | {"ai.latency_p95": Baseline(NO_CALLS, treatment=earlier)}
    level = plan(spec, baselines=known).guardrails[1]
    z = 1.959964 + 0.841621
    assert planned(level.needed).total_units == pytest.approx(z**2 * 2 * (20_000 / 500) ** 2, abs=2)
    assert level.question.baseline.outcome == earlier
    other = experiment(guardrails=(Guardrail("ai.latency_p95", may_worsen_by=Decimal(100)),))
    assert plan(other, baselines=known).guardrails[0].needed == NO_CALLS


def test_no_look_before_200_units_beyond_the_quantile() -> None:
    # a large effect: 5 % of units stand beyond, half of them has an observation, half a variant
    p95 = replace(MEDIAN, quantile=Decimal("0.95"))
    given = from_given("median", Given(10.0, sd=1.0, nonzero=0.5), metric=p95)
    spec = experiment(metrics=(p95,), value=())
    for mode in (Fixed(), Anytime((1.0,))):
        found = plan(
            spec, mode=mode, baselines={"median": given}, lifts={"median": 1.0}, total_units=15_999
        )
        assert planned(found.lead.needed).total_units == 200 / 0.05 / 0.5 / 0.5
        assert isinstance(found.lead.at_size, NotEstimable)
        assert found.lead.at_size.reason == "burn-in"


def test_the_dearest_guardrail_binds() -> None:
    spec = experiment(guardrails=(Guardrail("conversion", may_worsen_by=Decimal("0.0005")),))
    found = plan(spec)
    assert found.binding == "conversion"
    assert found.needed == planned(found.guardrails[0].needed).total_units


def test_where_the_size_comes_from() -> None:
    spec = experiment(plan=Plan(START, START + 90 * DAY, 9000, {}))
    assert (plan(spec).size, plan(spec).size_from) == (9000, "spec")
    assert (plan(spec, total_units=70).size, plan(spec, total_units=70).size_from) == (70, "units")
    assert (plan(spec, weeks=3).size, plan(spec, weeks=3).size_from) == (21_000, "weeks")
    own = plan()
    assert (own.size, own.size_from) == (own.needed, "needed")
    nothing = plan(lifts={})
    assert isinstance(nothing.size, NotEstimable)
    assert nothing.size_from is None
    assert spec_lines(nothing) is None


def test_the_lines_for_the_spec() -> None:
    spec = experiment(plan=Plan(START, START + 90 * DAY, 9000, {}))
    lines = (spec_lines(plan(spec, weeks=3)) or "").splitlines()
    assert lines == [
        "plan:",
        "  start: 2026-01-05T10:00",
        "  latest_end: 2026-02-11T10:00",  # 21 days of enrolment, 14 of window, 2 of lateness
        "  total_units: 21000",
        "  expected_lift: {revenue: 10%}",
    ]
    endless = (spec_lines(plan(spec, total_units=10**12)) or "").splitlines()
    assert endless == [lines[0], lines[1], "  total_units: 1000000000000", lines[4]]
    needed = plan(spec)
    assert f"  total_units: {needed.needed}" in (spec_lines(needed) or "")


def test_without_values_the_first_metric_leads() -> None:
    found = plan(experiment(value=()), lifts={"conversion": 0.2})
    assert found.lead.question.key == "conversion"
    assert found.answers == (*found.metrics, *found.guardrails)
    assert found.needed == 7677


def test_unknown_cost_leaves_the_metrics_planned() -> None:
    money = replace(MONEY, cost=NotEstimable("no-usage", "no calls"))
    found = plan(money=money)
    assert isinstance(found.lead.needed, NotEstimable)
    assert isinstance(found.stakes.break_even, NotEstimable)
    assert "no-cost" in {note.code for note in found.notes}
    assert found.binding == "revenue"
    assert found.needed == planned(found.metrics[1].needed).total_units


def test_loss_making_control() -> None:
    found = plan(money=replace(MONEY, margin=-1.0))
    assert isinstance(found.lead.detectable_lift, NotEstimable)
    assert found.lead.detectable_lift.reason == "non-positive-mean"
    proposal_json(found)


def test_several_treatments_share_alpha() -> None:
    third = 333_333
    spec = experiment(
        variants=(Variant("control", third + 1, {}), Variant("ai", third, {}),
                  Variant("b", third, {})),
    )  # fmt: skip
    found = planned(plan(spec).metrics[1].needed)
    assert found.alpha == 0.025
    treated = NormalIndPower().solve_power(
        effect_size=0.5 / 20, alpha=0.0125, power=0.8, ratio=1.0, alternative="larger"
    )
    assert found.total_units == pytest.approx(3 * treated, abs=3)


def test_curves_say_what_planning_says() -> None:
    found = plan(mode=GroupSequential("pocock", evenly(3)))
    assert [point.total_units for point in found.by_size] == [
        7000 * round(point.weeks)  # type: ignore[arg-type]
        for point in found.by_size
    ]
    lifts = [point.lift for point in found.by_size]
    assert lifts == sorted(lifts, reverse=True)  # type: ignore[type-var]
    powers = [point.power for point in found.by_lift]
    assert powers == sorted(powers)
    ladder = {point.lift: point.total_units for point in found.ladder}
    assert ladder[0.1] == found.needed
    modes = {type(mode): units.total_units for mode, units in found.by_mode}
    assert modes[Fixed] < modes[GroupSequential] < modes[Anytime]
    assert modes[GroupSequential] == found.needed


def simulated(
    spec: Experiment, size: int, lift: float, rng: np.random.Generator
) -> dict[str, dict[str, np.ndarray]]:
    """Units of both variants: 10 % convert, revenue of mean 5 and sd 20, and a cost of 0.1."""
    units = {}
    for variant, rise in (("control", 1.0), ("ai", 1.0 + lift)):
        n = size // 2
        revenue = rng.gamma(0.0625, 80.0, n) * rise
        units[variant] = {
            "conversion": (rng.random(n) < 0.1).astype(float),
            "revenue": revenue,
            "margin": revenue,
            "cost": np.full(n, 0.1 if variant == "ai" else 0.0),
        }
    return units


RUNS = 200


@pytest.mark.slow
def test_power_through_the_real_analysis() -> None:
    # the lift multiplies the values, so the treated sd is 1.1 times the control's
    spec = experiment(
        rollout=YEAR, costs=MONTHLY, inference=Inference("fixed", Decimal("0.05"), Decimal("0.1"))
    )
    found = plan(spec, money=replace(MONEY, net_sd=0.8 * 20, treated_net_sd=0.8 * 22))
    size = round(found.needed) // 2 * 2  # type: ignore[arg-type]
    live = replace(spec, plan=replace(spec.plan, total_units=size))
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(RUNS):
        shown = evaluated(live, readout(live, simulated(live, size, 0.1, rng)))
        region = shown.treatments[0].outlook.interval
        hits += isinstance(region, Interval) and region.lower > 0
    assert hits / RUNS == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / RUNS))


@pytest.mark.slow
def test_guardrails_are_kept_as_often_as_planned() -> None:
    guardrail = Guardrail("conversion", may_worsen_by_relative=Decimal("0.1"))
    spec = experiment(
        guardrails=(guardrail,), inference=Inference("fixed", Decimal("0.05"), Decimal("0.1"))
    )
    size = planned(plan(spec).guardrails[0].needed).total_units // 2 * 2
    live = replace(spec, plan=replace(spec.plan, total_units=size))
    look = planned_look(live, "ai", mature=size)
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(2 * RUNS):
        shown = readout(live, simulated(live, size, 0.0, rng)).moments
        reading = read_guardrail(
            live, guardrail, shown["ai"], shown["control"], look=look, alpha=0.05
        )
        hits += reading.is_kept
    assert hits / (2 * RUNS) == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / (2 * RUNS)))


def test_json_is_complete_and_finite() -> None:
    found = proposal_json(plan(experiment(rollout=YEAR, costs=MONTHLY), mode=Anytime(evenly(10))))
    assert found["schema"] == "klartext/plan/v1"
    assert {one["key"] for one in found["questions"]} == {  # type: ignore[union-attr, index, call-overload]
        "net_benefit", "conversion", "revenue",
    }  # fmt: skip
