"""Write the report of an experiment: its analysis, and where every number comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

import klartext
from klartext.analysis.result import Verdict
from klartext.app.session import Session
from klartext.app.usecases.analysis import analyze, series
from klartext.app.usecases.pages import check_folder, replace_file
from klartext.experiments import audit, registry
from klartext.experiments.state import reading
from klartext.experiments.tables import batches
from klartext.reports import page
from klartext.reports.document import (
    AuditAppendix,
    BatchRow,
    ReportDocument,
    TrailRow,
    build,
)
from klartext.reports.language import Language

LISTED_BATCHES = 40
"""A report lists the latest imports; earlier ones are counted."""


@dataclass(frozen=True, slots=True)
class Written:
    """A report on disk."""

    experiment: str
    verdict: Verdict
    variant: str | None
    registered: bool
    path: Path
    language: Language
    interactive: bool
    size: int
    sha256: str


def document(
    session: Session, key: str, *, generated_at: datetime, as_of: datetime | None = None
) -> ReportDocument:
    """Return the report of an experiment as data; takes no look and changes nothing.

    ``as_of`` is as in `klartext.app.usecases.analysis.analyze`.

    Raises
    ------
    NotFoundError, NotReadyError
        There is no such experiment, or nothing to analyse yet.
    """
    analysis = analyze(session, key, as_of=as_of)
    with reading(session.engine) as connection:
        registered = registry.load(connection, key)
        appendix = _appendix(connection, registered, last_batch=analysis.watermark.batch)
    _, _, course = series(session, key, as_of=as_of)
    return build(
        analysis, registered.experiment, appendix, generated_at=generated_at, series=course
    )


def report(  # noqa: PLR0913 - what to show, where to, and how
    session: Session,
    key: str,
    output: Path,
    *,
    language: Language | None = None,
    interactive: bool = False,
    as_of: datetime | None = None,
) -> Written:
    """Write the report of an experiment as one HTML file and say what was written.

    Parameters
    ----------
    session
        Workspace; its language is the default.
    key
        Experiment.
    output
        File to write; an existing one is replaced whole, never left half written.
    language
        ``"de"`` or ``"en"``.
    interactive
        Add Plotly figures.
    as_of
        As in `klartext.app.usecases.analysis.analyze`; None is now.

    Raises
    ------
    NotFoundError
        There is no such experiment, or no folder to write to.
    NotReadyError
        Nothing to analyse yet.
    """
    check_folder(output)
    shown = document(session, key, generated_at=session.now(), as_of=as_of)
    chosen = language or session.workspace.language
    content = page.render(shown, chosen, interactive=interactive).encode()
    replace_file(output, content)
    return Written(
        experiment=key,
        verdict=shown.analysis.decision.verdict,
        variant=shown.analysis.decision.variant,
        registered=shown.analysis.registered,
        path=output,
        language=chosen,
        interactive=interactive,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _appendix(
    connection: sa.Connection, registered: registry.Registered, *, last_batch: int
) -> AuditAppendix:
    seen = (batches.c.batch <= last_batch) & batches.c.finished_at.is_not(None)
    query = sa.select(batches).where(seen).order_by(batches.c.batch.desc()).limit(LISTED_BATCHES)
    rows = connection.execute(query).mappings().all()
    total: int = connection.execute(
        sa.select(sa.func.count()).select_from(batches).where(seen)
    ).scalar_one()
    return AuditAppendix(
        status=registered.status,
        recorded_at=registered.recorded_at,
        batches=tuple(
            BatchRow(
                batch=row["batch"],
                kind=row["kind"],
                source=row["source"],
                content_sha256=row["content_sha256"],
                received_at=row["received_at"],
                accepted=row["accepted"],
                duplicate=row["duplicate"],
                conflict=row["conflict"],
                rejected=row["rejected"],
            )
            for row in reversed(rows)
        ),
        earlier_batches=total - len(rows),
        trail=tuple(
            TrailRow(entry.at, entry.actor, entry.action)
            for entry in audit.entries(connection, registered.key)
        ),
        software_version=klartext.__version__,
    )
