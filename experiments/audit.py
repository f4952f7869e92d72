"""Audit log: an append-only chain in which every entry carries the hash of the one before.

The hash of an entry is SHA-256 over the UTF-8 bytes of the canonical JSON array
``["klartext/audit/v1", seq, microseconds, actor, action, subject, detail, previous]`` where
``detail`` is the stored text and ``previous`` the hash before (64 zeros before the first).
The table ``settings`` keeps number and hash of the last entry, so that a cut tail is noticed.

Notes
-----
Who can write the database can also write a whole new chain. That is noticed only by comparing
with a hash noted elsewhere: `contains`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import sqlalchemy as sa

from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import Json
from klartext.experiments.tables import audit, settings

FORMAT = "klartext/audit/v1"
GENESIS = 64 * "0"
"""The hash before the first entry."""

_HEAD = "audit_head"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done: when, by whom, what, to which subject."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Json]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """Number and hash of the last entry; 0 and `GENESIS` of an empty log."""

    seq: int
    hash: str


def canonical(document: Json) -> str:
    """Return the one JSON text of ``document``: sorted keys, no spaces, no NaN.

    Examples
    --------
    >>> canonical({"b": 1, "a": "ä"})
    '{"a":"ä","b":1}'
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def lock(connection: sa.Connection) -> None:
    """Hold the log until the transaction ends, so that what is read now is still true then.

    SQLite's ``BEGIN IMMEDIATE`` does this already; PostgreSQL needs the row lock.
    """
    connection.execute(
        sa.select(settings.c.value).where(settings.c.name == _HEAD).with_for_update()
    )


def record(  # noqa: PLR0913 - the six are one sentence: who did what to which, when, how
    connection: sa.Connection,
    *,
    now: datetime,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, Json],
) -> None:
    """Append one entry; it becomes true with the caller's transaction.

    Raises
    ------
    ConflictError
        The log has entries but its head is missing: somebody removed it.
    """
    lock(connection)
    last = head(connection)
    text = canonical(dict(detail))
    seq = last.seq + 1
    digest = _digest(seq, now, actor, action, subject, text, last.hash)
    connection.execute(
        sa.insert(audit).values(
            seq=seq,
            at=now,
            actor=actor,
            action=action,
            subject=subject,
            detail=text,
            previous=last.hash,
            hash=digest,
        )
    )
    moved = connection.execute(
        sa.update(settings).where(settings.c.name == _HEAD).values(value=f"{seq} {digest}")
    )
    if moved.rowcount == 0:
        connection.execute(sa.insert(settings).values(name=_HEAD, value=f"{seq} {digest}"))


def head(connection: sa.Connection) -> Head:
    """Return number and hash of the last entry; worth noting outside the database.

    Raises
    ------
    ConflictError
        The log has entries but its head is missing.
    """
    found = _stored_head(connection)
    if found is not None:
        return found
    if connection.execute(sa.select(sa.exists().where(audit.c.seq > 0))).scalar_one():
        raise ConflictError(
            "The audit log has entries, but the record of its last one is missing: the state "
            "database was altered by hand. Restore it from a backup."
        )
    return Head(0, GENESIS)


def entries(connection: sa.Connection, subject: str | None = None) -> tuple[Entry, ...]:
    """Return all entries, oldest first, or those about ``subject``."""
    query = sa.select(audit).order_by(audit.c.seq)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return tuple(
        Entry(
            row.seq,
            row.at,
            row.actor,
            row.action,
            row.subject,
            json.loads(row.detail),
            row.previous,
            row.hash,
        )
        for row in connection.execute(query)
    )


def verify(connection: sa.Connection) -> int | None:
    """Return the number of the first entry that is not as it was written; None when all are.

    A changed, removed, reordered or inserted entry breaks the chain at its place; a removed
    tail is found at the first number that is missing.
    """
    seq, previous = 0, GENESIS
    for row in connection.execute(sa.select(audit).order_by(audit.c.seq)):
        seq += 1
        found = _digest(seq, row.at, row.actor, row.action, row.subject, row.detail, previous)
        if (row.seq, row.previous, row.hash) != (seq, previous, found):
            return seq
        previous = found
    last = _stored_head(connection)
    if last is None:
        return seq or None
    if last.seq > seq:
        return seq + 1
    return None if last == Head(seq, previous) else seq


def count(connection: sa.Connection) -> int:
    """Return how many entries there are."""
    return connection.execute(sa.select(sa.func.count()).select_from(audit)).scalar_one()


def contains(connection: sa.Connection, digest: str) -> bool:
    """Whether an entry with this hash, noted earlier, is still in the log."""
    if digest == GENESIS:
        return True
    return bool(connection.execute(sa.select(sa.exists().where(audit.c.hash == digest))).scalar())


def _stored_head(connection: sa.Connection) -> Head | None:
    query = sa.select(settings.c.value).where(settings.c.name == _HEAD)
    value = connection.execute(query).scalar_one_or_none()
    if value is None:
        return None
    number, _, digest = value.partition(" ")
    return Head(int(number), digest) if number.isdigit() else Head(-1, digest)


def _digest(  # noqa: PLR0913, PLR0917 - the fields of an entry
    seq: int, at: datetime, actor: str, action: str, subject: str, detail: str, previous: str
) -> str:
    microseconds = (at - _EPOCH) // timedelta(microseconds=1)
    fields: Json = [FORMAT, seq, microseconds, actor, action, subject, detail, previous]
    return sha256(canonical(fields).encode()).hexdigest()
