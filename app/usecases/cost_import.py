"""Bringing AI calls in: every format ends in the same delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from itertools import chain, islice
from pathlib import Path
from zoneinfo import ZoneInfo

from klartext.analysis.engine import open_engine
from klartext.app.session import Session
from klartext.app.usecases.allocation import open_signer
from klartext.app.usecases.facts import open_door, open_writer
from klartext.app.usecases.registry import require_registered
from klartext.experiments.door import FUTURE_TOLERANCE, Door
from klartext.experiments.engines import PostgresEngine
from klartext.experiments.errors import ConflictError, NotReadyError
from klartext.experiments.imports.langfuse import open_langfuse
from klartext.experiments.imports.litellm import open_litellm
from klartext.experiments.imports.observed import CallFile, CallOptions
from klartext.experiments.imports.otlp import open_otlp
from klartext.experiments.imports.scores import Joins, open_scores
from klartext.experiments.imports.token_trace import open_trace, token_trace_mapping
from klartext.experiments.imports.usage_mapping import TraceOptions, load_usage_mapping
from klartext.experiments.ingest import Delivered, deliver
from klartext.experiments.ledger import breakdown as sums
from klartext.experiments.ledger.breakdown import CallCosts
from klartext.experiments.mapped_tables import require_own
from klartext.experiments.prices.order import open_catalog
from klartext.experiments.prices.pricing import Pricing
from klartext.experiments.records import Parsed, Reject, UsageRow
from klartext.experiments.state import reading

PEEKED_CALLS = 1_000
"""So many calls without a single price are a missing price list, not a gap in it."""

_FORMATS: Mapping[str, Callable[[Path, CallOptions, Door, Pricing], CallFile]] = {
    "langfuse": open_langfuse,
    "litellm": open_litellm,
    "otlp": open_otlp,
}


@dataclass(frozen=True, slots=True)
class CostImport:
    """What became of a file with AI calls.

    ``calls`` are those that this delivery has added, ``prices`` the same by the proof of their
    price, ``workspace`` all calls there are now. ``others`` counts records of the file that are no
    calls of their own, by what they are; they are not among the rows sent.
    """

    delivered: Delivered
    currency: str
    calls: CallCosts
    prices: tuple[CallCosts, ...]
    workspace: CallCosts
    others: Mapping[str, int] = field(default_factory=dict)


def import_calls(
    session: Session,
    path: Path,
    how: Path | TraceOptions | CallOptions,
    *,
    keep_unpriced: bool = False,
    progress: Callable[[int], None] | None = None,
) -> CostImport:
    """Bring a file with AI calls in and price them, exactly once however often it is sent.

    Parameters
    ----------
    session
        The workspace.
    path
        The file with the calls.
    how
        YAML that says what its columns mean, or options for a file that needs none.
    keep_unpriced
        Take the file even if none of its first `PEEKED_CALLS` calls can be priced.
    progress
        Called with the number of rows done.

    Raises
    ------
    NotReadyError
        None of the first calls can be priced; nothing was stored, because a stored call keeps
        the price it was booked at.
    ConfigurationError
        The mapping, the prices or the rates have mistakes, or do not fit the file.
    FileError
        The file cannot be read.
    NotFoundError
        There is no such file or experiment.
    LeaseHeldError
        Another process keeps writing facts.
    ConflictError
        Usage costs are mapped, or the engine could not read what would be stored.
    """
    workspace = session.workspace
    require_own(workspace.mapped, ("usage_costs",))
    if isinstance(workspace.engine, PostgresEngine):
        raise ConflictError(
            "engine: {kind: postgres} reads mapped tables only. Bring priced calls into a table "
            "and map it as facts.usage_costs in klartext.yaml; nothing was stored."
        )
    door = open_door(session, latest=_end_of_day(session) + FUTURE_TOLERANCE)
    pricing = Pricing(
        open_catalog(workspace.prices_file, workspace.timezone),
        door.rates,
        workspace.currency,
        ZoneInfo(workspace.timezone),
    )
    opened = _opened(session, path, how, door, pricing)
    rows = opened.rows
    if not keep_unpriced:
        rows = _refuse_unpriced(rows, path)
    delivered = deliver(opened.source, rows, open_writer(session), progress=progress)
    with open_engine(session.workspace.engine) as engine:
        usage = session.tables(engine).usage_costs
        added = usage.filter(usage.ingest_batch == delivered.batch)
        return CostImport(
            delivered,
            workspace.currency,
            sums.total(added),
            sums.breakdown(added, "price", timezone=workspace.timezone),
            sums.total(usage),
            dict(opened.others),
        )


def import_scores(
    session: Session,
    path: Path,
    source: str,
    *,
    progress: Callable[[int], None] | None = None,
) -> Delivered:
    """Bring scores in as events of the units that their calls were made for.

    Raises
    ------
    ConflictError
        Events or usage costs are mapped.
    FileError
        The file cannot be read.
    KlartextError
        The source has no proper name.
    NotFoundError
        There is no such file.
    LeaseHeldError
        Another process keeps writing facts.
    """
    require_own(session.workspace.mapped, ("events", "usage_costs"))
    door = open_door(session, latest=_end_of_day(session) + FUTURE_TOLERANCE)
    facts = session.facts
    state = str(facts.version("usage_costs"))
    joins = Joins(facts.units_of_tasks, open_signer(session.workspace), state)
    found, rows = open_scores(path, source, door, joins)
    return deliver(found, rows, open_writer(session), progress=progress)


def _end_of_day(session: Session) -> datetime:
    """Return the end of today: the same file sent twice within it meets the same limit."""
    now = session.now()
    return datetime.combine(now.date(), time(), now.tzinfo) + FUTURE_TOLERANCE


def _opened(
    session: Session,
    path: Path,
    how: Path | TraceOptions | CallOptions,
    door: Door,
    pricing: Pricing,
) -> CallFile:
    match how:
        case CallOptions():
            if how.experiment is not None:
                with reading(session.engine) as connection:
                    require_registered(session, connection, how.experiment)
            return _FORMATS[how.format](path, how, door, pricing)
        case TraceOptions():
            return open_trace(path, token_trace_mapping(path, how), door, pricing)
        case mapping:
            return open_trace(path, load_usage_mapping(mapping), door, pricing)


def _refuse_unpriced(rows: Iterator[Parsed | Reject], path: Path) -> Iterator[Parsed | Reject]:
    first = tuple(islice(rows, PEEKED_CALLS))
    calls = [
        fact
        for row in first
        if isinstance(row, Parsed)
        for fact in row.facts
        if isinstance(fact, UsageRow)
    ]
    if calls and all(call.amount is None for call in calls):
        raise NotReadyError(
            f"none of the first {len(calls)} calls of {path.name} can be priced "
            f"({calls[0].evidence}). Nothing was stored. Add the price to prices.yaml or the "
            "exchange rate to rates.csv; or store the calls without a price: --keep-unpriced."
        )
    return chain(first, rows)
