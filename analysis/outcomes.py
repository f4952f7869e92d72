"""The outcomes: what the events of each unit add up to, in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
from ibis.expr.operations import Node

from klartext.analysis import amounts, covariates
from klartext.analysis.columns import count_columns, event_names, metric_columns
from klartext.analysis.filters import filtered
from klartext.analysis.hits import (
    amount,
    counts,
    hits,
    is_called,
    kind,
    refund_amount,
    refund_hits,
)
from klartext.analysis.instants import microseconds, whole
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment, Metric
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark


def of_days(
    experiment: Experiment, events: ir.Table, *, first_us: int | None, last_us: int | None
) -> ir.Table:
    """Return the events of the days that can matter, so that the engine reads no other partition.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        With their UTC ``day``; those of mapped tables have none and are all read.
    first_us, last_us
        First and last exposure, in microseconds since 1970; None when there is none.

    Notes
    -----
    A named covariate is the latest value before the exposure, however old: then the past stays.
    """
    if first_us is None or last_us is None:
        return events.limit(0)
    if "day" not in events.columns:
        return events
    first, last = days_of(experiment, first_us=first_us, last_us=last_us)
    found = events.filter(events.day <= ibis.date(last))
    return found if first == date.min else found.filter(found.day >= ibis.date(first))


def days_of(
    experiment: Experiment, *, first_us: int | None, last_us: int | None
) -> tuple[date, date]:
    """Return the first and last UTC day whose events can matter; the last first for none."""
    if first_us is None or last_us is None:
        return date.max, date.min
    until = from_microseconds(last_us) + windows(experiment).maturity
    if covariates.named(experiment):
        return date.min, until.date()
    since = from_microseconds(first_us) - covariates.longest_lookback(experiment)
    return since.date(), until.date()


def events_in_window(
    experiment: Experiment, events: ir.Table, watermark: Watermark, units: ir.Table
) -> ir.Table:
    """Return the events that some metric or cost line may count: ``kind``, ``age`` since exposure.

    ``kind`` stands for the name, see `klartext.analysis.hits`; ``age`` is in microseconds, from
    minus the longest look back to the longest window.
    """
    # By name before the join: it is the join that costs.
    names = event_names(experiment)
    wanted = events.filter(events.ingest_batch <= watermark.batch, events.name.isin(names))
    own = [name for name in events.columns if name.startswith("p_")]
    carried = ["kind", "occurred_at", "value", "currency", *own]
    wanted = wanted.mutate(kind=kind(experiment, wanted))
    wanted = wanted.select("unit", *carried, instant=microseconds(wanted.occurred_at))
    since = units.select(exposed="unit", exposed_us="exposed_us")
    age = wanted.instant - since.exposed_us
    earliest = -whole(covariates.longest_lookback(experiment))
    latest = whole(windows(experiment).maturity)
    # In the join and not after it: most events are too early or too late for their unit.
    joined = wanted.inner_join(since, [wanted.unit == since.exposed, age >= earliest, age < latest])
    age = joined.instant - joined.exposed_us
    return joined.select("unit", "exposed_us", *carried, age=age)


@dataclass(frozen=True, slots=True)
class Tallies:
    """What is summed over the events of a unit; each stored once, however many columns want it.

    Parameters
    ----------
    aggregates
        Per stored column: a sum or a count, so that those of two sets of events add up.
    stored
        Which stored column a name stands for; None for one that counts no event at all.
    """

    aggregates: Mapping[str, ir.NumericScalar]
    stored: Mapping[str, str | None]

    def per_unit(self, events: ir.Table) -> ir.Table:
        """Compute the stored columns of each unit that has an event at all."""
        return events.group_by("unit").aggregate(**self.aggregates)

    def of(self, table: ir.Table, name: str) -> ir.NumericValue:
        """Return the tally called ``name`` in a table of stored ones, 0 without events."""
        column = self.stored[name]
        return ibis.literal(0) if column is None else table[column].fill_null(0)


def tallies(
    experiment: Experiment, events: ir.Table, also: Mapping[str, ir.NumericScalar] | None = None
) -> Tallies:
    """Say what to sum per unit: metrics, what they were before, cost events, kinds of amounts.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        From `events_in_window`.
    also
        More sums and counts of ``events``.

    Notes
    -----
    A rate is stored as the number of its events, which often some other column wants too.
    """
    cost_window = windows(experiment).cost
    wanted: dict[str, ir.NumericScalar | None] = {
        column: _outcome(experiment, events, metric)
        for column, metric in metric_columns(experiment).items()
    }
    for name, column in count_columns(experiment).items():
        wanted[column] = events.count(where=counts(experiment, events, name, cost_window))
    for column, (metric, span) in covariates.lookbacks(experiment).items():
        before = is_called(experiment, events, metric.event or "") & (events.age < 0)
        before &= events.age >= -whole(span)
        hit = filtered(experiment, events, metric, before)
        wanted[f"pre.{column}"] = summed(experiment, events, metric, hit)
    wanted |= {**amounts.counters(experiment, events), **(also or {})}
    aggregates: dict[str, ir.NumericScalar] = {}
    names: dict[Node, str] = {}
    stored: dict[str, str | None] = {}
    for name, wish in wanted.items():
        if wish is None:
            stored[name] = None
            continue
        column = names.setdefault(wish.op(), f"t{len(names)}")
        stored[name], aggregates[column] = column, wish
    return Tallies(aggregates, stored)


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
    """Sum what the events that ``hit`` add up to, before refunds; a rate is how many."""
    if metric.is_rate or metric.kind == "count":
        return events.count(where=hit)
    return amount(experiment, events, metric).sum(where=hit).fill_null(0)
