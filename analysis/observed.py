"""Observations of a quantile metric, reduced in the engine to distinct values per variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends import BaseBackend

from klartext.analysis.engine import Pending, asked
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.hits import amount, hits
from klartext.analysis.quantiles import IntArray, Observations
from klartext.experiments.experiment import Experiment, Metric

MAXIMUM = 2_000_000
"""Distinct values, over all variants, that are brought to Python: some 100 MB."""


def of_events(
    experiment: Experiment, events: ir.Table, units: ir.Table, metric: Metric
) -> ir.Table:
    """Return variant, unit and value of the events that a quantile metric counts.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        From `klartext.analysis.outcomes.events_in_window`.
    units
        ``unit``, ``variant``, ``excluded``, ``mature``; those in the comparison count.
    metric
        Of kind quantile.

    Raises
    ------
    KlartextError
        The property is not declared in the workspace.
    """
    counted = events.select(
        "unit",
        value=amount(experiment, events, metric).cast("float64"),
        hit=hits(experiment, events, metric),
    )
    counted = counted.filter(counted.hit, counted.value.notnull())
    compared = units.filter(units.mature, ~units.excluded).select("unit", "variant")
    return counted.inner_join(compared, "unit").select("variant", "unit", "value")


def observations(
    rows: ir.Table, variants: Sequence[str], engine: BaseBackend
) -> Pending[Mapping[str, Observations] | NotEstimable]:
    """Ask for the observations of each variant, reduced.

    Parameters
    ----------
    rows
        ``variant``, ``unit`` and ``value`` (float64); a unit is in one variant.
    variants
        Those wanted.
    engine
        The engine of ``rows``.

    Returns
    -------
    Pending of Mapping or NotEstimable
        ``too-many-values`` beyond `MAXIMUM`.
    """
    mine = ibis.window(group_by=["variant", "unit"])
    numbered = rows.select(
        "variant",
        "unit",
        "value",
        earlier=ibis.row_number().over(ibis.window(group_by=["variant", "unit"], order_by="value")),
        size=rows.value.count().over(mine),
    )
    by_value = numbered.group_by("variant", "value").aggregate(
        count=numbered.count(),
        units=((numbered.earlier == 0) & numbered.unit.notnull()).sum(),
        earlier=numbered.earlier.sum().cast("int64"),
        size=numbered.size.sum().cast("int64"),
    )
    answer = asked(engine, by_value.limit(MAXIMUM + 1))

    def found() -> Mapping[str, Observations] | NotEstimable:
        table = answer()
        if len(table) > MAXIMUM:
            detail = f"there are more than {MAXIMUM:,} distinct values; round them at the source"
            return NotEstimable("too-many-values", detail)
        return {key: _of_variant(table, key) for key in variants}

    return found


def _of_variant(table: pa.Table, variant: str) -> Observations:
    mine = np.array(table["variant"].to_pylist(), dtype=object) == variant
    names = ("value", "count", "earlier", "size", "units")
    columns = {name: table[name].to_numpy()[mine] for name in names}
    order = np.argsort(columns["value"], kind="stable")
    values, first = np.unique(columns["value"][order], return_index=True)

    def summed(name: str) -> IntArray:
        each: IntArray = columns[name][order].astype(np.int64)
        # Engines may keep 0.0 and -0.0 apart, which are one value.
        return np.add.reduceat(each, first) if len(each) else each

    return Observations(
        values.astype(np.float64),
        summed("count"),
        summed("earlier"),
        summed("size"),
        int(columns["units"].sum()),
    )
