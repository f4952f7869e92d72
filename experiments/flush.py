"""Flush: the inbox's way into the tables, in three steps.

Each may be repeated after a crash: a batch number is put on the rows; each table gets its rows in
one commit that carries that number; the rows are deleted.

An inbox that stays empty says that nothing happened only while those who send are known to be
there: facts are complete until the last sign of life plus the declared lateness, at most.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from klartext.experiments import leases
from klartext.experiments.batches import Counts, Source, count, finish, open_batch
from klartext.experiments.commit import Commit, append_new
from klartext.experiments.inbox import from_record, live_at, mark_live, pending
from klartext.experiments.ingest import LEASE, Writer
from klartext.experiments.leases import Lease
from klartext.experiments.records import EventRow, FactRow
from klartext.experiments.tables import batches, inbox

FLUSH_ROWS = 10_000
"""Rows of one inbox batch."""

LATENESS = timedelta(days=1)

HEARTBEAT = timedelta(hours=1)
"""An empty inbox moves the watermark so often."""

_SOURCE = Source("inbox", "http", "", "", "", "received")
_NO_WAIT = timedelta(0)


def flush(writer: Writer, *, lateness: timedelta = LATENESS, wait: timedelta = _NO_WAIT) -> Counts:
    """Move everything that is in the inbox into the tables, each row once.

    Parameters
    ----------
    writer
        State and tables.
    lateness
        How late events may arrive: so long silence is taken for nothing to report.
    wait
        How long to wait for another writer.

    Raises
    ------
    LeaseHeldError
        Another process writes facts, and did not end within ``wait``.
    """
    total = Counts()
    with leases.held(writer.engine, LEASE, clock=writer.clock, wait=wait) as lease:
        while (batch := _next_batch(writer, lease)) is not None:
            total += _flush_batch(writer, lease, batch, lateness)
        with writer.engine.begin() as connection:
            now = writer.clock()
            leases.renew(connection, lease, now=now)
            _beat(connection, now, lateness)
    return total


def is_needed(connection: sa.Connection, *, now: datetime, lateness: timedelta) -> bool:
    """Whether a flush would do anything: move rows, or the watermark."""
    return pending(connection) > 0 or _next_beat(connection, now, lateness) is not None


def _beat(connection: sa.Connection, now: datetime, lateness: timedelta) -> None:
    """Record a batch without rows when silence has made facts complete for longer."""
    complete_until = _next_beat(connection, now, lateness)
    if complete_until is not None and not pending(connection):
        batch = open_batch(connection, _SOURCE, now=now)
        finish(connection, batch, complete_until=complete_until, now=now)


def _next_beat(connection: sa.Connection, now: datetime, lateness: timedelta) -> datetime | None:
    reached = connection.scalar(
        sa.select(sa.func.max(batches.c.complete_until)).where(batches.c.kind == "inbox")
    )
    complete_until = _proven(connection, now, lateness)
    if complete_until is None or (reached is not None and complete_until < reached + HEARTBEAT):
        return None
    return complete_until


def _proven(connection: sa.Connection, until: datetime, lateness: timedelta) -> datetime | None:
    """Return up to when silence counts as nothing to report, at most ``until``.

    A unit is mature once its windows have ended a ``lateness`` before the watermark, so that at
    the last sign of life they had ended: a sender that broke since makes nobody mature.
    """
    heard = live_at(connection)
    return None if heard is None else min(until, heard + lateness)


def _next_batch(writer: Writer, lease: Lease) -> int | None:
    """Step 1: return the batch that was interrupted, else put a new number on the oldest rows."""
    now = writer.clock()
    with writer.engine.begin() as connection:
        leases.renew(connection, lease, now=now)
        interrupted: int | None = connection.scalar(
            sa.select(sa.func.min(batches.c.batch)).where(
                batches.c.kind == "inbox", batches.c.finished_at.is_(None)
            )
        )
        if interrupted is not None:
            return interrupted
        oldest = (
            sa.select(inbox.c.id)
            .where(inbox.c.batch.is_(None))
            .order_by(inbox.c.id)
            .limit(FLUSH_ROWS)
        )
        if connection.execute(oldest.limit(1)).first() is None:
            return None
        batch = open_batch(connection, _SOURCE, now=now)
        connection.execute(
            inbox.update().where(inbox.c.id.in_(oldest.scalar_subquery())).values(batch=batch)
        )
        return batch


def _flush_batch(writer: Writer, lease: Lease, batch: int, lateness: timedelta) -> Counts:
    """Do steps 2 and 3: commit the rows of a batch, then take them out of the inbox."""
    with writer.engine.begin() as connection:
        rows = connection.execute(
            sa.select(inbox).where(inbox.c.batch == batch).order_by(inbox.c.id)
        ).all()
        received_at: datetime = connection.execute(
            sa.select(batches.c.received_at).where(batches.c.batch == batch)
        ).scalar_one()
    tables: dict[str, list[FactRow]] = {}
    for row in rows:
        tables.setdefault(row.fact_table, []).append(from_record(row.fact_table, row.record))
    statuses = [
        status
        for table, facts in sorted(tables.items())
        for status in append_new(
            writer.facts,
            facts,
            Commit(f"inbox:{table}", batch, lease, batch, is_fixed=True),
            received_at=received_at,
        )
    ]
    counts = Counts(*(statuses.count(status) for status in ("accepted", "duplicate", "conflict")))
    with writer.engine.begin() as connection:
        leases.renew(connection, lease, now=writer.clock())
        connection.execute(inbox.delete().where(inbox.c.batch == batch))
        count(connection, batch, counts)
        events = [row.received_at for row in rows if row.fact_table == EventRow.table]
        if events:
            mark_live(connection, max(events))
        oldest_left = connection.scalar(sa.select(sa.func.min(inbox.c.received_at)))
        # What is still waiting was received after this; without any, all until now is in.
        arrived = received_at if oldest_left is None else min(received_at, oldest_left)
        complete_until = _proven(connection, arrived, lateness)
        finish(connection, batch, complete_until=complete_until, now=writer.clock())
    return counts
