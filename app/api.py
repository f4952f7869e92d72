"""The public Python API: `klartext.open` returns this workspace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ibis.expr.types import Table

from klartext.analysis.frames import VariantMoments
from klartext.analysis.result import Analysis
from klartext.app.session import Session
from klartext.app.usecases import analysis
from klartext.app.usecases.analysis import Experiments
from klartext.experiments.workspace import find_workspace


@dataclass(frozen=True)
class OpenWorkspace(Session):
    """An opened workspace for notebooks and scripts: what it holds, and what it says."""

    def experiments(self) -> Experiments:
        """Return the registered experiments; ``to_frame()`` gives a pandas table."""
        return analysis.experiments(self)

    def analyze(self, key: str, *, as_of: datetime | None = None) -> Analysis:
        """Return the analysis of an experiment on the facts so far; looking changes nothing.

        ``to_frame()`` gives its estimates as a pandas table. With ``as_of`` the facts that had been
        imported and the ledger as it stood at that instant.

        Raises
        ------
        klartext.experiments.errors.NotFoundError
            There is no such experiment.
        klartext.experiments.errors.NotReadyError
            It is not registered, or no facts were delivered yet.
        """
        return analysis.analyze(self, key, as_of=as_of)

    def moments(self, key: str) -> VariantMoments:
        """Return count, means and central moments of the unit columns, per variant.

        ``to_frame()`` gives a pandas table. Raises as `analyze`.
        """
        return analysis.moments(self, key)

    def units(self, key: str) -> Table:
        """Return the unit table as a lazy Ibis table: one row per exposed unit.

        ``to_pandas()`` computes it. Raises as `analyze`.
        """
        return analysis.units(self, key)


def open_workspace(path: str | Path = ".") -> OpenWorkspace:
    """Open the workspace whose ``klartext.yaml`` lies in ``path`` or above it."""
    return OpenWorkspace(find_workspace(Path(path)))
