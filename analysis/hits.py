"""Hits: which events a metric counts for a unit, and what each adds to it."""

from __future__ import annotations

from datetime import timedelta

import ibis
import ibis.expr.types as ir

from klartext.analysis.columns import event_names
from klartext.analysis.filters import filtered
from klartext.analysis.instants import whole
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import ContributionMargin, Experiment, Metric


def kind(experiment: Experiment, events: ir.Table) -> ir.IntegerValue:
    """Return the place of each event's name among `event_names`: numbers compare faster."""
    places = [(events.name == name, place) for place, name in enumerate(event_names(experiment))]
    return (ibis.cases(*places) if places else ibis.literal(0)).cast("int16")


def is_called(experiment: Experiment, events: ir.Table, name: str) -> ir.BooleanValue:
    """Whether an event with a `kind` is called ``name``."""
    return events.kind == event_names(experiment).index(name)


def counts(
    experiment: Experiment,
    events: ir.Table,
    name: str,
    window: timedelta,
    *,
    delay: timedelta = timedelta(0),
) -> ir.BooleanValue:
    """Whether an event with `kind` and ``age`` is called ``name``, from ``delay`` to ``window``.

    Both are counted from the exposure; ``window`` itself is outside. The events are from
    `klartext.analysis.outcomes.events_in_window`.
    """
    since, until = events.age >= whole(delay), events.age < whole(window)
    return is_called(experiment, events, name) & since & until


def hits(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.BooleanValue:
    """Whether a metric counts an event: name, time after exposure and filters.

    Raises
    ------
    KlartextError
        A property is not declared in the workspace, or the metric has no events of its own.
    """
    if metric.event is None:
        raise KlartextError(f"metric {metric.key!r} of {experiment.key} has no event")
    hit = counts(experiment, events, metric.event, metric.closes_after, delay=metric.delay)
    return filtered(experiment, events, metric, hit)


def refund_hits(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.BooleanValue:
    """Whether an event is a refund of the metric, by the metric's own delay and filters."""
    if metric.refunds is None:
        return ibis.literal(False)  # noqa: FBT003 - a column of no
    refunds = metric.refunds
    back = counts(experiment, events, refunds.event, refunds.window, delay=metric.delay)
    return filtered(experiment, events, metric, back)


def amount(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.NumericValue:
    """Return what an event adds to a mean metric; null where it has no such number.

    An amount in another currency than the experiment's is null too, and of a metric that is money
    one without a currency: unlike currencies never add, and `klartext.analysis.amounts` counts it.

    Raises
    ------
    KlartextError
        The property is not declared in the workspace.
    """
    if metric.value == "value":
        return _own_amount(experiment, events, metric)
    column = f"p_{metric.value}"
    if column not in events.columns:
        raise KlartextError(
            f"metric {metric.key!r} of {experiment.key} sums the property {metric.value!r}, "
            "which klartext.yaml does not declare or, where tables are mapped, map"
        )
    return events[column]


def refund_amount(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.NumericValue:
    """Return what a refund takes off a mean metric: the metric's property, else its own amount."""
    taken = amount(experiment, events, metric)
    if metric.value == "value":
        return taken
    return ibis.coalesce(taken, _own_amount(experiment, events, metric))


def _own_amount(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.NumericValue:
    other = is_foreign(experiment, events)
    if is_money(experiment, metric):
        other |= is_bare(events)
    return other.ifelse(ibis.null(events.value.type()), events.value)


def is_money(experiment: Experiment, metric: Metric) -> bool:
    """Whether the spec takes the metric for money: a contribution margin is registered on it."""
    return any(
        isinstance(entry, ContributionMargin) and entry.metric == metric.key
        for entry in experiment.value
    )


def is_bare(events: ir.Table) -> ir.BooleanValue:
    """Whether the event's own amount has no currency: a number, not money."""
    return events.value.notnull() & events.currency.isnull()


def is_foreign(experiment: Experiment, events: ir.Table) -> ir.BooleanValue:
    """Whether the event's own amount is money in another currency than the experiment's."""
    return events.currency.notnull() & (events.currency != experiment.currency)
