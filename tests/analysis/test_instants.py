"""Microseconds by the engine's own function against Python's and the portable expression."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import ibis
import pyarrow as pa
import pytest

from klartext.analysis.engine import open_engine
from klartext.analysis.instants import microseconds, since_epoch, whole

INSTANTS = [
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2026, 3, 29, 0, 59, 59, 999_999, tzinfo=UTC),  # the clocks of Berlin go forward
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]
EXPECTED = [(at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for at in INSTANTS]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Auckland"])
def test_stored_tables_give_the_stored_integer_in_every_session_zone(zone: str) -> None:
    rows = pa.table({"at": pa.array(INSTANTS, pa.timestamp("us", "UTC"))})
    with open_engine() as engine:
        engine.raw_sql(f"SET TimeZone = '{zone}'")
        table = engine.create_table("instants", rows)
        expression = microseconds(table["at"].cast("timestamp('UTC')"))
        assert "EPOCH_US" in str(ibis.to_sql(expression))
        assert expression.to_pyarrow().to_pylist() == EXPECTED


def test_tables_in_memory_take_the_portable_expression() -> None:
    rows = pa.table({"at": pa.array(INSTANTS, pa.timestamp("us", "UTC"))})
    expression = microseconds(ibis.memtable(rows)["at"])
    assert "EPOCH_US" not in str(ibis.to_sql(expression))
    with open_engine() as engine:
        assert engine.to_pyarrow(expression).to_pylist() == EXPECTED


def test_python_instants_and_spans_count_alike() -> None:
    assert [since_epoch(at) for at in INSTANTS] == EXPECTED
    assert whole(timedelta(days=1, microseconds=1)) == 86_400_000_001
