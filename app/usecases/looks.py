"""Recorded looks: what was taken of a group sequential plan, and the record of one more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa

from klartext.analysis.document import dumps, moments_to_json, to_json
from klartext.analysis.readout import Readout
from klartext.analysis.result import Analysis
from klartext.analysis.sequential import group
from klartext.experiments import audit
from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import Json
from klartext.experiments.registry import Registered
from klartext.experiments.tables import looks
from klartext.experiments.watermark import Watermark


@dataclass(frozen=True, slots=True)
class Recorded:
    """A look as it was recorded: which, when, by whom, on which facts and spec, and what it said.

    ``result`` is the stored document of the analysis, as text.
    """

    look: int
    version: int
    spec_sha256: str
    taken_at: datetime
    actor: str
    watermark: Watermark
    verdict: str
    result: str


def last(connection: sa.Connection, key: str) -> Recorded | None:
    """Return the latest recorded look of an experiment."""
    highest = sa.select(sa.func.max(looks.c.look)).where(looks.c.experiment == key)
    number = connection.execute(highest).scalar_one()
    return None if number is None else numbered(connection, key, number)


def numbered(connection: sa.Connection, key: str, number: int) -> Recorded:
    """Return one recorded look, which there is."""
    query = sa.select(looks).where(looks.c.experiment == key, looks.c.look == number)
    row = connection.execute(query).one()
    return Recorded(
        look=row.look,
        version=row.version,
        spec_sha256=row.spec_sha256,
        taken_at=row.taken_at,
        actor=row.actor,
        watermark=Watermark(row.watermark_batch, row.watermark_cutoff),
        verdict=row.verdict,
        result=row.result,
    )


def planned_looks(
    connection: sa.Connection, key: str, *, before: int | None = None
) -> tuple[group.Look, ...]:
    """Return the looks that were taken of a group sequential plan, in order.

    ``before`` leaves out the look with this number and all later ones.
    """
    query = sa.select(looks.c.planned, looks.c.fraction, looks.c.information)
    taken = query.where(looks.c.experiment == key, looks.c.planned.is_not(None))
    if before is not None:
        taken = taken.where(looks.c.look < before)
    rows = connection.execute(taken.order_by(looks.c.look))
    return tuple(group.Look(row.planned, row.fraction, float(row.information)) for row in rows)


def check_open_looks(connection: sa.Connection, registered: Registered) -> None:
    """Refuse a look after the one that decides: its intervals hold there and never again.

    Raises
    ------
    ConflictError
        The one look of a fixed design, or the last of a group sequential one, is taken. One that
        ended in CONTINUE, for it waits for a preflight check alone, may be repeated: a GO then
        needs both to pass.
    """
    experiment = registered.experiment
    if experiment.registration == "retrospective":
        return
    if experiment.inference.mode == "anytime":
        return
    query = sa.select(looks.c.look, looks.c.verdict).where(looks.c.experiment == registered.key)
    if experiment.inference.mode == "group_sequential":
        query = query.where(looks.c.planned == len(experiment.plan.looks))
    for row in connection.execute(query.order_by(looks.c.look)):
        if row.verdict not in {"CONTINUE", "INVALID"}:
            which = (
                "its one deciding look"
                if experiment.inference.mode == "fixed"
                else "its last planned look"
            )
            raise ConflictError(
                f"{registered.key} has taken {which} (look {row.look}: {row.verdict}); "
                "a later one is not valid."
            )


def record(  # noqa: PLR0913 - who saw what of which experiment, when
    connection: sa.Connection,
    registered: Registered,
    readout: Readout,
    analysis: Analysis,
    *,
    actor: str,
    now: datetime,
) -> int:
    """Keep a look with moments, result and hashes, and return its number.

    A look without a readout (INVALID) decides nothing, so it takes no planned look: the alpha of
    that one is spent when the data can be read.
    """
    if analysis.assumed:
        raise ValueError(f"{registered.key}: assumptions that are not registered decide nothing")
    key, place = registered.key, analysis.look
    last = sa.select(sa.func.max(looks.c.look)).where(looks.c.experiment == key)
    number = (connection.execute(last).scalar_one() or 0) + 1
    stored_moments = dumps(moments_to_json(readout))
    result = dumps(to_json(analysis))
    watermark = analysis.watermark
    spends = place is not None and place.spends and analysis.decision.verdict != "INVALID"
    planned = place.number if place is not None and spends else None
    connection.execute(
        sa.insert(looks).values(
            experiment=key,
            look=number,
            version=registered.version,
            spec_sha256=registered.sha256,
            taken_at=now,
            actor=actor,
            watermark_batch=watermark.batch,
            watermark_cutoff=watermark.cutoff,
            moments=stored_moments,
            result=result,
            verdict=analysis.decision.verdict,
            planned=planned,
            fraction=None if place is None else place.fraction,
            information=None if place is None else place.information,
        )
    )
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="look",
        subject=key,
        detail={
            "look": number,
            "planned": planned,
            "version": registered.version,
            "sha256": registered.sha256,
            "watermark_batch": watermark.batch,
            "watermark_cutoff": watermark.cutoff.isoformat(),
            "moments_sha256": sha256(stored_moments.encode()).hexdigest(),
            "result_sha256": sha256(result.encode()).hexdigest(),
            **verdict_of(analysis),
        },
    )
    return number


def verdict_of(analysis: Analysis) -> dict[str, Json]:
    """Return the decision as the audit log and the outbox tell it."""
    decision = analysis.decision
    return {
        "verdict": decision.verdict,
        "rule": decision.rule,
        "variant": decision.variant,
        "registered": analysis.registered,
    }
