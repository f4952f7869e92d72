"""Write the report of an experiment: its analysis, and where every number comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

import klartext
from klartext.analysis.result import Verdict
from klartext.analysis.verdicts import Beside
from klartext.app.session import Session
from klartext.app.usecases.analysis import analyze, series
from klartext.app.usecases.assumptions import beside, what_if
from klartext.app.usecases.pages import check_folder, replace_file
from klartext.experiments import audit, registry
from klartext.experiments.inputs import revised
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
    what_if: bool
    path: Path
    language: Language
    interactive: bool
    size: int
    sha256: str


def document(  # noqa: PLR0913 - what to show, and of which facts
    session: Session,
    key: str,
    *,
    generated_at: datetime,
    as_of: datetime | None = None,
    assume: Iterable[str] = (),
    kept: bool = False,
) -> ReportDocument:
    """Return the report of an experiment as data; takes no look and changes nothing.

    Parameters
    ----------
    session
        The workspace.
    key
        Experiment.
    generated_at
        What the page says.
    as_of
        As in `klartext.app.usecases.analysis.analyze`.
    assume
        As for `klartext.app.usecases.assumptions.what_if`: the page is one then.

    Raises
    ------
    NotFoundError, NotReadyError
        There is no such experiment, or nothing to analyse yet.
    KlartextError
        An assumption cannot be read, or not be made.
    """
    tried = tuple(assume)
    if tried:
        found = what_if(session, key, tried, as_of=as_of, kept=kept)
        analysis, around = found.assumed, Beside(None, None)
    else:
        analysis = analyze(session, key, as_of=as_of, kept=kept)
        around = beside(session, key, analysis, as_of=as_of)
    with reading(session.engine) as connection:
        registered = registry.load(connection, key)
        appendix = _appendix(connection, registered, last_batch=analysis.watermark.batch)
    # The course is made of registered values, so a what-if has none.
    course = None if tried else series(session, key, as_of=as_of)[2]
    values = {one.path: one.assumed for one in analysis.assumed}
    return build(
        analysis,
        revised(registered.experiment, values),
        appendix,
        generated_at=generated_at,
        series=course,
        beside=around,
    )


def report(  # noqa: PLR0913 - what to show, where to, and how
    session: Session,
    key: str,
    output: Path,
    *,
    language: Language | None = None,
    interactive: bool = False,
    as_of: datetime | None = None,
    assume: Iterable[str] = (),
    kept: bool = False,
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
    assume
        As for `document`.
    kept
        Read only the facts since the last analysis that was asked to keep what it read.

    Raises
    ------
    NotFoundError
        There is no such experiment, or no folder to write to.
    NotReadyError
        Nothing to analyse yet.
    """
    check_folder(output)
    shown = document(
        session, key, generated_at=session.now(), as_of=as_of, assume=assume, kept=kept
    )
    chosen = language or session.workspace.language
    content = page.render(shown, chosen, interactive=interactive).encode()
    replace_file(output, content)
    return Written(
        experiment=key,
        verdict=shown.analysis.decision.verdict,
        variant=shown.analysis.decision.variant,
        registered=shown.analysis.registered,
        what_if=shown.analysis.is_what_if,
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
