"""Preflight gates: checks outside the data that a GO needs, such as a load test or a legal review.

The spec names the check and its minimum; a result is a number with the hash of its evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from klartext.experiments import audit
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.experiment import Gate
from klartext.experiments.registry import Registered
from klartext.experiments.tables import preflights


@dataclass(frozen=True, slots=True)
class Result:
    """The latest result of one check."""

    check: str
    value: Decimal
    evidence_sha256: str
    actor: str
    recorded_at: datetime


def results(
    connection: sa.Connection, key: str, *, as_of: datetime | None = None
) -> dict[str, Result]:
    """Return the latest result of each check that has one, now or ``as_of`` an earlier instant."""
    query = sa.select(preflights).where(preflights.c.experiment == key)
    if as_of is not None:
        query = query.where(preflights.c.recorded_at <= as_of)
    return {
        row.check: Result(row.check, row.value, row.evidence_sha256, row.actor, row.recorded_at)
        for row in connection.execute(query.order_by(preflights.c.id))
    }


def not_passed(connection: sa.Connection, registered: Registered) -> tuple[Gate, ...]:
    """Return the checks of the spec whose latest result does not pass, or that have none."""
    found = results(connection, registered.key)
    return tuple(
        gate
        for gate in registered.experiment.decision.preflight
        if gate.check not in found or found[gate.check].value < gate.minimum
    )


def record(  # noqa: PLR0913 - who measured what with which evidence, when
    connection: sa.Connection,
    registered: Registered,
    *,
    check: str,
    value: Decimal,
    evidence_sha256: str,
    actor: str,
    now: datetime,
) -> Result:
    """Record a result; earlier ones stay on record, the latest counts.

    Raises
    ------
    NotFoundError
        The spec names no such check.
    ConflictError
        The value is not a finite number, or the experiment is over.
    """
    audit.lock(connection)
    key = registered.key
    asked = [gate.check for gate in registered.experiment.decision.preflight]
    if check not in asked:
        named = f"it names {', '.join(asked)}" if asked else "it names none"
        raise NotFoundError(f"the spec of {key} has no preflight check {check!r}; {named}.")
    if not value.is_finite():
        raise ConflictError(f"{value} is no result of a check: it must be a finite number.")
    if registered.status not in {"draft", "running", "paused", "stopped"}:
        raise ConflictError(f"{key} is {registered.status}; there is nothing left to decide.")
    connection.execute(
        sa.insert(preflights).values(
            experiment=key,
            check=check,
            value=value,
            evidence_sha256=evidence_sha256,
            actor=actor,
            recorded_at=now,
        )
    )
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="preflight",
        subject=key,
        detail={"check": check, "value": str(value), "evidence_sha256": evidence_sha256},
    )
    return Result(check, value, evidence_sha256, actor, now)
