"""The amounts behind metrics: are they money, and which of them could not be counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ibis.expr.types as ir

from klartext.analysis import hits
from klartext.experiments.experiment import Experiment, Metric

_COUNTED = ("events", "refunds", "missing", "foreign", "negative_refunds", "bare")


@dataclass(frozen=True, slots=True)
class Amounts:
    """What the events of one metric carried, within the window of some exposed unit.

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
    bare
        Events and refunds with a number but no currency, of a metric that is money; they are not
        added.
    """

    metric: str
    events: int
    refunds: int
    is_money: bool
    missing: int
    foreign: int
    negative_refunds: int
    bare: int = 0


def counters(experiment: Experiment, events: ir.Table) -> dict[str, ir.IntegerScalar | None]:
    """Return the counts that `examine` wants, None for what no event can be.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        From `klartext.analysis.outcomes.events_in_window`.
    """
    return {
        f"{name}.{place}": None if where is None else events.count(where=where)
        for place, metric in enumerate(_means(experiment))
        for name, where in _conditions(experiment, events, metric).items()
    }


def names(experiment: Experiment) -> tuple[str, ...]:
    """Names of `counters`."""
    places = range(len(_means(experiment)))
    return tuple(f"{name}.{place}" for place in places for name in (*_COUNTED, "money"))


def examine(
    experiment: Experiment, events: ir.Table, found: Mapping[str, int]
) -> tuple[Amounts, ...]:
    """Return what the amounts of each mean and quantile metric were like, in the order of the spec.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        All events, for the types of their properties.
    found
        The sum of each of `names` over all exposed units.
    """
    return tuple(
        Amounts(
            metric=metric.key,
            is_money=_is_money_property(events, metric) or found[f"money.{place}"] > 0,
            **{name: found[f"{name}.{place}"] for name in _COUNTED},
        )
        for place, metric in enumerate(_means(experiment))
    )


def _means(experiment: Experiment) -> list[Metric]:
    return [metric for metric in experiment.metrics if metric.kind in {"mean", "quantile"}]


def _conditions(
    experiment: Experiment, events: ir.Table, metric: Metric
) -> dict[str, ir.BooleanValue | None]:
    """Which events each counter counts; None where there are no such events."""
    hit = hits.hits(experiment, events, metric)
    empty = hit & hits.amount(experiment, events, metric).isnull()
    foreign = hits.is_foreign(experiment, events)
    # A declared property is in the reporting currency or no money at all.
    is_own = metric.value == "value"
    bare = hits.is_bare(events) if hits.is_money(experiment, metric) else None
    missing, elsewhere, nameless = empty, None, None
    if is_own:
        missing, elsewhere = empty & ~foreign, empty & foreign
        if bare is not None:
            missing, nameless = missing & ~bare, empty & bare
    refunds = negative = None
    if metric.refunds is not None:
        refunds = hits.refund_hits(experiment, events, metric)
        taken = hits.refund_amount(experiment, events, metric)
        lost = refunds & taken.isnull()
        elsewhere = lost & foreign if elsewhere is None else elsewhere | (lost & foreign)
        if bare is not None:
            nameless = lost & bare if nameless is None else nameless | (lost & bare)
        missing |= lost & ~foreign if bare is None else lost & ~foreign & ~bare
        negative = refunds & (taken < 0)
    return {
        "events": hit,
        "refunds": refunds,
        "money": hit & events.currency.notnull(),
        "missing": missing,
        "foreign": elsewhere,
        "negative_refunds": negative,
        "bare": nameless,
    }


def _is_money_property(events: ir.Table, metric: Metric) -> bool:
    return metric.value != "value" and events[f"p_{metric.value}"].type().is_decimal()
