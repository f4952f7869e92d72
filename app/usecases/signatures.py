"""Sign or reject a GO, report and close incidents, record preflight results, leave notes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa

from klartext.analysis.result import Verdict
from klartext.app.session import Session
from klartext.app.usecases.enact import Outcome, enact
from klartext.app.usecases.registry import require_registered
from klartext.experiments import approvals, audit, incidents, preflight, registry
from klartext.experiments.approvals import Round
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.incidents import Incident
from klartext.experiments.preflight import Result
from klartext.experiments.registry import Registered

_VERDICTS: dict[str, Verdict] = {"go": "GO", "go_limited": "GO_LIMITED"}


@dataclass(frozen=True, slots=True)
class Signed:
    """The round after a signature, and the experiment as it stands now."""

    round: Round
    registered: Registered


def sign(  # noqa: PLR0913 - who signs what as whom, how, and why
    session: Session, key: str, *, role: str, person: str, approved: bool, comment: str
) -> Signed:
    """Answer for a role to the look that waits; the last yes enacts the GO.

    Raises
    ------
    NotFoundError
        There is no such experiment, or it asks no such role.
    ConflictError
        See `klartext.experiments.approvals.sign`; or an incident is open, or the latest result of a
        preflight check does not pass.
    """
    now = session.now()
    with session.engine.begin() as connection:
        registered = _load(session, connection, key)
        open_ones = [one for one in incidents.of(connection, key) if one.closed_at is None]
        if approved and open_ones:
            raise ConflictError(
                f"incident {open_ones[0].number} of {key} is open: {open_ones[0].reason} "
                f"Close it first: klartext incident {key} --close {open_ones[0].number}"
            )
        failed = preflight.not_passed(connection, registered) if approved else ()
        if failed:
            gate = failed[0]
            raise ConflictError(
                f"the preflight check {gate.check} of {key} does not pass any more: its latest "
                f"result is below {gate.minimum}. Record one that passes first: klartext preflight "
                f"{key} --check {gate.check}"
            )
        found = approvals.sign(
            connection,
            registered,
            role=role,
            person=person,
            approved=approved,
            comment=comment,
            now=now,
            holders=session.workspace.roles,
        )
        if found.is_complete:
            outcome = Outcome(
                verdict=_VERDICTS[found.rule],
                rule=found.rule,
                variant=found.variant,
                registered=found.registered,
                harmful=False,
            )
            registered = enact(
                connection, registered, outcome, look=found.look, actor=person, now=now
            )
    return Signed(found, registered)


def report_incident(session: Session, key: str, *, actor: str, reason: str) -> Incident:
    """Open an incident: a running test is paused, and while it is open the verdict is STOP.

    Raises
    ------
    NotFoundError, ConflictError
        See `klartext.experiments.incidents.report`.
    """
    with session.engine.begin() as connection:
        registered = _load(session, connection, key)
        return incidents.report(
            connection, registered, actor=actor, now=session.now(), reason=reason
        )


def close_incident(
    session: Session, key: str, number: int, *, actor: str, comment: str
) -> Incident:
    """Close an incident; who wants the test to go on starts it again.

    Raises
    ------
    NotFoundError, ConflictError
        See `klartext.experiments.incidents.close`.
    """
    with session.engine.begin() as connection:
        registered = _load(session, connection, key)
        return incidents.close(
            connection, registered, number, actor=actor, now=session.now(), comment=comment
        )


def record_preflight(  # noqa: PLR0913 - who measured what with which evidence
    session: Session, key: str, *, check: str, value: Decimal, evidence: Path, actor: str
) -> Result:
    """Record the result of a preflight check with the hash of its evidence, a file.

    Raises
    ------
    NotFoundError
        There is no such experiment, check or file.
    ConflictError
        See `klartext.experiments.preflight.record`.
    """
    if not evidence.is_file():
        raise NotFoundError(f"{evidence} is not a file: --evidence names what proves the result.")
    with evidence.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with session.engine.begin() as connection:
        return preflight.record(
            connection,
            _load(session, connection, key),
            check=check,
            value=value,
            evidence_sha256=digest,
            actor=actor,
            now=session.now(),
        )


def note(session: Session, key: str, text: str, *, actor: str) -> datetime:
    """Leave a note in the audit log of an experiment, and return when.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    ConflictError
        The note is empty.
    """
    if not text.strip():
        raise ConflictError("The note is empty.")
    now = session.now()
    with session.engine.begin() as connection:
        _load(session, connection, key)
        audit.record(
            connection,
            now=now,
            actor=actor,
            action="note",
            subject=key,
            detail={"text": text.strip()},
        )
    return now


def _load(session: Session, connection: sa.Connection, key: str) -> Registered:
    require_registered(session, connection, key)
    return registry.load(connection, key)
