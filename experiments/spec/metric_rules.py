"""Rules about metrics, and about the keys that name one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from klartext.experiments.documents.validation import valid
from klartext.experiments.documents.wording import Wording
from klartext.experiments.experiment import UNIT_TABLE_COLUMNS
from klartext.experiments.spec.names import (
    Finding,
    Known,
    Loc,
    instead,
    metrics_by_key,
    unique,
    valid_items,
)
from klartext.experiments.spec.syntax import ExperimentDocument, MetricSyntax

BUILT_IN_VALUE = "value"
"""The amount every event can have; other values are declared properties."""
_SUMMABLE = frozenset({"number", "integer", "money"})
_LIMIT_FORMS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("conversion", "may_worsen_by"): {
        "pp": "in percentage points such as 0.2pp, or relative such as 5%",
        "%": "",
    },
    ("conversion", "at_most"): {"%": "as a rate such as 1%"},
    ("mean", "may_worsen_by"): {
        "%": "relative such as 5%, or as an amount per unit",
        "money": "",
        "number": "",
    },
    ("mean", "at_most"): {"number": "as an amount per unit", "money": ""},
}
"""Units of a limit that fit the metric; the first says how to write it."""


def metric_findings(metric: MetricSyntax, properties: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong inside one metric, located from the metric."""
    if valid(metric, metric.key) and metric.key in UNIT_TABLE_COLUMNS:
        message = f"is {metric.key!r}, which is a column of every unit table"
        yield ("key",), ("reserved-key", message, "Give the metric another key.")
    if not valid(metric, metric.kind):
        return
    if metric.kind == "conversion":
        for key in ("value", "refunds"):
            if getattr(metric, key) is not None:
                message = "does not go with kind: conversion, which has no amount"
                yield (key,), ("combination", message, "Remove it, or make it kind: mean.")
        return
    name = metric.value
    if name is None or not valid(name) or name == BUILT_IN_VALUE:
        return
    if name not in properties:
        message = f"is {name!r}, which is not a declared property"
        near = difflib.get_close_matches(name, list(properties), n=1)
        fix = f"Did you mean {near[0]!r}?" if near else "Declare it in klartext.yaml: properties."
        yield ("value",), ("unknown-property", message, fix)
    elif properties[name] not in _SUMMABLE:
        message = f"is {name!r}, which is declared as {properties[name]} and has no sum"
        yield ("value",), ("property-type", message, "Name a number, integer or money property.")


def check_metrics(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield unknown, repeated and contradictory metrics."""
    if not valid(document.metrics):
        return
    keys: list[tuple[Loc, object]] = []
    for index, item in enumerate(document.metrics):
        if isinstance(item, MetricSyntax):
            keys.append((("metrics", index, "key"), item.key))
            for loc, wording in metric_findings(item, known.properties):
                yield ("metrics", index, *loc), wording
        elif valid(item):
            keys.append((("metrics", index), item))
            if item not in known.metrics:
                yield ("metrics", index), _unknown_shared(item, known)
    yield from unique(keys, "metric")


def _unknown_shared(name: str, known: Known) -> Wording:
    if name.startswith("ai."):
        message = f"is {name!r}: metrics of AI calls are not supported in this version"
        return "not-yet-supported", message, "Remove it."
    near = difflib.get_close_matches(name, list(known.metrics), n=1)
    fix = f"Did you mean {near[0]!r}?" if near else "Add it there, or write the metric out here."
    return "unknown-metric", f"is {name!r}, which is not in metrics.yaml", fix


def _references(document: ExperimentDocument) -> Iterator[tuple[Loc, Any]]:
    """Yield every place that names a metric of the experiment."""
    for index, guardrail in enumerate(valid_items(document.guardrails)):
        if valid(guardrail):
            yield ("guardrails", index, "metric"), guardrail.metric
    for index, entry in enumerate(valid_items(document.value)):
        if valid(entry) and hasattr(entry, "metric"):
            yield ("value", index, "metric"), entry.metric
    plan, bandit = document.plan, document.bandit
    if plan is not None and valid(plan) and valid(plan.expected_lift):
        for key in plan.expected_lift:
            yield ("plan", "expected_lift", key), key
    if bandit is not None and valid(bandit):
        yield ("bandit", "reward"), bandit.reward


def check_referenced_metrics(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield keys that name a metric which the experiment does not have."""
    listed = metrics_by_key(document, known)
    if listed is None:
        return
    for loc, name in _references(document):
        if not valid(name) or name in listed:
            continue
        if name.startswith("ai."):
            yield loc, _unknown_shared(name, known)
        elif name in known.metrics:
            message = f"is {name!r}, which is not among the metrics of this experiment"
            yield loc, ("unknown-metric", message, f"Add {name} to metrics.")
        else:
            message = f"is {name!r}, which is not a metric of this experiment"
            yield loc, ("unknown-metric", message, instead(name, listed))


def check_guardrails(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield guardrails without exactly one limit, or with one in the wrong unit."""
    listed = metrics_by_key(document, known) or {}
    for index, guardrail in enumerate(valid_items(document.guardrails)):
        if not valid(guardrail) or not valid(guardrail.may_worsen_by, guardrail.at_most):
            continue
        limits = {"may_worsen_by": guardrail.may_worsen_by, "at_most": guardrail.at_most}
        given = {key: limit for key, limit in limits.items() if limit is not None}
        if len(given) != 1:
            message = "needs exactly one limit: may_worsen_by or at_most"
            fix = "Remove one of them." if given else "Add may_worsen_by: 0.2pp, or at_most: 1%."
            yield ("guardrails", index), ("guardrail-limit", message, fix)
            continue
        metric = listed.get(guardrail.metric) if valid(guardrail.metric) else None
        if metric is not None and valid(metric.kind):
            ((key, (unit, _)),) = given.items()
            forms = _LIMIT_FORMS[metric.kind, key]
            if unit not in forms:
                message = f"does not fit {guardrail.metric}, a {metric.kind} metric"
                fix = f"Write it {next(iter(forms.values()))}."
                yield ("guardrails", index, key), ("guardrail-unit", message, fix)
