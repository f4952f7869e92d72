"""The inbox's way into the tables: stopped between any two steps, nothing is lost or doubled."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from klartext.experiments import flush as flush_module
from klartext.experiments import inbox
from klartext.experiments.batches import Counts, watermark
from klartext.experiments.door import TableName
from klartext.experiments.fact_snapshot import Snapshot
from klartext.experiments.facts import FactsStore
from klartext.experiments.flush import flush, is_needed
from klartext.experiments.ingest import Source, Writer, deliver
from klartext.experiments.records import FactRow, Parsed
from klartext.experiments.tables import batches
from klartext.experiments.watermark import Watermark
from tests.experiments.doors import NOW, PROPERTIES, event_row, exposure_row

ROWS = (exposure_row(1), event_row(1), event_row(2), event_row(1), event_row(2, b"q" * 16))
COUNTS = Counts(accepted=3, duplicate=1, conflict=1)


class Killed(BaseException):
    """What a test throws to stop a flush in its tracks."""


@dataclass(frozen=True, slots=True)
class KilledStore(FactsStore):
    """A store whose process dies when it reads or appends for the n-th time."""

    reads: int = 0
    appends: int = 0
    done: list[str] | None = None

    def snapshot(self, table: TableName) -> Snapshot:
        self._count("read", self.reads)
        return FactsStore.snapshot(self, table)

    def append(self, table: TableName, rows: pa.Table, **options: Any) -> None:
        FactsStore.append(self, table, rows, **options)
        self._count("append", self.appends)

    def _count(self, what: str, limit: int) -> None:
        assert self.done is not None
        self.done.append(what)
        if self.done.count(what) == limit:
            raise Killed


@pytest.fixture
def writer(state: sa.Engine, tmp_path: Path) -> Writer:
    return Writer(state, FactsStore(f"{tmp_path}/facts", PROPERTIES), lambda: NOW)


def put(writer: Writer, *rows: FactRow) -> None:
    with writer.engine.begin() as connection:
        inbox.put(connection, rows, now=NOW)


def pending(writer: Writer) -> int:
    with writer.engine.connect() as connection:
        return inbox.pending(connection)


def batch_counts(writer: Writer) -> list[tuple[int, ...]]:
    columns = (batches.c.accepted, batches.c.duplicate, batches.c.conflict)
    with writer.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*columns))]


def test_every_row_reaches_its_table_once(writer: Writer) -> None:
    assert flush(writer) == Counts()
    put(writer, *ROWS)
    assert flush(writer) == COUNTS
    assert (pending(writer), flush(writer)) == (0, Counts())
    put(writer, *ROWS)
    assert flush(writer) == Counts(duplicate=4, conflict=1)
    assert writer.facts.summary("events").rows == 2
    assert batch_counts(writer) == [(3, 1, 1), (0, 4, 1)]


@pytest.mark.parametrize(
    "store",
    [
        {"reads": 1},  # after step 1
        {"appends": 1},  # in step 2, one table has its rows
        {"appends": 2},  # after step 2
    ],
)
def test_a_kill_between_two_steps(writer: Writer, store: dict[str, Any]) -> None:
    put(writer, *ROWS)
    killed = replace(KilledStore(writer.facts.root, PROPERTIES, done=[]), **store)
    with pytest.raises(Killed):
        flush(replace(writer, facts=killed))
    assert pending(writer) == len(ROWS)
    put(writer, event_row(9))  # arrives before the next flush, and comes after
    assert flush(writer) == COUNTS + Counts(accepted=1)
    assert pending(writer) == 0
    assert writer.facts.summary("events").rows == 3
    assert writer.facts.summary("exposures").rows == 1
    assert batch_counts(writer) == [(3, 1, 1), (1, 0, 0)]


def test_a_kill_in_the_transaction_that_deletes(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise Killed

    put(writer, *ROWS)
    with monkeypatch.context() as patched:
        patched.setattr(flush_module, "finish", killed)
        with pytest.raises(Killed):
            flush(writer)
    assert pending(writer) == len(ROWS)
    assert flush(writer) == COUNTS
    assert writer.facts.summary("events").rows == 2


def test_an_import_between_kill_and_repeat(writer: Writer) -> None:
    put(writer, event_row(1))
    killed = KilledStore(writer.facts.root, PROPERTIES, done=[], reads=1)
    with pytest.raises(Killed):
        flush(replace(writer, facts=killed))
    source = Source("events", "file", "a", "b", "c", "latest")
    deliver(source, [Parsed(1, (event_row(1),))], writer)
    with writer.engine.connect() as connection:
        assert watermark(connection, usage=False) is None  # batch 1 is still to come
    assert flush(writer) == Counts(duplicate=1)
    assert writer.facts.summary("events").rows == 1


def test_large_inboxes_go_in_batches(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush_module, "FLUSH_ROWS", 2)
    put(writer, *(event_row(number) for number in range(1, 6)))
    assert flush(writer) == Counts(accepted=5)
    assert batch_counts(writer) == [(2, 0, 0), (2, 0, 0), (1, 0, 0)]


def test_facts_are_complete_until_the_flush(writer: Writer) -> None:
    put(writer, event_row(1))
    later = replace(writer, clock=lambda: NOW + timedelta(minutes=5))
    flush(later)
    with writer.engine.connect() as connection:
        assert watermark(connection, usage=False) == Watermark(1, NOW + timedelta(minutes=5))


def cutoff(writer: Writer) -> datetime | None:
    with writer.engine.connect() as connection:
        found = watermark(connection, usage=False)
    return None if found is None else found.cutoff


def later(writer: Writer, **shift: float) -> Writer:
    return replace(writer, clock=lambda: NOW + timedelta(**shift))


def test_a_quiet_inbox_moves_the_watermark_until_lateness_has_passed(writer: Writer) -> None:
    put(writer, event_row(1))
    flush(writer)
    assert cutoff(writer) == NOW
    flush(later(writer, minutes=59))  # not every few seconds
    assert cutoff(writer) == NOW
    flush(later(writer, hours=5))
    assert cutoff(writer) == NOW + timedelta(hours=5)
    flush(later(writer, days=20))  # silence for so long may be a broken sender
    assert cutoff(writer) == NOW + timedelta(days=1)
    put(writer, replace(event_row(2), occurred_at=NOW + timedelta(days=20)))
    assert batch_counts(writer) == [(1, 0, 0), (0, 0, 0), (0, 0, 0)]


def test_a_sign_of_life_counts_as_an_event_would(writer: Writer) -> None:
    flush(writer)
    assert cutoff(writer) is None
    with writer.engine.begin() as connection:
        inbox.mark_live(connection, NOW + timedelta(days=9))
        inbox.mark_live(connection, NOW)  # an older one takes nothing back
    flush(later(writer, days=9, hours=1))
    assert cutoff(writer) == NOW + timedelta(days=9, hours=1)


def test_exposures_say_nothing_about_events(writer: Writer) -> None:
    put(writer, exposure_row(1))
    flush(writer)
    assert cutoff(writer) is None
    source = Source("events", "file", "a", "b", "c", "latest")
    deliver(source, [Parsed(1, (event_row(1),))], writer)
    put(writer, exposure_row(2))
    flush(later(writer, days=30))
    assert cutoff(writer) == NOW  # what the file said


def test_a_flush_is_needed_for_rows_and_for_the_watermark(writer: Writer) -> None:
    def needed(at: datetime) -> bool:
        with writer.engine.connect() as connection:
            return is_needed(connection, now=at, lateness=timedelta(days=1))

    assert not needed(NOW)
    put(writer, event_row(1))
    assert needed(NOW)
    flush(writer)
    assert not needed(NOW + timedelta(minutes=30))
    assert needed(NOW + timedelta(hours=2))
