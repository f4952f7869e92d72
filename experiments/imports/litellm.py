"""LiteLLM spend logs: rows of ``LiteLLM_SpendLogs`` as CSV, JSON Lines or Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from klartext.experiments.cells import Cell, RowError, decimal, identifier, instant, is_missing
from klartext.experiments.door import Door
from klartext.experiments.imports.calls import Billing
from klartext.experiments.imports.named_rows import at, named_rows, scalar
from klartext.experiments.imports.observed import (
    CallFile,
    CallOptions,
    Observed,
    Other,
    attributed,
    call_file,
)
from klartext.experiments.money import Money
from klartext.experiments.prices.pricing import Pricing

CALL_TYPES = frozenset(
    {
        "completion",
        "acompletion",
        "text_completion",
        "atext_completion",
        "embedding",
        "aembedding",
        "responses",
        "aresponses",
        "anthropic_messages",
    }
)
"""Calls that are priced by their tokens."""

_SAID = "metadata.spend_logs_metadata"
_USAGE = ("metadata.usage_object", "metadata.additional_usage_values")
_CACHED = Billing(free="answered from the cache of LiteLLM: the provider was not asked")


def open_litellm(path: Path, options: CallOptions, door: Door, pricing: Pricing) -> CallFile:
    """Return spend logs as a source, and their calls.

    Raises
    ------
    NotFoundError
        There is no such file.
    FileError
        It cannot be read as a whole.

    Notes
    -----
    LiteLLM counts cache tokens as input for every provider. Its ``spend`` is an estimate from its
    own price list, and 0 for a model it does not know: it is believed only when it is positive and
    neither contract nor catalogue has a price.
    """
    extract = partial(_call, options=options)
    return call_file(path, named_rows(path), extract, options, door=door, pricing=pricing)


def _call(document: Mapping[str, Any], *, options: CallOptions) -> Observed | Other:
    kind = str(at(document, "call_type") or "completion")
    spend = _spend(document)
    if kind not in CALL_TYPES:
        if spend or at(document, "total_tokens") not in {None, 0, "0"}:
            raise RowError("unknown-operation", "a call_type that tokens do not price")
        return Other("no call of a model")
    started = instant(scalar(at(document, "startTime", "start_time")), "startTime", zone="UTC")
    ended = instant(scalar(at(document, "endTime", "end_time")) or started, "endTime", zone="UTC")
    task = (options.task,) if options.task else (f"{_SAID}.task", "session_id")
    cells: dict[str, Cell] = {
        "input_tokens": scalar(at(document, "prompt_tokens")),
        "output_tokens": scalar(at(document, "completion_tokens")),
        "cached_tokens": _usage(
            document, "cache_read_input_tokens", "prompt_tokens_details.cached_tokens"
        ),
        "cache_write_tokens": _usage(document, "cache_creation_input_tokens"),
        "reasoning_tokens": _usage(document, "completion_tokens_details.reasoning_tokens"),
        "service_tier": _usage(document, "service_tier"),
        "provider": scalar(at(document, "custom_llm_provider")),
        "unit": scalar(at(document, options.unit or "end_user")),
        "task": scalar(at(document, *task)),
        "prompt": scalar(at(document, f"{_SAID}.prompt")),
        "duration_ms": (ended - started) / timedelta(milliseconds=1),
        "error": _error(document),
    }
    cells["model"] = _model(scalar(at(document, "model")), cells["provider"])
    cells |= attributed(_named(document), options)
    identity = identifier(scalar(at(document, "request_id")), "request_id", reason="id-missing")
    return Observed((identity,), started, cells, _billing(document, spend))


def _usage(document: Mapping[str, Any], *names: str) -> Cell:
    found: Cell = scalar(at(document, *(f"{usage}.{name}" for usage in _USAGE for name in names)))
    return found


def _billing(document: Mapping[str, Any], spend: Decimal | None) -> Billing:
    if str(at(document, "cache_hit")).lower() == "true":
        return _CACHED
    return Billing(reported=Money(spend, "USD") if spend else None)


def _spend(document: Mapping[str, Any]) -> Decimal | None:
    cell = scalar(at(document, "spend"))
    if is_missing(cell):
        return None
    spend = decimal(cell, "spend")
    if spend < 0:
        raise RowError("bad-number", "spend is negative")
    return spend


def _model(model: Cell, provider: Cell) -> Cell:
    """Return the model without the provider that LiteLLM writes before it."""
    prefix = f"{provider}/"
    return model.removeprefix(prefix) if isinstance(model, str) else model


def _error(document: Mapping[str, Any]) -> Cell:
    if str(at(document, "status") or "success").lower() == "success":
        return None
    known: Cell = scalar(
        at(
            document,
            "metadata.error_information.error_code",
            "metadata.error_information.error_class",
        )
    )
    return known or "error"


def _named(document: Mapping[str, Any]) -> dict[str, Cell]:
    """Return experiment and variant, from the metadata of the request or else from its tags."""
    tags = _tags(document)
    named = {
        name: scalar(at(document, f"{_SAID}.{name}")) or tags.get(name)
        for name in ("experiment", "variant")
    }
    return {name: value for name, value in named.items() if value is not None}


def _tags(document: Mapping[str, Any]) -> dict[str, str]:
    """Return request tags of the form ``experiment:mail``."""
    tags = at(document, "request_tags")
    if isinstance(tags, str):
        tags = tags.strip("[]{} ").replace('"', "").replace("'", "").split(",")
    found: dict[str, str] = {}
    for tag in tags if isinstance(tags, list) else ():
        name, separator, value = str(tag).strip().partition(":")
        if separator:
            found.setdefault(name, value.strip())
    return found
