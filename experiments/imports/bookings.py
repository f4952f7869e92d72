"""Delivery of ledger lines: bills and timesheets into the books, with counts that add up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from klartext.experiments import deadletters
from klartext.experiments.batches import Counts, Source, count, finish, open_batch
from klartext.experiments.cells import RowError
from klartext.experiments.door import Door
from klartext.experiments.ingest import Delivered, Reasons
from klartext.experiments.ledger.book import Draft, Outcome, Recorded, append, history, standing
from klartext.experiments.ledger.lines import Line, LineError, check, converted
from klartext.experiments.money import Money
from klartext.experiments.records import Reject, reject

CHUNK_LINES = 5_000
_VOID = "void:"
"""Before the key of a line: the key of the line by which a restatement took it out."""


class Booked(NamedTuple):
    """A row of a bill as a draft of a ledger line."""

    position: int
    draft: Draft
    content: object


@dataclass(frozen=True, slots=True)
class Booking:
    """What became of a bill.

    ``outdated`` counts lines of the same source and billing periods that earlier files brought and
    this one no longer has; they were voided if it ``restated`` them, else they still count.
    ``withdrawn`` counts lines that it has and an earlier restatement voided; they count again if it
    ``restated`` them, else they still do not.
    """

    delivered: Delivered
    outdated: int
    restated: bool
    withdrawn: int


@dataclass(frozen=True, slots=True)
class Books:
    """Where lines are recorded, by whom, and the clock for when."""

    engine: sa.Engine
    clock: Callable[[], datetime]
    actor: str


def book(
    source: Source,
    rows: Iterable[Booked | Reject],
    books: Books,
    door: Door,
    *,
    restates: bool = False,
) -> Booking:
    """Record the lines of a bill and return what became of them.

    Parameters
    ----------
    source
        What it is.
    rows
        Its rows in order, one item per row.
    books
        Where to.
    door
        What makes the hashes of rejected rows.
    restates
        The file is the whole truth about its billing periods: earlier lines of the same source
        that it does not have are voided, and those that it has and an earlier restatement voided
        are recorded again. Not if a row was rejected: what it says of the line that it replaces is
        not known.

    Notes
    -----
    Lines, counts and dead letters of a chunk are one transaction. Sent again after a kill, what is
    there already is counted as duplicate.
    """
    reasons, counts = Reasons(), Counts()
    keys: set[str] = set()
    periods: set[datetime] = set()
    latest: datetime | None = None
    with books.engine.begin() as connection:
        batch = open_batch(connection, source, now=books.clock())
    remaining = iter(rows)
    while chunk := tuple(islice(remaining, CHUNK_LINES)):
        booked = [row for row in chunk if isinstance(row, Booked)]
        rejects = [row for row in chunk if isinstance(row, Reject)]
        with books.engine.begin() as connection:
            kept, outcomes, refused = _recorded(connection, booked, books, door, batch)
            rejects += refused
            chunk_counts = reasons.settle((row.position for row in kept), outcomes)
            chunk_counts += Counts(rejected=len(rejects))
            deadletters.record(connection, batch, rejects)
            count(connection, batch, chunk_counts)
        reasons.reject(rejects)
        counts += chunk_counts
        for row in kept:
            line = row.draft.line
            keys.add(row.draft.key)
            latest = line.end if latest is None else max(latest, line.end)
            if line.billing_start is not None:
                periods.add(line.billing_start)
    with books.engine.begin() as connection:
        outdated = [
            Draft(f"{_VOID}{each.key}", each.key, each.line.voided(each.number))
            for each in standing(connection, source=source.name)
            if each.line.billing_start in periods
            and _origin(each.key) not in keys
            and each.line.allocates is None  # shares fall with their line
        ]
        withdrawn = _withdrawn(connection, source.name, keys)
        restated = restates and not counts.rejected
        if restated:
            drafts = [*outdated, *withdrawn]
            append(connection, drafts, actor=books.actor, now=books.clock(), batch=batch)
        finish(connection, batch, complete_until=latest, now=books.clock())
    return Booking(
        Delivered(batch, counts, reasons.listed(), {}, latest, ()),
        len(outdated),
        restated,
        len(withdrawn),
    )


def _origin(key: str) -> str:
    """Return the key that a line's file gave it, also when it was recorded again since."""
    return key.partition(":")[0]


def _withdrawn(connection: sa.Connection, source: str, keys: AbstractSet[str]) -> list[Draft]:
    """Return the lines with one of ``keys`` that a restatement took out, to be recorded again."""
    voids: set[str] = set()
    last: dict[str, Recorded] = {}
    for each in history(connection, source=source):
        if each.key.startswith(_VOID):
            voids.add(each.key)
        elif (origin := _origin(each.key)) in keys:
            last[origin] = each
    return [
        Draft(f"{origin}:{each.number}", each.key, each.line)
        for origin, each in last.items()
        if f"{_VOID}{each.key}" in voids
    ]


def _recorded(
    connection: sa.Connection, booked: list[Booked], books: Books, door: Door, batch: int
) -> tuple[list[Booked], list[Outcome], list[Reject]]:
    """Record what can be; a line that supersedes is judged by itself, as it depends on others."""
    kept = [row for row in booked if row.draft.line.supersedes is None]
    now = books.clock()
    drafts = [row.draft for row in kept]
    outcomes = append(connection, drafts, actor=books.actor, now=now, batch=batch)
    refused: list[Reject] = []
    for row in booked:
        if row.draft.line.supersedes is None:
            continue
        try:
            outcomes += append(connection, [row.draft], actor=books.actor, now=now, batch=batch)
            kept.append(row)
        except LineError as error:
            cause = RowError(error.reason, error.detail)
            refused.append(reject(cause, door, row.position, row.content))
    return kept, outcomes, refused


def checked(line: Line) -> Line:
    """Return ``line`` if it is one, else raise `RowError`."""
    try:
        return check(line)
    except LineError as error:
        raise RowError(error.reason, error.detail) from None


def in_reporting(amount: Money, door: Door, *, at: datetime) -> tuple[Money, str]:
    """Return an amount in the workspace's currency with the proof of the rate, else `RowError`."""
    try:
        found = converted(amount, door.currency, door.rates, at=at, timezone=door.timezone)
    except LineError as error:
        raise RowError(error.reason, error.detail) from None
    return Money(found.amount, door.currency), found.evidence
