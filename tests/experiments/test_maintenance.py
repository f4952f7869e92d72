"""Maintenance keeps every fact, also with readers and several writing processes beside it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from klartext.experiments import fact_log, leases
from klartext.experiments.compaction import delete_unused, rewrite
from klartext.experiments.door import PropertyType
from klartext.experiments.errors import KlartextError
from klartext.experiments.facts import ConcurrentAppendError, FactsStore
from klartext.experiments.ingest import Counts, Source, Writer, deliver
from klartext.experiments.leases import LeaseLostError
from klartext.experiments.maintenance import Maintained, _compact, maintain
from klartext.experiments.records import EventRow, Parsed
from tests.experiments.doors import NOW, PROPERTIES, event_row, whole

SOURCE = Source("unit_table", "units.csv", "file", "mapping", "file+mapping", "received")
DAY = NOW.date()


@pytest.fixture
def writer(state: sa.Engine, tmp_path: Path) -> Writer:
    return Writer(state, FactsStore(f"{tmp_path}/facts", PROPERTIES), lambda: NOW)


def fill(writer: Writer, *numbers: int) -> None:
    """Deliver each row as a file of its own."""
    for number in numbers:
        source = replace(SOURCE, application=str(number), content_sha256=str(number))
        deliver(source, [whole(number)], writer)


def rows(store: FactsStore) -> list[dict[str, Any]]:
    events = store.tables(ibis.duckdb.connect()).events
    return list(events.order_by("id").to_pyarrow().to_pylist())


def grow_older(writer: Writer, days: int) -> None:
    """Age the events, instead of waiting."""
    table = Path(writer.facts.location("events"))
    for file in (*table.glob("_delta_log/*"), *table.glob("day=*/*")):
        at = file.stat().st_mtime - days * 86_400
        if file.suffix == ".json":
            file.write_text(
                re.sub(
                    r'("(?:timestamp|deletionTimestamp)":)(\d+)',
                    lambda found: f"{found[1]}{int(found[2]) - days * 86_400_000}",
                    file.read_text(),
                )
            )
        if file.name.endswith(".checkpoint.parquet"):
            actions = pq.read_table(file)
            changed = actions.to_pylist()
            for removed in (action["remove"] for action in changed if action["remove"]):
                removed["deletionTimestamp"] -= days * 86_400_000
            pq.write_table(pa.Table.from_pylist(changed, schema=actions.schema), file)
        os.utime(file, (at, at))


def test_many_files_become_one_and_every_fact_stays(writer: Writer) -> None:
    fill(writer, *range(1, 5))
    before = rows(writer.facts)
    seen: list[tuple[str, int, int]] = []
    exposures, events, usage, aliases = maintain(
        writer, progress=lambda table, done, of: seen.append((table, done, of))
    )
    assert (events.days, events.files_before, events.files_after) == (1, 4, 1)
    assert (exposures.days, exposures.files_before, exposures.files_after) == (1, 4, 1)
    assert usage == Maintained("usage_costs", 0, 0, 0, 0, 0, 0)
    assert aliases == Maintained("aliases", 0, 0, 0, 0, 0, 0)
    assert seen == [("exposures", 1, 1), ("events", 1, 1)]
    assert rows(writer.facts) == before
    assert writer.facts.snapshot("events").delta is not None


def test_repeating_it_does_nothing(writer: Writer) -> None:
    fill(writer, 1, 2)
    maintain(writer)
    delta = writer.facts.snapshot("events").delta
    assert delta is not None
    assert [item.days for item in maintain(writer)] == [0, 0, 0, 0]
    again = writer.facts.snapshot("events").delta
    assert again is not None
    assert again.version() == delta.version()


def test_a_repeat_does_not_count_after_it(writer: Writer) -> None:
    fill(writer, 1, 2, 3)
    maintain(writer)
    same = replace(SOURCE, application="1", content_sha256="1")
    assert deliver(same, [whole(1)], writer).counts == Counts(duplicate=1)
    other = replace(SOURCE, application="other")
    sent = [whole(2), whole(3, b"q" * 16), whole(4)]
    assert deliver(other, sent, writer).counts == Counts(accepted=1, duplicate=1, conflict=1)
    assert writer.facts.count_batch("exposures", 2) == 1


def test_rows_are_sorted_for_reading(writer: Writer) -> None:
    names = ["visit", "buy", "refund", "buy"]
    for number, name in enumerate(names):
        row = EventRow(number.to_bytes(16, "big"), b"p" * 16, -number, name, NOW)
        source = Source("events", name, str(number), "", str(number), "latest")
        deliver(source, [Parsed(1, (row,))], writer)
    maintain(writer)
    delta = writer.facts.snapshot("events").delta
    assert delta is not None
    (file,) = delta.file_uris()
    table = pq.read_table(file, columns=["name", "unit"], partitioning=None)
    assert table.to_pylist() == [
        {"name": "buy", "unit": -3},
        {"name": "buy", "unit": -1},
        {"name": "refund", "unit": -2},
        {"name": "visit", "unit": 0},
    ]


def test_a_reader_of_an_older_version_goes_on(writer: Writer) -> None:
    fill(writer, 1, 2)
    opened = writer.facts.tables(ibis.duckdb.connect()).events
    maintain(writer)
    fill(writer, 3)
    maintain(writer)
    assert opened.count().to_pyarrow().as_py() == 2  # the files it knows are kept


def test_old_files_and_those_of_killed_writers_are_deleted(writer: Writer) -> None:
    fill(writer, 1, 2)
    maintain(writer)
    orphan = Path(writer.facts.location("events")) / f"day={DAY}" / "part-killed.parquet"
    orphan.write_bytes(b"")
    assert delete_unused(writer.facts, "events", keep=timedelta(hours=1)) == 0
    assert orphan.exists()
    assert delete_unused(writer.facts, "events", keep=timedelta(0)) == 3
    assert not orphan.exists()
    assert len(rows(writer.facts)) == 2


def test_the_library_makes_no_checkpoint_of_its_own(writer: Writer) -> None:
    """It would be named before it is on the disk, and delete old commits."""
    fill(writer, 1, 2)
    delta = writer.facts.snapshot("events").delta
    assert delta is not None
    delta.alter.set_table_properties({"delta.checkpointInterval": "1"})
    log = Path(writer.facts.location("events")) / "_delta_log"
    before = set(log.glob("*checkpoint*"))
    fill(writer, 3)
    rewrite(writer.facts, "events", DAY, fence=3, read=writer.facts.snapshot("events"))
    version = writer.facts.version("events")
    assert delete_unused(writer.facts, "events", keep=timedelta(0)) == 3
    assert set(log.glob("*checkpoint*")) == before
    assert writer.facts.version("events") == version
    assert delete_unused(writer.facts, "events", keep=timedelta(0)) == 0
    assert len(rows(writer.facts)) == 3


def test_it_leaves_a_checkpoint(writer: Writer) -> None:
    fill(writer, 1, 2)
    maintain(writer)
    for table in ("exposures", "events"):
        log = Path(writer.facts.location(table)) / "_delta_log"
        named = json.loads((log / "_last_checkpoint").read_text())["version"]
        assert named == writer.facts.version(table) == 3
        for commit in log.glob("*.json"):
            commit.unlink()
    assert len(rows(writer.facts)) == 2
    assert deliver(replace(SOURCE, application="2"), [whole(2)], writer).counts == Counts(
        duplicate=1
    )


def test_files_rewritten_long_after_they_came_are_kept(writer: Writer) -> None:
    """The commit before is older than what the format keeps."""
    keep = timedelta(days=14)
    fill(writer, 1, 2)
    grow_older(writer, 40)
    assert maintain(writer, keep=keep)[1].deleted == 0
    grow_older(writer, 11)
    fill(writer, 3)
    assert maintain(writer, keep=keep)[1].deleted == 0  # its checkpoint forgets what was rewritten
    grow_older(writer, 2)
    assert maintain(writer, keep=keep)[1].deleted == 0
    grow_older(writer, 2)
    assert maintain(writer, keep=keep)[1].deleted == 2
    assert len(rows(writer.facts)) == 3


def test_a_checkpoint_does_not_shorten_how_long_files_are_kept(writer: Writer) -> None:
    fill(writer, 1, 2)
    rewrite(writer.facts, "events", DAY, fence=2, read=writer.facts.snapshot("events"))
    grow_older(writer, 10)
    table = Path(writer.facts.location("events"))
    for file in table.glob("day=*/*.parquet"):
        os.utime(file, (0, 0))
    fill(writer, 3)
    opened = writer.facts.snapshot("events").delta
    assert opened is not None
    fact_log.shorten(str(table), opened, keep=timedelta(days=30))
    assert list(table.glob("_delta_log/*.checkpoint.parquet"))
    assert delete_unused(writer.facts, "events", keep=timedelta(days=30)) == 0
    assert delete_unused(writer.facts, "events", keep=timedelta(days=9)) == 2
    assert len(rows(writer.facts)) == 3


def test_files_are_kept_for_an_hour_at_least(writer: Writer) -> None:
    with pytest.raises(KlartextError, match="at least 1 hour"):
        maintain(writer, keep=timedelta(minutes=59))


@pytest.mark.parametrize("other", ["append", "rewrite", "erase"])
def test_what_happened_meanwhile_is_neither_lost_nor_doubled(writer: Writer, other: str) -> None:
    fill(writer, 1, 2)
    store = writer.facts
    stale = store.snapshot("events")
    match other:
        case "append":
            table = store.to_arrow("events", [event_row(3)], batch=3, received_at=NOW)
            store.append("events", table, application="other", version=1, fence=1)
        case "rewrite":
            rewrite(store, "events", DAY, fence=1, read=store.snapshot("events"))
        case _:
            delta = store.snapshot("events").delta
            assert delta is not None
            delta.delete("ingest_batch = 1")
    before = rows(store)
    with pytest.raises(ConcurrentAppendError):
        rewrite(store, "events", DAY, fence=2, read=stale)
    assert rows(store) == before


def test_an_append_that_compared_before_a_rewrite_compares_again(writer: Writer) -> None:
    fill(writer, 1, 2)
    store = writer.facts
    stale = store.snapshot("events")
    rewrite(store, "events", DAY, fence=1, read=store.snapshot("events"))
    table = store.to_arrow("events", [event_row(3)], batch=3, received_at=NOW)
    with pytest.raises(ConcurrentAppendError):
        store.append("events", table, application="other", version=1, fence=2, read=stale)


def test_who_lost_the_lease_rewrites_nothing(writer: Writer) -> None:
    fill(writer, 1, 2)
    with writer.engine.begin() as connection:
        mine = leases.acquire(connection, "facts", now=NOW)
    later = replace(writer, clock=lambda: NOW + 2 * leases.TTL)
    fill(later, 3)
    with pytest.raises(LeaseLostError):
        _compact(writer.facts, "events", DAY, mine)


def test_old_and_new_files_are_read_together(writer: Writer) -> None:
    def declared(number: int, properties: Mapping[str, PropertyType]) -> None:
        fill(replace(writer, facts=FactsStore(writer.facts.root, properties)), number)

    declared(1, {})
    declared(2, {"items": "integer"})
    store = FactsStore(writer.facts.root, {"items": "integer", "country": "text"})
    expected = [(None, None), (2, None)]
    assert [(row["p_items"], row["p_country"]) for row in rows(store)] == expected
    delta = store.snapshot("events").delta
    assert delta is not None
    read = f"read_parquet({delta.file_uris()!r}, union_by_name=true)"
    with duckdb.connect() as connection:  # as any other reader would
        found = connection.sql(f"SELECT p_items FROM {read} ORDER BY id").fetchall()  # noqa: S608
    assert found == [(None,), (2,)]
    declared(3, {})  # withdrawn again; what is stored stays
    maintain(replace(writer, facts=FactsStore(store.root, {})))
    assert [row["p_items"] for row in rows(store)] == [None, 2, None]


WRITING = """
import sys
from datetime import UTC, datetime, timedelta
from dataclasses import replace
from klartext.experiments.facts import FactsStore
from klartext.experiments.ingest import Writer, deliver
from klartext.experiments.maintenance import maintain
from klartext.experiments.state import open_state
from tests.experiments.doors import PROPERTIES, whole
from tests.experiments.test_maintenance import SOURCE

role, state, root = sys.argv[1:]
writer = Writer(open_state(state), FactsStore(root, PROPERTIES), lambda: datetime.now(UTC))
for turn in range(8):
    if role == "maintain":
        maintain(writer)
    else:
        start = 4 * turn + (2 if role == "overlapping" else 0)
        name = f"{role}{turn}"
        source = replace(SOURCE, application=name, content_sha256=name)
        deliver(source, [whole(number) for number in range(start + 1, start + 5)], writer)
"""


def test_processes_that_write_and_maintain_at_once(writer: Writer, tmp_path: Path) -> None:
    arguments = [f"sqlite:///{tmp_path}/state.db", writer.facts.root]
    root = Path(__file__).parents[2]
    roles = ("import", "overlapping", "maintain", "maintain")
    running = [
        subprocess.Popen([sys.executable, "-c", WRITING, role, *arguments], cwd=root)
        for role in roles
    ]
    assert [process.wait(timeout=240) for process in running] == [0] * len(roles)
    expected = [number.to_bytes(16, "big") for number in range(1, 35)]
    assert [row["id"] for row in rows(writer.facts)] == expected
    ids = writer.facts.tables(ibis.duckdb.connect()).exposures.id.to_pyarrow().to_pylist()
    assert sorted(ids) == expected
    counted = sa.text("SELECT sum(accepted), sum(duplicate), sum(conflict) FROM batches")
    with writer.engine.connect() as connection:
        assert tuple(connection.execute(counted).one()) == (34, 30, 0)
    assert isinstance(writer.facts.snapshot("events").known(expected), pa.Table)
