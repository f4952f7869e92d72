"""Analyse an experiment, and decide about it: reading changes nothing, deciding records a look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import ibis
import sqlalchemy as sa

from klartext.analysis import percentile_caps, unit_table
from klartext.analysis.engine import connect, open_engine
from klartext.analysis.evaluate import analyse
from klartext.analysis.frames import VariantMoments
from klartext.analysis.reading import read_out
from klartext.analysis.readout import Readout
from klartext.analysis.result import Analysis, CohortUse
from klartext.analysis.series import Series, read_series
from klartext.analysis.subject import Registration
from klartext.analysis.unit_sums import sums
from klartext.analysis.value import period_of
from klartext.app.session import Session
from klartext.app.usecases import looks
from klartext.app.usecases.enact import Outcome, enact
from klartext.app.usecases.kept_cohorts import from_cohorts
from klartext.app.usecases.registry import require_registered
from klartext.experiments import (
    approvals,
    audit,
    batches,
    caps,
    incidents,
    preflight,
    registry,
)
from klartext.experiments.caps import PercentileCap
from klartext.experiments.engines import DuckDbEngine, PostgresEngine, SparkEngine
from klartext.experiments.errors import ConflictError, KlartextError, NotReadyError
from klartext.experiments.experiment import Experiment
from klartext.experiments.ledger.bills import Ledger
from klartext.experiments.ledger.book import standing
from klartext.experiments.registry import Registered, Status
from klartext.experiments.splits import Split, splits
from klartext.experiments.state import reading
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    import pandas as pd
    from ibis.backends import BaseBackend
    from ibis.expr.types import Table

    from klartext.experiments.facts import FactTables

# The SQL of Databricks is that of Spark, and can be written without a session.
_DIALECTS = {DuckDbEngine: "duckdb", SparkEngine: "databricks", PostgresEngine: "postgres"}
_OPEN: tuple[Status, ...] = ("running", "paused", "stopped")


class Experiments(tuple[Registered, ...]):
    """Registered experiments as they stand, by key."""

    __slots__ = ()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per experiment."""
        import pandas as pd  # noqa: PLC0415 - heavy, and only notebooks want it

        rows = [
            {
                "key": one.key,
                "title": one.experiment.title,
                "kind": one.experiment.kind,
                "registration": one.experiment.registration,
                "status": one.status,
                "version": one.version,
                "sha256": one.sha256,
            }
            for one in self
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True, slots=True)
class Taken:
    """A recorded look: its number, the analysis, and the experiment as it stands after it."""

    look: int
    taken_at: datetime
    analysis: Analysis
    registered: Registered


@dataclass(frozen=True, slots=True)
class OpenFacts:
    """What an analysis reads, while the engine is open.

    ``caps`` are the percentile caps, which are in force in ``experiment``.
    """

    experiment: Experiment
    tables: FactTables
    watermark: Watermark
    splits: tuple[Split, ...]
    engine: BaseBackend
    caps: tuple[PercentileCap, ...]
    ledger: Ledger

    def read_out(self) -> Readout:
        """Reduce them to moments, counts and sums."""
        return read_out(
            self.experiment,
            self.tables,
            self.watermark,
            engine=self.engine,
            splits=self.splits,
            ledger=self.ledger,
        )


def experiments(session: Session) -> Experiments:
    """Return all registered experiments."""
    with reading(session.engine) as connection:
        return Experiments(registry.registered(connection))


def analyze(
    session: Session, key: str, *, as_of: datetime | None = None, kept: bool = False
) -> Analysis:
    """Return the analysis of an experiment on the facts so far; looking changes nothing.

    Parameters
    ----------
    session
        The workspace.
    key
        Experiment.
    as_of
        The facts that had been imported and the ledger as it stood at this instant; None is now.
        Spec, signatures and incidents are always those of now.
    kept
        Read only the facts since the last analysis that was asked to keep what it read.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    NotReadyError
        It is not registered, or no facts were delivered by then.
    KlartextError
        ``as_of`` is still to come.
    """
    registered = load(session, key)
    readout = read(session, registered, as_of=as_of, kept=kept)
    with reading(session.engine) as connection:
        signed = approvals.current(connection, registered)
        registration = registration_of(connection, registered, signed)
    return evaluate(registered, readout, registration)


def series(
    session: Session, key: str, *, as_of: datetime | None = None
) -> tuple[Registered, Watermark, Series]:
    """Return the course of an experiment by day, by age and by cohort: charts, no estimates.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    NotReadyError
        It is not registered, or no facts were delivered yet.
    """
    registered = load(session, key)
    with open_engine(session.workspace.engine) as engine:
        tables, watermark = _seen(session, registered, engine, as_of)
        found = read_series(registered.experiment, tables, watermark, engine=engine)
    return registered, watermark, found


def moments(session: Session, key: str) -> VariantMoments:
    """Return the moments of the unit table per variant: mature units, seen in one variant only.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    NotReadyError
        It is not registered, or no facts were delivered yet.
    """
    registered = load(session, key)
    return VariantMoments(read(session, registered).moments)


def units(session: Session, key: str) -> Table:
    """Return the unit table, lazily: nothing is computed before it is asked for.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    NotReadyError
        It is not registered, or no facts were delivered yet.
    """
    registered = load(session, key)
    tables, watermark = _seen(session, registered, connect(session.workspace.engine))
    return unit_table.build(registered.experiment, tables, watermark, _splits(session, registered))


def sql(session: Session, key: str, *, dialect: str | None = None) -> str:
    """Return the queries of an analysis: the unit table, and its moments per variant.

    Parameters
    ----------
    dialect
        Any that Ibis writes, such as bigquery, snowflake or databricks; default: the engine's.

    Raises
    ------
    KlartextError
        There is no such dialect. Otherwise as `analyze`.
    """
    registered = load(session, key)
    name = dialect or _DIALECTS[type(session.workspace.engine)]
    with open_engine(session.workspace.engine) as engine:
        tables, watermark = _seen(session, registered, engine)
        if session.workspace.mapped is None:
            tables = session.facts.unbound()  # by name, instead of as files
        moved = _splits(session, registered)
        lazy = unit_table.whole_table(registered.experiment, tables, watermark, moved)
        kept = ibis.table(lazy.schema(), name="units")
        try:
            units, moments = (
                str(ibis.to_sql(query, dialect=name))
                for query in (lazy, sums(registered.experiment, kept))
            )
        except (NotImplementedError, ValueError, ibis.IbisError) as error:
            raise KlartextError(f"Ibis writes no SQL for {name!r} here: {error}") from error
    return (
        f"-- the unit table, kept as units\nCREATE TEMPORARY TABLE units AS\n{units};\n\n"
        "-- sums that the moments follow from; the analysis first subtracts a value near the data\n"
        f"{moments};\n"
    )


def decide(session: Session, key: str, *, actor: str, kept: bool = False) -> Taken:
    """Take a look: record moments and result, audit them, and move the experiment by the verdict.

    Percentile caps that this look resolves are frozen with it.

    GO, GO_LIMITED and STOP end the test (``decided``); a treatment that does harm stops it in any
    case; GO_PENDING_APPROVAL, CONTINUE and INVALID leave it as it is.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    NotReadyError
        It is not registered or not started, or no facts were delivered yet.
    ConflictError
        It is decided already, its last deciding look is taken, or it changed meanwhile.
    """
    registered = load(session, key)
    _check_open(registered)
    readout = read(session, registered, kept=kept)
    with reading(session.engine) as connection:
        registration = registration_of(connection, registered, None)
    now = session.now()
    resolved = replace(readout, caps=tuple(caps.as_frozen(cap, now) for cap in readout.caps))
    analysis = evaluate(registered, resolved, registration)
    with session.engine.begin() as connection:
        audit.lock(connection)
        current = registry.load(connection, key)
        same = (current.sha256, current.status) == (registered.sha256, registered.status)
        if not same or registration_of(connection, registered, None) != registration:
            raise ConflictError(
                f"{key} changed while it was analysed. Run `klartext decide` again."
            )
        looks.check_open_looks(connection, registered)
        caps.freeze(connection, key, readout.caps, actor=actor, now=now)
        number = looks.record(connection, registered, readout, analysis, actor=actor, now=now)
        verdict = analysis.decision
        outcome = Outcome(
            verdict=verdict.verdict,
            rule=verdict.rule,
            variant=verdict.variant,
            registered=analysis.registered,
            harmful=any(one.decision.rule == "safety" for one in analysis.treatments),
        )
        after = enact(connection, registered, outcome, look=number, actor=actor, now=now)
    return Taken(number, now, analysis, after)


def load(session: Session, key: str) -> Registered:
    """Return a registered experiment with its frozen caps in force.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    NotReadyError
        It is not registered.
    """
    with reading(session.engine) as connection:
        require_registered(session, connection, key)
        registered = registry.load(connection, key)
        resolved = caps.in_force(registered.experiment, caps.frozen(connection, key))
    return replace(registered, experiment=resolved)


def _seen(
    session: Session, registered: Registered, engine: BaseBackend, as_of: datetime | None = None
) -> tuple[FactTables, Watermark]:
    """Return the facts as tables of ``engine``, and which of them may be relied on."""
    if as_of is not None and as_of > session.now():
        raise KlartextError(f"{as_of:%Y-%m-%dT%H:%M:%SZ} is still to come: nothing is known of it.")
    promised = registered.experiment.costs.usage_source is not None
    tables, found = session.see(engine, usage=promised, as_of=as_of)
    if found is not None:
        return tables, found
    mapped = session.workspace.mapped
    if mapped is not None:
        raise NotReadyError(
            f"{registered.key} has no facts yet: {mapped.tables['events'].label} has no events "
            "before now."
        )
    raise NotReadyError(
        f"{registered.key} has no facts yet. Deliver exposures and events with "
        "`klartext ingest FILE --mapping MAPPING`, or through `klartext serve`."
    )


@contextmanager
def open_facts(
    session: Session,
    registered: Registered,
    *,
    as_of: datetime | None = None,
    at: looks.Recorded | None = None,
) -> Iterator[OpenFacts]:
    """Open the facts of an experiment, with percentile caps as they are frozen, else as now.

    ``at`` opens those that a recorded look has seen, as they are today: without what was delivered,
    frozen or moved since.

    Raises
    ------
    NotReadyError
        No facts were delivered yet.
    """
    with reading(session.engine) as connection:
        frozen = caps.frozen(connection, registered.key)
        moved = splits(connection, registered)
    as_of = as_of if at is None else at.taken_at
    ledger = _ledger(session, registered, as_of)
    if at is not None:
        frozen = {name: cap for name, cap in frozen.items() if _until(cap.frozen_at, at)}
        moved = tuple(split for split in moved if _until(split.since, at))
    with open_engine(session.workspace.engine) as engine:
        tables, watermark = _seen(session, registered, engine, as_of)
        watermark = watermark if at is None else at.watermark
        experiment = registered.experiment
        found = percentile_caps.at_look(experiment, tables, watermark, engine=engine)
        yield OpenFacts(
            caps.in_force(experiment, {cap.metric: cap for cap in found}),
            tables,
            watermark,
            moved,
            engine,
            (*frozen.values(), *found),
            ledger,
        )


def _until(instant: datetime | None, look: looks.Recorded) -> bool:
    return instant is not None and instant <= look.taken_at


def read(
    session: Session,
    registered: Registered,
    *,
    as_of: datetime | None = None,
    at: looks.Recorded | None = None,
    kept: bool = False,
) -> Readout:
    """Reduce the facts of an experiment.

    Parameters
    ----------
    session
        The workspace.
    registered
        The experiment.
    as_of, at
        As in `open_facts`.
    kept
        Read only what came since the last one that was asked to keep what it read, unless that
        cannot be; the readout says so.

    Raises
    ------
    NotReadyError
        No facts were delivered yet.
    """
    if not kept:
        with open_facts(session, registered, as_of=as_of, at=at) as facts:
            return replace(facts.read_out(), caps=facts.caps)
    is_now = as_of is None and at is None
    found = (
        from_cohorts(
            session,
            registered,
            splits=len(_splits(session, registered)),
            ledger=_ledger(session, registered, None),
        )
        if is_now
        else CohortUse(0, 0, "as-of")
    )
    if isinstance(found, Readout):
        return found
    every = read(session, registered, as_of=as_of, at=at)
    if found is None:  # facts came meanwhile
        return every
    return replace(every, cohorts=replace(found, built=sum(every.all_units.values())))


def _ledger(session: Session, registered: Registered, as_of: datetime | None) -> Ledger:
    with reading(session.engine) as connection:
        lines = standing(connection, as_of=as_of, experiment=registered.key)
        return Ledger(tuple(each for each in lines if each.line.kind != "tax"), as_of)


def _splits(session: Session, registered: Registered) -> tuple[Split, ...]:
    with reading(session.engine) as connection:
        return splits(connection, registered)


def registration_of(
    connection: sa.Connection,
    registered: Registered,
    signed: approvals.Round | None,
    *,
    at: looks.Recorded | None = None,
) -> Registration:
    """Return what the registry knows beside the facts; signatures are those of ``signed``.

    ``at`` is what it knew when this look was taken.
    """
    as_of, before = (None, None) if at is None else (at.taken_at, at.look)
    results = preflight.results(connection, registered.key, as_of=as_of)
    known = incidents.of(connection, registered.key)
    stopped = registered.stopped_at
    return Registration(
        registered.version,
        registered.sha256,
        registered.recorded_at,
        approved=frozenset() if signed is None else signed.approved,
        gates={check: result.value for check, result in results.items()},
        incidents=tuple(one.reason for one in known if one.is_open(as_of)),
        looks=looks.planned_looks(connection, registered.key, before=before),
        stopped_at=stopped if stopped is None or at is None or _until(stopped, at) else None,
        interrupted={one.batch: one.source for one in batches.interrupted(connection, as_of=as_of)},
    )


def evaluate(registered: Registered, readout: Readout, registration: Registration) -> Analysis:
    """Return the analysis of a readout; see `klartext.analysis.evaluate.analyse`."""
    experiment = caps.in_force(registered.experiment, {cap.metric: cap for cap in readout.caps})
    period = period_of(experiment, readout, started_at=registered.started_at)
    return analyse(experiment, registration, readout, period=period)


def _check_open(registered: Registered) -> None:
    if registered.status == "draft":
        raise NotReadyError(
            f"{registered.key} has not started. Start it with `klartext start {registered.key}`; "
            f"`klartext analyze {registered.key}` reads without deciding."
        )
    if registered.status not in _OPEN:
        raise ConflictError(
            f"{registered.key} is {registered.status}; there is nothing left to decide. "
            f"`klartext report {registered.key}` shows the verdict."
        )
