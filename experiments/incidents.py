"""Incidents: harm that no metric shows. While one is open the test is stopped to protect."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from klartext.experiments import audit, lifecycle
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.registry import Registered
from klartext.experiments.tables import incidents


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident of an experiment; ``closed_at`` is None while it is open."""

    number: int
    opened_at: datetime
    opened_by: str
    reason: str
    closed_at: datetime | None
    closed_by: str | None
    comment: str | None

    def is_open(self, as_of: datetime | None = None) -> bool:
        """Whether it is open now, or was at an earlier instant."""
        if as_of is None:
            return self.closed_at is None
        return self.opened_at <= as_of and (self.closed_at is None or self.closed_at > as_of)


def of(connection: sa.Connection, key: str) -> tuple[Incident, ...]:
    """Return the incidents of an experiment, oldest first."""
    query = sa.select(incidents).where(incidents.c.experiment == key)
    return tuple(
        Incident(
            row.number,
            row.opened_at,
            row.opened_by,
            row.reason,
            row.closed_at,
            row.closed_by,
            row.comment,
        )
        for row in connection.execute(query.order_by(incidents.c.number))
    )


def report(
    connection: sa.Connection, registered: Registered, *, actor: str, now: datetime, reason: str
) -> Incident:
    """Open an incident; a running test is paused in the same transaction.

    Raises
    ------
    ConflictError
        The reason is empty, or the test has not started or is over.
    """
    audit.lock(connection)
    key, reason = registered.key, reason.strip()
    if not reason:
        raise ConflictError("An incident needs a reason that can be read later: --reason.")
    if registered.status not in {"running", "paused", "stopped", "live"}:
        raise ConflictError(f"{key} is {registered.status}: there is nothing to protect.")
    number = len(of(connection, key)) + 1
    connection.execute(
        sa.insert(incidents).values(
            experiment=key, number=number, opened_at=now, opened_by=actor, reason=reason
        )
    )
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="incident",
        subject=key,
        detail={"number": number, "reason": reason},
    )
    if registered.status == "running":
        lifecycle.transition(
            connection, key, "paused", actor=actor, now=now, reason=f"incident {number}: {reason}"
        )
    return of(connection, key)[-1]


def close(  # noqa: PLR0913 - who closed which, when and why
    connection: sa.Connection,
    registered: Registered,
    number: int,
    *,
    actor: str,
    now: datetime,
    comment: str,
) -> Incident:
    """Close an incident. A paused test stays paused until somebody starts it again.

    Raises
    ------
    NotFoundError
        There is no such incident.
    ConflictError
        It is closed already, or the comment is empty.
    """
    audit.lock(connection)
    key, comment = registered.key, comment.strip()
    known = {one.number: one for one in of(connection, key)}
    if number not in known:
        raise NotFoundError(f"{key} has no incident {number}; it has {len(known)}.")
    if known[number].closed_at is not None:
        raise ConflictError(f"incident {number} of {key} is closed already.")
    if not comment:
        raise ConflictError("Say what was done about it: --comment.")
    connection.execute(
        sa.update(incidents)
        .where(incidents.c.experiment == key, incidents.c.number == number)
        .values(closed_at=now, closed_by=actor, comment=comment)
    )
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="incident-closed",
        subject=key,
        detail={"number": number, "comment": comment},
    )
    return {one.number: one for one in of(connection, key)}[number]
