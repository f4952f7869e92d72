"""Command: doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from klartext.app.cli.context import open_session, print_json


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command("doctor")(doctor)


def doctor(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prove that state, facts, key, engine, prices and rates work; exit 1 when one does not.

    Nothing is changed. The engine runs a small query with every operation an analysis needs.

    For example:

      klartext doctor

      klartext -w shop doctor --json
    """
    from klartext.app.usecases import doctor as usecase  # noqa: PLC0415 - heavy

    checks = usecase.examine(open_session(context))
    if json:
        print_json(usecase.document(checks))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:  # no columns(): what went wrong must not be cut
            typer.echo(f"{check.state:<6}  {check.name:<{width}}  {check.detail}")
    if not usecase.healthy(checks):
        raise typer.Exit(1)
