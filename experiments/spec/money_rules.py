"""Rules about value, costs, ranges and roll-out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from klartext.experiments.documents.validation import Model, valid
from klartext.experiments.spec.metric_rules import BUILT_IN_VALUE
from klartext.experiments.spec.metric_syntax import MetricSyntax
from klartext.experiments.spec.money_syntax import Range
from klartext.experiments.spec.names import (
    Finding,
    Known,
    Loc,
    instead,
    metrics_by_key,
    rate_text,
    valid_items,
    variant_keys,
)
from klartext.experiments.spec.syntax import ExperimentDocument

_NO_PERIODS = frozenset(
    {"hour", "day", "week", "months", "monthly", "quarter", "year", "yearly", "units"}
)
"""Words that mean a period or a unit; taken for the name of an event they would cost nothing."""


def check_value(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield metrics counted twice, and margins of something that is not money."""
    listed = metrics_by_key(document, known) or {}
    seen: set[str] = set()
    for index, entry in enumerate(valid_items(document.value)):
        name = getattr(entry, "metric", None)
        if not valid(entry) or name is None or not valid(name):
            continue
        if name in seen:
            message = f"is {name!r}, which another value entry counts already"
            yield ("value", index, "metric"), ("counted-twice", message, "Keep one of the two.")
        seen.add(name)
        metric = listed.get(name)
        if metric is not None and valid(metric.kind) and metric.kind in {"ratio", "quantile"}:
            message = f"is {name!r}, a {metric.kind}: it is no sum over units that could be worth"
            fix = "Value a mean or a count of the same events."
            if metric.kind == "ratio":
                fix = f"Value its numerator{_part_of(metric)}."
            yield ("value", index, "metric"), ("ratio-value", f"{message} anything", fix)
            continue
        if metric is None or not hasattr(entry, "contribution_margin"):
            continue
        if valid(metric.kind) and not _is_money(metric, known):
            message = f"is {name!r}, which is not in money: a contribution margin needs an amount"
            fix = "Name a mean metric of money, or use worth: '35 EUR' per unit of the metric."
            yield ("value", index, "metric"), ("not-money", message, fix)


def _part_of(metric: MetricSyntax) -> str:
    return f", {metric.numerator}" if metric.numerator and valid(metric.numerator) else ""


def _is_money(metric: MetricSyntax, known: Known) -> bool:
    if metric.kind != "mean":
        return False
    name = metric.value
    if name is None or not valid(name) or name == BUILT_IN_VALUE:
        return True
    return known.properties.get(name) not in {"number", "integer"}  # others are another mistake


def check_caused_by(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield savings and cost lines of variants that do not exist."""
    keys = variant_keys(document)
    if keys is None:
        return
    for index, entry in enumerate(valid_items(document.value)):
        if not valid(entry) or not hasattr(entry, "saving") or not valid(entry.variant):
            continue
        treatments = [key for key in keys if key != document.control]
        if entry.variant is None and len(treatments) != 1:
            message = "does not say which variant saves the time"
            fix = f"Add variant: {treatments[0] if treatments else 'KEY'}."
            yield ("value", index), ("saving-variant", message, fix)
        elif entry.variant is not None and entry.variant not in treatments:
            message = f"is {entry.variant!r}, which is not a treatment"
            fix = instead(entry.variant, treatments)
            yield ("value", index, "variant"), ("unknown-variant", message, fix)
    for index, line in _cost_lines(document):
        if line.variant is not None and valid(line.variant) and line.variant not in keys:
            message = f"is {line.variant!r}, which is not a variant"
            fix = instead(line.variant, keys)
            yield ("costs", "lines", index, "variant"), ("unknown-variant", message, fix)


def _cost_lines(document: ExperimentDocument) -> Iterator[tuple[int, Any]]:
    if document.costs is not None and valid(document.costs) and valid(document.costs.lines):
        for index, line in enumerate(document.costs.lines):
            if valid(line):
                yield index, line


def check_line_forms(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield cost lines that are neither hours x rate nor an amount."""
    for index, line in _cost_lines(document):
        at: Loc = ("costs", "lines", index)
        if valid(line.hours, line.rate, line.amount):
            by_hours = line.hours is not None, line.rate is not None
            if line.amount is not None and any(by_hours):
                fix = "Keep the amount, or hours and rate."
                yield at, ("cost-form", "has both an amount and hours x rate", fix)
            elif line.amount is None and not all(by_hours):
                message = "needs hours and rate, or an amount"
                yield at, ("cost-form", message, "Add what is missing.")
        if valid(line.life, line.per) and line.life is not None and line.per not in {None, "once"}:
            message = f"does not go with per: {line.per}, which is paid as it occurs"
            yield (*at, "life"), ("combination", message, "Remove life, or remove per.")
        if valid(line.per) and line.per in {*_NO_PERIODS, document.unit}:
            fix = "Write unit." if line.per == document.unit else "Write once, month or an event."
            message = f"is {line.per}, which is no occurrence that costs accrue by"
            yield (*at, "per"), ("cost-period", message, fix)


def check_ranges(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield business inputs whose range does not hold their base."""
    for loc, item in _models(document, ()):
        if not isinstance(item, Range) or not valid(item.base):
            continue
        for key, sign in (("low", 1), ("high", -1)):
            bound = getattr(item, key)
            if bound is not None and valid(bound) and sign * (bound - item.base) > 0:
                side = "above" if key == "low" else "below"
                message = f"is {side} base: low <= base <= high"
                yield (*loc, key), ("range-order", message, "Put the three in order.")


def _models(value: Any, loc: Loc) -> Iterator[tuple[Loc, Model]]:
    if isinstance(value, Model):
        yield loc, value
        for name, field in type(value).model_fields.items():
            yield from _models(getattr(value, name), (*loc, field.alias or name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _models(item, (*loc, index))


def check_rollout(document: ExperimentDocument, _known: Known) -> Iterator[Finding]:
    """Yield a discount rate out of range."""
    rollout = document.rollout
    if rollout is None or not valid(rollout):
        return
    at: Loc = ("rollout", "discount_rate")
    written: Any = rollout.discount_rate
    rates = {at: written}
    if isinstance(written, Range):
        rates = {(*at, end): getattr(written, end) for end in ("low", "base", "high")}
    for loc, rate in rates.items():
        if rate is not None and valid(rate) and not 0 <= rate < 10:
            message = f"is {rate_text(rate)}: must be between 0% and 1000%"
            yield loc, ("range", message, "Write a rate per year.")
