"""Percentile caps from the facts: what the cap of a metric would be now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis.aliases import merged
from klartext.analysis.engine import materialised, rows_of
from klartext.analysis.exposed import exposed_units, reached_units
from klartext.analysis.filters import filtered
from klartext.analysis.instants import microseconds, since_epoch, whole
from klartext.analysis.outcomes import events_in_window, summed, tallies
from klartext.experiments.caps import PercentileCap, Source, needed
from klartext.experiments.experiment import Experiment, Json, Metric
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables


def unresolved(experiment: Experiment) -> tuple[Metric, ...]:
    """Return the metrics with a percentile for a cap that is not in force."""
    return tuple(
        metric
        for metric in experiment.metrics
        if metric.cap_percentile is not None and metric.cap is None
    )


def at_look(
    experiment: Experiment, tables: FactTables, watermark: Watermark, *, engine: BaseBackend
) -> tuple[PercentileCap, ...]:
    """Return the caps that the mature units of all variants together give.

    Parameters
    ----------
    experiment
        Resolved spec.
    tables
        Facts as Ibis tables of one engine.
    watermark
        Later batches are not seen; maturity is judged at its cutoff.
    engine
        The engine of ``tables``.

    Notes
    -----
    The percentile p of n units is the value of rank ``ceil(n p)``, of the units whose value, net
    of refunds, is above 0: of all units it would be 0 wherever few of them buy. No variant is
    looked at, so the cap cannot favour one.
    """
    metrics = unresolved(experiment)
    if not metrics:
        return ()
    tables = merged(tables, watermark)
    exposed = exposed_units(experiment, tables.exposures, watermark)
    reached = reached_units(experiment, exposed, tables.events, watermark)
    with materialised(engine, reached) as units:
        events = events_in_window(experiment, tables.events, watermark, units)
        sums = tallies(experiment, events)
        with materialised(engine, sums.per_unit(events)) as found:
            mine = units.filter(units.mature, ~units.excluded).select("unit")
            joined = found.inner_join(mine, "unit")
            values = {metric.key: sums.of(joined, f"metric.{metric.key}") for metric in metrics}
            return tuple(
                _resolved(metric, joined.select(value=values[metric.key]), engine, "burn_in",
                          _seen(experiment, watermark))
                for metric in metrics
            )  # fmt: skip


def before_start(
    experiment: Experiment, tables: FactTables, watermark: Watermark, *, engine: BaseBackend
) -> tuple[PercentileCap, ...]:
    """Return the caps that the events before the start give, over the last window of each metric.

    Parameters
    ----------
    experiment, tables, watermark, engine
        As for `at_look`; the window ends at the watermark's cutoff.

    Notes
    -----
    Of all units with such events, in the test or not, by the metric's filters and without its
    refunds, which are not complete yet.
    """
    tables = merged(tables, watermark)
    return tuple(
        _resolved(
            metric,
            _before(experiment, tables.events, watermark, metric),
            engine,
            "pre_period",
            _seen(experiment, watermark) | {"from": (watermark.cutoff - metric.window).isoformat()},
        )
        for metric in unresolved(experiment)
    )


def _before(
    experiment: Experiment, events: ir.Table, watermark: Watermark, metric: Metric
) -> ir.Table:
    end = since_epoch(watermark.cutoff)
    at = microseconds(events.occurred_at)
    past = events.filter(
        events.ingest_batch <= watermark.batch,
        events.name == metric.event,
        at >= end - whole(metric.window),
        at < end,
    )
    hit = filtered(experiment, past, metric, ibis.literal(True))  # noqa: FBT003 - a column of yes
    return past.group_by("unit").aggregate(value=summed(experiment, past, metric, hit))


def _seen(experiment: Experiment, watermark: Watermark) -> dict[str, Json]:
    return {
        "experiment": experiment.key,
        "watermark_batch": watermark.batch,
        "until": watermark.cutoff.isoformat(),
    }


def _resolved(
    metric: Metric, values: ir.Table, engine: BaseBackend, source: Source, seen: Mapping[str, Json]
) -> PercentileCap:
    """Return the cap of one metric; without a value while there are too few units."""
    percentile = metric.cap_percentile or Decimal(1)
    positive = values.filter(values.value > 0)
    (counted,) = rows_of(engine, positive.aggregate(units=positive.count()))
    units, asked = int(counted["units"]), needed(percentile)
    rank = math.ceil(units * percentile)
    value = None
    if units >= asked:
        (row,) = rows_of(engine, positive.order_by("value").limit(1, offset=rank - 1))
        value = Decimal(str(row["value"]))
    return PercentileCap(
        metric=metric.key,
        percentile=percentile,
        value=value,
        source=source,
        units=units,
        needed=asked,
        evidence={
            **seen,
            "metric": metric.key,
            "percentile": str(percentile),
            "source": source,
            "units": units,
            "rank": rank,
            "value": None if value is None else str(value),
        },
    )
