"""What every command shares: the workspace option, and one way to print."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from klartext.app.session import Session


Kept: TypeAlias = Annotated[
    bool, typer.Option("--kept", help="Read only the facts since the last analysis with --kept.")
]


@dataclass(frozen=True, slots=True)
class Settings:
    """Options given before the command."""

    workspace: Path


def open_session(context: typer.Context) -> Session:
    """Open the workspace the command was called for."""
    from klartext.app.session import open_session as opened  # noqa: PLC0415 - heavy

    settings: Settings = context.obj
    return opened(settings.workspace)


def print_json(document: Any) -> None:
    """Write a JSON document to stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def log(message: str) -> None:
    """Write progress to stderr; stdout is for data."""
    typer.echo(message, err=True)
