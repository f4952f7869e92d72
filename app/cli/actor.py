"""Who acts: the name that goes into the audit log."""

from __future__ import annotations

import getpass
from typing import Annotated, TypeAlias

import typer

from klartext.experiments.errors import KlartextError

ActorOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="Name for the audit log; default: the user of this computer. "
        "A typed name is no proof of who acted.",
    ),
]


def actor_name(stated: str | None) -> str:
    """Return the name to record: as stated, else the user of this computer.

    A container without user names has none; the log then says ``unknown``.
    """
    if stated is not None and not stated.strip():
        raise KlartextError("--as needs a name; leave it out to use that of this computer's user.")
    if stated is not None:
        return stated.strip()
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # 3.13 turned the KeyError into an OSError
        return "unknown"
