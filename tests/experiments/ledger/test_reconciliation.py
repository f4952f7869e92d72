"""Bills against calls, worked out by hand; months are those of Berlin."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import ibis
import pyarrow as pa

from klartext.experiments.ledger.book import Recorded
from klartext.experiments.ledger.lines import Line
from klartext.experiments.ledger.reconciliation import Month, billed_lines, called, reconcile
from tests.experiments.ledger.books import LATER, OCTOBER, line

BERLIN = "Europe/Berlin"
_CALLS = pa.schema(
    [
        ("occurred_at", pa.timestamp("us", "UTC")),
        ("provider", pa.string()),
        ("model", pa.string()),
        ("amount", pa.decimal128(38, 12)),
    ]
)


def months(
    calls: Sequence[tuple[datetime, str | None, str, str | None]], *bills: Line
) -> tuple[Month, ...]:
    rows = [
        {"occurred_at": at, "provider": provider, "model": model,
         "amount": None if amount is None else Decimal(amount)}
        for at, provider, model, amount in calls
    ]  # fmt: skip
    usage = ibis.memtable(pa.Table.from_pylist(rows, schema=_CALLS))
    recorded = [Recorded(n, f"{n}", LATER, "lena", one) for n, one in enumerate(bills, start=1)]
    found = billed_lines(recorded, lambda _, amount: amount)
    return reconcile(found, called(usage, BERLIN), BERLIN)


def bill(amount: str, **more: Any) -> Line:
    zone = {
        "start": datetime.fromisoformat("2026-10-01T00:00+02:00"),
        "end": datetime.fromisoformat("2026-11-01T00:00+01:00"),
    }
    stated = {"status": "invoiced", "provider": "OpenAI", "category": "model_fees"}
    return line(amount, **(zone | stated | more))


DAY = datetime(2026, 10, 5, tzinfo=UTC)


def test_a_bill_above_the_prices() -> None:
    """Billed 100 - 4 credit; priced 80 and 10; 6 more are 6.25 % of 96."""
    calls = [
        (DAY, "openai", "big", "80"),
        (DAY, "openai", "small", "10"),
        (DAY, "openai", "small", None),
    ]
    (found,) = months(calls, bill("100"), bill("-4", kind="credit"), bill("19", kind="tax"))
    assert (found.month, found.provider, found.lines) == ("2026-10", "openai", 2)
    assert [found.billed, found.priced, found.difference] == [96, 90, 6]
    assert found.share == Decimal("0.062500")
    assert [(one.model, one.calls, one.unpriced, one.priced) for one in found.models] == [
        ("big", 1, 0, Decimal(80)),
        ("small", 2, 1, Decimal(10)),
    ]
    assert found.missing == ("prices",)


def test_billed_and_not_effective_cost_is_reconciled() -> None:
    (found,) = months([(DAY, "openai", "big", "5")], bill("3", billed=Decimal(12)))
    assert [found.billed, found.effective, found.difference] == [12, 3, 7]


def test_what_is_missing_is_said() -> None:
    last = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)  # 1 November, 0:30 in Berlin
    found = months([(last, "openai", "big", "5"), (DAY, None, "big", "1")], bill("7"))
    assert [(one.month, one.provider, one.missing, one.share) for one in found] == [
        ("2026-10", "", ("bill",), None),
        ("2026-10", "openai", ("calls",), Decimal(1)),
        ("2026-11", "openai", ("bill",), None),
    ]


def test_estimates_shares_and_other_providers_are_no_bills() -> None:
    calls = [(DAY, "openai", "big", "5")]
    others = (bill("7", status="accrued"), bill("7", allocates=4), bill("7", provider="AWS"))
    (found,) = months(calls, *others, bill("7", provider=None))
    assert [found.lines, found.billed] == [0, 0]


def test_a_bill_over_two_months_is_spread_by_time() -> None:
    """61 days from 1 October UTC: 31 and 30 of them (the clocks of UTC do not change)."""
    recorded = [Recorded(1, "a", LATER, "lena", bill("610", start=OCTOBER, end=LATER))]
    rows = [{"occurred_at": DAY, "provider": "openai", "model": "big", "amount": Decimal(5)}]
    table = ibis.memtable(pa.Table.from_pylist(rows, schema=_CALLS))
    found = reconcile(billed_lines(recorded, lambda _, x: x), called(table, "UTC"), "UTC")
    assert [one.month for one in found] == ["2026-10", "2026-11"]
    assert [one.billed for one in found] == [310, 300]
    once = bill("61", start=OCTOBER, end=LATER, behaviour="one_off")
    (found_once,) = months([(DAY, "openai", "big", "5")], once)
    assert found_once.billed == 61
