"""The rows of the breakdown add up to the cost of the window."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from klartext.analysis.result import Analysis, CostItem
from klartext.experiments.experiment import Assumption, CostLine, Costs, Inference
from tests.analysis.samples import (
    DAY,
    START,
    call,
    evaluated,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
)

LINES = (
    CostLine("human_review", "event", Assumption(Decimal("1.20")), None, event="review"),
    CostLine("other", "unit", Assumption(Decimal("0.10")), "ai", label="postage"),
    CostLine("monitoring", "month", Assumption(Decimal(250)), "ai"),
    CostLine("licences", "month", Assumption(Decimal(90)), "control"),
    CostLine("engineering", "amortised", Assumption(Decimal(2400)), "ai", life_months=24),
    CostLine("qa", "once", Assumption(Decimal(70)), None),
)
SPEC = experiment(
    registration="retrospective",
    inference=Inference("fixed", Decimal("0.05"), Decimal("0.1")),
    costs=Costs(None, None, LINES),
)
LATE = START + 55 * DAY


def analysed() -> Analysis:
    facts = tables(
        [
            *(exposure(unit, "ai") for unit in (1, 2, 3)),
            exposure(4, "ai", occurred_at=LATE),
            *(exposure(unit, "control") for unit in (5, 6)),
            exposure(7, "control", occurred_at=LATE),
        ],
        [
            purchase(1, "10"),
            purchase(5, "4"),
            event(1, "review"),
            event(2, "review"),
            event(4, "review", occurred_at=LATE),
            event(5, "review"),
        ],
        [
            call("0.5", unit=1),
            call("0.25", unit=4),
            call(None, unit=2),
            call("2", variant="ai", model="batch"),
            call("0.3", unit=5),
            call("0.6", variant="control", model="batch"),
        ],
    )
    return evaluated(SPEC, read(SPEC, facts))


def rows(analysis: Analysis) -> dict[tuple[str, str, str], CostItem]:
    return {
        (item.behaviour, item.category, item.label): item for item in analysis.treatments[0].costs
    }


def test_the_rows_add_up_to_the_cost_of_the_window() -> None:
    found = analysed()
    total = sum((item.amount for item in found.treatments[0].costs if item.amount), Decimal(0))
    assert float(total) == pytest.approx(found.treatments[0].window.cost, abs=1e-9)


def test_shared_and_fixed_rows_count_in_proportion_to_maturity() -> None:
    found = rows(analysed())
    assert found["shared", "model_fees", "batch"].amount == Decimal("1.5")
    assert found["once", "qa", "qa"].amount == Decimal("52.5")
    assert found["unit", "other", "postage"].amount == Decimal("0.30")
    assert found["event", "human_review", "review"].quantity == 2


def test_calls_without_a_price_are_a_row_without_an_amount() -> None:
    unpriced = [item for item in analysed().treatments[0].costs if item.amount is None]
    assert [(item.quantity, item.evidence) for item in unpriced] == [(Decimal(1), "no price")]


def test_what_the_control_costs_is_taken_off_for_as_many_units() -> None:
    taken_off = {
        (item.category, item.label): item.amount
        for item in analysed().treatments[0].costs
        if item.behaviour == "baseline"
    }
    # Three treated units against two of the control; fixed cost is not per unit.
    assert taken_off["model_fees", "gpt-4o"] == Decimal("-0.45")
    assert taken_off["model_fees", "batch"] == Decimal("-0.6")
    assert taken_off["human_review", "review"] == Decimal("-1.8")
    licences = taken_off["licences", "licences"]
    assert licences is not None
    assert float(licences) == pytest.approx(-90 * 2 / 3 * _months())


def _months() -> float:
    """From 5 January 10:00 to 6 March 10:00 in Berlin."""
    return (27 - 10 / 24) / 31 + 1 + (5 + 10 / 24) / 31


def test_without_units_in_the_control_nothing_is_taken_off() -> None:
    found = evaluated(SPEC, read(SPEC, tables([exposure(1, "ai"), exposure(2, "ai")])))
    assert {item.behaviour for item in found.treatments[0].costs}.isdisjoint({"baseline"})


def test_amounts_have_twelve_decimal_places() -> None:
    lines = (CostLine("qa", "once", Assumption(Decimal(100)), "ai"),)
    spec = replace(SPEC, costs=Costs(None, None, lines))
    facts = tables(
        [exposure(1, "ai"), exposure(2, "ai", occurred_at=LATE), exposure(3, "ai")],
    )
    (item,) = evaluated(spec, read(spec, facts)).treatments[0].costs
    assert item.amount == Decimal("66.666666666667")
