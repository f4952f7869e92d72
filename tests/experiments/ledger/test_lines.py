from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.ledger.fx import Rates
from klartext.experiments.ledger.lines import LineError, check, converted, may_supersede
from klartext.experiments.money import Money
from tests.experiments.ledger.books import LATER, NOVEMBER, OCTOBER, line

HALF = OCTOBER + (NOVEMBER - OCTOBER) / 2


def test_a_period_cuts_what_is_spread_over_time() -> None:
    assert line("310").within(OCTOBER, OCTOBER + timedelta(days=1)) == Decimal(10)
    assert line("100").within(OCTOBER, HALF) == Decimal(50)
    assert line("100").within(NOVEMBER, LATER) == Decimal(0)
    assert line("-100").within(OCTOBER - timedelta(days=9), LATER) == Decimal(-100)


def test_a_one_off_falls_on_its_first_instant() -> None:
    once = line("100", behaviour="one_off")
    assert once.within(OCTOBER, OCTOBER + timedelta(hours=1)) == Decimal(100)
    assert once.within(HALF, LATER) == Decimal(0)


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=12),
    st.lists(st.integers(min_value=-5, max_value=40), min_size=1, max_size=6),
)
def test_adjoining_periods_add_up_to_the_last_digit(amount: Decimal, days: list[int]) -> None:
    cuts = sorted(OCTOBER + timedelta(days=day, hours=7) for day in days)
    edges = [OCTOBER - timedelta(days=9), *cuts, LATER]
    whole = replace(line(), reporting=amount)
    parts = [whole.within(a, b) for a, b in pairwise(edges)]
    assert sum(parts) == amount


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"end": OCTOBER}, "bad-period"),
        ({"start": datetime(2026, 10, 1)}, "naive-time"),  # noqa: DTZ001 - the mistake
        ({"category": "fees"}, "bad-category"),
        ({"status": "paid"}, "bad-status"),
        ({"kind": "gift"}, "bad-kind"),
        ({"behaviour": "daily"}, "bad-behaviour"),
        ({"kind": "credit"}, "bad-credit"),
        ({"variant": "ai"}, "experiment-missing"),
        ({"status": "void"}, "bad-void"),
        ({"status": "void", "supersedes": 1}, "bad-void"),
    ],
)
def test_what_is_no_line(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(LineError) as caught:
        check(line(**change))
    assert caught.value.reason == reason


def test_a_line_becomes_surer_or_void() -> None:
    for before, after, may in (
        ("estimated", "accrued", True),
        ("accrued", "invoiced", True),
        ("invoiced", "invoiced", True),
        ("invoiced", "settled", True),
        ("invoiced", "accrued", False),
        ("settled", "settled", False),
        ("settled", "void", True),
        ("void", "invoiced", False),
    ):
        old, new = line(status=before), line(status=after)
        if may:
            assert may_supersede(new, old) is new
        else:
            with pytest.raises(LineError):
                may_supersede(new, old)


def test_a_voided_line_costs_nothing_and_is_one() -> None:
    voided = line(billed=Decimal(7), vat=Decimal(19)).voided(3)
    assert check(voided).supersedes == 3
    assert (voided.reporting, voided.billed, voided.vat) == (Decimal(0),) * 3


def test_money_has_the_rate_of_the_first_day_of_service() -> None:
    friday = date(2026, 10, 2)
    rates = Rates("test", {"USD": ((friday,), (Decimal("1.25"),))})
    sunday = datetime(2026, 10, 4, 12, tzinfo=UTC)
    found = converted(Money(Decimal(10), "USD"), "EUR", rates, at=sunday, timezone="UTC")
    assert found.amount == Decimal(8)  # a weekend has Friday's rate
    with pytest.raises(LineError, match="no-exchange-rate"):
        converted(Money(Decimal(10), "USD"), "EUR", rates, at=LATER, timezone="UTC")
