"""Exactly once: repeats, kills at every point, stale writers, and counts that add up."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klartext.experiments import deadletters, ingest, leases
from klartext.experiments.batches import finish, interrupted, open_batch, watermark
from klartext.experiments.door import TableName
from klartext.experiments.errors import ConflictError, KlartextError
from klartext.experiments.facts import ConcurrentAppendError, FactsStore
from klartext.experiments.ingest import Counts, Delivered, Source, Writer, deliver
from klartext.experiments.leases import LeaseLostError
from klartext.experiments.records import EventRow, Parsed, Reject
from klartext.experiments.tables import batches
from klartext.experiments.watermark import Watermark
from tests.experiments.doors import NOW, PROPERTIES, event_row, exposure_row, whole

SOURCE = Source("unit_table", "units.csv", "file", "mapping", "file+mapping", "received")


class Killed(BaseException):
    """What a test throws to stop an import in its tracks."""


@dataclass(frozen=True, slots=True)
class KilledStore(FactsStore):
    """A store whose process dies at its n-th append, before or after the commit."""

    at: int = 0
    after: bool = False
    error: type[BaseException] = Killed
    seen: list[str] | None = None

    def append(self, table: TableName, rows: pa.Table, **options: Any) -> None:
        assert self.seen is not None
        self.seen.append(table)
        is_now = len(self.seen) == self.at
        if is_now and not self.after:
            raise self.error
        FactsStore.append(self, table, rows, **options)
        if is_now:
            raise self.error


@pytest.fixture
def writer(state: sa.Engine, tmp_path: Path) -> Writer:
    return Writer(state, FactsStore(f"{tmp_path}/facts", PROPERTIES), lambda: NOW)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "CHUNK_ROWS", 2)


def ids(writer: Writer, table: TableName = "exposures") -> list[bytes]:
    found = getattr(writer.facts.tables(ibis.duckdb.connect()), table)
    return sorted(found.id.to_pyarrow().to_pylist())


def stored_counts(writer: Writer, batch: int) -> Counts:
    columns = (batches.c.accepted, batches.c.duplicate, batches.c.conflict, batches.c.rejected)
    with writer.engine.connect() as connection:
        row = connection.execute(sa.select(*columns).where(batches.c.batch == batch)).one()
    return Counts(*row)


def test_every_row_is_counted_once(writer: Writer) -> None:
    rejected = Reject(4, "naive-time", "no zone", "hash")
    rows: list[Parsed | Reject] = [
        whole(1),
        whole(2),
        whole(1),
        rejected,
        replace(whole(2, b"q" * 16), position=5),
    ]
    delivered = deliver(SOURCE, rows, writer)
    assert delivered.counts == Counts(accepted=2, duplicate=1, conflict=1, rejected=1)
    assert delivered.counts == stored_counts(writer, delivered.batch)
    assert [(item.reason, item.positions) for item in delivered.reasons] == [
        ("conflict", (5,)),
        ("duplicate", (1,)),
        ("naive-time", (4,)),
    ]
    with writer.engine.connect() as connection:
        (letter,) = deadletters.letters(connection)
    assert (letter.position, letter.reason, letter.source) == (4, "naive-time", "units.csv")
    assert len(ids(writer)) == len(ids(writer, "events")) == 2


def test_a_repeat_never_counts(writer: Writer) -> None:
    rows = [whole(number) for number in range(1, 6)]
    deliver(SOURCE, rows, writer)
    again = deliver(SOURCE, rows, writer)
    otherwise = deliver(replace(SOURCE, application="elsewhere"), rows[::-1], writer)
    assert again.counts == otherwise.counts == Counts(duplicate=5)
    assert len(ids(writer)) == len(ids(writer, "events")) == 5


def test_an_id_with_other_content_is_a_conflict_on_any_day(writer: Writer) -> None:
    deliver(SOURCE, [whole(1)], writer)
    first = exposure_row(1, b"q" * 16)
    moved = replace(first, occurred_at=NOW - timedelta(days=40))
    delivered = deliver(replace(SOURCE, application="b"), [Parsed(1, (moved,))], writer)
    assert delivered.counts == Counts(conflict=1)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_kill_at_any_append_loses_and_doubles_nothing(
    writer: Writer, at: int, moment: str
) -> None:
    rows = [whole(number) for number in range(1, 6)]  # 3 chunks, 2 tables: 6 appends
    store = KilledStore(writer.facts.root, PROPERTIES, at=at, after=moment == "after", seen=[])
    with pytest.raises(Killed):
        deliver(SOURCE, rows, replace(writer, facts=store))
    again = deliver(SOURCE, rows, writer)
    assert again.interrupted == (1,)
    assert again.counts.sent == 5
    assert again.counts.accepted + stored_counts(writer, 1).accepted == 5
    assert again.counts.duplicate == stored_counts(writer, 1).accepted
    assert len(set(ids(writer))) == len(ids(writer)) == 5
    assert len(set(ids(writer, "events"))) == len(ids(writer, "events")) == 5


@pytest.mark.usefixtures("small_chunks")
def test_a_lost_answer_is_no_loss_and_no_double(writer: Writer) -> None:
    rows = [whole(number) for number in range(1, 6)]
    store = KilledStore(
        writer.facts.root, PROPERTIES, at=2, after=True, error=ConcurrentAppendError, seen=[]
    )
    assert deliver(SOURCE, rows, replace(writer, facts=store)).counts == Counts(accepted=5)
    assert len(ids(writer)) == 5


KILLED_IMPORT = """
import os, signal, sys
from klartext.experiments import ingest
from klartext.experiments.facts import FactsStore
from klartext.experiments.state import open_state
from tests.experiments.doors import NOW, PROPERTIES, whole
from tests.experiments.test_ingest import SOURCE

class Dying(FactsStore):
    def append(self, table, rows, **options):
        super().append(table, rows, **options)
        if table == "exposures":
            os.kill(os.getpid(), signal.SIGKILL)

ingest.CHUNK_ROWS = 2
writer = ingest.Writer(open_state(sys.argv[1]), Dying(sys.argv[2], PROPERTIES), lambda: NOW)
ingest.deliver(SOURCE, [whole(number) for number in range(1, 6)], writer)
"""


def test_a_process_that_was_really_killed(writer: Writer, tmp_path: Path) -> None:
    arguments = [f"sqlite:///{tmp_path}/state.db", writer.facts.root]
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", KILLED_IMPORT, *arguments], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    again = deliver(SOURCE, [whole(number) for number in range(1, 6)], writer)
    assert (again.counts, again.interrupted) == (Counts(accepted=3, duplicate=2), (1,))
    assert stored_counts(writer, 1).accepted == 2
    assert len(ids(writer)) == 5


def test_an_interrupted_import_is_whole_once_it_was_repeated(writer: Writer) -> None:
    store = KilledStore(writer.facts.root, PROPERTIES, at=1, seen=[])
    with pytest.raises(Killed):
        deliver(SOURCE, [whole(1)], replace(writer, facts=store))
    with writer.engine.connect() as connection:
        assert [row.batch for row in interrupted(connection)] == [1]
    other = replace(SOURCE, content_sha256="other")
    assert deliver(other, [], writer).interrupted == ()
    assert deliver(SOURCE, [whole(1)], writer).interrupted == (1,)
    assert deliver(SOURCE, [whole(1)], writer).interrupted == ()
    with writer.engine.connect() as connection:
        assert interrupted(connection) == ()


def test_a_changed_property_stops_an_import_before_it_begins(writer: Writer) -> None:
    deliver(SOURCE, [whole(1)], writer)
    changed = FactsStore(writer.facts.root, {"items": "text"})
    with pytest.raises(ConflictError, match="stored as integer and declared as text"):
        deliver(SOURCE, [whole(2)], replace(writer, facts=changed))
    with writer.engine.connect() as connection:
        assert interrupted(connection) == ()
    assert ids(writer) == [exposure_row(1).id]


def test_what_was_erased_does_not_come_back_with_the_same_file(writer: Writer) -> None:
    deliver(SOURCE, [whole(1), whole(2)], writer)
    delta = writer.facts.snapshot("exposures").delta
    assert delta is not None
    delta.delete("unit = 1")
    assert deliver(SOURCE, [whole(1), whole(2)], writer).counts == Counts(duplicate=2)
    assert len(ids(writer)) == 1


def test_what_was_rejected_comes_in_once_it_can(writer: Writer) -> None:
    deliver(SOURCE, [whole(1), Reject(2, "unknown-variant", "", "")], writer)
    # The variants are part of the application, see file_source.
    later = deliver(replace(SOURCE, application="registered"), [whole(1), whole(2)], writer)
    assert later.counts == Counts(accepted=1, duplicate=1)


def test_a_writer_that_lost_its_lease_stops(writer: Writer) -> None:
    def rows() -> Any:
        yield whole(1)
        with writer.engine.begin() as connection:  # another process takes over meanwhile
            other = leases.acquire(connection, "facts", now=NOW + 2 * leases.TTL)
        table = writer.facts.to_arrow("exposures", [exposure_row(9)], batch=9, received_at=NOW)
        writer.facts.append("exposures", table, application="other", version=1, fence=other.fence)
        yield whole(2)

    with pytest.raises(LeaseLostError):
        deliver(SOURCE, rows(), writer)
    assert ids(writer) == [exposure_row(9).id]


@given(
    sent=st.lists(st.tuples(st.integers(1, 6), st.sampled_from([b"p" * 16, b"q" * 16]))),
    size=st.integers(1, 4),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_batching_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    state: sa.Engine,
    sent: Sequence[tuple[int, bytes]],
    size: int,
) -> None:
    store = FactsStore(str(tmp_path_factory.mktemp("facts")), {})
    writer = Writer(state, store, lambda: NOW)
    counts = Counts()
    for start in range(0, len(sent), size):
        rows = [
            Parsed(position, (EventRow(bytes([number]) * 16, payload, 1, "buy", NOW),))
            for position, (number, payload) in enumerate(sent[start : start + size], start=1)
        ]
        source = replace(SOURCE, kind="events", application=str(start))
        counts += deliver(source, rows, writer).counts
    first: dict[int, bytes] = {}
    for number, payload in sent:
        first.setdefault(number, payload)
    repeats = sum(payload == first[number] for number, payload in sent) - len(first)
    assert counts == Counts(len(first), repeats, len(sent) - len(first) - repeats)
    assert store.summary("events").rows == len(first)


def test_progress_and_completeness(writer: Writer) -> None:
    done: list[int] = []
    latest = replace(SOURCE, kind="events", complete_until="latest")
    event = replace(event_row(1), occurred_at=NOW - timedelta(days=1))
    delivered = deliver(latest, [Parsed(1, (event,))], writer, progress=done.append)
    assert done == [1]
    assert delivered.complete_until == NOW - timedelta(days=1)
    declared = replace(SOURCE, complete_until=NOW - timedelta(hours=1))
    assert deliver(declared, [], writer).complete_until == NOW - timedelta(hours=1)


def test_another_file_of_the_same_name_is_named_when_rows_are_told_by_number(
    writer: Writer,
) -> None:
    """A file that has grown brings all its rows anew: a number is of one file only."""
    source = replace(SOURCE, is_numbered=True)
    grown = replace(source, content_sha256="grown", application="grown")
    assert deliver(source, [whole(1)], writer).namesakes == ()
    assert deliver(source, [whole(1)], writer).namesakes == ()  # the same file, nothing new
    assert deliver(grown, [whole(2), whole(3)], writer).namesakes == (1,)
    assert deliver(grown, [whole(2), whole(3)], writer).namesakes == ()
    by_columns = replace(grown, application="c", content_sha256="c", is_numbered=False)
    assert deliver(by_columns, [whole(4)], writer).namesakes == ()


def test_nothing_is_complete_until_an_instant_that_is_still_to_come(writer: Writer) -> None:
    """Else every exposed unit would be mature at once, without its outcomes."""
    ahead = NOW + timedelta(hours=20)  # a clock that is ahead; the door lets it in
    latest = replace(SOURCE, kind="events", complete_until="latest")
    event = replace(event_row(1), occurred_at=ahead)
    assert deliver(latest, [Parsed(1, (event,))], writer).complete_until == NOW
    declared = replace(SOURCE, kind="events", application="b", complete_until=ahead)
    with pytest.raises(KlartextError, match=r"2026-06-02T08:00Z, which is still to come"):
        deliver(declared, [Parsed(1, (event_row(2),))], writer)
    assert len(ids(writer, "events")) == 1
    with writer.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(batches)) == 1


Record = Callable[..., int]


@pytest.fixture
def record(state: sa.Engine) -> Record:
    def recorded(kind: Any, until: datetime | None, *, done: bool = True) -> int:
        with state.begin() as connection:
            batch = open_batch(connection, replace(SOURCE, kind=kind), now=NOW)
            if done:
                finish(connection, batch, complete_until=until, now=NOW)
        return batch

    return recorded


def test_which_imports_had_no_end_is_known_of_any_instant(state: sa.Engine) -> None:
    hours = [NOW + timedelta(hours=number) for number in range(5)]
    source = replace(SOURCE, kind="events")
    with state.begin() as connection:
        broken = open_batch(connection, source, now=hours[1])
        repeated = open_batch(connection, source, now=hours[2])
        finish(connection, repeated, complete_until=None, now=hours[3])
        found = [
            [row.batch for row in interrupted(connection, as_of=as_of)] for as_of in (*hours, None)
        ]
    assert found == [[], [broken], [broken, repeated], [], [], []]


def test_a_bill_moves_no_watermark(state: sa.Engine, record: Record) -> None:
    """Else it would show the rows of an import that is still running beside it."""
    first = record("events", NOW)
    record("events", None, done=False)
    record("ledger", NOW + timedelta(days=1))
    assert mark(state) == Watermark(first, NOW)


def mark(state: sa.Engine, *, usage: bool = False) -> Watermark | None:
    with state.connect() as connection:
        return watermark(connection, usage=usage)


def test_the_watermark_is_what_all_needed_kinds_have(state: sa.Engine, record: Record) -> None:
    day = timedelta(days=1)
    assert mark(state) is None
    record("exposures", NOW)
    assert mark(state) is None  # exposures say nothing of outcomes
    record("events", NOW - 3 * day)
    assert mark(state) == Watermark(2, NOW - 3 * day)
    assert mark(state, usage=True) is None
    record("usage", NOW - 5 * day)
    assert mark(state) == Watermark(3, NOW - 3 * day)
    assert mark(state, usage=True) == Watermark(3, NOW - 5 * day)
    record("unit_table", NOW - day)
    record("events", NOW, done=False)
    assert mark(state) == Watermark(4, NOW - day)


def test_an_inbox_batch_that_will_be_resumed_holds_the_watermark_back(
    state: sa.Engine, record: Record
) -> None:
    record("events", NOW)
    pending = record("inbox", None, done=False)
    record("events", NOW + timedelta(days=1))
    assert mark(state) == Watermark(pending - 1, NOW)


def test_results_are_plain_data(writer: Writer) -> None:
    delivered: Delivered = deliver(SOURCE, [whole(1)], writer)
    assert json.dumps(delivered.dropped) == "{}"
    assert os.path.isdir(writer.facts.location("events"))  # noqa: PTH112 - a location is text
