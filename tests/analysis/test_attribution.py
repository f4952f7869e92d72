"""Who bears the cost of an AI call; amounts small enough to check by hand."""

from __future__ import annotations

from decimal import Decimal

from klartext.experiments.experiment import Costs
from tests.analysis.samples import (
    DAY,
    START,
    call,
    experiment,
    exposure,
    purchase,
    read,
    tables,
    unit_rows,
)

EXPOSED = [exposure(1, "ai"), exposure(2, "ai"), exposure(3, "control")]


def test_a_call_with_a_unit_enters_that_unit_whenever_it_happened() -> None:
    calls = [
        call("1", unit=1, variant="ai", occurred_at=START - 5 * DAY),
        call("2", unit=1, occurred_at=START + 200 * DAY),
    ]
    rows = unit_rows(experiment(), tables(EXPOSED, [], calls))
    assert [rows[unit]["cost"] for unit in (1, 2, 3)] == [3.0, 0.0, 0.0]


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
    # of the experiment itself: 4 and 8 of its unit at any time, 16 and 3 of its variant
    own = unit_rows(experiment(key="mail"), tables([exposure(1, "ai")], [], calls))
    assert own[1]["cost"] == 4.0 + 8.0 + 16.0 + 3.0


def test_a_call_with_an_unknown_variant_belongs_to_nobody() -> None:
    found = read(experiment(), tables(EXPOSED, [], [call("1", variant="retired")]))
    assert [one.charged_to for one in found.usage] == ["nobody"]
