"""Figures in JSON: ten significant digits, and null with a reason for what cannot be estimated."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TypeAlias

from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, Unbounded
from klartext.experiments.experiment import Json

Value: TypeAlias = str | int | float | Decimal | ConfidenceSet | None


def json_object(**fields: Value) -> dict[str, Json]:
    """Return the fields as JSON, with the reasons of those that are null."""
    document: dict[str, Json] = {}
    reasons: dict[str, Json] = {}
    for name, value in fields.items():
        match value:
            case NotEstimable(reason, detail):
                document[name] = None
                reasons[name] = {"code": reason, "detail": detail}
            case Unbounded(shape, bounds, level):
                document[name] = None
                reasons[name] = {
                    "code": "unbounded",
                    "detail": "the data do not determine it reliably",
                    "shape": shape,
                    "bounds": [figure(bound) for bound in bounds],
                    "level": figure(level),
                }
            case Interval(lower, upper, _):
                document[name] = [figure(lower), figure(upper)]
            case Decimal():
                document[name] = f"{value:f}"
            case float():
                document[name] = figure(value)
            case _:
                document[name] = value
    if reasons:
        document["reason"] = reasons
    return document


def figure(value: float) -> float:
    """Ten significant digits; what is not finite is a mistake upstream, not a figure."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a figure")
    return float(f"{value:.10g}")
