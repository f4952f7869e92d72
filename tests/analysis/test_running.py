"""The look calendar: days that add up, past days as they were, and effects that drift."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from klartext.analysis.document import to_json
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.readout import MaturityDay
from klartext.analysis.result import Analysis
from klartext.analysis.running import calendar, drift_check, drift_of, running
from klartext.analysis.sequential import mixture
from klartext.analysis.sequential.replay import Drift, Running
from klartext.app.cli.scorecard import scorecard
from klartext.experiments.experiment import DecisionRule, Experiment, Plan
from klartext.experiments.watermark import Watermark
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    columns_of,
    evaluated,
    experiment,
    exposure,
    purchase,
    read,
    readout,
    tables,
    unit_rows,
)

SPEC = experiment(plan=Plan(START, None, 4000, {}))
WAIT = timedelta(days=14 + 2)  # window and lateness


def facts(*, units: int = 400) -> Any:
    """Units exposed over thirty days at all hours; a change of the clock lies among the days."""
    rng = np.random.default_rng(3)
    begin = datetime(2026, 2, 25, 22, 30, tzinfo=ZoneInfo("UTC"))
    exposures, events = [], []
    for unit in range(units):
        at = begin + 30 * DAY * float(rng.random())
        exposures.append(exposure(unit, "ai" if unit % 2 else "control", occurred_at=at))
        if rng.random() < 0.5:
            paid = f"{rng.exponential(40):.2f}"
            events.append(purchase(unit, paid) | {"occurred_at": at + 3 * DAY * rng.random()})
    exposures.append(exposure(0, "ai", occurred_at=begin + 29 * DAY))  # seen in both: excluded
    return tables(exposures, events)


def test_days_are_local_and_add_up() -> None:
    given = facts()
    watermark = Watermark(7, datetime(2026, 4, 5, 12, tzinfo=ZoneInfo("UTC")))
    found, rows = read(SPEC, given, watermark), unit_rows(SPEC, given, watermark)
    zone = ZoneInfo("Europe/Berlin")
    expected: dict[tuple[date, str], int] = defaultdict(int)
    for row in rows.values():
        if row["mature"] and not row["excluded"]:
            expected[(row["exposed_at"] + WAIT).astimezone(zone).date(), row["variant"]] += 1
    assert len(found.daily) > 10
    seen = {(one.day, key): one.moments[key].n for one in found.daily for key in one.moments}
    assert {key: n for key, n in seen.items() if n} == expected
    days = calendar(found.daily)
    assert list(days.days) == sorted(days.days)
    for variant, moments in found.moments.items():
        last = days.mature[variant][-1]
        assert last.n == moments.n
        np.testing.assert_allclose(last.m2, moments.m2, rtol=1e-9)


def test_a_past_day_is_what_an_analysis_at_its_end_would_have_read() -> None:
    given = facts()
    now = Watermark(7, datetime(2026, 4, 20, tzinfo=ZoneInfo("UTC")))
    days = calendar(read(SPEC, given, now).daily)
    zone = ZoneInfo("Europe/Berlin")
    for place in (0, 5, len(days.days) // 2, len(days.days) - 1):
        midnight = datetime.combine(days.days[place] + timedelta(days=1), datetime.min.time(), zone)
        then = read(SPEC, given, Watermark(7, midnight - timedelta(microseconds=1)))
        for variant, moments in then.moments.items():
            mature = days.mature[variant][place]
            assert mature.n == moments.n
            np.testing.assert_allclose(mature.mean, moments.mean, rtol=1e-12)
            np.testing.assert_allclose(mature.m2, moments.m2, rtol=1e-9, atol=1e-9)


def made(
    spec: Experiment, effects: list[float], *, daily: int = 200, seed: int = 1
) -> tuple[MaturityDay, ...]:
    """Days with a difference of their own, standard deviation 20."""
    rng = np.random.default_rng(seed)

    def one(effect: float) -> Moments:
        margin = 30 + effect + rng.normal(0, 20, daily)
        rows = {"conversion": np.ones(daily), "revenue": margin, "margin": margin,
                "cost": np.zeros(daily)}  # fmt: skip
        return columns_of(spec, rows)

    return tuple(
        MaturityDay(date(2026, 2, 1) + timedelta(days=i), {"control": one(0.0), "ai": one(effect)})
        for i, effect in enumerate(effects)
    )


def test_the_running_interval_is_the_intersection_of_the_days() -> None:
    days = calendar(made(SPEC, [2.0] * 10))
    found = running(days, ("ai", "control"), "net", alpha=0.05, planned_n=4000)
    assert isinstance(found, Running)
    intervals, p_values = [], []
    for one, base in zip(days.mature["ai"], days.mature["control"], strict=True):
        now = mixture.anytime(
            one.sample("net"), base.sample("net"), alpha=0.05, planned_n=4000, nonzero=(200, 200)
        )
        assert isinstance(now, Estimate)
        assert isinstance(now.interval, Interval)
        intervals.append(now.interval)
        p_values.append(now.p_value)
    assert found.interval == Interval(
        max(one.lower for one in intervals), min(one.upper for one in intervals), 0.95
    )
    assert found.p_value == min(p for p in p_values if isinstance(p, float))
    assert drift_of(found) is None


def test_an_effect_that_turns_is_drift() -> None:
    days = calendar(made(SPEC, [12.0] * 10 + [-12.0] * 30))
    found = running(days, ("ai", "control"), "net", alpha=0.05, planned_n=4000)
    drift = drift_of(found)
    assert isinstance(drift, Drift)
    assert date(2026, 2, 11) < drift.since < date(2026, 3, 10)
    check = drift_check([("ai", found)])
    assert (check.code, check.severity) == ("drift", "warning")
    assert f"ai since {drift.since}" in check.detail


@pytest.mark.parametrize(
    ("daily", "planned", "reason"), [((), 4000, "no-units"), (None, None, "no-plan")]
)
def test_without_days_or_plan_there_is_none(daily: Any, planned: Any, reason: str) -> None:
    days = calendar(made(SPEC, [1.0]) if daily is None else daily)
    found = running(days, ("ai", "control"), "net", alpha=0.05, planned_n=planned)
    assert isinstance(found, NotEstimable)
    assert found.reason == reason
    assert drift_check([("ai", found)]).severity == "ok"


def analysed(effects: list[float], **given: Any) -> Analysis:
    rule = DecisionRule(Decimal(0), Decimal("0.8"), Decimal(10**6), timedelta(days=14), None)
    spec = experiment(
        plan=Plan(START, None, 4000, {}), decision=rule, metrics=(CONVERSION, REVENUE), **given
    )
    daily = made(spec, effects)
    days = calendar(daily)
    totals = {key: days.mature[key][-1] for key in ("control", "ai")}
    units = {
        key: {"conversion": np.ones(4), "revenue": np.ones(4), "margin": np.ones(4),
              "cost": np.ones(4)}
        for key in totals
    }  # fmt: skip
    counts = readout(spec, units).counts
    counts = tuple(
        type(one)(one.variant, one.weight, totals[one.variant].n, totals[one.variant].n, 0)
        for one in counts
    )
    found = readout(
        spec, units, moments=totals, counts=counts, daily=daily,
        all_units={key: moments.n for key, moments in totals.items()},
    )  # fmt: skip
    return evaluated(spec, found)


def test_drift_blocks_a_go_that_everything_else_speaks_for() -> None:
    steady = analysed([6.0] * 20)
    assert steady.decision.verdict == "GO"
    assert {check.code: check.severity for check in steady.checks}["drift"] == "ok"
    fading = analysed([30.0] * 10 + [-4.0] * 30)
    assert fading.decision.verdict == "CONTINUE"
    assert [r.code for r in fading.decision.reasons if not r.met] == ["drift"]
    assert {check.code: check.severity for check in fading.checks}["drift"] == "warning"
    document = json.loads(json.dumps(to_json(fading)))
    (net,) = [one for one in document["metrics"] if one["metric"] == "net"]
    assert net["running_interval"] is None
    assert net["reason"]["running_interval"]["code"] == "drift"
    assert (
        0
        < net["running_p"]
        <= next(one["p_value"] for one in net["estimates"] if one["method"] == "anytime")
    )
    assert "did not stay the same" in scorecard(fading)


def test_the_json_keeps_running_and_current_apart() -> None:
    document = json.loads(json.dumps(to_json(analysed([2.0] * 20))))
    (net,) = [one for one in document["metrics"] if one["metric"] == "net"]
    now = next(one for one in net["estimates"] if one["method"] == "anytime")
    assert now["interval"][0] <= net["running_interval"][0]
    assert net["running_interval"][1] <= now["interval"][1]
