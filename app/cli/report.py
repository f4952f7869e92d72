"""Command: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from klartext.app.cli.analysis import Assume
from klartext.app.cli.context import Kept, log, open_session, print_json
from klartext.app.cli.ledger import as_of_option

SCHEMA = "klartext/report/v1"


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command("report")(report)


def report(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key of the experiment.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: KEY.html right here."),
    ] = None,
    language: Annotated[
        Literal["de", "en"] | None,
        typer.Option("--language", "-l", help="Default: that of the workspace."),
    ] = None,
    assume: Assume = None,
    interactive: Annotated[
        bool,
        typer.Option("--interactive", help="Add Plotly figures (4.8 MB; needs the extra of it)."),
    ] = False,
    as_of: Annotated[
        str | None, typer.Option(help="Facts and ledger as they stood at this day or instant.")
    ] = None,
    kept: Kept = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write the report that a CFO can sign: one HTML page that needs no network.

    It shows the verdict, net benefit and ROI with their ranges, costs, checks, assumptions and
    where every number comes from. Takes no look: the same facts give the same page. With
    --assume the page is marked as a what-if, and the file is KEY.what-if.html by default.

    For example:

      klartext report mail-subject-ai -o report.html

      klartext report mail-subject-ai --language de --interactive

      klartext report mail-subject-ai --assume rollout.persistence=50%
    """
    from klartext.app.usecases import reports  # noqa: PLC0415 - heavy

    session = open_session(context)
    written = reports.report(
        session,
        key,
        output or Path(f"{key}.what-if.html" if assume else f"{key}.html"),
        language=language,
        interactive=interactive,
        as_of=as_of_option(as_of, session),
        assume=assume or (),
        kept=kept,
    )
    if json:
        print_json(
            {
                "schema": SCHEMA,
                **({"what_if": True} if written.what_if else {}),
                "experiment": written.experiment,
                "verdict": written.verdict,
                "variant": written.variant,
                "registered": written.registered,
                "path": str(written.path),
                "language": written.language,
                "interactive": written.interactive,
                "size": written.size,
                "sha256": written.sha256,
            }
        )
        return
    about = f" ({written.variant})" if written.variant else ""
    mark = "" if written.registered else ", not registered before the data existed"
    tried = "what if, not the verdict: " if written.what_if else ""
    log(f"{written.experiment}: {tried}{written.verdict}{about}{mark}")
    typer.echo(str(written.path))
