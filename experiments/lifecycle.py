"""Lifecycle of an experiment: which status may follow which, and what the change does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from klartext.experiments import audit, layers, programme
from klartext.experiments.errors import ConflictError
from klartext.experiments.registry import Registered, Status, load
from klartext.experiments.tables import audit as audit_log
from klartext.experiments.tables import experiments

TRANSITIONS: Final[Mapping[Status, tuple[Status, ...]]] = {
    "draft": ("running", "abandoned"),
    "running": ("paused", "stopped", "abandoned"),
    "paused": ("running", "stopped", "abandoned"),
    "stopped": ("decided", "abandoned"),
    "decided": ("live", "archived"),
    "live": ("archived",),
    "archived": (),
    "abandoned": (),
}
"""From each status, those that may follow. A started test is never deleted, and never resumed
once stopped: its units have seen the end of it."""

_NEEDS_REASON = frozenset({"paused", "stopped", "abandoned"})
_RESUME = "resume"
_ACTIONS: Final[Mapping[Status, str]] = {
    "running": "start",
    "paused": "pause",
    "stopped": "stop",
    "decided": "decide",
    "live": "go-live",
    "archived": "archive",
    "abandoned": "abandon",
}


def transition(  # noqa: PLR0913 - who moved which experiment where, when and why
    connection: sa.Connection,
    key: str,
    to: Status,
    *,
    actor: str,
    now: datetime,
    reason: str,
) -> Registered:
    """Move an experiment to another status, with its slots, and record it in the audit log.

    Starting reserves traffic in the layer; a pause keeps it; stopping and abandoning free it.

    Raises
    ------
    NotFoundError
        The experiment is not registered.
    ConflictError
        The status may not follow, the reason is missing, or the layer has no room.
    """
    audit.lock(connection)
    old = load(connection, key)
    _check(old, to, reason=reason)
    values: dict[str, object] = {"status": to}
    if to == "running":
        if old.started_at is None:
            _check_start(old, now)
            programme.check_alone(connection, old)
            values["started_at"] = now
        if old.experiment.assignment == "klartext":
            layers.reserve(connection, old.experiment.layer, key, old.experiment.traffic)
    if to in {"stopped", "abandoned"}:
        layers.release(connection, key)
        if old.stopped_at is None and old.started_at is not None:
            values["stopped_at"] = now
    connection.execute(sa.update(experiments).where(experiments.c.key == key).values(values))
    audit.record(
        connection,
        now=now,
        actor=actor,
        action=_action(old, to),
        subject=key,
        detail={
            "from": old.status,
            "to": to,
            "version": old.version,
            "sha256": old.sha256,
            "reason": reason,
        },
    )
    return load(connection, key)


def since(connection: sa.Connection, key: str) -> datetime:
    """Return when the experiment took its present status."""
    moved = connection.execute(
        sa.select(sa.func.max(audit_log.c.seq)).where(
            audit_log.c.subject == key,
            audit_log.c.action.in_([*_ACTIONS.values(), _RESUME]),
        )
    ).scalar_one()
    if moved is None:
        query = sa.select(experiments.c.created_at).where(experiments.c.key == key)
    else:
        query = sa.select(audit_log.c.at).where(audit_log.c.seq == moved)
    at: datetime = connection.execute(query).scalar_one()
    return at


def _action(old: Registered, to: Status) -> str:
    return _RESUME if (old.status, to) == ("paused", "running") else _ACTIONS[to]


def _check(old: Registered, to: Status, *, reason: str) -> None:
    if to not in TRANSITIONS[old.status]:
        raise ConflictError(_impossible(old, to))
    if to in _NEEDS_REASON and not reason.strip():
        raise ConflictError(
            f"{old.key} becomes {to} only with a reason that can be read later. "
            f"Say why with --reason."
        )


def _check_start(old: Registered, now: datetime) -> None:
    if now < old.recorded_at:
        raise ConflictError(
            f"{old.key} was registered at {old.recorded_at.isoformat()}, after the start at "
            f"{now.isoformat()}; registration precedes the start. Check the clock of this machine."
        )
    end = old.experiment.plan.latest_end
    if end is not None and end <= now:
        raise ConflictError(
            f"{old.key} was to end by {end.isoformat()} at the latest, which is over. "
            f"Move plan.latest_end, run `klartext apply`, then start."
        )


def _impossible(old: Registered, to: Status) -> str:
    if old.status == to:
        return f"{old.key} is {to} already."
    if old.status == "stopped" and old.started_at is None and to in {"running", "paused"}:
        return (
            f"{old.key} is retrospective: it describes a finished test and starts nothing. "
            f"Load its data with `klartext ingest`, then `klartext analyze {old.key}`."
        )
    if to == "running":
        return (
            f"{old.key} is {old.status} and cannot run again: its units have seen the end of it. "
            f"Register a new experiment under a new key."
        )
    if old.status == "draft":
        return (
            f"{old.key} has not started, so it cannot become {to}. "
            f"Start it with `klartext start {old.key}`, or give it up with "
            f"`klartext abandon {old.key} --reason ...`."
        )
    allowed = TRANSITIONS[old.status]
    if not allowed:
        return f"{old.key} is {old.status}, which is final; it cannot become {to}."
    return f"{old.key} is {old.status}; it cannot become {to}, only {' or '.join(allowed)}."
