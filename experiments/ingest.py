"""Delivery of the rows of a source into the facts, with counts that add up.

File import and usage import both deliver here: chunk by chunk, the facts of new rows are
committed to the tables, then counted in state. A killed import is repeated by sending the same
source again: what it had stored is counted as duplicates of the new batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

import sqlalchemy as sa

from klartext.experiments import deadletters, leases
from klartext.experiments.batches import (
    Counts,
    Source,
    count,
    finish,
    interrupted,
    namesakes,
    open_batch,
)
from klartext.experiments.commit import Commit, Status, append_new
from klartext.experiments.door import TableName
from klartext.experiments.errors import KlartextError
from klartext.experiments.facts import FactsStore
from klartext.experiments.records import FactRow, Parsed, Reject
from klartext.experiments.tables import batches

__all__ = ["Counts", "Delivered", "Reason", "Source", "Writer", "deliver"]

LEASE = "facts"
CHUNK_ROWS = 50_000
SHOWN_POSITIONS = 10

_DECIDING: Mapping[str, TableName] = {
    "exposures": "exposures",
    "events": "events",
    "usage": "usage_costs",
    "unit_table": "exposures",
    "scores": "events",
    "aliases": "aliases",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Rows that were not accepted for one reason: how many, and where the first of them stand."""

    reason: str
    count: int
    positions: tuple[int, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """An import that has ended.

    ``dropped`` counts values of undeclared properties. ``interrupted`` are earlier batches of
    the same content that had not come to their end. ``namesakes`` are batches of other files of
    the same name, when rows are told by their number: rows that stand in both count twice.
    """

    batch: int
    counts: Counts
    reasons: tuple[Reason, ...]
    dropped: Mapping[str, int]
    complete_until: datetime | None
    interrupted: tuple[int, ...]
    namesakes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Writer:
    """Where facts are delivered: state, tables, and a clock for leases and arrival."""

    engine: sa.Engine
    facts: FactsStore
    clock: Callable[[], datetime]


@dataclass(slots=True)
class Reasons:
    """Why rows were not accepted, as they come."""

    _seen: dict[str, tuple[int, list[int], str]] = field(default_factory=dict)

    def note(self, reason: str, position: int, detail: str) -> None:
        """Count one row; the first detail of a reason stands for all."""
        count, positions, first = self._seen.get(reason, (0, [], detail))
        if len(positions) < SHOWN_POSITIONS:
            positions.append(position)
        self._seen[reason] = (count + 1, positions, first)

    def reject(self, rejects: Sequence[Reject]) -> None:
        """Count rejected rows."""
        for item in rejects:
            self.note(item.reason, item.position, item.detail)

    def settle(self, positions: Iterable[int], statuses: Iterable[Status]) -> Counts:
        """Count what became of good rows."""
        seen: Counter[Status] = Counter()
        for position, status in zip(positions, statuses, strict=True):
            seen[status] += 1
            if status == "duplicate":
                self.note(status, position, "the same row is already stored")
            elif status == "conflict":
                self.note(status, position, "its id is stored with other content; that stays")
        return Counts(seen["accepted"], seen["duplicate"], seen["conflict"])

    def listed(self) -> tuple[Reason, ...]:
        """Return them in the order of their names."""
        return tuple(
            Reason(reason, count, tuple(positions), detail)
            for reason, (count, positions, detail) in sorted(self._seen.items())
        )


@dataclass(slots=True)
class _Tally:
    """Running counts of one import."""

    counts: Counts = field(default_factory=Counts)
    reasons: Reasons = field(default_factory=Reasons)
    dropped: Counter[str] = field(default_factory=Counter)
    latest: datetime | None = None

    def add(self, parsed: Sequence[Parsed], statuses: Sequence[Status]) -> Counts:
        for row in parsed:
            self.dropped.update(row.dropped)
            occurred_at = row.facts[0].occurred_at
            if self.latest is None or occurred_at > self.latest:
                self.latest = occurred_at
        return self.reasons.settle((row.position for row in parsed), statuses)


def deliver(
    source: Source,
    rows: Iterable[Parsed | Reject],
    writer: Writer,
    *,
    progress: Callable[[int], None] | None = None,
    wait: timedelta = leases.TTL,
) -> Delivered:
    """Deliver all rows of a source and return what became of them.

    Parameters
    ----------
    source
        What it is.
    rows
        Its rows in order, one item per row.
    writer
        Where to.
    progress
        Called with the number of rows done so far, after every chunk.
    wait
        How long to wait for another writer to finish.

    Raises
    ------
    LeaseHeldError
        Another process keeps writing.
    ConflictError
        A declared property is stored with another type; nothing was delivered.
    KlartextError
        The mapping says that the source is complete until an instant that is still to come;
        nothing was delivered.
    """
    writer.facts.require_compatible()
    _require_past(source, now=writer.clock())
    tally = _Tally()
    # A chunk's number means nothing without its size.
    application = f"{source.application}:{CHUNK_ROWS}"
    with leases.held(writer.engine, LEASE, clock=writer.clock, wait=wait) as lease:
        received_at = writer.clock()
        repeated = _settle_interrupted(writer, source)
        with writer.engine.begin() as connection:
            alike = namesakes(connection, source) if source.is_numbered else ()
            batch = open_batch(connection, source, now=received_at)
        remaining = iter(rows)
        chunk_number = 0
        while chunk := tuple(islice(remaining, CHUNK_ROWS)):
            chunk_number += 1
            parsed = [row for row in chunk if isinstance(row, Parsed)]
            rejects = [row for row in chunk if isinstance(row, Reject)]
            commit = Commit(application, chunk_number, lease, batch, is_fixed=False)
            counts = tally.add(parsed, _deliver_chunk(writer.facts, parsed, commit, received_at))
            tally.reasons.reject(rejects)
            counts += Counts(rejected=len(rejects))
            with writer.engine.begin() as connection:
                leases.renew(connection, lease, now=writer.clock())
                deadletters.record(connection, batch, rejects)
                count(connection, batch, counts)
            tally.counts += counts
            if progress is not None:
                progress(tally.counts.sent)
        complete_until = _complete_until(source, tally.latest, received_at)
        with writer.engine.begin() as connection:
            leases.renew(connection, lease, now=writer.clock())
            finish(connection, batch, complete_until=complete_until, now=writer.clock())
    return Delivered(
        batch,
        tally.counts,
        tally.reasons.listed(),
        dict(tally.dropped),
        complete_until,
        repeated,
        alike if tally.counts.accepted else (),
    )


def _deliver_chunk(
    facts: FactsStore, parsed: Sequence[Parsed], commit: Commit, received_at: datetime
) -> list[Status]:
    """Append the facts of new rows; the deciding ones last, so that none ever stands alone."""

    def others(statuses: Sequence[Status]) -> None:
        grouped: dict[TableName, list[FactRow]] = {}
        for row, status in zip(parsed, statuses, strict=True):
            if status == "accepted":
                for fact in row.facts[1:]:
                    grouped.setdefault(fact.table, []).append(fact)
        for rows in grouped.values():
            append_new(facts, rows, commit, received_at=received_at)

    deciding = [row.facts[0] for row in parsed]
    return append_new(facts, deciding, commit, received_at=received_at, first=others)


def _settle_interrupted(writer: Writer, source: Source) -> tuple[int, ...]:
    """Correct what killed imports had counted; return those of the same source.

    A killed import may have committed a chunk and not counted it. Holding the lease, nobody else
    can be at it, so the table itself is the truth.
    """
    with writer.engine.begin() as connection:
        unfinished = interrupted(connection)
        for row in unfinished:
            accepted = writer.facts.count_batch(_DECIDING[row.kind], row.batch)
            connection.execute(
                batches.update().where(batches.c.batch == row.batch).values(accepted=accepted)
            )
    same = (source.content_sha256, source.mapping_sha256)
    return tuple(
        row.batch for row in unfinished if (row.content_sha256, row.mapping_sha256) == same
    )


def _require_past(source: Source, *, now: datetime) -> None:
    declared = source.complete_until
    if isinstance(declared, datetime) and declared > now:
        raise KlartextError(
            f"complete_until in the mapping of {source.name} is {declared:%Y-%m-%dT%H:%MZ}, which "
            "is still to come: every unit would count as mature at once. Nothing was stored. "
            "Remove it: then the latest time in the file counts."
        )


def _complete_until(
    source: Source, latest: datetime | None, received_at: datetime
) -> datetime | None:
    """Return up to when the source is complete: never later than it came."""
    match source.complete_until:
        case "latest":  # a clock that is ahead makes nobody mature
            return None if latest is None else min(latest, received_at)
        case "received":
            return None if latest is None else received_at  # an empty file says nothing
        case declared:
            return declared
