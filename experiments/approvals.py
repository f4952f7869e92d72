"""Approvals: who signed a GO that waits for signatures, on the evidence of one recorded look.

A round opens with the look whose verdict is GO_PENDING_APPROVAL and belongs to it alone: another
look means other figures, and they are signed anew.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa

from klartext.experiments import audit
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.registry import Registered
from klartext.experiments.tables import approvals, looks

PENDING = "GO_PENDING_APPROVAL"


@dataclass(frozen=True, slots=True)
class Signature:
    """One role's answer: by whom, yes or no, and why."""

    role: str
    person: str
    approved: bool
    comment: str
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class Round:
    """The signatures on one look.

    ``rule`` is the one that matched (``go``, ``go_limited``), ``variant`` what would go live, and
    ``evidence`` the SHA-256 of the stored analysis that is signed.
    """

    look: int
    rule: str
    variant: str | None
    registered: bool
    evidence: str
    asked: tuple[str, ...]
    closes_at: datetime
    signatures: tuple[Signature, ...]

    @property
    def approved(self) -> frozenset[str]:
        """Roles that said yes."""
        return frozenset(one.role for one in self.signatures if one.approved)

    @property
    def missing(self) -> tuple[str, ...]:
        """Roles that have not answered, in the order of the spec."""
        answered = {one.role for one in self.signatures}
        return tuple(role for role in self.asked if role not in answered)

    @property
    def is_complete(self) -> bool:
        """Whether all roles said yes."""
        return bool(self.asked) and self.approved >= set(self.asked)

    @property
    def is_rejected(self) -> bool:
        """Whether somebody said no."""
        return any(not one.approved for one in self.signatures)


def current(connection: sa.Connection, registered: Registered) -> Round | None:
    """Return the round of the latest look; None when that look waits for nobody."""
    rule = registered.experiment.decision.approvals
    query = sa.select(looks).where(looks.c.experiment == registered.key)
    row = connection.execute(query.order_by(looks.c.look.desc()).limit(1)).one_or_none()
    if row is None or row.verdict != PENDING or rule is None:
        return None
    decision = json.loads(row.result)["decision"]
    signed = sa.select(approvals).where(
        approvals.c.experiment == registered.key, approvals.c.look == row.look
    )
    return Round(
        look=row.look,
        rule=decision["rule"],
        variant=decision["variant"],
        registered=json.loads(row.result)["registered"],
        evidence=sha256(row.result.encode()).hexdigest(),
        asked=rule.by,
        closes_at=row.taken_at + rule.within,
        signatures=tuple(
            Signature(one.role, one.person, one.approved, one.comment, one.signed_at)
            for one in connection.execute(signed.order_by(approvals.c.signed_at, approvals.c.role))
        ),
    )


def sign(  # noqa: PLR0913 - who signs what as whom, how, and why
    connection: sa.Connection,
    registered: Registered,
    *,
    role: str,
    person: str,
    approved: bool,
    comment: str,
    now: datetime,
    holders: Mapping[str, Collection[str]],
) -> Round:
    """Record one role's answer to the latest look, and return the round with it.

    Parameters
    ----------
    holders
        Who may sign as which role; a role that is not named may be signed by anybody.

    Raises
    ------
    ConflictError
        Nothing waits for a signature, the time is over, somebody rejected it already, the role has
        answered, the person owns the experiment, signed as another role or does not hold this
        one, or the comment is empty.
    NotFoundError
        The spec asks no such role.
    """
    audit.lock(connection)
    found = _open_round(registered, current(connection, registered), now=now)
    _check_signer(registered, found, role=role, person=person, holders=holders)
    if not comment.strip():
        raise ConflictError("A signature needs a comment that can be read later: --comment.")
    connection.execute(
        sa.insert(approvals).values(
            experiment=registered.key,
            look=found.look,
            role=role,
            person=person,
            approved=approved,
            comment=comment.strip(),
            evidence_sha256=found.evidence,
            signed_at=now,
        )
    )
    audit.record(
        connection,
        now=now,
        actor=person,
        action="approve" if approved else "reject",
        subject=registered.key,
        detail={
            "look": found.look,
            "role": role,
            "comment": comment.strip(),
            "evidence_sha256": found.evidence,
        },
    )
    after = current(connection, registered)
    return found if after is None else after


def _open_round(registered: Registered, found: Round | None, *, now: datetime) -> Round:
    key = registered.key
    if found is None or registered.status not in {"running", "paused", "stopped"}:
        raise ConflictError(
            f"{key} is {registered.status} and waits for no signature. A round opens when "
            f"`klartext decide {key}` ends in {PENDING}."
        )
    if found.is_rejected:
        no = next(one for one in found.signatures if not one.approved)
        raise ConflictError(
            f"look {found.look} of {key} was rejected by {no.person} ({no.role}): {no.comment} "
            f"Take another look with `klartext decide {key}` when that is settled."
        )
    if now > found.closes_at:
        raise ConflictError(
            f"the time to sign look {found.look} of {key} was over on "
            f"{found.closes_at.isoformat(timespec='minutes')}. "
            f"Take a fresh look with `klartext decide {key}`."
        )
    return found


def _check_signer(
    registered: Registered,
    found: Round,
    *,
    role: str,
    person: str,
    holders: Mapping[str, Collection[str]],
) -> None:
    if role not in found.asked:
        raise NotFoundError(
            f"{registered.key} asks for no signature of {role!r}, but of {', '.join(found.asked)}."
        )
    if person.casefold() == registered.experiment.owner.casefold():
        raise ConflictError(f"{person} owns {registered.key}; a GO is signed by somebody else.")
    allowed = holders.get(role)
    if allowed is not None and person not in allowed:
        raise ConflictError(
            f"{person} does not hold the role {role} in klartext.yaml; "
            f"{', '.join(sorted(allowed))} may sign as it."
        )
    for one in found.signatures:
        if one.role == role:
            raise ConflictError(f"{role} has signed look {found.look} already, by {one.person}.")
        if one.person.casefold() == person.casefold():
            raise ConflictError(
                f"{person} has signed look {found.look} as {one.role}; another role is another "
                "pair of eyes."
            )
