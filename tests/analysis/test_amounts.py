from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from klartext.analysis.amounts import Amounts
from tests.analysis.samples import (
    REVENUE,
    REVENUE_NET_OF_REFUNDS,
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
    found = read(experiment(), tables([exposure(1, "ai")], [event(1, value=Decimal(3))]))
    assert not found.amounts[0].is_money


def test_a_property_without_a_value_is_missing_even_if_the_event_has_an_amount() -> None:
    spec = experiment(metrics=(replace(REVENUE, value="amount_net"),))
    found = read(spec, tables([exposure(1, "ai")], [purchase(1, "5")]))
    assert (found.amounts[0].missing, found.amounts[0].is_money) == (1, True)
