"""Experiments with a P&L: net each AI variant against its whole cost, then decide.

``klartext.open(".")`` opens the workspace that holds the given directory.
``klartext.compare_units("units.parquet", …)`` needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa
    from ibis.expr.types import Table

    from klartext.analysis.unit_comparison import UnitComparison
    from klartext.app.api import OpenWorkspace

__version__ = "0.1.0"
__all__ = ["__version__", "compare_units", "open"]


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


def compare_units(  # noqa: PLR0913 - a table, which columns of it, and how they are read
    units: str | Path | Table | pa.Table | pd.DataFrame,
    metrics: Mapping[str, Sequence[str]],
    *,
    control: str,
    variant: str = "variant",
    alpha: float = 0.05,
    planned_n: int | None = None,
) -> UnitComparison:
    """Compare the variants of a table of units that was made elsewhere, outside any workspace.

    Parameters
    ----------
    units
        One row per unit: a Parquet file, a data frame (pandas, polars, Arrow), or an Ibis table,
        which its own engine computes.
    metrics
        Columns to compare the means of, each with the columns known before exposure that it is
        adjusted for: ``{"revenue": ["revenue_before", "age"], "visits": []}``.
    control
        The variant that the others are compared with.
    variant
        Column that says who got what.
    alpha
        Two-sided error.
    planned_n
        Units planned for a treatment and the control together, fixed before the start: intervals
        are confidence sequences then, which hold however often one looks. None: the one look.

    Returns
    -------
    klartext.analysis.unit_comparison.UnitComparison
        Per metric and treatment Lin's adjusted estimate, CUPED and Welch's; ``to_frame()`` gives a
        pandas table. Nothing is registered and nothing priced: no verdict.

    Raises
    ------
    klartext.analysis.unit_moments.UnitTableError
        The file cannot be read; a column is missing, no number, or has gaps; a variant has no
        units.
    """
    from klartext.app import api  # noqa: PLC0415 - keeps `import klartext` light

    return api.compare_units(
        units,
        metrics,
        control=control,
        variant=variant,
        alpha=alpha,
        planned_n=planned_n,
    )
