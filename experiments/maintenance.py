"""Maintenance: many small files become few, sorted for reading, and old files are deleted.

At its end each table gets a checkpoint, so that who opens it reads only the commits since.

Each day of a table is rewritten in one commit that fails when anything was appended, erased or
rewritten meanwhile; then it is repeated. Readers of an older version keep its files until they
are older than ``keep``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeAlias

from klartext.experiments import fact_log, leases
from klartext.experiments.commit import MAX_ATTEMPTS
from klartext.experiments.compaction import delete_unused, is_crowded, rewrite, sizes
from klartext.experiments.door import TableName
from klartext.experiments.errors import KlartextError
from klartext.experiments.fact_columns import TABLES
from klartext.experiments.facts import WRITER, ConcurrentAppendError, FactsStore
from klartext.experiments.ingest import LEASE, Writer
from klartext.experiments.leases import Lease, LeaseLostError

KEEP = timedelta(days=7)
SHORTEST_KEEP = timedelta(hours=1)
"""Analyses that are running, and files being written, are younger than this."""

_TURN_SECONDS = 2.0
_PAUSE_SECONDS = 0.5  # longer than those who wait for the lease sleep

Progress: TypeAlias = Callable[[TableName, int, int], None]


@dataclass(frozen=True, slots=True)
class Maintained:
    """What was done to one table; ``deleted`` files had been left by earlier rewriting."""

    table: TableName
    days: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    deleted: int


def maintain(
    writer: Writer,
    *,
    keep: timedelta = KEEP,
    progress: Progress | None = None,
    wait: timedelta = leases.TTL,
) -> tuple[Maintained, ...]:
    """Rewrite days with several small files, delete files nobody reads any more, sum up the log.

    Repeating it does nothing more. The right to write is returned every few seconds, so that
    imports and the inbox go on in between.

    Parameters
    ----------
    writer
        State and tables.
    keep
        How long files that were rewritten stay for readers of older versions.
    progress
        Called with table, days done and days to do.
    wait
        How long to wait for another writer.

    Raises
    ------
    KlartextError
        ``keep`` is too short.
    LeaseHeldError
        Another process keeps writing; what was done stays done.
    """
    if keep < SHORTEST_KEEP:
        raise KlartextError(
            "files are kept for at least 1 hour: analyses that run now may be reading them"
        )
    return tuple(_maintain(writer, table, keep, progress, wait) for table in TABLES)


def _maintain(
    writer: Writer,
    table: TableName,
    keep: timedelta,
    progress: Progress | None,
    wait: timedelta,
) -> Maintained:
    facts = writer.facts
    before = sizes(facts.snapshot(table))
    crowded = sorted(day for day, files in before.items() if is_crowded(files))
    done = 0
    while done < len(crowded):
        with leases.held(writer.engine, LEASE, clock=writer.clock, wait=wait) as lease:
            end = time.monotonic() + _TURN_SECONDS
            while done < len(crowded) and time.monotonic() < end:
                with writer.engine.begin() as connection:
                    leases.renew(connection, lease, now=writer.clock())
                _compact(facts, table, crowded[done], lease)
                done += 1
                if progress is not None:
                    progress(table, done, len(crowded))
        if done < len(crowded):
            time.sleep(_PAUSE_SECONDS)
    with leases.held(writer.engine, LEASE, clock=writer.clock, wait=wait):
        deleted = delete_unused(facts, table, keep=keep)
        latest = facts.snapshot(table)
        if latest.delta is not None:
            fact_log.shorten(facts.location(table), latest.delta, keep=keep)
    after = sizes(latest)
    return Maintained(
        table,
        days=len(crowded),
        files_before=sum(map(len, before.values())),
        files_after=sum(map(len, after.values())),
        bytes_before=sum(map(sum, before.values())),
        bytes_after=sum(map(sum, after.values())),
        deleted=deleted,
    )


def _compact(facts: FactsStore, table: TableName, day: date, lease: Lease) -> None:
    for _ in range(MAX_ATTEMPTS):
        snapshot = facts.snapshot(table)
        if (snapshot.committed(WRITER) or 0) > lease.fence:
            raise LeaseLostError(f"another process has written to {table}; nothing was lost")
        if not is_crowded(sizes(snapshot).get(day, ())):
            return  # somebody else has done it
        try:
            rewrite(facts, table, day, fence=lease.fence, read=snapshot)
        except ConcurrentAppendError:
            continue
        return
    raise ConcurrentAppendError(f"{table} kept changing while {day} was rewritten; try again")
