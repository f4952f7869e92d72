"""Facts: bring them in, look after what could not come in, say what there is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from klartext.app.session import Session
from klartext.experiments import batches, deadletters, inbox, leases, registry, seen, warehouse
from klartext.experiments.batches import Counts
from klartext.experiments.deadletters import DeadLetter
from klartext.experiments.door import FUTURE_TOLERANCE, Door, TableName
from klartext.experiments.fact_columns import TABLES
from klartext.experiments.facts import TableSummary
from klartext.experiments.file_source import open_file
from klartext.experiments.flush import flush as flush_inbox
from klartext.experiments.flush import is_needed
from klartext.experiments.ingest import LEASE, Delivered, Writer, deliver
from klartext.experiments.ledger.fx import Rates, read_rates
from klartext.experiments.maintenance import KEEP, Maintained, Progress
from klartext.experiments.maintenance import maintain as maintain_tables
from klartext.experiments.mapped_tables import require_own
from klartext.experiments.mapping import load_mapping
from klartext.experiments.state import reading
from klartext.experiments.tables import batches as batches_table
from klartext.experiments.watermark import Watermark

_BRINGS: Mapping[str, tuple[TableName, ...]] = {
    "exposures": ("exposures",),
    "events": ("events",),
    "unit_table": ("exposures", "events"),
    "aliases": ("aliases",),
}


@dataclass(frozen=True, slots=True)
class FactsSummary:
    """What is in the facts.

    ``pending`` rows were acknowledged over HTTP and wait for the next flush. ``interrupted``
    batches were killed; sending their file again completes them.
    """

    tables: tuple[TableSummary, ...]
    locations: Mapping[str, str]
    batches: int
    interrupted: tuple[int, ...]
    pending: int
    watermark: Watermark | None
    usage_watermark: Watermark | None


def open_door(session: Session, *, latest: datetime | None = None) -> Door:
    """Return what incoming records are judged by, with the variants registered by now.

    Parameters
    ----------
    session
        The workspace.
    latest
        Records after it are in the future; default: one day from now.
    """
    workspace = session.workspace
    with reading(session.engine) as connection:
        variants = {
            item.key: tuple(variant.key for variant in item.experiment.variants)
            for item in registry.registered(connection)
        }
    return Door(
        pseudonymiser=session.pseudonymiser,
        properties=workspace.properties,
        currency=workspace.currency,
        timezone=workspace.timezone,
        rates=Rates() if workspace.rates_file is None else read_rates(workspace.rates_file),
        latest=session.now() + FUTURE_TOLERANCE if latest is None else latest,
        variants=variants,
    )


def open_writer(session: Session) -> Writer:
    """Return where facts are delivered."""
    return Writer(session.engine, session.facts, session.now)


def ingest(
    session: Session,
    path: Path,
    mapping: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> Delivered:
    """Bring a file in, exactly once however often it is sent.

    Parameters
    ----------
    session
        The workspace.
    path
        CSV, JSON Lines or Parquet.
    mapping
        YAML that says what its columns mean.
    progress
        Called with the number of rows done.

    Raises
    ------
    ConfigurationError
        The mapping has mistakes or does not fit the file.
    FileError
        The file cannot be read.
    LeaseHeldError
        Another process keeps writing facts.
    ConflictError
        Facts of its kind are mapped: they stay in tables of the company.
    """
    loaded = load_mapping(mapping)
    require_own(session.workspace.mapped, _BRINGS[loaded.mapping.kind])
    # To the end of a day, so that the same file sent twice within it meets the same limit.
    now = session.now()
    limit = datetime.combine(now.date(), time(0), now.tzinfo) + FUTURE_TOLERANCE * 2
    door = open_door(session, latest=limit)
    rates = session.workspace.rates_file
    context = "" if rates is None else hashlib.sha256(rates.read_bytes()).hexdigest()
    source, rows = open_file(path, loaded, door, context=context)
    return deliver(source, rows, open_writer(session), progress=progress)


def flush(session: Session, *, wait: timedelta = timedelta(0)) -> Counts:
    """Move what was acknowledged over HTTP from the inbox into the facts.

    An inbox that stays empty moves the watermark for as long as its senders are known to live.

    Raises
    ------
    LeaseHeldError
        Another process writes facts, and did not end within ``wait``.
    """
    return flush_inbox(open_writer(session), lateness=session.workspace.lateness, wait=wait)


def flush_is_needed(session: Session) -> bool:
    """Whether a flush would move rows, or the watermark of a quiet inbox."""
    with reading(session.engine) as connection:
        return is_needed(connection, now=session.now(), lateness=session.workspace.lateness)


def maintain(
    session: Session, *, keep: timedelta = KEEP, progress: Progress | None = None
) -> tuple[Maintained, ...]:
    """Rewrite days of many small files as few, and delete files nobody reads any more.

    Parameters
    ----------
    session
        The workspace.
    keep
        How long files that were rewritten stay for readers of older versions; at least 1 hour.
    progress
        Called with table, days done and days to do.

    Raises
    ------
    KlartextError
        ``keep`` is too short.
    LeaseHeldError
        Another process keeps writing; what was done stays done.
    """
    done = maintain_tables(open_writer(session), keep=keep, progress=progress)
    _sweep(session.cohorts, unused_since=session.now() - keep)
    return done


def _sweep(cohorts: Path, *, unused_since: datetime) -> None:
    """Delete what analyses kept and none has used lately; the next one reads all facts again.

    Every refresh replaces the manifest and names the files that count, so that whatever is older
    than it and not named is left over.
    """
    from klartext.analysis.cohorts import MANIFEST  # noqa: PLC0415 - imports of files need no Ibis

    def is_old(file: Path) -> bool:
        return file.stat().st_mtime < unused_since.timestamp()

    for folder in cohorts.glob("*/"):
        manifest = folder / MANIFEST
        if manifest.exists() and is_old(manifest):
            manifest.unlink()
        named = manifest.read_bytes() if manifest.exists() else b""
        for file in folder.iterdir():
            if is_old(file) and file != manifest and file.name.encode() not in named:
                file.unlink(missing_ok=True)


def summary(session: Session) -> FactsSummary:
    """Say what is in the facts, and up to when they are complete.

    Raises
    ------
    ConfigurationError
        A mapped table does not fit.
    """
    tables, watermark, usage_watermark = _tables(session)
    with reading(session.engine) as connection:
        finished = batches_table.c.finished_at.is_not(None)
        count = sa.select(sa.func.count()).select_from(batches_table)
        unfinished = [row.batch for row in batches.interrupted(connection)]
        if unfinished and leases.is_held(connection, LEASE, now=session.now()):
            unfinished.pop()  # the one that is being imported right now
        return FactsSummary(
            tables=tables,
            locations=locations(session),
            batches=connection.scalar(count.where(finished)) or 0,
            interrupted=tuple(unfinished),
            pending=inbox.pending(connection),
            watermark=watermark,
            usage_watermark=usage_watermark,
        )


def _tables(
    session: Session,
) -> tuple[tuple[TableSummary, ...], Watermark | None, Watermark | None]:
    mapped = session.workspace.mapped
    if mapped is None:
        with reading(session.engine) as connection:
            return (
                tuple(session.facts.summary(table) for table in TABLES),
                batches.watermark(connection, usage=False),
                batches.watermark(connection, usage=True),
            )
    from klartext.analysis.engine import open_engine  # noqa: PLC0415 - heavy, only for mapped ones

    with open_engine(session.workspace.engine) as engine:
        found = warehouse.read(mapped, engine)
        tables = tuple(
            seen.summarise(table, found[table], engine)
            if table in found
            else session.facts.summary(table)
            for table in TABLES
        )
        marks = [session.see(engine, usage=usage)[1] for usage in (False, True)]
    return tables, marks[0], marks[1]


def locations(session: Session) -> dict[str, str]:
    """Return where each table lies, for other engines: a path, a URL, or a name of the warehouse.

    A query has no name.
    """
    mapped = session.workspace.mapped
    named = {} if mapped is None else {name: part.label for name, part in mapped.tables.items()}
    return {table: named.get(table) or session.facts.location(table) for table in TABLES}


def dead_letters(
    session: Session,
    *,
    batch: int | None = None,
    reason: str | None = None,
    limit: int | None = None,
) -> tuple[tuple[DeadLetter, ...], dict[str, int]]:
    """Return rejected rows in the order of batch and position, and how many of each reason."""
    with reading(session.engine) as connection:
        found = deadletters.letters(connection, batch=batch, reason=reason, limit=limit)
        return tuple(found), deadletters.count_by_reason(connection, batch=batch, reason=reason)


def dead_letter(session: Session, number: int) -> DeadLetter:
    """Return one rejected row.

    Raises
    ------
    NotFoundError
        There is none with this number.
    """
    with reading(session.engine) as connection:
        return deadletters.letter(connection, number)


def delivered_document(delivered: Delivered) -> dict[str, Any]:
    """Return the JSON document of an import."""
    counts = delivered.counts
    until = delivered.complete_until
    return {
        "schema": "klartext/ingest/v1",
        "batch": delivered.batch,
        "sent": counts.sent,
        "accepted": counts.accepted,
        "duplicate": counts.duplicate,
        "conflict": counts.conflict,
        "rejected": counts.rejected,
        "reasons": [
            {
                "reason": item.reason,
                "count": item.count,
                "positions": list(item.positions),
                "detail": item.detail,
            }
            for item in delivered.reasons
        ],
        "dropped_properties": dict(sorted(delivered.dropped.items())),
        "complete_until": None if until is None else until.isoformat(),
        "interrupted_batches": list(delivered.interrupted),
        "namesake_batches": list(delivered.namesakes),
    }


def maintained_document(tables: tuple[Maintained, ...]) -> dict[str, Any]:
    """Return the JSON document of a maintenance."""
    return {"schema": "klartext/facts-maintain/v1", "tables": [asdict(item) for item in tables]}


def summary_document(found: FactsSummary) -> dict[str, Any]:
    """Return the JSON document of what is in the facts."""
    return {
        "schema": "klartext/facts/v1",
        "tables": [
            {
                "table": item.table,
                "rows": item.rows,
                "first": None if item.first is None else item.first.isoformat(),
                "last": None if item.last is None else item.last.isoformat(),
                "location": found.locations[item.table],
                "incomplete": item.incomplete,
            }
            for item in found.tables
        ],
        "batches": found.batches,
        "interrupted_batches": list(found.interrupted),
        "pending": found.pending,
        "watermark": _mark(found.watermark),
        "usage_watermark": _mark(found.usage_watermark),
    }


def letter_document(item: DeadLetter) -> dict[str, Any]:
    """Return the JSON document of a dead letter."""
    return {
        "schema": "klartext/dead-letter/v1",
        "id": item.id,
        "batch": item.batch,
        "source": item.source,
        "received_at": item.received_at.isoformat(),
        "position": item.position,
        "reason": item.reason,
        "detail": item.detail,
        "row_hash": item.row_hash,
        "unit": None if item.unit is None else str(item.unit),
    }


def _mark(found: Watermark | None) -> dict[str, Any] | None:
    return None if found is None else {"batch": found.batch, "cutoff": found.cutoff.isoformat()}
