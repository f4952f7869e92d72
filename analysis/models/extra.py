"""The libraries of the ``models`` extra, imported when a model is run and not before."""

from __future__ import annotations

import importlib
from typing import Any

from klartext.experiments.errors import KlartextError


class MissingExtraError(KlartextError):
    """A model was asked for and the ``models`` extra is not installed."""


def library(name: str) -> Any:
    """Import a library of the extra: ``pymc`` takes seconds, so that nobody pays unasked.

    Raises
    ------
    MissingExtraError
        It is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise MissingExtraError(
            f'{missing.name} is not installed: run pip install "klartext[models]"'
        ) from missing


def nutpie() -> Any | None:
    """Import the faster sampler, or return None where it does not exist."""
    try:
        return importlib.import_module("nutpie")
    except ModuleNotFoundError:
        return None
