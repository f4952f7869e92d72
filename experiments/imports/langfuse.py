"""Langfuse observations, as its exports and its interface write them: CSV, JSON Lines, Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from klartext.experiments.cells import (
    Cell,
    RowError,
    decimal,
    identifier,
    instant,
    integer,
    is_missing,
)
from klartext.experiments.door import Door
from klartext.experiments.imports.calls import Billing
from klartext.experiments.imports.named_rows import at, inside, named_rows, scalar
from klartext.experiments.imports.observed import (
    CallFile,
    CallOptions,
    Observed,
    Other,
    attributed,
    call_file,
)
from klartext.experiments.imports.otlp import prompt_name
from klartext.experiments.money import Money
from klartext.experiments.prices.pricing import Pricing

_STEPS = frozenset({"AGENT", "TOOL", "CHAIN", "RETRIEVER", "EVALUATOR", "GUARDRAIL"})
_TOKENS = frozenset({"TOKENS", "TOKEN"})


def open_langfuse(path: Path, options: CallOptions, door: Door, pricing: Pricing) -> CallFile:
    """Return observations as a source, and its generations and embeddings as calls.

    Raises
    ------
    NotFoundError
        There is no such file.
    FileError
        It cannot be read as a whole.

    Notes
    -----
    The buckets of ``usageDetails`` exclude each other: tokens of the cache are not in ``input``,
    those of reasoning not in ``output``. As Langfuse does, every bucket whose name holds ``input``
    (or ``output``) is one of that side. Its own cost is believed only where neither contract nor
    catalogue has a price.
    """
    extract = partial(_call, options=options)
    return call_file(path, named_rows(path), extract, options, door=door, pricing=pricing)


def _call(document: Mapping[str, Any], *, options: CallOptions) -> Observed | Other:
    kind = str(at(document, "type"))
    if kind not in {"GENERATION", "EMBEDDING"}:
        return Other("agent or tool" if kind in _STEPS else "no call of a model")
    started = instant(scalar(at(document, "startTime", "start_time")), "startTime", zone="UTC")
    ended = instant(scalar(at(document, "endTime", "end_time")) or started, "endTime", zone="UTC")
    failed = str(at(document, "level")) == "ERROR"
    trace = scalar(at(document, "traceId", "trace_id"))
    name = scalar(at(document, "promptName", "prompt_name"))
    version = scalar(at(document, "promptVersion", "prompt_version"))
    cells: dict[str, Cell] = {
        "model": scalar(at(document, "providedModelName", "provided_model_name", "model")),
        "service_tier": scalar(
            at(document, "modelParameters.service_tier", "model_parameters.service_tier")
        ),
        "unit": scalar(at(document, *((options.unit,) if options.unit else ("userId", "user_id")))),
        "task": scalar(at(document, options.task)) if options.task else trace,
        "prompt": prompt_name(name, version),
        "duration_ms": (ended - started) / timedelta(milliseconds=1),
        "error": "error" if failed else None,
        **_tokens(document, has_output=kind == "GENERATION", failed=failed),
    }
    said = {key: scalar(at(document, f"metadata.{key}")) for key in ("experiment", "variant")}
    cells |= attributed({key: value for key, value in said.items() if value is not None}, options)
    identity = identifier(scalar(at(document, "id")), "id", reason="id-missing")
    return Observed((identity,), started, cells, Billing(_reported(document)))


def _tokens(document: Mapping[str, Any], *, has_output: bool, failed: bool) -> dict[str, Cell]:
    """Return the token counts, inclusive as everywhere else."""
    details = inside(at(document, "usageDetails", "usage_details"))
    buckets = {
        str(name): integer(count, "usageDetails")
        for name, count in details.items()
        if not is_missing(count) and ("input" in str(name) or "output" in str(name))
    }
    if not buckets:
        unit = at(document, "usage.unit", "unit")
        if unit is not None and str(unit) not in _TOKENS:
            raise RowError("bad-tokens", "usage is not counted in tokens")
        for side, names in (
            ("input", ("usage.input", "promptTokens", "prompt_tokens", "inputUsage")),
            ("output", ("usage.output", "completionTokens", "completion_tokens", "outputUsage")),
        ):
            count = scalar(at(document, *names))
            if not is_missing(count):
                buckets[side] = integer(count, f"usage of {side}")
    read = [name for name in buckets if "input" in name and "cache" in name]
    written = [name for name in read if "creation" in name or "write" in name]
    sides = {
        side: [count for name, count in buckets.items() if side in name]
        for side in ("input", "output")
    }
    given = 0 if failed else None
    made = given if has_output else 0
    reasoning = [count for name, count in buckets.items() if "reasoning" in name]
    return {
        "input_tokens": sum(sides["input"]) if sides["input"] else given,
        "output_tokens": sum(sides["output"]) if sides["output"] else made,
        "cached_tokens": sum(buckets[name] for name in read if name not in written)
        if set(read) - set(written)
        else None,
        "cache_write_tokens": sum(buckets[name] for name in written) if written else None,
        "reasoning_tokens": sum(reasoning) if reasoning else None,
    }


def _reported(document: Mapping[str, Any]) -> Money | None:
    cell = scalar(
        at(
            document,
            "costDetails.total",
            "cost_details.total",
            "totalCost",
            "total_cost",
            "calculatedTotalCost",
        )
    )
    amount = Decimal(0) if is_missing(cell) else decimal(cell, "totalCost")
    return Money(amount, "USD") if amount > 0 else None
