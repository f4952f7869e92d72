from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from klartext.analysis.amounts import Amounts
from tests.analysis.samples import (
    REVENUE,
    REVENUE_NET_OF_REFUNDS,
    evaluated,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
)


def test_amounts_that_cannot_be_counted_are_reported() -> None:
    spec = experiment(metrics=(REVENUE_NET_OF_REFUNDS,))
    events = [
        purchase(1, "5"),
        event(1),
        purchase(1, "7") | {"currency": "USD"},
        event(1, "refund", value=Decimal(-2), currency="EUR"),
        event(1, "refund"),
        purchase(1, "5", days=15),
        purchase(2, "5"),
    ]
    found = read(spec, tables([exposure(1, "ai")], events))
    assert found.amounts == (
        Amounts(
            "revenue",
            events=3,
            refunds=2,
            is_money=True,
            missing=2,
            foreign=1,
            negative_refunds=1,
        ),
    )


def test_a_number_without_currency_is_not_money() -> None:
    found = read(experiment(value=()), tables([exposure(1, "ai")], [event(1, value=Decimal(3))]))
    assert (found.amounts[0].is_money, found.amounts[0].bare) == (False, 0)
    assert found.moments["ai"].sample("revenue").mean == 3


def test_a_margin_is_never_taken_of_a_number_without_currency() -> None:
    spec = experiment(metrics=(REVENUE_NET_OF_REFUNDS,))
    events = [
        purchase(1, "5"),
        event(1, value=Decimal(300)),
        event(1),  # no amount at all
        event(1, "refund", value=Decimal(2)),
        event(1, "refund", value=Decimal(1), currency="EUR"),
    ]
    found = read(spec, tables([exposure(1, "ai")], events))
    assert found.moments["ai"].sample("margin").mean == 4
    amounts = found.amounts[0]
    assert (amounts.bare, amounts.missing, amounts.foreign) == (2, 1, 0)
    check = next(c for c in evaluated(spec, found).checks if c.code == "no_currency")
    assert (check.severity, check.value) == ("invalid", 2 / 5)


def test_a_property_is_money_by_its_declaration() -> None:
    spec = experiment(metrics=(replace(REVENUE_NET_OF_REFUNDS, value="amount_net"),))
    events = [
        event(1, value=Decimal(300), p_amount_net=Decimal(7)),
        event(1, value=Decimal(300)),
        event(1, "refund", value=Decimal(2)),
    ]
    found = read(spec, tables([exposure(1, "ai")], events))
    assert found.moments["ai"].sample("margin").mean == 7
    assert (found.amounts[0].missing, found.amounts[0].bare) == (1, 1)


def test_a_property_without_a_value_is_missing_even_if_the_event_has_an_amount() -> None:
    spec = experiment(metrics=(replace(REVENUE, value="amount_net"),))
    found = read(spec, tables([exposure(1, "ai")], [purchase(1, "5")]))
    assert (found.amounts[0].missing, found.amounts[0].is_money) == (1, True)
