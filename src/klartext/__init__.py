"""Experiments with a P&L: net each AI variant against its whole cost, then decide.

``klartext.open(".")`` opens the workspace that holds the given directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from klartext.app.api import OpenWorkspace

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(path: str | Path = ".") -> OpenWorkspace:  # noqa: A001 - reads as klartext.open(".")
    """Open the workspace that contains ``path``.

    Parameters
    ----------
    path
        A directory in the workspace; the nearest ``klartext.yaml`` upwards names it.

    Returns
    -------
    klartext.app.api.OpenWorkspace
        Experiments, analyses, moments and unit tables of that workspace.

    Raises
    ------
    klartext.experiments.errors.NotFoundError
        No ``klartext.yaml`` in ``path`` or any directory above it.
    """
    from klartext.app.api import open_workspace  # noqa: PLC0415 - keeps `import klartext` light

    return open_workspace(path)
