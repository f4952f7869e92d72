"""Flush: the inbox's way into the tables, in three steps.

Each may be repeated after a crash: a batch number is put on the rows; each table gets its rows in
one commit that carries that number; the rows are deleted.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from klartext.experiments import leases
from klartext.experiments.batches import Counts, Source, count, finish, open_batch
from klartext.experiments.commit import Commit, append_new
from klartext.experiments.inbox import from_record
from klartext.experiments.ingest import LEASE, Writer
from klartext.experiments.leases import Lease
from klartext.experiments.records import FactRow
from klartext.experiments.tables import batches, inbox

FLUSH_ROWS = 10_000
"""Rows of one inbox batch."""

_SOURCE = Source("inbox", "http", "", "", "", "received")
_NO_WAIT = timedelta(0)


def flush(writer: Writer, *, wait: timedelta = _NO_WAIT) -> Counts:
    """Move everything that is in the inbox into the tables, each row once.

    Raises
    ------
    LeaseHeldError
        Another process writes facts, and did not end within ``wait``.
    """
    total = Counts()
    with leases.held(writer.engine, LEASE, clock=writer.clock, wait=wait) as lease:
        while (batch := _next_batch(writer, lease)) is not None:
            total += _flush_batch(writer, lease, batch)
    return total


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


def _flush_batch(writer: Writer, lease: Lease, batch: int) -> Counts:
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
        oldest_left = connection.scalar(sa.select(sa.func.min(inbox.c.received_at)))
        # What is still waiting was received after this; without any, all until now is in.
        complete_until = received_at if oldest_left is None else min(received_at, oldest_left)
        finish(connection, batch, complete_until=complete_until, now=writer.clock())
    return counts
