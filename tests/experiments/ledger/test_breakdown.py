from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import ibis
import pyarrow as pa
import pytest

from klartext.experiments.ledger.breakdown import DIMENSIONS, breakdown, total

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        ("category", pa.string()),
        ("variant", pa.string()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("provider", pa.string()),
        ("source", pa.string()),
        ("experiment", pa.string()),
        ("evidence", pa.string()),
        ("occurred_at", pa.timestamp("us", "UTC")),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("amount", pa.decimal128(38, 12)),
    ]
)


def usage(*calls: dict[str, Any]) -> Any:
    defaults = {
        "category": "model_fees",
        "model": "m",
        "source": "gateway",
        "evidence": "list",
        "occurred_at": AT,
        "input_tokens": 10,
        "output_tokens": 2,
    }
    rows = pa.Table.from_pylist([defaults | call for call in calls], SCHEMA)
    return ibis.memtable(rows)


def test_ten_tenths_are_one() -> None:
    costs = total(usage(*[{"amount": Decimal("0.1")}] * 10))
    assert costs.amount == Decimal(1)
    assert (costs.calls, costs.input_tokens, costs.output_tokens) == (10, 100, 20)


def test_sum_keeps_digits_a_float_has_not() -> None:
    big, small = Decimal("12345678901234567.123456789012"), Decimal("0.000000000001")
    costs = total(usage({"amount": big}, {"amount": small}))
    assert costs.amount == Decimal("12345678901234567.123456789013")


def test_unpriced_calls_are_counted_and_never_zero() -> None:
    table = usage({"amount": Decimal(3)}, {"amount": None}, {"amount": None, "model": "house"})
    whole = total(table)
    assert (whole.calls, whole.priced_calls, whole.unpriced_calls) == (3, 1, 2)
    assert (whole.amount, whole.mean) == (Decimal(3), Decimal(3))
    priced, house = breakdown(table, "model", timezone="UTC")
    assert (priced.key, priced.calls, priced.amount) == ("m", 2, Decimal(3))
    assert (house.key, house.calls, house.amount, house.mean) == ("house", 1, None, None)


def test_nothing_costs_nothing_known() -> None:
    assert total(usage()).amount is None
    assert breakdown(usage(), "category", timezone="UTC") == ()


def test_calls_that_do_not_say_stay_a_row_of_their_own() -> None:
    table = usage({"amount": Decimal(1), "variant": "ai"}, {"amount": Decimal(2)})
    assert [(costs.key, costs.amount) for costs in breakdown(table, "variant", timezone="UTC")] == [
        (None, Decimal(2)),
        ("ai", Decimal(1)),
    ]


def test_days_are_those_of_the_workspace() -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    table = usage({"amount": Decimal(1)}, {"amount": Decimal(2), "occurred_at": late})
    assert [costs.key for costs in breakdown(table, "day", timezone="UTC")] == ["2026-03-01"]
    in_berlin = breakdown(table, "day", timezone="Europe/Berlin")
    assert [(costs.key, costs.amount) for costs in in_berlin] == [
        ("2026-03-01", Decimal(1)),
        ("2026-03-02", Decimal(2)),
    ]
    # 23:30 UTC is 05:00 in Kolkata: offsets of half hours count too.
    early = usage({"amount": Decimal(1), "occurred_at": datetime(2026, 3, 1, 18, 29, tzinfo=UTC)})
    assert breakdown(early, "day", timezone="Asia/Kolkata")[0].key == "2026-03-01"


@pytest.mark.parametrize("by", DIMENSIONS)
def test_every_breakdown_adds_up_to_the_total(by: Any) -> None:
    table = usage(
        {"amount": Decimal("0.000000000001"), "variant": "a", "evidence": "x"},
        {"amount": Decimal("1.5"), "model": "other", "category": "media", "provider": "p"},
        {"amount": None, "experiment": "e", "source": "s", "cached_tokens": 4},
    )
    parts, whole = breakdown(table, by, timezone="Europe/Berlin"), total(table)
    assert sum(part.calls for part in parts) == whole.calls
    assert sum(part.priced_calls for part in parts) == whole.priced_calls
    assert sum(part.cached_tokens for part in parts) == whole.cached_tokens
    assert sum(part.amount or Decimal(0) for part in parts) == whole.amount
