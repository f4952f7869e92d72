"""What a document names, as far as it could be read: the ground the rules stand on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from klartext.experiments.documents.validation import INVALID, valid
from klartext.experiments.documents.wording import Wording
from klartext.experiments.experiment import MILLION
from klartext.experiments.spec.metric_syntax import MetricSyntax
from klartext.experiments.spec.syntax import ExperimentDocument

Loc: TypeAlias = tuple[str | int, ...]
Finding: TypeAlias = tuple[Loc, Wording]


@dataclass(frozen=True, slots=True)
class Known:
    """What the workspace knows: shared metrics by key, and the types of event properties."""

    metrics: Mapping[str, MetricSyntax]
    properties: Mapping[str, str]


def unique(keys: Iterable[tuple[Loc, object]], what: str) -> Iterator[Finding]:
    """Yield the keys that were there before."""
    seen: set[object] = set()
    for loc, key in keys:
        if not valid(key):
            continue
        if key in seen:
            yield loc, ("twice", f"is {key!r}, which another {what} has already", "Rename one.")
        seen.add(key)


def metrics_by_key(document: ExperimentDocument, known: Known) -> dict[str, MetricSyntax] | None:
    """Return the metrics the experiment lists; None when they cannot all be told.

    A misspelt name stands for the nearest shared metric, so that one mistake is said once.
    """
    if not valid(document.metrics):
        return None
    found: dict[str, MetricSyntax] = {}
    for item in document.metrics:
        if isinstance(item, MetricSyntax):
            if not valid(item.key):
                return None
            found[item.key] = item
        elif not valid(item):
            return None
        else:
            nearest = difflib.get_close_matches(item, known.metrics, n=1)
            for key in [item] if item in known.metrics else nearest:
                found[key] = known.metrics[key]
    return found


def variant_keys(document: ExperimentDocument) -> list[str] | None:
    """Return the keys of the variants; None when they cannot all be told."""
    if not valid(document.variants):
        return None
    keys = [variant.key if valid(variant) else INVALID for variant in document.variants]
    return [str(key) for key in keys] if valid(*keys) else None


def valid_items(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the items, or none when the whole list could not be read."""
    return items if valid(items) else ()


def instead(name: str, names: Iterable[str]) -> str:
    """Suggest the nearest of ``names``, or name them all."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Use one of {', '.join(names)}."


def percent_text(millionths: int) -> str:
    """Return millionths as a percentage."""
    return rate_text(Decimal(millionths) / MILLION)


def rate_text(fraction: Decimal) -> str:
    """Return a fraction as a percentage."""
    return f"{(fraction * 100).normalize():f}%"
