"""Watch the running experiments: one look a day each, recorded, and what it says is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from klartext.analysis.result import Verdict
from klartext.app.session import Session
from klartext.app.usecases import analysis
from klartext.app.usecases.enact import Outcome, tell
from klartext.experiments import lifecycle, registry
from klartext.experiments.errors import KlartextError
from klartext.experiments.registry import Registered, Status
from klartext.experiments.state import reading
from klartext.experiments.tables import looks


@dataclass(frozen=True, slots=True)
class Watched:
    """What one round of watching did about an experiment; without a look ``reason`` says why."""

    experiment: str
    look: int | None
    verdict: Verdict | None
    status: Status
    reason: str | None


def watch(session: Session, *, actor: str, kept: bool = False) -> tuple[Watched, ...]:
    """Take today's look at every started experiment that has none yet.

    The verdict is enacted as by ``decide``; an experiment whose data cannot be trusted (INVALID)
    is paused as well, so that nobody gets a treatment that nobody can read.

    Parameters
    ----------
    actor
        Name for the audit log.
    kept
        Read only the facts since the last analysis that was asked to keep what it read.

    Notes
    -----
    Days are calendar days of the workspace's time zone: the calendar of the sequential methods.
    One experiment that cannot be read does not keep the others from being watched.
    """
    with reading(session.engine) as connection:
        started = [
            one
            for one in registry.registered(connection)
            if one.status in {"running", "paused"} and one.experiment.registration == "prospective"
        ]
    return tuple(_watch(session, one, actor=actor, kept=kept) for one in started)


def _watch(session: Session, registered: Registered, *, actor: str, kept: bool) -> Watched:
    key = registered.key
    with reading(session.engine) as connection:
        last = connection.execute(
            sa.select(looks.c.look, looks.c.taken_at)
            .where(looks.c.experiment == key)
            .order_by(looks.c.look.desc())
            .limit(1)
        ).one_or_none()
    if last is not None and _day(session, last.taken_at) == _day(session, session.now()):
        reason = f"look {last.look} was taken today"
        return Watched(key, None, None, registered.status, reason)
    try:
        taken = analysis.decide(session, key, actor=actor, kept=kept)
    except KlartextError as error:
        return Watched(key, None, None, registered.status, str(error))
    verdict, after = taken.analysis.decision, taken.registered
    if verdict.verdict == "INVALID" and after.status == "running":
        outcome = Outcome("INVALID", verdict.rule, None, taken.analysis.registered, harmful=True)
        now = session.now()
        with session.engine.begin() as connection:
            reason = f"look {taken.look}: INVALID by rule {verdict.rule}"
            after = lifecycle.transition(
                connection, key, "paused", actor=actor, now=now, reason=reason
            )
            tell(connection, after, outcome, look=taken.look, now=now)
    return Watched(key, taken.look, verdict.verdict, after.status, None)


def _day(session: Session, instant: datetime) -> str:
    return instant.astimezone(ZoneInfo(session.workspace.timezone)).date().isoformat()
