"""The ``klartext`` command line. Modules here import only typer at the top: help stays fast."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from klartext.app.cli import (
    analysis,
    bandit,
    costs,
    decisions,
    demo,
    doctor,
    facts,
    planning,
    portfolio,
    registry,
    report,
    serve,
    specs,
)
from klartext.app.cli.context import Settings
from klartext.experiments.errors import KlartextError

app = typer.Typer(
    name="klartext",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (
    specs,
    registry,
    facts,
    costs,
    planning,
    portfolio,
    analysis,
    decisions,
    report,
    bandit,
    serve,
    demo,
    doctor,
):
    group.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from klartext import __version__  # noqa: PLC0415

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            "-w",
            envvar="KLARTEXT_WORKSPACE",
            help="Directory with klartext.yaml; default: the nearest one upwards.",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Experiments with a P&L: did this AI change pay, and should it go live?"""  # noqa: D400 - a question
    context.obj = Settings(workspace or Path())


def main() -> None:
    """Run the command line; errors become one message on stderr and an exit status."""
    try:
        app()  # usage errors are shown by typer, exit status 2
    except KlartextError as error:
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except Exception:  # noqa: BLE001 - the outermost edge: a crash is status 2, findings are 1
        traceback.print_exc()
        sys.exit(2)
