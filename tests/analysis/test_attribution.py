"""Who bears the cost of an AI call; amounts small enough to check by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from klartext.analysis.booked import Booked
from klartext.analysis.completeness import completeness_of
from klartext.analysis.value import spent
from klartext.analysis.windows import Windows, windows
from klartext.experiments.experiment import Assumption, CostLine, Costs
from tests.analysis.samples import (
    DAY,
    START,
    call,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
    unit_rows,
)

MICROSECOND = timedelta(microseconds=1)
EXPOSED = [exposure(1, "ai"), exposure(2, "ai"), exposure(3, "control")]


def test_a_call_with_a_unit_enters_that_unit_until_its_value_counts_no_more() -> None:
    calls = [
        call("1", unit=1, variant="ai", occurred_at=START - 200 * DAY),  # ahead of the exposure
        call("2", unit=1, occurred_at=START + 14 * DAY - MICROSECOND),
        call("4", unit=1, occurred_at=START + 14 * DAY),
        call("8", unit=1, variant="control", occurred_at=START + 14 * DAY),  # its variant bears it
        call("16", unit=99, occurred_at=START + 14 * DAY),
    ]
    facts = tables(EXPOSED, [], calls)
    rows = unit_rows(experiment(), facts)
    assert [rows[unit]["cost"] for unit in (1, 2, 3)] == [3.0, 0.0, 8.0]
    usage = {one.charged_to: one for one in read(experiment(), facts).usage}
    after = usage["after"]
    assert (after.calls, after.amount, after.variant, after.counted) == (1, Decimal(4), "ai", False)
    assert usage["nobody"].amount == 16


def test_what_comes_after_the_window_is_in_no_worst_case() -> None:
    calls = [
        call("2", unit=1),
        call(None, unit=1, occurred_at=START + 14 * DAY),
        call(None, unit=2),
        call("32", unit=1, occurred_at=START + 15 * DAY),  # but nothing is known to be dearer
    ]
    rows = unit_rows(experiment(), tables(EXPOSED, [], calls))
    assert [rows[unit]["cost_high"] for unit in (1, 2, 3)] == [2.0, 32.0, 0.0]


def test_a_declared_window_of_cost_holds_for_calls_and_for_lines_per_event() -> None:
    review = CostLine("human_review", "event", Assumption(Decimal(10)), None, event="reviewed")
    late = START + 20 * DAY
    facts = tables(EXPOSED, [event(1, "reviewed", days=20)], [call("1", unit=1, occurred_at=late)])
    spec = experiment(costs=Costs(None, None, (review,)))
    assert unit_rows(spec, facts)[1]["cost"] == 0.0
    longer = replace(spec, costs=replace(spec.costs, window=21 * DAY))
    assert unit_rows(longer, facts)[1]["cost"] == 11.0
    assert windows(longer) == Windows(cost=21 * DAY, maturity=21 * DAY)
    assert windows(spec).maturity == 14 * DAY


def test_calls_after_the_window_are_spent_but_do_not_bear_on_completeness() -> None:
    after = START + 14 * DAY
    calls = [call("1", unit=1), *(call(None, unit=1, occurred_at=after) for _ in range(30)),
             call("4", unit=1, occurred_at=after)]  # fmt: skip
    spec = experiment()
    booked = Booked(spec, spec, read(spec, tables(EXPOSED, [], calls)))
    known = completeness_of(booked)
    assert (known.calls, known.priced_calls, known.calls_after) == (1, 1, 31)
    assert (known.priced_share, known.money_share) == (1.0, 1.0)
    assert spent(booked) == 5


def test_a_call_without_a_unit_is_shared_by_the_units_of_its_variant() -> None:
    rows = unit_rows(experiment(), tables(EXPOSED, [], [call("3", variant="ai")]))
    assert [rows[unit]["cost"] for unit in (1, 2, 3)] == [1.5, 1.5, 0.0]


def test_the_variant_on_the_call_decides_and_not_the_unit() -> None:
    calls = [call("3", unit=3, variant="ai"), call("1", unit=99, variant="ai")]
    rows = unit_rows(experiment(), tables(EXPOSED, [], calls))
    assert [rows[unit]["cost"] for unit in (1, 2, 3)] == [2.0, 2.0, 0.0]


def test_calls_of_an_excluded_unit_leave_with_it() -> None:
    facts = tables(
        [*EXPOSED, exposure(3, "ai", occurred_at=START + DAY)],
        [],
        [call("5", unit=3, variant="ai"), call("4", variant="ai")],
    )
    rows = unit_rows(experiment(), facts)
    assert [rows[unit]["cost"] for unit in (1, 2)] == [2.0, 2.0]
    assert rows[3]["cost"] == 5.0
    assert not any(usage.counted for usage in read(experiment(), facts).usage if usage.amount == 5)


def test_a_call_that_names_nobody_is_reported_and_charged_in_the_worst_case() -> None:
    facts = tables(EXPOSED, [], [call("4"), call("1", unit=1)])
    rows = unit_rows(experiment(), facts)
    assert [rows[unit]["cost"] for unit in (1, 2, 3)] == [1.0, 0.0, 0.0]
    assert [rows[unit]["cost_high"] for unit in (1, 2, 3)] == [3.0, 2.0, 0.0]
    (nobody,) = [one for one in read(experiment(), facts).usage if one.charged_to == "nobody"]
    assert (nobody.calls, nobody.amount, nobody.variant) == (1, Decimal(4), None)


def test_an_unpriced_call_costs_the_highest_price_in_the_worst_case() -> None:
    calls = [call(None, unit=1), call("2", unit=2), call(None, variant="ai")]
    rows = unit_rows(experiment(), tables(EXPOSED, [], calls))
    assert [rows[unit]["cost"] for unit in (1, 2)] == [0.0, 2.0]
    assert [rows[unit]["cost_high"] for unit in (1, 2)] == [3.0, 3.0]


def test_a_declared_source_keeps_other_sources_out_but_not_out_of_sight() -> None:
    spec = experiment(costs=Costs(None, "gateway", ()))
    facts = tables(
        EXPOSED, [purchase(1, "1")], [call("1", unit=1), call("1", unit=1, source="logs")]
    )
    assert unit_rows(spec, facts)[1]["cost"] == 1.0
    assert unit_rows(experiment(), facts)[1]["cost"] == 2.0
    assert {one.source: one.charged_to for one in read(spec, facts).usage} == {
        "gateway": "unit",
        "logs": "nobody",
    }


def test_all_calls_are_those_of_a_programme_while_its_units_earn() -> None:
    spec = experiment(key="all-ai", scope="programme")  # value counts for fourteen days
    exposed = [exposure(unit, variant, experiment="all-ai") for unit, variant in
               ((1, "ai"), (2, "ai"), (3, "control"))]  # fmt: skip
    calls = [
        call("1", unit=1, variant="gpt", experiment="mail"),  # of an experiment
        call("2", unit=1, experiment=None, occurred_at=START + 13 * DAY),  # of the live product
        call("4", unit=1, occurred_at=START + 14 * DAY),  # no margin is left to pay for it
        call("8", unit=1, occurred_at=START - DAY),  # before anything could be compared
        call("16", unit=3, variant="ai", experiment="mail"),  # held out, and got some all the same
        call("3", variant="ai", experiment="mail"),  # of nobody: all AI bears it
        call("5", unit=99, experiment="mail"),  # of a unit that was never compared
        call("64", occurred_at=START - DAY),
    ]
    rows = unit_rows(spec, tables(exposed, [], calls))
    assert [rows[unit]["cost"] for unit in (1, 2, 3)] == [3.0 + 4.0, 4.0, 16.0]
    # of the experiment itself: 8 of its unit, ahead of the exposure, 16 and 3 of its variant
    own = unit_rows(experiment(key="mail"), tables([exposure(1, "ai")], [], calls))
    assert own[1]["cost"] == 8.0 + 16.0 + 3.0


def test_a_call_with_an_unknown_variant_belongs_to_nobody() -> None:
    found = read(experiment(), tables(EXPOSED, [], [call("1", variant="retired")]))
    assert [one.charged_to for one in found.usage] == ["nobody"]
