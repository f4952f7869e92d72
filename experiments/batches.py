"""Batches: one row per import or flush, its counts, and the watermark they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from klartext.experiments.tables import batches
from klartext.experiments.watermark import Watermark

BatchKind: TypeAlias = Literal[
    "exposures", "events", "usage", "unit_table", "aliases", "inbox", "ledger", "scores"
]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the rows of a source."""

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0

    @property
    def sent(self) -> int:
        """All of them."""
        return self.accepted + self.duplicate + self.conflict + self.rejected

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.accepted + other.accepted,
            self.duplicate + other.duplicate,
            self.conflict + other.conflict,
            self.rejected + other.rejected,
        )


@dataclass(frozen=True, slots=True)
class Source:
    """What is delivered.

    Parameters
    ----------
    kind
        What the rows are.
    name
        Source as named in state; no path, no ids.
    content_sha256, mapping_sha256
        What was read, and how.
    application
        Identity of this delivery for Delta: a hash over everything that decides what becomes of
        a row (content, mapping, declared properties, variants, rates).
    complete_until
        Instant up to which the source is complete: declared, or ``"latest"`` for the last
        occurrence in it, or ``"received"`` for its arrival.
    is_numbered
        Its rows are told by their number in this very file: another file of the same name brings
        all of its rows anew.
    """

    kind: BatchKind
    name: str
    content_sha256: str
    mapping_sha256: str
    application: str
    complete_until: datetime | Literal["latest", "received"]
    is_numbered: bool = False


def watermark(
    connection: sa.Connection, *, usage: bool, as_of: datetime | None = None
) -> Watermark | None:
    """Return which facts an analysis may rely on, None when there are none yet.

    Parameters
    ----------
    connection
        State.
    usage
        Whether priced AI calls are needed as well as events.
    as_of
        What had been imported by this instant; None is now.

    Notes
    -----
    The batch is the highest finished one below any inbox batch that is still to be resumed: such
    a batch will add rows under its old number. The cutoff is the earliest, over the kinds needed,
    of the latest instant up to which a finished batch declared itself complete.
    """
    cutoffs = [complete_until(connection, "events", "unit_table", "inbox", as_of=as_of)]
    if usage:
        cutoffs.append(complete_until(connection, "usage", as_of=as_of))
    batch = highest(connection, as_of=as_of)
    known = [cutoff for cutoff in cutoffs if cutoff is not None]
    if batch is None or len(known) < len(cutoffs):
        return None
    return Watermark(batch, min(known))


def highest(connection: sa.Connection, *, as_of: datetime | None = None) -> int | None:
    """Return the number of the latest batch an analysis may see, None when there is none."""
    # A bill brings no facts: its end says nothing of an import that runs beside it.
    usable = _usable(connection, as_of) & (batches.c.kind != "ledger")
    query = sa.select(sa.func.max(batches.c.batch)).where(usable)
    found: int | None = connection.scalar(query)
    return found


def complete_until(
    connection: sa.Connection, *kinds: BatchKind, as_of: datetime | None = None
) -> datetime | None:
    """Return the latest instant up to which a batch of one of ``kinds`` is complete."""
    usable = _usable(connection, as_of) & batches.c.kind.in_(kinds)
    query = sa.select(sa.func.max(batches.c.complete_until)).where(usable)
    found: datetime | None = connection.scalar(query)
    return found


def _usable(connection: sa.Connection, as_of: datetime | None) -> sa.ColumnElement[bool]:
    """Which batches had ended, with no earlier one of the inbox still to be resumed."""
    finished: sa.ColumnElement[bool] = batches.c.finished_at.is_not(None)
    pending_inbox = sa.and_(batches.c.kind == "inbox", batches.c.finished_at.is_(None))
    resumable: sa.ColumnElement[bool] = pending_inbox
    if as_of is not None:
        finished = batches.c.finished_at <= as_of
        # Rows of a batch are seen by its number, whenever it ended: a later end hides it.
        later = sa.and_(batches.c.received_at <= as_of, batches.c.finished_at > as_of)
        resumable = sa.or_(pending_inbox, later)
    pending = connection.scalar(sa.select(sa.func.min(batches.c.batch)).where(resumable))
    return finished if pending is None else finished & (batches.c.batch < pending)


def is_open(connection: sa.Connection, batch: int) -> bool:
    """Whether the last delivery of facts up to ``batch`` has not ended: it may add rows yet.

    Deliveries of facts come one after the other; only lines of the ledger, which are no facts, are
    booked meanwhile, under later numbers.
    """
    facts = sa.select(batches.c.finished_at).where(
        batches.c.kind != "ledger", batches.c.batch <= batch
    )
    last = connection.execute(facts.order_by(batches.c.batch.desc()).limit(1)).one_or_none()
    return last is not None and last.finished_at is None


def interrupted(
    connection: sa.Connection, *, as_of: datetime | None = None
) -> tuple[sa.Row[Any], ...]:
    """Return imports that did not come to their end and were not sent again since.

    ``as_of`` returns those of which no end was known at this instant.

    Inbox batches are not among them: the next flush resumes them by itself. Nor are those of the
    ledger: rows and counts are one transaction, so their counts are right.
    """
    later = batches.alias()
    was_repeated = sa.exists().where(
        later.c.batch > batches.c.batch,
        later.c.content_sha256 == batches.c.content_sha256,
        later.c.mapping_sha256 == batches.c.mapping_sha256,
        later.c.finished_at.is_not(None),
    )
    unfinished: sa.ColumnElement[bool] = batches.c.finished_at.is_(None)
    if as_of is not None:
        was_repeated = was_repeated.where(later.c.finished_at <= as_of)
        unfinished = (batches.c.received_at <= as_of) & (
            unfinished | (batches.c.finished_at > as_of)
        )
    unfinished &= batches.c.kind.not_in(("inbox", "ledger"))
    query = sa.select(batches).where(unfinished, ~was_repeated).order_by(batches.c.batch)
    return tuple(connection.execute(query))


def namesakes(connection: sa.Connection, source: Source) -> tuple[int, ...]:
    """Return the batches of other files that had the same name and brought rows of this kind."""
    query = sa.select(batches.c.batch).where(
        batches.c.kind == source.kind,
        batches.c.source == source.name,
        batches.c.content_sha256 != source.content_sha256,
        batches.c.accepted > 0,
    )
    return tuple(connection.scalars(query.order_by(batches.c.batch)))


def open_batch(connection: sa.Connection, source: Source, *, now: datetime) -> int:
    """Record the beginning of a batch and return its number."""
    number: int = connection.execute(
        batches.insert()
        .values(
            kind=source.kind,
            source=source.name,
            content_sha256=source.content_sha256,
            mapping_sha256=source.mapping_sha256,
            received_at=now,
        )
        .returning(batches.c.batch)
    ).scalar_one()
    return number


def count(connection: sa.Connection, batch: int, counts: Counts) -> None:
    """Add to the counts of a batch."""
    connection.execute(
        batches.update()
        .where(batches.c.batch == batch)
        .values(
            accepted=batches.c.accepted + counts.accepted,
            duplicate=batches.c.duplicate + counts.duplicate,
            conflict=batches.c.conflict + counts.conflict,
            rejected=batches.c.rejected + counts.rejected,
        )
    )


def finish(
    connection: sa.Connection, batch: int, *, complete_until: datetime | None, now: datetime
) -> None:
    """Record that a batch is whole: from now on watermarks may include it."""
    connection.execute(
        batches.update()
        .where(batches.c.batch == batch)
        .values(complete_until=complete_until, finished_at=now)
    )
