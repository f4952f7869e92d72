"""What AI calls cost: list what costs, and break the calls down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from klartext.analysis.engine import open_engine
from klartext.app.session import Session
from klartext.app.usecases.registry import require_registered
from klartext.experiments import batches, registry
from klartext.experiments.experiment import CostLine
from klartext.experiments.ledger import breakdown as sums
from klartext.experiments.ledger.accrual import left_out
from klartext.experiments.ledger.book import standing
from klartext.experiments.ledger.breakdown import CallCosts, Dimension
from klartext.experiments.ledger.sums import by_dimension
from klartext.experiments.seen import NO_BATCH
from klartext.experiments.state import reading


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The cost of AI calls, in ``currency``, in total and by one dimension.

    ``unpriced`` counts calls without a price by the reason. ``ledger`` is the net cost of the
    ledger by the same dimension: beside the calls and never added to them, for a bill is one of
    them.
    """

    by: Dimension
    experiment: str | None
    currency: str
    total: CallCosts
    parts: tuple[CallCosts, ...]
    unpriced: Mapping[str, int]
    ledger: tuple[tuple[str | None, Decimal], ...]


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
    with reading(session.engine) as connection:
        lines = standing(connection, experiment=experiment)
        booked = by_dimension(lines, by, timezone=workspace.timezone)
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
            booked,
        )


def listing(session: Session, *, as_of: datetime | None = None) -> Listing:
    """Return the sources of AI calls and the cost lines of every registered experiment.

    Parameters
    ----------
    session
        The workspace.
    as_of
        Only calls that an analysis as of this instant sees; None is now. Rows of a mapped table do
        not say when they came. Cost lines are those of the experiments as they are.
    """
    with reading(session.engine) as connection:
        registered = registry.registered(connection)
        seen = batches.highest(connection, as_of=as_of) or NO_BATCH
    with open_engine(session.workspace.engine) as engine:
        usage = session.tables(engine).usage_costs
        if as_of is not None:
            usage = usage.filter(usage.ingest_batch <= seen)
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
