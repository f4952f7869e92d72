"""The public Python API: `klartext.open` returns this workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ibis.expr.types import Table

from klartext.analysis import unit_comparison
from klartext.analysis.frames import VariantMoments
from klartext.analysis.result import Analysis
from klartext.analysis.unit_comparison import UnitComparison
from klartext.analysis.unit_moments import opened
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


def compare_units(  # noqa: PLR0913 - a table, which columns of it, and how they are read
    units: str | Path | Table | Any,
    metrics: Mapping[str, Sequence[str]],
    *,
    control: str,
    variant: str = "variant",
    alpha: float = 0.05,
    planned_n: int | None = None,
) -> UnitComparison:
    """Compare the variants of a table of units; see `klartext.compare_units`."""
    return unit_comparison.compare(
        units if isinstance(units, Table) else opened(units, variant),
        metrics,
        variant=variant,
        control=control,
        alpha=alpha,
        planned_n=planned_n,
    )
