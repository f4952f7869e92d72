"""Work that a process of its own does until it is killed, for `test_kills`."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from klartext.experiments import fact_log, inbox, ingest, maintenance
from klartext.experiments import flush as flushing
from klartext.experiments.compaction import rewrite
from klartext.experiments.door import TableName
from klartext.experiments.facts import FactsStore
from klartext.experiments.flush import flush
from klartext.experiments.ingest import Source, Writer, deliver
from klartext.experiments.maintenance import maintain
from klartext.experiments.records import Parsed, Reject
from klartext.experiments.state import open_state
from tests.experiments.doors import NOW, PROPERTIES, event_row, whole

ROWS = 5
INBOX = 1_000_000
"""Numbers of events that came over the inbox start here."""


@dataclass(frozen=True, slots=True)
class CountedStore(FactsStore):
    """A store that says when it is about to append and when it has."""

    step: Callable[[], None] = lambda: None

    def append(self, table: TableName, rows: pa.Table, **options: Any) -> None:
        self.step()
        FactsStore.append(self, table, rows, **options)
        self.step()


def source(turn: int) -> Source:
    name = f"units{turn}.csv"
    return Source("unit_table", name, name, "mapping", name, "received")


def sent(turn: int) -> list[Parsed | Reject]:
    rows: list[Parsed | Reject] = [whole(10 * turn + place) for place in range(1, ROWS + 1)]
    return [*rows, Reject(ROWS + 1, "naive-time", "no zone", "hash")]


def acknowledge(writer: Writer, turn: int) -> None:
    numbers = [INBOX + 10 * turn + place for place in range(1, ROWS + 1)]
    with writer.engine.begin() as connection:
        inbox.put(connection, [event_row(number) for number in numbers], now=NOW)


def work(writer: Writer, what: str, turn: int) -> None:
    match what:
        case "import":
            deliver(source(turn), sent(turn), writer)
        case "flush":
            flush(writer)
        case "maintain":
            maintain(writer)
        case _:
            acknowledge(writer, turn)
            work(writer, "import", turn)
            work(writer, "flush", turn)
            work(writer, "maintain", turn)


def run(arguments: Sequence[str], what: str, turn: int, dies_at: int) -> None:
    """Do the work in small pieces; die at the ``dies_at``-th step of it, 0 for not at all."""
    steps = 0

    def step(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(facts: FactsStore, table: TableName, day: date, **options: Any) -> None:
        step()
        rewrite(facts, table, day, **options)
        step()

    def published(file: Path, table: Path, *, publish: Any = fact_log._publish) -> None:
        step()
        publish(file, table)
        step()

    ingest.CHUNK_ROWS = 2
    flushing.FLUSH_ROWS = 3
    fact_log.INTERVAL = 3
    vars(maintenance)["rewrite"] = counted
    vars(fact_log)["_publish"] = published
    engine = open_state(arguments[0])
    sa.event.listen(engine, "commit", step)  # about to commit: what was before is durable
    writer = Writer(engine, CountedStore(arguments[1], PROPERTIES, step=step), lambda: NOW)
    work(replace(writer), what, turn)
    sys.exit(0)
