"""Rules about metrics, and about the keys that name one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from klartext.experiments.documents.validation import valid
from klartext.experiments.documents.wording import Wording
from klartext.experiments.experiment import UNIT_TABLE_COLUMNS
from klartext.experiments.spec.filter_rules import SUMMABLE, filter_findings, undeclared
from klartext.experiments.spec.metric_syntax import LookbackSyntax, MetricSyntax
from klartext.experiments.spec.names import (
    Finding,
    Known,
    Loc,
    instead,
    metrics_by_key,
    rate_text,
    unique,
    valid_items,
)
from klartext.experiments.spec.syntax import ExperimentDocument

BUILT_IN_VALUE = "value"
"""The amount every event can have; other values are declared properties."""
_RATE_LIMITS: Mapping[str, Mapping[str, str]] = {
    "may_worsen_by": {"pp": "in percentage points such as 0.2pp, or relative such as 5%", "%": ""},
    "at_most": {"%": "as a rate such as 1%"},
}
_AMOUNT_LIMITS: Mapping[str, Mapping[str, str]] = {
    "may_worsen_by": {"%": "relative such as 5%, or as an amount per unit", "money": "",
                      "number": ""},
    "at_most": {"number": "as an amount per unit", "money": ""},
}  # fmt: skip
_NUMBER_LIMITS: Mapping[str, Mapping[str, str]] = {
    "may_worsen_by": {"%": "relative such as 5%, or as a number", "number": ""},
    "at_most": {"number": "as a number"},
}
_LIMIT_FORMS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "conversion": _RATE_LIMITS,
    "retention": _RATE_LIMITS,
    "mean": _AMOUNT_LIMITS,
    "count": _NUMBER_LIMITS,
    "ratio": _AMOUNT_LIMITS,
    "quantile": _AMOUNT_LIMITS,
}
"""Units of a limit that fit the kind of metric; the first says how to write it."""

_AI_LIMIT_FORMS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "ai.cost_per_task": {
        "may_worsen_by": {"%": "relative such as 5%, or as an amount per task", "money": ""},
        "at_most": {"money": "as an amount per task"},
    },
    "ai.latency_p50": _NUMBER_LIMITS,
    "ai.latency_p95": _NUMBER_LIMITS,
    "ai.error_rate": _RATE_LIMITS,
    "ai.tokens": _NUMBER_LIMITS,
    "ai.cache_share": _RATE_LIMITS,
}
"""The same for the metrics of AI calls."""

_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "conversion": (frozenset({"event"}), frozenset({"window", "delay", "filters", "negligible"})),
    "count": (frozenset({"event"}), frozenset({"window", "delay", "filters", "cap", "negligible"})),
    "mean": (
        frozenset({"event"}),
        frozenset({"window", "delay", "filters", "value", "refunds", "cap", "negligible"}),
    ),
    "retention": (frozenset({"event", "between"}), frozenset({"filters", "negligible"})),
    "ratio": (frozenset({"numerator", "denominator"}), frozenset()),
    "quantile": (
        frozenset({"event", "quantile"}),
        frozenset({"window", "delay", "filters", "value"}),
    ),
}
"""Keys that a kind needs, and those that it may have beside them."""

_FIXES: Mapping[str, str] = {
    "event": "Name the event that counts.",
    "between": "Write from when to when, such as between: [7d, 14d].",
    "numerator": "Name a metric of the experiment.",
    "denominator": "Name a metric of the experiment.",
    "quantile": "Write which, such as quantile: 95%.",
}


def metric_findings(metric: MetricSyntax, properties: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong inside one metric, located from the metric."""
    if valid(metric, metric.key) and metric.key in UNIT_TABLE_COLUMNS:
        message = f"is {metric.key!r}, which is a column of every unit table"
        yield ("key",), ("reserved-key", message, "Give the metric another key.")
    if not valid(metric, metric.kind):
        return
    yield from _key_findings(metric)
    yield from _refund_findings(metric)
    yield from filter_findings(metric, properties)
    yield from _covariate_findings(metric)
    yield from _cap_findings(metric, properties)
    yield from _negligible_findings(metric)
    yield from _quantile_findings(metric)
    value = metric.value
    if (
        metric.kind not in {"mean", "quantile"}
        or value is None
        or not valid(value)
        or value == BUILT_IN_VALUE
    ):
        return
    if value not in properties:
        yield ("value",), undeclared(value, properties)
    elif properties[value] not in SUMMABLE:
        message = f"is {value!r}, which is declared as {properties[value]} and has no sum"
        yield ("value",), ("property-type", message, "Name a number, integer or money property.")


def _key_findings(metric: MetricSyntax) -> Iterator[Finding]:
    """Yield keys that the kind needs and does not have, and those that it has no use for."""
    needed, possible = _KEYS[metric.kind]
    for key in sorted(needed):
        if getattr(metric, key) is None:
            message = f"is {metric.kind}, but {key} is missing"
            yield ("kind",), ("missing-key", message, _FIXES[key])
    every = sorted({key for one in _KEYS.values() for group in one for key in group})
    for key in every:
        written = getattr(metric, key)
        if key in needed | possible or written is None or (key == "filters" and not written):
            continue
        if metric.kind == "retention" and key in {"window", "delay"}:
            fix = "Remove it: between says both."
        elif key in {"value", "refunds"}:
            fix = "Remove it, or make it kind: mean."
        else:
            fix = "Remove it."
        message = f"does not go with kind: {metric.kind}{_WHY_NOT.get((metric.kind, key), '')}"
        yield (key,), ("combination", message, fix)


_WHY_NOT: Mapping[tuple[str, str], str] = {
    **{(kind, key): ", which has no amount"
       for kind in ("conversion", "count", "retention") for key in ("value", "refunds")},
    **{("ratio", key): ", which has no events of its own: its two metrics have"
       for key in ("event", "window", "delay", "filters", "value", "refunds", "between", "cap")},
}  # fmt: skip


_NEGLIGIBLE: Mapping[str, Mapping[str, str]] = {
    "conversion": {"pp": "in percentage points such as 0.1pp"},
    "retention": {"pp": "in percentage points such as 0.1pp"},
    "mean": {"number": "as an amount per unit", "money": ""},
    "count": {"number": "as a number"},
}


def _negligible_findings(metric: MetricSyntax) -> Iterator[Finding]:
    """Yield a negligible difference in another unit than the metric's, or none at all."""
    if metric.negligible is None or not valid(metric.negligible):
        return
    unit, size = metric.negligible
    forms = _NEGLIGIBLE.get(metric.kind)
    if forms is None:  # the kind has none, which is said already
        return
    if unit not in forms:
        message = f"does not fit a {metric.kind} metric"
        yield ("negligible",), ("negligible", message, f"Write it {next(iter(forms.values()))}.")
    elif size <= 0:
        message = "is 0: then every difference matters"
        yield ("negligible",), ("range", message, "Write a difference above 0, or remove it.")


def _covariate_findings(metric: MetricSyntax) -> Iterator[Finding]:
    seen: set[object] = set()
    for index, item in enumerate(valid_items(metric.covariates)):
        if not valid(item) or (isinstance(item, LookbackSyntax) and not valid(item.lookback)):
            continue
        if item in seen:
            message = "is a covariate that was named before"
            yield ("covariates", index), ("twice", message, "Remove one.")
        seen.add(item)


def _cap_findings(metric: MetricSyntax, properties: Mapping[str, str]) -> Iterator[Finding]:
    if metric.cap is None or not valid(metric.cap, metric.value) or "cap" not in _may(metric):
        return
    unit, cap = metric.cap
    if unit == "percentile":
        if cap < Decimal("0.5"):
            message = f"is p{(cap * 100).normalize():f}: it would cut more units than it leaves"
            yield ("cap",), ("range", message, "Write p99, or at least p50.")
        return
    if cap <= 0:
        message = "is not above 0: every unit would count alike"
        yield ("cap",), ("range", message, "Choose a value that only outliers exceed.")
    declared = properties.get(metric.value or BUILT_IN_VALUE)
    if unit == "number" and declared == "money":
        message = f"is a number, but {metric.value} is an amount of money"
        yield ("cap",), ("cap", message, "Write an amount, such as '500 EUR'.")
    elif unit == "money" and (metric.kind == "count" or declared in {"number", "integer"}):
        yield ("cap",), ("cap", "is money, but the metric is not", "Write a number.")


def _quantile_findings(metric: MetricSyntax) -> Iterator[Finding]:
    share = metric.quantile
    if share is not None and valid(share) and not 0 < share < 1:
        message = f"is {rate_text(share)}: must be between 0% and 100%, without them"
        yield ("quantile",), ("range", message, "Write 95% for the slowest twentieth.")
    if metric.kind == "quantile" and valid(metric.covariates) and metric.covariates:
        message = "does not go with kind: quantile, which is no mean over units"
        yield ("covariates",), ("combination", message, "Remove it.")


def _may(metric: MetricSyntax) -> frozenset[str]:
    return _KEYS[metric.kind][1]


def _refund_findings(metric: MetricSyntax) -> Iterator[Finding]:
    refunds, delay = metric.refunds, metric.delay
    if refunds is None or delay is None or not valid(refunds, delay):
        return
    if refunds.window is not None and valid(refunds.window) and refunds.window <= delay:
        message = "closes before the delay of the metric is over"
        yield ("refunds", "window"), ("time-order", message, "Choose a longer window.")


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
    if name in _AI_LIMIT_FORMS:
        message = f"is {name!r}, which every experiment with AI calls has"
        return "always-there", message, "Remove it; a guardrail can name it all the same."
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
    yield from _ratio_parts(document)
    plan, bandit = document.plan, document.bandit
    if plan is not None and valid(plan) and valid(plan.expected_lift):
        for key in plan.expected_lift:
            yield ("plan", "expected_lift", key), key
    if bandit is not None and valid(bandit):
        yield ("bandit", "reward"), bandit.reward


def _ratio_parts(document: ExperimentDocument) -> Iterator[tuple[Loc, Any]]:
    for index, metric in enumerate(valid_items(document.metrics)):
        if isinstance(metric, MetricSyntax) and valid(metric.kind) and metric.kind == "ratio":
            for key in ("numerator", "denominator"):
                if getattr(metric, key) is not None:
                    yield ("metrics", index, key), getattr(metric, key)


def check_referenced_metrics(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield keys that name a metric which the experiment does not have."""
    listed = metrics_by_key(document, known)
    if listed is None:
        return
    for loc, name in _references(document):
        if not valid(name) or name in listed:
            continue
        if name in _AI_LIMIT_FORMS:
            if loc[0] != "guardrails":
                message = f"is {name!r}, which is about calls and no sum over units"
                yield loc, ("ai-metric", message, "Only guardrails can name it.")
        elif name.startswith("ai."):
            message = f"is {name!r}, which is not a metric of AI calls"
            yield loc, ("unknown-metric", message, instead(name, _AI_LIMIT_FORMS))
        elif name in known.metrics:
            message = f"is {name!r}, which is not among the metrics of this experiment"
            yield loc, ("unknown-metric", message, f"Add {name} to metrics.")
        else:
            message = f"is {name!r}, which is not a metric of this experiment"
            yield loc, ("unknown-metric", message, instead(name, listed))


def check_ratios(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield ratios whose parts the experiment lacks, are ratios themselves, or are the same."""
    listed = metrics_by_key(document, known)
    if listed is None:
        return
    for index, item in enumerate(document.metrics):
        here = isinstance(item, MetricSyntax)
        metric = item if isinstance(item, MetricSyntax) else listed.get(item)
        if metric is None or not valid(metric.kind, metric.numerator, metric.denominator):
            continue
        parts = {"numerator": metric.numerator, "denominator": metric.denominator}
        for key, name in parts.items() if metric.kind == "ratio" else ():
            at: Loc = ("metrics", index, key) if here else ("metrics", index)
            part = listed.get(name or "")
            if name is None or (part is None and here):  # said elsewhere
                continue
            if part is None:
                message = f"divides {metric.numerator} by {metric.denominator}, of which {name}"
                yield at, ("unknown-metric", f"{message} is missing", f"Add {name} to metrics.")
            elif valid(part.kind) and part.kind in {"ratio", "quantile"}:
                message = f"is {name!r}, which is a {part.kind} itself"
                yield at, ("ratio", message, "Name a metric with events.")
            elif key == "denominator" and name == metric.numerator:
                message = f"is {name!r}, which is the numerator too"
                yield at, ("ratio", message, "Divide by another metric.")


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
        name = guardrail.metric if valid(guardrail.metric) else ""
        metric = listed.get(name)
        if metric is not None and valid(metric.kind):
            limits_of, what = _LIMIT_FORMS[metric.kind], f"{name}, a {metric.kind} metric"
        elif name in _AI_LIMIT_FORMS:
            limits_of, what = _AI_LIMIT_FORMS[name], name
        else:
            continue
        for key, (unit, _) in given.items():
            forms = limits_of[key]
            if unit not in forms:
                message = f"does not fit {what}"
                fix = f"Write it {next(iter(forms.values()))}."
                yield ("guardrails", index, key), ("guardrail-unit", message, fix)
