"""Enact a verdict: move the experiment by it, and tell the outside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from klartext.analysis.document import dumps
from klartext.analysis.result import Verdict
from klartext.experiments import lifecycle
from klartext.experiments.experiment import Json
from klartext.experiments.registry import Registered, Status
from klartext.experiments.tables import outbox

_FINAL = frozenset({"GO", "GO_LIMITED", "STOP"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look, or the last signature on one, says; ``harmful`` when a treatment does harm."""

    verdict: Verdict
    rule: str
    variant: str | None
    registered: bool
    harmful: bool


def enact(  # noqa: PLR0913 - who moved which experiment by which look, when
    connection: sa.Connection,
    registered: Registered,
    outcome: Outcome,
    *,
    look: int,
    actor: str,
    now: datetime,
) -> Registered:
    """Move the experiment by a verdict, with a message in the outbox, and return it.

    GO, GO_LIMITED and STOP end the test; harm stops it in any case; else nothing happens.
    """
    final = outcome.verdict in _FINAL
    if not (final or outcome.harmful):
        return registered
    reason = f"look {look}: {outcome.verdict} by rule {outcome.rule}"
    steps: list[Status] = [] if registered.status == "stopped" else ["stopped"]
    if final:
        steps.append("decided")
    after = registered
    for step in steps:
        after = lifecycle.transition(
            connection, registered.key, step, actor=actor, now=now, reason=reason
        )
    tell(connection, after, outcome, look=look, now=now)
    return after


def tell(
    connection: sa.Connection, after: Registered, outcome: Outcome, *, look: int, now: datetime
) -> None:
    """Put the decision into the outbox, in the transaction that makes it true."""
    payload: dict[str, Json] = {
        "schema": "klartext/decision/v1",
        "experiment": after.key,
        "look": look,
        "status": after.status,
        "verdict": outcome.verdict,
        "rule": outcome.rule,
        "variant": outcome.variant,
        "registered": outcome.registered,
    }
    connection.execute(
        sa.insert(outbox).values(topic="decision", payload=dumps(payload), created_at=now)
    )
