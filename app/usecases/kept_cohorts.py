"""The readout of an experiment by what earlier analyses have kept, where that can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from klartext.analysis import cohort_refresh, cohorts
from klartext.analysis.engine import EngineError, open_engine
from klartext.analysis.readout import Readout
from klartext.analysis.result import CohortUse
from klartext.app.session import Session
from klartext.experiments import caps, seen
from klartext.experiments.engines import DuckDbEngine
from klartext.experiments.ledger.bills import Ledger
from klartext.experiments.registry import Registered
from klartext.experiments.state import reading


def from_cohorts(
    session: Session, registered: Registered, *, splits: int, ledger: Ledger
) -> Readout | CohortUse | None:
    """Return the readout by what earlier ones have kept, else why not; None without facts.

    Of a use that says why not, the units are not counted yet.

    Parameters
    ----------
    session
        The workspace.
    registered
        The experiment.
    splits
        By how many weights units were assigned.
    ledger
        What the books say of it now.
    """
    reason = _unserved(session, registered, splits=splits, ledger=ledger)
    if reason is not None:
        return CohortUse(0, 0, reason)
    promised = registered.experiment.costs.usage_source is not None
    with reading(session.engine) as connection:
        watermark = seen.own_watermark(connection, usage=promised)
        frozen = caps.frozen(connection, registered.key)
    if watermark is None:
        return None
    try:
        with open_engine(session.workspace.engine) as engine:
            kept = cohorts.Cohorts(session.facts, engine, session.cohorts)
            found = cohort_refresh.read(registered.experiment, kept, watermark)
    except (OSError, EngineError) as error:  # deleted meanwhile, or a full disk
        return CohortUse(0, 0, "failed", str(error))  # the facts are all it takes
    return replace(found, caps=tuple(frozen.values()), ledger=ledger)


def _unserved(
    session: Session, registered: Registered, *, splits: int, ledger: Ledger
) -> str | None:
    """Return why nothing is kept of an experiment, None when it is."""
    workspace, store = session.workspace, session.facts
    reasons: dict[str, Callable[[], bool]] = {
        "mapped-tables": lambda: workspace.mapped is not None,  # they have no batches
        "engine": lambda: not isinstance(workspace.engine, DuckDbEngine),
        "object-store": lambda: not store.is_local,
        "few-facts": lambda: sum(map(store.rows, cohorts.TABLES)) < cohorts.WORTHWHILE,
        # A bill speaks of calls that were read long ago.
        "bills": lambda: bool(ledger.bills(session.now())),
    }
    return next((reason for reason, holds in reasons.items() if holds()), None) or (
        cohorts.unserved(registered.experiment, splits=splits, aliases=store.has_aliases())
    )
