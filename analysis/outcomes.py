"""The outcomes: what the events of each unit make of its metrics, in one pass."""

from __future__ import annotations

from collections.abc import Mapping

import ibis.expr.types as ir

from klartext.analysis import covariates
from klartext.analysis.columns import count_columns, metric_columns
from klartext.analysis.filters import filtered
from klartext.analysis.hits import amount, counts, hits, refund_amount, refund_hits
from klartext.analysis.instants import microseconds, whole
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment, Metric
from klartext.experiments.watermark import Watermark


def events_in_window(
    experiment: Experiment, events: ir.Table, watermark: Watermark, units: ir.Table
) -> ir.Table:
    """Return the events that some metric or cost line may count, with ``age`` since exposure.

    ``age`` is in microseconds, from minus the longest look back to the longest window.
    """
    names = {metric.event for metric in experiment.metrics if metric.event is not None}
    names |= {metric.refunds.event for metric in experiment.metrics if metric.refunds}
    names |= set(count_columns(experiment))
    # By name before the join: it is the join that costs.
    wanted = events.filter(events.ingest_batch <= watermark.batch, events.name.isin(sorted(names)))
    since = units.select("unit", "exposed_us")
    age = microseconds(wanted.occurred_at) - since.exposed_us
    earliest = -whole(covariates.longest_lookback(experiment))
    latest = whole(windows(experiment).maturity)
    # In the join and not after it: most events are too early or too late for their unit.
    joined = wanted.inner_join(
        since, [wanted.unit == since.unit, age >= earliest, age < latest]
    ).drop("unit_right")
    return joined.mutate(age=microseconds(joined.occurred_at) - joined.exposed_us)


def outcomes(
    experiment: Experiment, events: ir.Table, also: Mapping[str, ir.Scalar] | None = None
) -> ir.Table:
    """Sum each metric and count each cost event, per unit that has an event at all.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        From `events_in_window`.
    also
        More aggregates of ``events``, to be computed in the same pass.
    """
    value_window = windows(experiment).value
    columns = {
        column: _outcome(experiment, events, metric)
        for column, metric in metric_columns(experiment).items()
    }
    for name, column in count_columns(experiment).items():
        columns[column] = events.count(where=counts(events, name, value_window))
    for column, (metric, span) in covariates.lookbacks(experiment).items():
        before = (events.name == metric.event) & (events.age < 0) & (events.age >= -whole(span))
        hit = filtered(experiment, events, metric, before)
        columns[f"pre.{column}"] = summed(experiment, events, metric, hit)
    return events.group_by("unit").aggregate(**columns, **(also or {}))


def _outcome(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.NumericScalar:
    total = summed(experiment, events, metric, hits(experiment, events, metric))
    if metric.refunds is None:
        return total
    refunded = refund_hits(experiment, events, metric)
    back = refund_amount(experiment, events, metric).sum(where=refunded).fill_null(0)
    return _subtractable(total) - _subtractable(back)


def _subtractable(total: ir.NumericScalar) -> ir.NumericScalar:
    """Leave room for a carry: a difference of full DECIMALs loses its last digit on Spark."""
    return total.cast("decimal(37, 12)") if total.type().is_decimal() else total


def summed(
    experiment: Experiment, events: ir.Table, metric: Metric, hit: ir.BooleanValue
) -> ir.NumericScalar:
    """Sum what the events that ``hit`` make of a metric, before refunds."""
    if metric.is_rate:
        return hit.ifelse(1, 0).max()
    if metric.kind == "count":
        return events.count(where=hit)
    return amount(experiment, events, metric).sum(where=hit).fill_null(0)
