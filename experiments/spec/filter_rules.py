"""Rules about filters: which conditions a declared property can meet."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from klartext.experiments.documents.validation import valid
from klartext.experiments.documents.wording import Wording
from klartext.experiments.spec.metric_syntax import COMPARISONS, ComparisonSyntax, MetricSyntax
from klartext.experiments.spec.names import Finding, Loc

SUMMABLE = frozenset({"number", "integer", "money"})
"""Types of properties that have an order and a sum."""


def filter_findings(metric: MetricSyntax, properties: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong in the filters of a metric, located from the metric."""
    if not valid(metric.filters):
        return
    for name, condition in metric.filters.items():
        at: Loc = ("filters", name)
        if not valid(condition):
            continue
        if name not in properties:
            yield at, undeclared(name, properties)
        elif isinstance(condition, ComparisonSyntax):
            yield from _comparison(at, name, condition, properties[name])
        else:
            yield from _values(at, name, condition, properties[name])


def undeclared(name: str, properties: Mapping[str, str]) -> Wording:
    """Say that a property is not declared, and which one may be meant."""
    message = f"is {name!r}, which is not a declared property"
    near = difflib.get_close_matches(name, list(properties), n=1)
    fix = f"Did you mean {near[0]!r}?" if near else "Declare it in klartext.yaml: properties."
    return "unknown-property", message, fix


def _comparison(
    at: Loc, name: str, condition: ComparisonSyntax, declared: str
) -> Iterator[Finding]:
    written = {key: getattr(condition, key) for key in COMPARISONS}
    bounds = {key: bound for key, bound in written.items() if bound is not None}
    if not bounds:
        yield at, ("filter", "compares with nothing", f"Add one of {', '.join(COMPARISONS)}.")
    elif declared not in SUMMABLE:
        message = f"compares {name}, which is declared as {declared} and has no order"
        yield at, ("filter", message, "Write a value, or a list of values.")
        return
    unit = "money" if declared == "money" else "number"
    for key, bound in bounds.items():
        if valid(bound) and bound[0] != unit:
            message = f"does not fit {name}, which is declared as {declared}"
            fix = "Write an amount, such as '50 EUR'." if unit == "money" else "Write a number."
            yield (*at, key), ("filter", message, fix)


def _values(at: Loc, name: str, values: tuple[Any, ...], declared: str) -> Iterator[Finding]:
    if declared == "money":
        message = f"is a list of values of {name}, which is an amount of money"
        yield at, ("filter", message, "Compare it, such as {at_least: 50 EUR}.")
        return
    for value in values:
        if not _FITS[declared](value):
            seen = str(value).lower() if isinstance(value, bool) else repr(value)
            message = f"has the value {seen}, but {name} is declared as {declared}"
            yield at, ("filter", message, _FIXES[declared])
            return


_FITS: Mapping[str, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, Decimal)) and not isinstance(value, bool),
}
_FIXES: Mapping[str, str] = {
    "text": "Put it in quotes.",
    "boolean": "Write true or false.",
    "integer": "Write a whole number.",
    "number": "Write a number.",
}
