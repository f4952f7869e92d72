"""The course of an experiment: by hand, and against plain Python on nasty facts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from klartext.analysis.engine import open_engine
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.series import Series, read_series
from klartext.experiments.experiment import Assumption, CostLine, Costs, Experiment, Metric
from klartext.experiments.watermark import Watermark
from tests.analysis import nasty
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE_NET_OF_REFUNDS,
    START,
    WATERMARK,
    Tables,
    call,
    event,
    experiment,
    exposure,
    purchase,
    tables,
    unit_rows,
)

BERLIN = ZoneInfo("Europe/Berlin")
SPEC = experiment(metrics=(CONVERSION, REVENUE_NET_OF_REFUNDS), lateness=timedelta(0))


def series(spec: Experiment, facts: Tables, watermark: Watermark = WATERMARK) -> Series:
    with open_engine() as engine:
        return read_series(spec, facts, watermark, engine=engine)  # type: ignore[arg-type]  # alike


def test_a_conversion_counts_on_its_first_day_and_money_on_every_day() -> None:
    facts = tables(
        [exposure(1, "ai"), exposure(2, "control")],
        [
            purchase(1, "10", days=1), purchase(1, "20", days=1), purchase(1, "5", days=3),
            purchase(1, "7", days=15),  # after the window of 14 days
            event(1, "refund", days=20, value=Decimal(4), currency="EUR"),
        ],
        [
            call("0.5", unit=1, variant="ai", occurred_at=START - 2 * DAY),
            call("0.25", unit=1, variant="ai", occurred_at=START + 3 * DAY),
            call("1", variant="ai", occurred_at=START + 5 * DAY),  # shared
        ],
    )  # fmt: skip
    found = series(SPEC, facts)
    days = {(row.day, row.variant): row for row in found.days}
    first = START.date()
    assert min(days)[0] == first - timedelta(days=2)
    assert days[first - timedelta(days=2), "ai"].totals["cost"] == 0.5
    assert [days[first, key].exposed for key in ("control", "ai")] == [1, 1]
    second = days[first + timedelta(days=1), "ai"].totals
    assert (second["conversion"], second["revenue"], second["net"]) == (1, 30, 30)
    fourth = days[first + timedelta(days=3), "ai"].totals
    assert (fourth["conversion"], fourth["revenue"]) == (0, 5)
    assert (fourth["cost"], fourth["net"]) == (0.25, 4.75)
    assert days[first + timedelta(days=5), "ai"].totals["cost"] == 1
    assert days[first + timedelta(days=15), "ai"].totals["revenue"] == 0
    assert days[first + timedelta(days=20), "ai"].totals["revenue"] == -4
    ages = {(row.age, row.variant): row for row in found.ages}
    assert ages[0, "ai"].totals["cost"] == 0.5 + 1  # before the exposure, and the shared call
    assert ages[1, "ai"].totals["revenue"] == 30
    assert max(ages)[0] == 27  # refunds count for 28 days
    assert ages[20, "ai"].totals["revenue"] == -4
    cohorts = {(row.age, row.variant): row for row in found.cohorts}
    assert cohorts[0, "ai"].week == date(2026, 1, 5)
    totals = cohorts[0, "ai"].totals
    assert not isinstance(totals, NotEstimable)
    assert (totals["conversion"], totals["revenue"], totals["cost"]) == (1, 35, 1.75)


def test_a_day_since_exposure_counts_units_that_have_lived_through_it() -> None:
    """Cutoff 60 days after START; the second unit is 2 days old, the third 12 hours."""
    facts = tables(
        [
            exposure(1, "ai"),
            exposure(2, "ai", occurred_at=START + 58 * DAY),
            exposure(3, "ai", occurred_at=START + 59.5 * DAY),
        ],
        [purchase(u, "1", days=d) for u, d in ((1, 0.5), (2, 58.5), (2, 59.5), (3, 59.6))],
    )
    ages = {row.age: row for row in series(SPEC, facts).ages if row.variant == "ai"}
    assert [ages[age].units for age in (0, 1, 2)] == [2, 2, 1]
    assert [ages[age].totals["revenue"] for age in (0, 1, 2)] == [2, 1, 0]
    late = series(replace(SPEC, lateness=timedelta(days=1)), facts)
    assert [row.units for row in late.ages if row.variant == "ai"][:2] == [2, 1]


def test_a_cohort_waits_for_its_youngest_unit() -> None:
    facts = tables(
        [exposure(1, "ai", occurred_at=START + 49 * DAY), exposure(2, "control"),
         exposure(3, "control", occurred_at=START + 53 * DAY + timedelta(hours=1))]
    )  # fmt: skip
    found = series(SPEC, facts)
    young = [row for row in found.cohorts if row.week == date(2026, 2, 23)]
    assert [(row.age, row.variant, row.units) for row in young[:2]] == [
        (0, "control", 1), (0, "ai", 1),
    ]  # fmt: skip
    assert all(isinstance(row.totals, NotEstimable) for row in young)


def test_days_are_those_of_the_workspace_when_clocks_change() -> None:
    night = datetime(2026, 3, 28, 22, 59, tzinfo=UTC)
    facts = tables(
        [exposure(unit, "ai", occurred_at=night + hours * timedelta(hours=1))
         for unit, hours in enumerate((0, 0.5, 23, 23.5))]
    )  # fmt: skip
    late = Watermark(batch=7, cutoff=night + 90 * DAY)
    days = {row.day: row.exposed for row in series(SPEC, facts, late).days if row.variant == "ai"}
    assert days == {date(2026, 3, 28): 1, date(2026, 3, 29): 2, date(2026, 3, 30): 1}


def test_the_last_days_are_marked_as_incomplete() -> None:
    facts = tables([exposure(1, "ai"), exposure(2, "ai", occurred_at=START + 60 * DAY)])
    complete = [row.complete for row in series(SPEC, facts).days if row.variant == "ai"]
    assert complete == [True, False]


def test_cost_lines_and_values_add_up_to_the_unit_table() -> None:
    lines = (
        CostLine("human_review", "event", Assumption(Decimal("1.2")), "ai", event="review"),
        CostLine("other", "unit", Assumption(Decimal("0.10")), None),
    )
    spec = replace(SPEC, costs=Costs(None, "gateway", lines))
    facts = tables(
        [exposure(u, "ai" if u % 2 else "control") for u in range(20)],
        [event(u, name, days=u % 5) for u in range(20) for name in ("review", "purchase")]
        + [purchase(u, f"{u}.5", days=u % 16) for u in range(20)],
        [call("0.3", unit=u, variant="ai") for u in range(1, 9, 2)] + [call("2", variant="ai")],
    )
    rows, found = unit_rows(spec, facts), series(spec, facts)
    for variant in ("control", "ai"):
        for column in ("conversion", "revenue", "margin", "cost", "net"):
            expected = sum(row[column] for row in rows.values() if row["variant"] == variant)
            for part in (found.days, found.ages, found.cohorts):
                total = sum(
                    row.totals[column]
                    for row in part
                    if row.variant == variant and not isinstance(row.totals, NotEstimable)
                )
                assert total == pytest.approx(expected), (variant, column, part[0])


def test_without_facts_there_is_nothing() -> None:
    found = series(SPEC, tables([]))
    assert (found.days, found.ages, found.cohorts) == ((), (), ())
    assert found.metrics == ("conversion", "revenue")


def sign_of(one: dict[str, Any], age: timedelta) -> int:
    if one["name"] == "purchase" and timedelta(0) <= age < 14 * DAY:
        return 1
    return -1 if one["name"] == "refund" and timedelta(0) <= age < 28 * DAY else 0


def independent(spec: Experiment, facts: nasty.Facts) -> dict[str, dict[Any, float]]:
    """Units, revenue and conversions by day and by age, by plain Python."""
    rows = unit_rows(spec, tables(facts.exposures, facts.events, facts.usage_costs))
    kept = {unit: row for unit, row in rows.items() if not row["excluded"]}
    names = ("exposed", "revenue", "conversion", "units", "age")
    found: dict[str, dict[Any, float]] = {name: defaultdict(float) for name in names}
    known = WATERMARK.cutoff - spec.lateness
    for row in kept.values():
        found["exposed"][row["exposed_at"].astimezone(BERLIN).date(), row["variant"]] += 1
        for age in range(max(0, (known - row["exposed_at"]) // DAY)):
            found["units"][age, row["variant"]] += 1
    firsts: dict[int, Any] = {}
    for one in facts.events:
        if one["unit"] not in kept or one.get("ingest_batch", 1) > WATERMARK.batch:
            continue
        unit = kept[one["unit"]]
        old = one["occurred_at"] - unit["exposed_at"]
        sign = sign_of(one, old)
        if sign > 0:
            firsts[one["unit"]] = min(old, firsts.get(one["unit"], old))
        if one.get("value") is not None and one.get("currency") == "EUR":  # revenue is money
            at = one["occurred_at"].astimezone(BERLIN).date()
            found["revenue"][at, unit["variant"]] += sign * float(one["value"])
            if unit["exposed_at"] + (old // DAY + 1) * DAY <= known:
                found["age"][old // DAY, unit["variant"]] += sign * float(one["value"])
    for number, old in firsts.items():
        at = (kept[number]["exposed_at"] + old).astimezone(BERLIN).date()
        found["conversion"][at, kept[number]["variant"]] += 1
    return found


def test_it_agrees_with_plain_python_on_nasty_facts() -> None:
    facts = nasty.generate(23, units=500)
    # Amounts of 1e14 leave no digits to compare the others by; the engines' tests keep them.
    facts.events = [one for one in facts.events if abs(one.get("value") or 0) < 10**12]
    spec = nasty.spec()
    spec = replace(spec, metrics=(*spec.metrics, Metric("half", "ratio", None, None, 0 * DAY,
                                                        "increase", numerator="revenue",
                                                        denominator="conversion")))  # fmt: skip
    made = series(spec, tables(facts.exposures, facts.events, facts.usage_costs))
    expected = independent(spec, facts)
    assert made.ratios == {"half": ("revenue", "conversion")}
    exposed = {(row.day, row.variant): row.exposed for row in made.days if row.exposed}
    assert exposed == expected["exposed"]
    for name in ("revenue", "conversion"):
        for row in made.days:
            amount = expected[name].get((row.day, row.variant), 0.0)
            assert row.totals[name] == pytest.approx(amount, abs=1e-6), (name, row.day)
    assert made.ages
    assert max(aged.age for aged in made.ages) == 27
    for aged in made.ages:
        key = (aged.age, aged.variant)
        assert aged.units == expected["units"].get(key, 0)
        assert aged.totals["revenue"] == pytest.approx(expected["age"].get(key, 0.0), abs=1e-6)
