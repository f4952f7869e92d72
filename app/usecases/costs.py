"""What AI calls cost: import them, list what costs, and break the calls down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from itertools import chain, islice
from pathlib import Path
from zoneinfo import ZoneInfo

from klartext.analysis.engine import open_engine
from klartext.app.session import Session
from klartext.app.usecases.facts import open_door, open_writer
from klartext.app.usecases.registry import require_registered
from klartext.experiments import registry
from klartext.experiments.door import FUTURE_TOLERANCE
from klartext.experiments.engines import PostgresEngine
from klartext.experiments.errors import ConflictError, NotReadyError
from klartext.experiments.experiment import CostLine
from klartext.experiments.imports.token_trace import open_trace, token_trace_mapping
from klartext.experiments.imports.usage_mapping import TraceOptions, load_usage_mapping
from klartext.experiments.ingest import Delivered, deliver
from klartext.experiments.ledger import breakdown as sums
from klartext.experiments.ledger.accrual import left_out
from klartext.experiments.ledger.breakdown import CallCosts, Dimension
from klartext.experiments.mapped_tables import require_own
from klartext.experiments.prices.order import open_catalog
from klartext.experiments.prices.pricing import Pricing
from klartext.experiments.records import Parsed, Reject, UsageRow
from klartext.experiments.state import reading

PEEKED_CALLS = 1_000
"""So many calls without a single price are a missing price list, not a gap in it."""


@dataclass(frozen=True, slots=True)
class CostImport:
    """What became of a file with AI calls.

    ``calls`` are those that this delivery has added, ``prices`` the same by the proof of their
    price, ``workspace`` all calls there are now.
    """

    delivered: Delivered
    currency: str
    calls: CallCosts
    prices: tuple[CallCosts, ...]
    workspace: CallCosts


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The cost of AI calls, in ``currency``, in total and by one dimension.

    ``unpriced`` counts calls without a price by the reason.
    """

    by: Dimension
    experiment: str | None
    currency: str
    total: CallCosts
    parts: tuple[CallCosts, ...]
    unpriced: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ExperimentCosts:
    """What an experiment's spec says it costs, and the categories nobody spoke about."""

    experiment: str
    currency: str
    usage_source: str | None
    lines: tuple[CostLine, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """All cost of the workspace: AI calls by source, and the lines of registered experiments."""

    currency: str
    sources: tuple[CallCosts, ...]
    experiments: tuple[ExperimentCosts, ...]


def import_calls(
    session: Session,
    path: Path,
    mapping: Path | TraceOptions,
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
        CSV, JSON Lines or Parquet with one call per row.
    mapping
        YAML that says what its columns mean, or options for a file with the usual names.
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
    LeaseHeldError
        Another process keeps writing facts.
    ConflictError
        Usage costs are mapped, or the engine could not read what would be stored.
    """
    workspace = session.workspace
    # To the end of a day, so that the same file sent twice within it meets the same limit.
    now = session.now()
    require_own(workspace.mapped, ("usage_costs",))
    if isinstance(workspace.engine, PostgresEngine):
        raise ConflictError(
            "engine: {kind: postgres} reads mapped tables only. Bring priced calls into a table "
            "and map it as facts.usage_costs in klartext.yaml; nothing was stored."
        )
    door = open_door(
        session, latest=datetime.combine(now.date(), time(), now.tzinfo) + 2 * FUTURE_TOLERANCE
    )
    pricing = Pricing(
        open_catalog(workspace.prices_file, workspace.timezone),
        door.rates,
        workspace.currency,
        ZoneInfo(workspace.timezone),
    )
    loaded = (
        token_trace_mapping(path, mapping)
        if isinstance(mapping, TraceOptions)
        else load_usage_mapping(mapping)
    )
    source, rows = open_trace(path, loaded, door, pricing)
    if not keep_unpriced:
        rows = _refuse_unpriced(rows, path)
    delivered = deliver(source, rows, open_writer(session), progress=progress)
    with open_engine(session.workspace.engine) as engine:
        usage = session.tables(engine).usage_costs
        added = usage.filter(usage.ingest_batch == delivered.batch)
        return CostImport(
            delivered,
            workspace.currency,
            sums.total(added),
            sums.breakdown(added, "price", timezone=workspace.timezone),
            sums.total(usage),
        )


def break_down(session: Session, by: Dimension, *, experiment: str | None = None) -> Breakdown:
    """Return what calls have cost by ``by``, of one experiment or of the whole workspace.

    Raises
    ------
    NotFoundError, NotReadyError
        The experiment is not registered.
    """
    if experiment is not None:
        with reading(session.engine) as connection:
            require_registered(session, connection, experiment)
    workspace = session.workspace
    with open_engine(session.workspace.engine) as engine:
        usage = session.tables(engine).usage_costs
        if experiment is not None:
            usage = usage.filter(usage.experiment == experiment)
        parts = sums.breakdown(usage, by, timezone=workspace.timezone)
        return Breakdown(
            by,
            experiment,
            workspace.currency,
            sums.total(usage),
            parts,
            sums.unpriced(usage),
        )


def listing(session: Session) -> Listing:
    """Return the sources of AI calls and the cost lines of every registered experiment."""
    with reading(session.engine) as connection:
        registered = registry.registered(connection)
    with open_engine(session.workspace.engine) as engine:
        usage = session.tables(engine).usage_costs
        sources = sums.breakdown(usage, "source", timezone=session.workspace.timezone)
        used = sums.categories(usage)
    return Listing(
        session.workspace.currency,
        sources,
        tuple(
            ExperimentCosts(
                each.key,
                each.experiment.currency,
                each.experiment.costs.usage_source,
                each.experiment.costs.lines,
                left_out(each.experiment.costs.lines, used.get(each.key, ())),
            )
            for each in registered
        ),
    )


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
