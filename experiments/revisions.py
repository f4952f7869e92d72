"""Revisions: business assumptions of an experiment that somebody signed anew, append-only.

A revision never becomes the verdict: what was decided with the registered assumptions stands, and
the verdict with the revised ones is shown beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import sha256

import sqlalchemy as sa

from klartext.experiments import audit, registry
from klartext.experiments.changes import classify
from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import Json
from klartext.experiments.inputs import InputUnit, find
from klartext.experiments.registry import Registered
from klartext.experiments.spec.canonical import restore
from klartext.experiments.tables import assumption_revisions as table

_INPUTS = ("value", "costs", "rollout")
"""Fields of an experiment that hold business inputs."""


@dataclass(frozen=True, slots=True)
class Change:
    """One input of a revision: as registered, as it was in force before, and as it is now."""

    path: str
    unit: InputUnit
    registered: Decimal
    before: Decimal
    after: Decimal


@dataclass(frozen=True, slots=True)
class Revision:
    """One signed revision.

    Parameters
    ----------
    number
        From 1, per experiment.
    version, spec_sha256
        The spec whose assumptions it revises.
    look
        The recorded look that was decided again under it; None when there was none.
    revised_at, actor, comment
        When, who, and why.
    changes
        What this revision changed.
    values
        All inputs that differ from the registered ones once it is in force.
    at_look, at_revision
        The documents of the analyses under it: on the facts of the look, and on those there were;
        ``registered`` is the analysis with the registered assumptions on the latter.
    reproduced
        Whether the registered assumptions gave the figures of the look again.
    sha256
        Of all of the above.
    """

    number: int
    version: int
    spec_sha256: str
    look: int | None
    revised_at: datetime
    actor: str
    comment: str
    changes: tuple[Change, ...]
    values: Mapping[str, Decimal]
    at_look: str | None
    at_revision: str
    registered: str
    reproduced: bool | None
    sha256: str


@dataclass(frozen=True, slots=True)
class Results:
    """What a revision was shown to change: documents of analyses, as they are stored."""

    at_look: str | None
    at_revision: str
    registered: str
    reproduced: bool | None


def of(connection: sa.Connection, key: str) -> tuple[Revision, ...]:
    """Return the revisions of an experiment, oldest first.

    Raises
    ------
    ConflictError
        A stored one is not what was signed: its hash differs.
    """
    query = sa.select(table).where(table.c.experiment == key).order_by(table.c.number)
    return tuple(_restored(row) for row in connection.execute(query))


def in_force(connection: sa.Connection, registered: Registered) -> Revision | None:
    """Return the latest revision; None without one, or when it was withdrawn.

    One that was made of other registered inputs (a retrospective import that was corrected before
    its first look) is none of this spec.
    """
    found = of(connection, registered.key)
    if not found or not found[-1].values:
        return None
    latest = found[-1]
    versions = {one.version: one for one in registry.history(connection, registered.key)}
    then = restore(versions[latest.version].canonical)
    now = restore(versions[registered.version].canonical)
    moved = {change.path.partition(".")[0].partition("[")[0] for change in classify(then, now)}
    return None if moved.intersection(_INPUTS) else latest


def merged(
    registered: Registered, before: Mapping[str, Decimal], values: Mapping[str, Decimal]
) -> tuple[tuple[Change, ...], dict[str, Decimal]]:
    """Return what ``values`` change, and all that then differs from the registered inputs."""
    changes, after = [], dict(before)
    for path, value in values.items():
        one = find(registered.experiment, path)
        base = one.assumption.base
        changes.append(Change(path, one.unit, base, before.get(path, base), value))
        after[path] = value
    differing = {
        path: value
        for path, value in after.items()
        if find(registered.experiment, path).assumption.base != value
    }
    return tuple(changes), differing


def record(  # noqa: PLR0913 - who revised what, when, why, and what it changes
    connection: sa.Connection,
    registered: Registered,
    *,
    changes: tuple[Change, ...],
    values: Mapping[str, Decimal],
    results: Results,
    look: int | None,
    actor: str,
    comment: str,
    now: datetime,
) -> Revision:
    """Keep a revision, audit it, and return it."""
    number = len(of(connection, registered.key)) + 1
    stored: dict[str, Json] = {
        "changes": [
            {
                "input": change.path,
                "unit": change.unit,
                "registered": f"{change.registered:f}",
                "before": f"{change.before:f}",
                "after": f"{change.after:f}",
            }
            for change in changes
        ],
        "values": {path: f"{value:f}" for path, value in values.items()},
    }
    row = {
        "number": number,
        "version": registered.version,
        "spec_sha256": registered.sha256,
        "look": look,
        "revised_at": now,
        "actor": actor,
        "comment": comment,
        "changes": audit.canonical(stored["changes"]),
        "values": audit.canonical(stored["values"]),
        "at_look": results.at_look,
        "at_revision": results.at_revision,
        "registered": results.registered,
        "reproduced": results.reproduced,
    }
    digest = _digest(registered.key, row)
    connection.execute(sa.insert(table).values(experiment=registered.key, sha256=digest, **row))
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="assume",
        subject=registered.key,
        detail={
            "revision": number,
            "version": registered.version,
            "sha256": registered.sha256,
            "look": look,
            "comment": comment,
            "changes": stored["changes"],
            "revision_sha256": digest,
        },
    )
    return of(connection, registered.key)[-1]


def altered(connection: sa.Connection) -> tuple[str, ...]:
    """Return ``key revision n`` of every revision that is not what the audit log says."""
    logged = {
        (entry.subject, entry.detail["revision"]): entry.detail["revision_sha256"]
        for entry in audit.entries(connection)
        if entry.action == "assume"
    }
    found = []
    for row in connection.execute(sa.select(table).order_by(table.c.experiment, table.c.number)):
        expected = logged.pop((row.experiment, row.number), None)
        if not row.sha256 == expected == _digest(row.experiment, dict(row._mapping)):  # noqa: SLF001 - public name of SQLAlchemy
            found.append(f"{row.experiment} revision {row.number}")
    return (*found, *(f"{key} revision {number}" for key, number in logged))


def _digest(key: str, row: Mapping[str, object]) -> str:
    """Return the hash over everything a revision says; documents by their own hash."""
    at = row["revised_at"]
    documents = ("at_look", "at_revision", "registered")
    said: dict[str, Json] = {"schema": "klartext/revision/v1", "experiment": key}
    said["revised_at"] = at.isoformat() if isinstance(at, datetime) else str(at)
    for name in documents:
        text = row[name]
        said[name] = None if text is None else sha256(str(text).encode()).hexdigest()
    plain = ("number", "version", "spec_sha256", "look", "actor", "comment", "changes", "values")
    for name in (*plain, "reproduced"):
        value = row[name]
        said[name] = value if isinstance(value, (str, int, bool)) or value is None else str(value)
    return sha256(audit.canonical(said).encode()).hexdigest()


def _restored(row: sa.Row[tuple[object, ...]]) -> Revision:
    stored = dict(row._mapping)  # noqa: SLF001 - public name of SQLAlchemy
    if _digest(row.experiment, stored) != row.sha256:
        raise ConflictError(
            f"Revision {row.number} of {row.experiment} is not what was signed: its hash differs. "
            "The state database was altered by hand; restore it from a backup "
            "(`klartext audit verify` shows what else changed)."
        )
    return Revision(
        number=row.number,
        version=row.version,
        spec_sha256=row.spec_sha256,
        look=row.look,
        revised_at=row.revised_at,
        actor=row.actor,
        comment=row.comment,
        changes=tuple(
            Change(
                one["input"],
                one["unit"],
                Decimal(one["registered"]),
                Decimal(one["before"]),
                Decimal(one["after"]),
            )
            for one in json.loads(row.changes)
        ),
        values={path: Decimal(value) for path, value in json.loads(stored["values"]).items()},
        at_look=row.at_look,
        at_revision=row.at_revision,
        registered=row.registered,
        reproduced=row.reproduced,
        sha256=row.sha256,
    )
