"""The amounts behind mean metrics: are they money, and which of them could not be counted."""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from klartext.analysis import unit_table
from klartext.experiments.experiment import Experiment, Metric


@dataclass(frozen=True, slots=True)
class Amounts:
    """What the events of one mean metric carried, within the window of some exposed unit.

    Parameters
    ----------
    metric
        Key of the metric.
    events, refunds
        How many of them there were.
    is_money
        Whether the amounts are in a currency.
    missing
        Events and refunds without a number: they count nothing, so the metric is too low or high.
    foreign
        Events and refunds in another currency than the experiment's; they are not added.
    negative_refunds
        Refunds below zero, which add to the metric instead of lowering it.
    """

    metric: str
    events: int
    refunds: int
    is_money: bool
    missing: int
    foreign: int
    negative_refunds: int


def examine(experiment: Experiment, events: ir.Table) -> tuple[Amounts, ...]:
    """Return what the amounts of each mean metric were like, in the order of the spec.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        From `klartext.analysis.unit_table.events_in_window`.
    """
    metrics = [metric for metric in experiment.metrics if metric.kind == "mean"]
    if not metrics:
        return ()
    sums = {
        f"{name}.{place}": total
        for place, metric in enumerate(metrics)
        for name, total in _sums(experiment, events, metric).items()
    }
    (found,) = events.aggregate(**sums).to_pyarrow().to_pylist()
    return tuple(
        Amounts(
            metric=metric.key,
            is_money=_is_money_property(events, metric) or bool(found[f"money.{place}"]),
            **{
                name: int(found[f"{name}.{place}"] or 0)
                for name in ("events", "refunds", "missing", "foreign", "negative_refunds")
            },
        )
        for place, metric in enumerate(metrics)
    )


def _sums(experiment: Experiment, events: ir.Table, metric: Metric) -> dict[str, ir.IntegerScalar]:
    hit = unit_table.counts(events, metric.event, metric.window)
    empty = hit & unit_table.amount(experiment, events, metric).isnull()
    foreign = unit_table.is_foreign(experiment, events)
    # A declared property is in the reporting currency or no money at all.
    elsewhere = empty & foreign if metric.value == "value" else empty & ~empty
    missing = empty & ~elsewhere
    none = ibis.literal(0)
    refunds, negative = none, none
    if metric.refunds is not None:
        back = unit_table.counts(events, metric.refunds.event, metric.refunds.window)
        taken = unit_table.refund_amount(experiment, events, metric)
        missing |= back & taken.isnull() & ~foreign
        elsewhere |= back & taken.isnull() & foreign
        refunds, negative = back.sum(), (back & (taken < 0)).sum()
    return {
        "events": hit.sum(),
        "refunds": refunds,
        "money": (hit & events.currency.notnull()).sum(),
        "missing": missing.sum(),
        "foreign": elsewhere.sum(),
        "negative_refunds": negative,
    }


def _is_money_property(events: ir.Table, metric: Metric) -> bool:
    return metric.value != "value" and events[f"p_{metric.value}"].type().is_decimal()
