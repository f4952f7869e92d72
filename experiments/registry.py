"""Registry: what was registered, when, and which version of it is in force."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from hashlib import sha256
from typing import Literal, TypeAlias

import sqlalchemy as sa

from klartext.experiments import audit, layers
from klartext.experiments.changes import Change, classify
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.experiment import Experiment, Json
from klartext.experiments.spec.canonical import restore
from klartext.experiments.spec.resolved import Resolved
from klartext.experiments.tables import experiment_versions, experiments, looks

Status: TypeAlias = Literal[
    "draft", "running", "paused", "stopped", "decided", "live", "archived", "abandoned"
]

_CLOSED = frozenset({"archived", "abandoned"})
_WEIGHT = re.compile(r"variants\[.+\]\.weight")


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered experiment as it stands.

    ``version`` and ``sha256`` are those in force. ``recorded_at`` is when the rule that binds was
    recorded: the version in force at the start; a safe change since then does not move it.
    """

    key: str
    version: int
    sha256: str
    experiment: Experiment
    status: Status
    recorded_at: datetime
    started_at: datetime | None
    stopped_at: datetime | None
    source: str


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version: its resolved form and its text, when it was recorded, by whom."""

    version: int
    sha256: str
    canonical: str
    source: str
    recorded_at: datetime
    actor: str


def apply(
    connection: sa.Connection, resolved: Resolved, *, actor: str, now: datetime
) -> Registered:
    """Register the experiment, or a new version of it; the same resolved form changes nothing.

    A draft may change freely. A started experiment takes safe changes, and while an A/B test runs
    its weights may move: what came before is then a split regime of its own. A retrospective one
    is ``stopped`` from the beginning, and may be corrected until it is decided: its verdict is
    marked as not registered in advance either way.

    Raises
    ------
    ConflictError
        A started experiment would change in what decides it, or the experiment is closed.
    """
    audit.lock(connection)
    experiment = resolved.experiment
    key = experiment.key
    row = connection.execute(sa.select(experiments).where(experiments.c.key == key)).one_or_none()
    if row is None:
        connection.execute(
            sa.insert(experiments).values(
                key=key, status=_first_status(experiment), version=1, created_at=now
            )
        )
        _add_version(connection, resolved, version=1, actor=actor, now=now)
        _record(connection, resolved, version=1, changes=(), actor=actor, now=now)
        return load(connection, key)
    old = load(connection, key)
    if old.sha256 == resolved.sha256:
        return old
    changes = classify(old.experiment, experiment)
    free = old.status == "draft" or (_is_import(old) and not _decided(connection, key))
    _refuse(old, changes, free=free)
    status = _first_status(experiment) if free else old.status
    version = old.version + 1
    connection.execute(
        sa.update(experiments)
        .where(experiments.c.key == key)
        .values(version=version, status=status)
    )
    _add_version(connection, resolved, version=version, actor=actor, now=now)
    _record(connection, resolved, version=version, changes=changes, actor=actor, now=now)
    if old.status in {"running", "paused"} and experiment.assignment == "klartext":
        layers.reserve(connection, experiment.layer, key, experiment.traffic)
    return load(connection, key)


def load(connection: sa.Connection, key: str) -> Registered:
    """Return the experiment with ``key`` as it stands.

    Raises
    ------
    NotFoundError
        None is registered under this key; the message names the nearest one.
    ConflictError
        The stored version is not what was registered: its hash differs.
    """
    query = (
        sa.select(experiments, experiment_versions)
        .join(experiment_versions, _in_force())
        .where(experiments.c.key == key)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(not_registered(key, keys(connection)))
    return _registered(connection, row)


def registered(connection: sa.Connection) -> tuple[Registered, ...]:
    """Return all registered experiments as they stand, by key."""
    query = (
        sa.select(experiments, experiment_versions)
        .join(experiment_versions, _in_force())
        .order_by(experiments.c.key)
    )
    return tuple(_registered(connection, row) for row in connection.execute(query).all())


def keys(connection: sa.Connection) -> tuple[str, ...]:
    """Return the keys of all registered experiments, sorted."""
    query = sa.select(experiments.c.key).order_by(experiments.c.key)
    return tuple(connection.execute(query).scalars())


def history(connection: sa.Connection, key: str) -> tuple[Version, ...]:
    """Return all versions of an experiment, oldest first; empty when it is not registered."""
    query = (
        sa.select(experiment_versions)
        .where(experiment_versions.c.key == key)
        .order_by(experiment_versions.c.version)
    )
    return tuple(
        Version(row.version, row.sha256, row.canonical, row.source, row.recorded_at, row.actor)
        for row in connection.execute(query)
    )


def altered(connection: sa.Connection) -> tuple[str, ...]:
    """Return ``key version n`` of every version that is not what the audit log registered."""
    logged = {
        (entry.subject, entry.detail["version"]): entry.detail["sha256"]
        for entry in audit.entries(connection)
        if entry.action == "register"
    }
    query = sa.select(experiment_versions).order_by(
        experiment_versions.c.key, experiment_versions.c.version
    )
    found = []
    for row in connection.execute(query):
        expected = logged.pop((row.key, row.version), None)
        if not row.sha256 == expected == _sha256(row.canonical):
            found.append(f"{row.key} version {row.version}")
    return (*found, *(f"{key} version {version}" for key, version in logged))


def not_registered(key: str, known: Sequence[str]) -> str:
    """Return the sentence for a key that is not registered, with the nearest one that is."""
    near = get_close_matches(key, known, n=1)
    if near:
        return f"No experiment {key!r} is registered. Did you mean {near[0]!r}?"
    if known:
        return f"No experiment {key!r} is registered. `klartext list` shows those that are."
    return f"No experiment {key!r} is registered; none is yet. Register with `klartext apply FILE`."


def _in_force() -> sa.ColumnElement[bool]:
    return sa.and_(
        experiment_versions.c.key == experiments.c.key,
        experiment_versions.c.version == experiments.c.version,
    )


def _registered(connection: sa.Connection, row: sa.Row[tuple[object, ...]]) -> Registered:
    if _sha256(row.canonical) != row.sha256:
        raise ConflictError(
            f"Version {row.version} of {row.key} is not what was registered: its hash differs. "
            f"The state database was altered by hand; restore it from a backup "
            f"(`klartext audit verify` shows what else changed)."
        )
    recorded_at = row.recorded_at
    if row.started_at is not None and recorded_at > row.started_at:
        before_start = sa.select(sa.func.max(experiment_versions.c.recorded_at)).where(
            experiment_versions.c.key == row.key,
            experiment_versions.c.recorded_at <= row.started_at,
        )
        recorded_at = connection.execute(before_start).scalar_one()
    return Registered(
        row.key,
        row.version,
        row.sha256,
        restore(row.canonical),
        row.status,
        recorded_at,
        row.started_at,
        row.stopped_at,
        row.source,
    )


def _first_status(experiment: Experiment) -> Status:
    return "stopped" if experiment.registration == "retrospective" else "draft"


def _is_import(old: Registered) -> bool:
    return old.status == "stopped" and old.started_at is None


def _decided(connection: sa.Connection, key: str) -> bool:
    query = sa.select(sa.exists().where(looks.c.experiment == key))
    return bool(connection.execute(query).scalar())


def _refuse(old: Registered, changes: Sequence[Change], *, free: bool) -> None:
    if old.status in _CLOSED:
        raise ConflictError(
            f"{old.key} is {old.status} and keeps version {old.version}. "
            f"Register the new text under a new key."
        )
    if free:
        if old.status != "draft" and any(change.path == "registration" for change in changes):
            raise ConflictError(
                f"{old.key} was imported after the fact and cannot become a test registered in "
                f"advance. Register the new text under a new key."
            )
        return
    blocking = [
        change for change in changes if not (_moves(old, change) or change.effect == "safe")
    ]
    if blocking:
        raise ConflictError(_blocked(old, blocking, len(changes)))


def _moves(old: Registered, change: Change) -> bool:
    """Whether it only moves weights of a running A/B test; a bandit's are moved by its policy.

    Those of a programme stay: other experiments would gain units that had been held out.
    """
    experiment = old.experiment
    movable = experiment.kind == "ab" and experiment.scope == "change"
    going_on = old.status in {"running", "paused"} and movable
    return going_on and _WEIGHT.fullmatch(change.path) is not None


def _blocked(old: Registered, blocking: Sequence[Change], total: int) -> str:
    head = (
        f"{old.key} is {old.status}; version {old.version} stays in force, because "
        f"{len(blocking)} of {total} changes cannot be made to it:"
    )
    advice = f"Undo these changes, or stop {old.key} and register under a new key."
    if all(change.effect == "new_phase" for change in blocking):
        advice = f"This needs a new phase: stop {old.key} and register under a new key."
    return "\n".join([head, *(f"  {change}" for change in blocking), advice])


def _add_version(
    connection: sa.Connection, resolved: Resolved, *, version: int, actor: str, now: datetime
) -> None:
    connection.execute(
        sa.insert(experiment_versions).values(
            key=resolved.experiment.key,
            version=version,
            sha256=resolved.sha256,
            canonical=resolved.canonical,
            source=resolved.source,
            recorded_at=now,
            actor=actor,
        )
    )


def _record(  # noqa: PLR0913 - one entry of the audit log
    connection: sa.Connection,
    resolved: Resolved,
    *,
    version: int,
    changes: Sequence[Change],
    actor: str,
    now: datetime,
) -> None:
    detail: dict[str, Json] = {
        "version": version,
        "sha256": resolved.sha256,
        "registration": resolved.experiment.registration,
    }
    if changes:
        detail["changes"] = [
            {
                "path": change.path,
                "before": change.before,
                "after": change.after,
                "effect": change.effect,
            }
            for change in changes
        ]
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="register",
        subject=resolved.experiment.key,
        detail=detail,
    )


def _sha256(canonical: str) -> str:
    return sha256(canonical.encode()).hexdigest()
