from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import ibis
import pytest

from klartext.experiments.door import PropertyType
from klartext.experiments.errors import ConflictError, KlartextError
from klartext.experiments.facts import WRITER, ConcurrentAppendError, FactsStore
from klartext.experiments.records import EventRow
from tests.experiments.doors import NOW, PROPERTIES, event_row


@pytest.fixture
def store(tmp_path: Path) -> FactsStore:
    return FactsStore(f"{tmp_path}/facts", PROPERTIES)


def append(store: FactsStore, *rows: EventRow, version: int = 1) -> None:
    table = store.to_arrow("events", rows, batch=version, received_at=NOW)
    store.append("events", table, application="test", version=version, fence=version)


def test_rows_come_back_as_they_went_in(store: FactsStore) -> None:
    append(store, event_row(1))
    events = store.tables(ibis.duckdb.connect()).events
    assert events.schema() == ibis.Schema.from_pyarrow(store.schema("events"))
    (row,) = events.to_pyarrow().to_pylist()
    assert row["id"] == event_row(1).id
    assert (row["value"], row["currency"]) == (Decimal("1.5"), "EUR")
    assert row["occurred_at"] == NOW
    assert row["day"] == NOW.date()
    assert (row["p_items"], row["p_country"]) == (2, None)
    assert (row["ingest_batch"], row["received_at"]) == (1, NOW)


def test_tables_without_rows_have_their_columns(store: FactsStore) -> None:
    tables = store.tables(ibis.duckdb.connect())
    assert tables.exposures.count().to_pyarrow().as_py() == 0
    assert tables.usage_costs.columns == tuple(store.schema("usage_costs").names)


def test_a_commit_names_its_delivery_and_its_writer(store: FactsStore) -> None:
    append(store, event_row(1), version=3)
    snapshot = store.snapshot("events")
    assert (snapshot.committed("test"), snapshot.committed(WRITER)) == (3, 3)
    assert snapshot.committed("other") is None


@pytest.mark.parametrize("damaged", ["{", "{}\n{", None])
def test_a_damaged_log_is_said_to_be_damaged(store: FactsStore, damaged: str | None) -> None:
    append(store, event_row(1))
    append(store, event_row(2), version=2)
    commit = Path(store.location("events"), "_delta_log", f"{1:020d}.json")
    if damaged is None:
        commit.unlink()
    else:
        commit.write_text(damaged)
    with pytest.raises(KlartextError, match=r"facts in .*events cannot .* Restore .*events/_del"):
        store.summary("events")
    assert store.summary("exposures").rows == 0


def test_two_writers_that_read_the_same_version_conflict(store: FactsStore) -> None:
    append(store, event_row(1))
    stale = store.snapshot("events")
    append(store, event_row(2), version=2)
    rows = store.to_arrow("events", [event_row(3)], batch=3, received_at=NOW)
    with pytest.raises(ConcurrentAppendError):
        store.append("events", rows, application="else", version=1, fence=9, read=stale)
    assert store.summary("events").rows == 2


def test_known_finds_ids_over_the_whole_table(store: FactsStore) -> None:
    append(store, event_row(1), event_row(2))
    append(store, event_row(3), version=2)
    ids = [event_row(number).id for number in (1, 3, 9)]
    found = store.snapshot("events").known(ids).to_pylist()
    assert {row["id"]: row["ingest_batch"] for row in found} == {ids[0]: 1, ids[1]: 2}
    assert store.count_batch("events", 1) == 2


def declared(store: FactsStore, **properties: PropertyType) -> FactsStore:
    return FactsStore(store.root, properties)


def test_properties_may_be_declared_and_withdrawn_later(store: FactsStore) -> None:
    append(declared(store), event_row(1))
    append(declared(store, items="integer"), event_row(2), version=2)
    append(declared(store), event_row(3), version=3)
    events = declared(store, items="integer", country="text").tables(ibis.duckdb.connect()).events
    rows = events.order_by("id").to_pyarrow().to_pylist()
    assert [row["p_items"] for row in rows] == [None, 2, None]
    assert [row["p_country"] for row in rows] == [None, None, None]
    assert "p_items" not in declared(store).tables(ibis.duckdb.connect()).events.columns


def test_a_property_keeps_its_type(store: FactsStore) -> None:
    append(declared(store, items="integer"), event_row(1))
    changed = declared(store, items="number")
    message = "items is stored as integer and declared as number"
    with pytest.raises(ConflictError, match=message):
        append(changed, event_row(2), version=2)
    with pytest.raises(ConflictError, match=message):
        changed.tables(ibis.duckdb.connect())
    with pytest.raises(ConflictError, match=message):
        changed.require_compatible()
    declared(store, score="number").require_compatible()


@pytest.mark.parametrize("name", ["a b", "Jörg", "what?", "50*", "{x}", "a'b"])
def test_paths_with_odd_names(tmp_path: Path, name: str) -> None:
    store = FactsStore(f"{tmp_path}/{name}/facts", {})
    append(store, event_row(1))
    append(store, event_row(2), version=2)
    assert store.tables(ibis.duckdb.connect()).events.count().to_pyarrow().as_py() == 2


@pytest.mark.parametrize("name", ["a[1]", "50%", "a&b", "a#b"])
def test_paths_that_the_table_format_cannot_take(tmp_path: Path, name: str) -> None:
    with pytest.raises(KlartextError, match="cannot lie in"):
        FactsStore(f"{tmp_path}/{name}", {})


def test_summary(store: FactsStore) -> None:
    rows: Mapping[int, timedelta] = {1: timedelta(0), 2: timedelta(days=-3)}
    append(
        store,
        *(
            EventRow(bytes([number]) * 16, b"", 1, "buy", NOW + shift)
            for number, shift in rows.items()
        ),
    )
    found = store.summary("events")
    assert (found.rows, found.first, found.last) == (2, NOW - timedelta(days=3), NOW)
    assert store.summary("exposures").first is None


def test_rows_of_another_table_are_refused(store: FactsStore) -> None:
    with pytest.raises(ValueError, match="another table"):
        store.to_arrow("exposures", [event_row(1)], batch=1, received_at=NOW)
