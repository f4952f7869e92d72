"""How an experiment stands: status, facts, last look, and the command that comes next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from klartext.analysis.verdicts import Beside
from klartext.app.session import Session
from klartext.app.usecases.registry import require_registered
from klartext.experiments import layers, lifecycle, registry, revisions
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
class Standing:
    """How an experiment stands, and the command that comes next.

    ``exposed`` counts units with an exposure; None when nothing was delivered yet.
    ``deliveries`` are those of the whole workspace, by kind. ``beside`` is the last recorded look
    and the revision in force, as they are stored.
    """

    experiment: Registered
    since: datetime
    slots: tuple[layers.Range, ...]
    exposed: int | None
    deliveries: Mapping[str, Deliveries]
    beside: Beside
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
        policy = sa.select(sa.func.max(policy_versions.c.version)).where(
            policy_versions.c.experiment == key
        )
        since = lifecycle.since(connection, key)
        slots = layers.slots(connection, key)
        policy_version = connection.execute(policy).scalar_one()
        looked = connection.execute(sa.select(sa.exists().where(looks.c.experiment == key)))
        has_look = bool(looked.scalar())
        has_revision = revisions.in_force(connection, experiment) is not None
    beside = _beside(session, key) if has_look or has_revision else Beside(None, None)
    has_facts = delivered or session.workspace.mapped is not None
    exposed = _exposed(session, key) if has_facts else None
    return Standing(
        experiment,
        since,
        slots,
        exposed,
        delivered,
        beside,
        policy_version,
        _next_command(
            experiment,
            exposed=exposed,
            looked=beside.past is not None,
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


def _beside(session: Session, key: str) -> Beside:
    # Heavy, and only needed once there is something to stand beside.
    from klartext.app.usecases import assumptions  # noqa: PLC0415

    return assumptions.beside(session, key)


def _exposed(session: Session, key: str) -> int:
    # Heavy, and only needed when facts were delivered.
    from klartext.analysis.engine import open_engine  # noqa: PLC0415

    with open_engine(session.workspace.engine) as engine:
        exposures = session.tables(engine).exposures
        return int(engine.execute(exposures.filter(exposures.experiment == key).unit.nunique()))


def _next_command(
    experiment: Registered, *, exposed: int | None, looked: bool, deliver: str
) -> str:
    key = experiment.key
    match experiment.status:
        case "draft" | "paused":
            command = f"klartext start {key}"
        case "running" if not exposed and experiment.experiment.assignment == "klartext":
            command = "klartext serve"
        case "running" | "stopped" if not exposed:
            command = deliver
        case "running" | "stopped" if not looked:
            command = f"klartext analyze {key}"
        case "archived" | "abandoned":
            command = f"klartext export {key}"
        case _:
            command = f"klartext report {key} -o report.html"
    return command
