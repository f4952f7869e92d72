"""Command: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from klartext.app.cli.context import log


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made for the demo.")] = Path(
        "klartext-demo"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo.")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of the simulated shop.")
    ] = None,
) -> None:
    """Run the whole path on a simulated AI-marketing experiment, ending in a report.

    Makes a workspace with mails, purchases, refunds, model calls and reviews, registers the
    experiment, delivers the facts, decides, and writes the page. Offline, under 30 seconds.

    For example:

      klartext demo

      klartext demo shop --seed 7
    """
    log("Importing the libraries …")
    from klartext.app.demo.run import EXPERIMENT, SEED, run  # noqa: PLC0415 - heavy

    def tell(command: str, outcome: str) -> None:
        if command:
            log(f"$ {command}")
        log(f"  {outcome}")

    finished = run(folder, replace=force, seed=SEED if seed is None else seed, tell=tell)
    typer.echo(f"{finished.verdict}. Open {finished.report} in a browser.")
    typer.echo(f"Next: klartext -w {finished.folder} analyze {EXPERIMENT}")
