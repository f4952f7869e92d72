"""Dead letters: rejected rows, each with its reason, none with a raw id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from klartext.experiments.errors import NotFoundError
from klartext.experiments.records import Reject
from klartext.experiments.tables import batches, dead_letters


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected row as kept, with the source it came from."""

    id: int
    batch: int
    source: str
    received_at: datetime
    position: int
    reason: str
    detail: str
    row_hash: str
    unit: int | None


def record(connection: sa.Connection, batch: int, rejects: Sequence[Reject]) -> None:
    """Keep the rejected rows of a batch."""
    if not rejects:
        return
    connection.execute(
        dead_letters.insert(),
        [
            {
                "batch": batch,
                "position": item.position,
                "reason": item.reason,
                "detail": item.detail,
                "row_sha256": item.row_hash,
                "unit": item.unit,
            }
            for item in rejects
        ],
    )


def letters(
    connection: sa.Connection,
    *,
    batch: int | None = None,
    reason: str | None = None,
    limit: int | None = None,
) -> Iterator[DeadLetter]:
    """Return dead letters in the order of batch and position."""
    query = _joined().order_by(dead_letters.c.batch, dead_letters.c.position, dead_letters.c.id)
    if batch is not None:
        query = query.where(dead_letters.c.batch == batch)
    if reason is not None:
        query = query.where(dead_letters.c.reason == reason)
    for row in connection.execute(query.limit(limit)).mappings():
        yield DeadLetter(**row)


def letter(connection: sa.Connection, number: int) -> DeadLetter:
    """Return one dead letter.

    Raises
    ------
    NotFoundError
        There is none with this number.
    """
    row = connection.execute(_joined().where(dead_letters.c.id == number)).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"there is no dead letter {number}; see klartext dlq list")
    return DeadLetter(**row)


def count_by_reason(
    connection: sa.Connection, *, batch: int | None = None, reason: str | None = None
) -> dict[str, int]:
    """Return how many dead letters there are, by reason."""
    query = (
        sa.select(dead_letters.c.reason, sa.func.count())
        .group_by(dead_letters.c.reason)
        .order_by(dead_letters.c.reason)
    )
    if batch is not None:
        query = query.where(dead_letters.c.batch == batch)
    if reason is not None:
        query = query.where(dead_letters.c.reason == reason)
    return {found: number for found, number in connection.execute(query)}  # noqa: C416 - rows


def _joined() -> sa.Select[Any]:
    return sa.select(
        dead_letters.c.id,
        dead_letters.c.batch,
        batches.c.source,
        batches.c.received_at,
        dead_letters.c.position,
        dead_letters.c.reason,
        dead_letters.c.detail,
        dead_letters.c.row_sha256.label("row_hash"),
        dead_letters.c.unit,
    ).join(batches, batches.c.batch == dead_letters.c.batch)
