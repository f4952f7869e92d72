"""Commands: serve."""

from __future__ import annotations

from typing import Annotated

import typer

from klartext.app.cli.context import log, open_session


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command()(serve)


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8787,
    insecure_listen: Annotated[
        bool,
        typer.Option(
            "--insecure-listen",
            help="Allow an address that other machines reach, although requests carry no key.",
        ),
    ] = False,
) -> None:
    """Serve allocations and take events over HTTP, until Ctrl-C.

    Loopback only unless told otherwise: requests carry no key yet.

    For example:

      klartext serve --port 8787

      curl -H 'Content-Type: application/json' -d '{"unit": "customer-1"}'
      http://127.0.0.1:8787/v1/experiments/mail-subject-ai/allocations
    """
    from klartext.app.service import server  # noqa: PLC0415 - heavy

    try:
        server.serve(
            open_session(context),
            host=host,
            port=port,
            insecure_listen=insecure_listen,
            announce=lambda address: log(f"listening on {address} (Ctrl-C ends)"),
        )
    except KeyboardInterrupt:
        log("ended")
