"""Filters of a metric as Ibis conditions on events."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce
from operator import or_

import ibis
import ibis.expr.types as ir

from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Experiment, Filter, Metric


def filtered(
    experiment: Experiment, events: ir.Table, metric: Metric, hit: ir.BooleanValue
) -> ir.BooleanValue:
    """Return ``hit`` where an event also meets all filters of the metric.

    Raises
    ------
    KlartextError
        A property is not declared in the workspace.
    """
    for condition in metric.filters:
        column = f"p_{condition.property}"
        if column not in events.columns:
            raise KlartextError(
                f"metric {metric.key!r} of {experiment.key} filters by the property "
                f"{condition.property!r}, which klartext.yaml does not declare or, "
                "where tables are mapped, map"
            )
        hit &= _meets(events[column], condition).fill_null(False)  # noqa: FBT003 - missing: no
    return hit


def _meets(column: ir.Value, condition: Filter) -> ir.BooleanValue:
    values = [_literal(column, text) for text in condition.values]
    match condition.operator:
        case "in":
            return reduce(or_, (column == value for value in values))
        case "above":
            return column > values[0]
        case "at_least":
            return column >= values[0]
        case "below":
            return column < values[0]
        case _:
            return column <= values[0]


def _literal(column: ir.Value, text: str) -> ir.Scalar:
    """Return the value of a filter in the type of the column, so that the engine converts none."""
    kind = column.type()
    if kind.is_boolean():
        return ibis.literal(text == "true")
    if kind.is_string():
        return ibis.literal(text)
    if kind.is_decimal():
        return ibis.literal(Decimal(text), type=kind)
    if kind.is_integer() and Decimal(text) % 1 == 0:
        return ibis.literal(int(Decimal(text)), type=kind)
    return ibis.literal(float(text), type="float64")
