"""One commit into one fact table: only what is new, and never twice.

The comparison by id with everything there is makes any repeat harmless, at any age and in any
order. The application transaction keeps what was once committed from being appended again. The
writer's transaction, part of every append, makes two writers that compared with the same version
conflict; the loser compares again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from klartext.experiments.fact_snapshot import Snapshot
from klartext.experiments.facts import WRITER, ConcurrentAppendError, FactsStore
from klartext.experiments.leases import Lease, LeaseLostError
from klartext.experiments.records import FactRow

MAX_ATTEMPTS = 5

Status: TypeAlias = Literal["accepted", "duplicate", "conflict"]


@dataclass(frozen=True, slots=True)
class Commit:
    """Identity of one append.

    Parameters
    ----------
    application, version
        Delta application transaction.
    lease
        The right to write.
    batch
        Number stored with the rows.
    is_fixed
        The version always stands for the same rows in the same batch (the inbox), so that after
        a crash the rows of this batch are the delivery itself. A file is a new batch each time.
    """

    application: str
    version: int
    lease: Lease
    batch: int
    is_fixed: bool


def append_new(
    facts: FactsStore,
    rows: Sequence[FactRow],
    commit: Commit,
    *,
    received_at: datetime,
    first: Callable[[Sequence[Status]], None] | None = None,
) -> list[Status]:
    """Append the rows of one table that are new, and say what became of each row.

    Parameters
    ----------
    facts
        The tables.
    rows
        Rows of one table, in order.
    commit
        Identity of the append.
    received_at
        Arrival, stored with the rows.
    first
        Called before the append, with what will become of the rows.

    Raises
    ------
    LeaseLostError
        A writer with a higher fencing number has written.
    """
    statuses: list[Status] = []
    if not rows:
        return statuses
    table = rows[0].table
    for attempt in range(MAX_ATTEMPTS):
        snapshot = facts.snapshot(table)
        if (snapshot.committed(WRITER) or 0) > commit.lease.fence:
            raise LeaseLostError(f"another process has written to {table}; nothing was lost")
        is_committed = (snapshot.committed(commit.application) or 0) >= commit.version
        if is_committed and attempt:
            return statuses  # the append had gone through, only its answer was lost
        statuses = _compare(rows, snapshot, own_batch=commit.batch if commit.is_fixed else None)
        if is_committed and not commit.is_fixed:
            # What is no longer there was erased since, and is not to come back.
            return ["duplicate" if status == "accepted" else status for status in statuses]
        fresh = [row for row, status in zip(rows, statuses, strict=True) if status == "accepted"]
        if is_committed or not fresh:
            return statuses
        if first is not None:
            first(statuses)
        try:
            facts.append(
                table,
                facts.to_arrow(table, fresh, batch=commit.batch, received_at=received_at),
                application=commit.application,
                version=commit.version,
                fence=commit.lease.fence,
                read=snapshot,
            )
        except ConcurrentAppendError:
            continue
        return statuses
    raise ConcurrentAppendError(f"{table} kept changing while rows were compared; try again")


def _compare(rows: Sequence[FactRow], snapshot: Snapshot, *, own_batch: int | None) -> list[Status]:
    """Judge rows by id and payload, against the table and against each other; the first stays."""
    stored = snapshot.known([row.id for row in rows])
    columns = [column.to_pylist() for column in stored.columns]
    payloads: dict[bytes, bytes] = {
        id_: payload for id_, payload, batch in zip(*columns, strict=True) if batch != own_batch
    }
    statuses: list[Status] = []
    for row in rows:
        payload = payloads.get(row.id)
        if payload is None:
            payloads[row.id] = row.payload
            statuses.append("accepted")
        else:
            statuses.append("duplicate" if payload == row.payload else "conflict")
    return statuses
