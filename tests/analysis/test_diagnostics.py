"""What the checks read: by hand, out of the engine, and each check in a whole analysis."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from klartext.analysis.checks.ai_version import AiCalls
from klartext.analysis.data_checks import data_checks
from klartext.analysis.diagnostics import Diagnostics, halved
from klartext.analysis.readout import Readout
from klartext.analysis.result import Check, CostCompleteness
from klartext.experiments.experiment import (
    AiModel,
    Costs,
    Covariate,
    Experiment,
    InferenceMode,
    Variant,
)
from tests.analysis import nasty
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    WATERMARK,
    call,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
    unit_rows,
)

SPEC = experiment(metrics=(CONVERSION, REVENUE))


def diagnosed(found: Readout) -> Diagnostics:
    assert found.diagnostics is not None
    return found.diagnostics


def checked(spec: Experiment, found: Readout) -> dict[str, Check]:
    known = CostCompleteness(0, 0, 0, 1.0, ())
    return {check.code: check for check in data_checks(spec, found, known)}


def test_units_are_counted_on_the_local_day_of_their_first_exposure() -> None:
    night = datetime(2026, 3, 28, 22, 59, 59, tzinfo=UTC)  # one second before midnight in Berlin
    facts = tables(
        [exposure(1, "ai", occurred_at=night),
         exposure(2, "ai", occurred_at=night + timedelta(seconds=1)),
         exposure(3, "control", occurred_at=night + timedelta(hours=23, seconds=1)),
         exposure(1, "control", occurred_at=night + DAY)]
    )  # fmt: skip
    assert diagnosed(read(SPEC, facts)).days == {
        "2026-03-28": {"control": 0, "ai": 1},
        "2026-03-29": {"control": 0, "ai": 1},
        "2026-03-30": {"control": 1, "ai": 0},
    }


def test_halves_are_those_of_the_window_of_the_first_metric_with_value() -> None:
    facts = tables(
        [exposure(unit, "ai") for unit in (1, 2, 3)] + [exposure(4, "control")],
        [
            purchase(1, "10", days=0), purchase(1, "5", days=7 - 1e-9), purchase(1, "3", days=7),
            purchase(2, "6", days=13.9), purchase(2, "100", days=14), event(3, days=1),
        ],
    )  # fmt: skip
    found = diagnosed(read(SPEC, facts))
    assert found.halved == "revenue"
    early, late = np.array([15.0, 0, 0]), np.array([3.0, 6, 0])
    halves = found.halves["ai"]
    assert halves.n == 3
    assert (halves.early, halves.late) == pytest.approx((5, 3))
    assert halves.early_variance == pytest.approx(early.var())
    assert halves.late_variance == pytest.approx(late.var())
    assert halves.covariance == pytest.approx(np.cov(early, late, bias=True)[0, 1])
    assert found.halves["control"].n == 1


def test_a_metric_with_a_short_window_has_no_halves() -> None:
    short = replace(CONVERSION, window=DAY)
    assert halved(experiment(metrics=(short,), value=())) is None
    assert halved(experiment(metrics=(short, CONVERSION), value=())) == CONVERSION


def test_calls_are_counted_by_variant_model_and_prompt() -> None:
    spec = replace(SPEC, costs=Costs(None, "gateway", ()))
    calls = [
        call("1", variant="ai", model="a", prompt="p"), call("1", variant="ai", model="a"),
        call(None, variant="ai", model="a"), call("1", variant="retired"), call("1"),
        call("1", variant="ai", source="export"), call("1", variant="ai", ingest_batch=99),
        call("1", variant="ai", experiment="other"),
    ]  # fmt: skip
    found = diagnosed(read(spec, tables([exposure(1, "ai")], usage=calls)))
    assert found.calls == (AiCalls("ai", "a", None, 2), AiCalls("ai", "a", "p", 1))


def test_halves_agree_with_the_unit_table_on_nasty_facts() -> None:
    facts = nasty.generate(31, units=400)
    spec = replace(nasty.spec(), value=(), metrics=(CONVERSION,))
    made = tables(facts.exposures, facts.events, facts.usage_costs)
    rows = unit_rows(spec, made)
    found = diagnosed(read(spec, made))
    assert sum(sum(day.values()) for day in found.days.values()) == len(rows)
    for variant, halves in found.halves.items():
        kept = {u: r for u, r in rows.items()
                if r["variant"] == variant and r["mature"] and not r["excluded"]}  # fmt: skip
        early = set()
        for one in facts.events:
            if (
                one["unit"] in kept
                and one["name"] == "purchase"
                and one.get("ingest_batch", 1) <= WATERMARK.batch
            ):
                age = one["occurred_at"] - kept[one["unit"]]["exposed_at"]
                if timedelta(0) <= age < 7 * DAY:
                    early.add(one["unit"])
        assert halves.n == len(kept)
        assert halves.early * max(halves.n, 1) == pytest.approx(len(early))


def facts_of(*, bad_day: bool = False, unlike: bool = False, fading: bool = False) -> Readout:
    """4,000 units over 10 days with a covariate; each flaw is one that a check looks for."""
    rng = np.random.default_rng(9)
    spec = with_history()
    exposures, events, calls = [], [], []
    for unit in range(4_000):
        day = unit % 10
        ai = rng.random() < (0.8 if bad_day and day == 3 else 0.5)
        at = START + day * DAY
        exposures.append(exposure(unit, "ai" if ai else "control", occurred_at=at))
        history = rng.exponential(10) + (1.5 if unlike and ai else 0)
        events.append(event(unit, "covariate.history", days=day - 1,
                            value=Decimal(f"{history:.4f}"), currency="EUR"))  # fmt: skip
        for half in (1, 9):
            rate = 0.3 + (0.2 if ai and (half == 1 or not fading) else 0)
            if rng.random() < rate:
                events.append(purchase(unit, f"{rng.exponential(20):.4f}", days=day + half))
        if ai:
            calls.append(call("0.01", unit=unit, variant="ai", model="gpt-4o"))
    return read(spec, tables(exposures, events, calls))


def with_history(model: str = "gpt-4o") -> Experiment:
    ai = Variant("ai", 500_000, {}, AiModel(model))
    revenue = replace(REVENUE, covariates=(Covariate(name="history"),))
    variants = (Variant("control", 500_000, {}), ai)
    plan = replace(SPEC.plan, total_units=4_000)
    return replace(SPEC, variants=variants, metrics=(CONVERSION, revenue), plan=plan)


CODES = {"srm_days", "balance", "novelty", "ai_version", "missing_outcomes"}


def test_sound_facts_pass_every_check() -> None:
    found = checked(with_history(), facts_of())
    assert {code: found[code].severity for code in CODES} == dict.fromkeys(CODES, "ok")


def test_one_day_is_the_whole_and_not_tested_twice() -> None:
    facts = [exposure(unit, "ai" if unit % 10 else "control") for unit in range(400)]
    found = checked(SPEC, read(SPEC, tables(facts)))
    assert found["srm"].severity == "invalid"
    assert "srm_days" not in found


@pytest.mark.parametrize(
    ("flaw", "code"), [("bad_day", "srm_days"), ("unlike", "balance"), ("fading", "novelty")]
)
def test_each_flaw_is_found_by_its_check(flaw: str, code: str) -> None:
    found = checked(with_history(), facts_of(**{flaw: True}))
    assert found[code].severity == "warning"
    others = CODES - {code}
    assert {other: found[other].severity for other in others} == dict.fromkeys(others, "ok")


def test_another_model_and_silent_events_are_found_too() -> None:
    spec = with_history("gpt-4o-2024-11-20")
    silent = replace(CONVERSION, key="clicks", event="click")
    found = checked(spec, facts_of())
    assert found["ai_version"].severity == "warning"
    spec = replace(SPEC, metrics=(CONVERSION, REVENUE, silent))
    exposures = [exposure(unit, "ai" if unit % 2 else "control") for unit in range(200)]
    found = checked(spec, read(spec, tables(exposures, [purchase(1, "1")])))
    assert found["missing_outcomes"].severity == "warning"
    assert "clicks" in found["missing_outcomes"].detail


@pytest.mark.parametrize("mode", ["fixed", "group_sequential"])
def test_balance_is_judged_alike_in_every_mode(mode: InferenceMode) -> None:
    """The looks of the plan are for the effect: a check must hold at any of them."""
    spec = with_history()
    found = facts_of(unlike=True)
    planned = replace(spec, inference=replace(spec.inference, mode=mode))
    assert checked(planned, found)["balance"] == checked(spec, found)["balance"]
