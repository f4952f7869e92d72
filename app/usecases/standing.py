"""How an experiment stands: status, facts, last look, and the command that comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from klartext.app.session import Session
from klartext.app.usecases.registry import require_registered
from klartext.experiments import layers, lifecycle, registry
from klartext.experiments.registry import Registered
from klartext.experiments.state import reading
from klartext.experiments.tables import batches, looks, policy_versions


@dataclass(frozen=True, slots=True)
class Deliveries:
    """Imports of one kind into this workspace, for all experiments together."""

    imports: int
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """A recorded look: its number, when it was taken, and the verdict."""

    look: int
    taken_at: datetime
    verdict: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How an experiment stands, and the command that comes next.

    ``exposed`` counts units with an exposure; None when nothing was delivered yet.
    ``deliveries`` are those of the whole workspace, by kind.
    """

    experiment: Registered
    since: datetime
    slots: tuple[layers.Range, ...]
    exposed: int | None
    deliveries: Mapping[str, Deliveries]
    look: Look | None
    policy_version: int | None
    next_command: str


def status(session: Session, key: str) -> Standing:
    """Return how the experiment stands.

    Raises
    ------
    NotReadyError
        It is described in the workspace but not registered.
    NotFoundError
        There is no such experiment.
    """
    with reading(session.engine) as connection:
        require_registered(session, connection, key)
        experiment = registry.load(connection, key)
        delivered = deliveries(connection)
        look = _last_look(connection, key)
        policy = sa.select(sa.func.max(policy_versions.c.version)).where(
            policy_versions.c.experiment == key
        )
        since = lifecycle.since(connection, key)
        slots = layers.slots(connection, key)
        policy_version = connection.execute(policy).scalar_one()
    has_facts = delivered or session.workspace.mapped is not None
    exposed = _exposed(session, key) if has_facts else None
    return Standing(
        experiment,
        since,
        slots,
        exposed,
        delivered,
        look,
        policy_version,
        _next_command(
            experiment,
            exposed=exposed,
            look=look,
            deliver=(
                "klartext ingest FILE --mapping MAPPING"
                if session.workspace.mapped is None
                else "klartext facts show"
            ),
        ),
    )


def deliveries(connection: sa.Connection) -> dict[str, Deliveries]:
    """Return the finished imports of the workspace, by kind."""
    columns = [
        sa.func.coalesce(sa.func.sum(batches.c[name]), 0).label(name)
        for name in ("accepted", "duplicate", "conflict", "rejected")
    ]
    query = (
        sa.select(
            batches.c.kind,
            sa.func.count().label("imports"),
            *columns,
            sa.func.max(batches.c.received_at).label("received_at"),
        )
        .where(batches.c.finished_at.is_not(None))
        .group_by(batches.c.kind)
        .order_by(batches.c.kind)
    )
    return {
        row.kind: Deliveries(
            row.imports,
            int(row.accepted),
            int(row.duplicate),
            int(row.conflict),
            int(row.rejected),
            row.received_at,
        )
        for row in connection.execute(query)
    }


def _last_look(connection: sa.Connection, key: str) -> Look | None:
    query = (
        sa.select(looks.c.look, looks.c.taken_at, looks.c.verdict)
        .where(looks.c.experiment == key)
        .order_by(looks.c.look.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else Look(row.look, row.taken_at, row.verdict)


def _exposed(session: Session, key: str) -> int:
    # Heavy, and only needed when facts were delivered.
    from klartext.analysis.engine import open_engine  # noqa: PLC0415

    with open_engine(session.workspace.engine) as engine:
        exposures = session.tables(engine).exposures
        return int(engine.execute(exposures.filter(exposures.experiment == key).unit.nunique()))


def _next_command(
    experiment: Registered, *, exposed: int | None, look: Look | None, deliver: str
) -> str:
    key = experiment.key
    match experiment.status:
        case "draft" | "paused":
            command = f"klartext start {key}"
        case "running" if not exposed and experiment.experiment.assignment == "klartext":
            command = "klartext serve"
        case "running" | "stopped" if not exposed:
            command = deliver
        case "running" | "stopped" if look is None:
            command = f"klartext analyze {key}"
        case "archived" | "abandoned":
            command = f"klartext export {key}"
        case _:
            command = f"klartext report {key} -o report.html"
    return command
