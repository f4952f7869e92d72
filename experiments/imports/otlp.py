"""OTLP JSON Lines: spans of the OpenTelemetry conventions for generative AI, as calls.

Each line is one export request (``{"resourceSpans": [...]}``), as the collector's file exporter
writes it. Only the attributes named here are looked at, so messages and addresses never get in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from klartext.experiments.cells import Cell, RowError, is_missing
from klartext.experiments.door import Door
from klartext.experiments.imports.observed import (
    CallFile,
    CallOptions,
    Observed,
    Other,
    attributed,
    call_file,
)
from klartext.experiments.prices.pricing import Pricing
from klartext.experiments.readers import Broken, FileError, Row, require_file

EMBEDDINGS = frozenset({"embeddings", "embedding"})
CALL_OPERATIONS = EMBEDDINGS | {"chat", "completion", "generate_content", "text_completion"}
"""Operations that a provider bills. All others are steps around calls and would count twice."""

STEP_OPERATIONS = frozenset(
    {
        "create_agent",
        "execute_tool",
        "invoke_agent",
        "invoke_workflow",
        "plan",
        "retrieval",
        "workflow",
        "task",
        "agent",
        "tool",
    }
)

# Current names first, then deprecated ones and those of widespread instrumentations.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "operation": ("gen_ai.operation.name", "llm.request.type", "traceloop.span.kind"),
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "cached_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "gen_ai.usage.cached_tokens",
    ),
    "cache_write_tokens": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "gen_ai.usage.reasoning_tokens",
    ),
    "model": ("gen_ai.response.model", "gen_ai.request.model"),
    "provider": ("gen_ai.provider.name", "gen_ai.system"),
    "service_tier": (
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
        "openai.request.service_tier",
        "gen_ai.openai.request.service_tier",
    ),
    "task": ("klartext.task", "gen_ai.conversation.id"),
    "unit": ("feature_flag.context.id", "enduser.pseudo.id", "enduser.id", "user.id"),
    "error": ("error.type",),
    "prompt_name": ("gen_ai.prompt.name",),
    "prompt_version": ("gen_ai.prompt.version",),
    "experiment": ("experiment.key", "experiment.name", "experiment.id"),
    "experiment_variant": ("experiment.variant",),
    "flag": ("feature_flag.key",),
    "flag_variant": ("feature_flag.result.variant", "feature_flag.variant"),
}

MAX_LINE_BYTES = 256 * 1024 * 1024
"""More than any collector sends at once; what is longer is no line of such a file."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLAG_EVENTS = frozenset({"feature_flag", "feature_flag.evaluation"})
_FAILED = frozenset({2, "STATUS_CODE_ERROR"})
_LABELLED_VERSION = "v0123456789"


class _Span(NamedTuple):
    """One span with the attributes of its resource, and who recorded it."""

    span: Mapping[str, Any]
    resource: Mapping[str, Cell]
    scope: str


def open_otlp(path: Path, options: CallOptions, door: Door, pricing: Pricing) -> CallFile:
    """Return a file of spans as a source, and its calls.

    Raises
    ------
    NotFoundError
        There is no such file.
    FileError
        It is empty.

    Notes
    -----
    A call is a span of inference or embedding. What of its input was read from or written to a
    cache is part of the input by the conventions; scopes in ``options.exclusive`` leave it out. A
    span that failed before the provider counted any tokens is a call without tokens.

    The variant is ``feature_flag.result.variant`` of the flag evaluation whose key is a registered
    experiment, on the span or on an event of it; or ``experiment.variant``.
    """
    require_file(path)
    if path.stat().st_size == 0:
        raise FileError(f"{path.name} is empty")
    names = dict(_NAMES)
    for field, stated in (("unit", options.unit), ("task", options.task)):
        if stated is not None:
            names[field] = (stated,)
    fields = _Fields(names)
    extract = partial(_call, fields=fields, options=options, registered=frozenset(door.variants))
    return call_file(path, _spans(path, fields), extract, options, door=door, pricing=pricing)


class _Fields:
    """Which attribute means what; of several names for one field the first counts."""

    def __init__(self, names: Mapping[str, tuple[str, ...]]) -> None:
        self._places = {
            attribute: (field, rank)
            for field, attributes in names.items()
            for rank, attribute in enumerate(attributes)
        }

    def read(self, attributes: object) -> dict[str, Cell]:
        """Return the fields that a list of OTLP attributes has."""
        found: dict[str, Cell] = {}
        ranks: dict[str, int] = {}
        for item in _objects(attributes):
            key = item.get("key")
            place = self._places.get(key) if isinstance(key, str) else None
            if place is None or place[1] > ranks.get(place[0], place[1]):
                continue
            value = _value(item.get("value"))
            if not is_missing(value):
                found[place[0]] = value
                ranks[place[0]] = place[1]
        return found


def _spans(path: Path, fields: _Fields) -> Iterator[Row | Broken]:
    position = 0
    number = 0
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            if not line.strip():
                continue
            try:
                spans = _requested(line, fields)
            except RowError as error:
                position += 1
                detail = f"line {number}: {error.detail}"
                yield Broken(position, error.reason, detail, repr(line[:4096]))
                while not line.endswith(b"\n") and (line := stream.readline(MAX_LINE_BYTES)):
                    pass  # the rest of a line that was too long
                continue
            for span in spans:
                position += 1
                yield Row(position, (), span)


def _requested(line: bytes, fields: _Fields) -> Iterable[_Span]:
    """Return the spans of an export request; logs and metrics have none."""
    if len(line) >= MAX_LINE_BYTES:
        raise RowError("broken-row", f"longer than {MAX_LINE_BYTES} bytes")
    try:
        request = orjson.loads(line)
    except ValueError:
        raise RowError("broken-row", "not a JSON value") from None
    if not isinstance(request, dict) or not any(
        key in request for key in ("resourceSpans", "resourceLogs", "resourceMetrics")
    ):
        raise RowError("broken-row", "not an OTLP export request: it has no resourceSpans")
    spans: list[_Span] = []
    for group in _parts(request, "resourceSpans"):
        described = group.get("resource")
        resource = fields.read(described.get("attributes")) if isinstance(described, dict) else {}
        for scoped in _parts(group, "scopeSpans"):
            scope = scoped.get("scope")
            name = scope.get("name") if isinstance(scope, dict) else None
            spans += [_Span(span, resource, str(name)) for span in _parts(scoped, "spans")]
    return spans


def _call(
    recorded: _Span, *, fields: _Fields, options: CallOptions, registered: frozenset[str]
) -> Observed | Other:
    span = recorded.span
    own = fields.read(span.get("attributes"))
    operation = own.get("operation")
    if operation not in CALL_OPERATIONS:
        return _other(operation, own)
    seen = {**recorded.resource, **own}
    started, ended = _instant(span, "startTimeUnixNano"), _instant(span, "endTimeUnixNano")
    status = span.get("status")
    failed = isinstance(status, dict) and status.get("code") in _FAILED
    error = seen.get("error") or ("error" if failed else None)
    # A call that failed at once has no usage, and an embedding no output. Anything else without
    # usage has a cost that nobody knows.
    given = 0 if error is not None else None
    made = 0 if operation in EMBEDDINGS else given
    cells: dict[str, Cell] = {
        name: seen.get(name)
        for name in (
            "cached_tokens",
            "cache_write_tokens",
            "reasoning_tokens",
            "service_tier",
            "model",
            "provider",
            "unit",
        )
    }
    cells["input_tokens"] = seen.get("input_tokens", given)
    cells["output_tokens"] = seen.get("output_tokens", made)
    if recorded.scope in options.exclusive:
        cells["input_tokens"] = with_cache(cells)
    cells["error"] = error
    cells["duration_ms"] = (ended - started) / timedelta(milliseconds=1)
    cells["prompt"] = prompt_name(seen.get("prompt_name"), seen.get("prompt_version"))
    identity = (_hex(span, "traceId"), _hex(span, "spanId"))
    cells["task"] = seen.get("task", identity[0])
    cells |= attributed(_assigned(seen, span, fields, registered), options)
    return Observed(identity, started, cells)


def _other(operation: Cell, own: Mapping[str, Cell]) -> Other:
    if operation in STEP_OPERATIONS:
        return Other("agent or tool")
    if "input_tokens" in own or "output_tokens" in own:
        # Dropping it might lose a call; taking it might count one twice.
        raise RowError(
            "unknown-operation", "a span with tokens whose gen_ai.operation.name is no known one"
        )
    return Other("no call of a model")


def _assigned(
    seen: Mapping[str, Cell], span: Mapping[str, Any], fields: _Fields, registered: frozenset[str]
) -> dict[str, Cell]:
    """Return the experiment and variant a span names; flags that are no experiments say nothing."""
    if "experiment" in seen or "experiment_variant" in seen:
        return {"experiment": seen.get("experiment"), "variant": seen.get("experiment_variant")}
    evaluations = [seen]
    evaluations += [
        fields.read(event.get("attributes"))
        for event in _objects(span.get("events"))
        if event.get("name") in _FLAG_EVENTS
    ]
    found = {
        (str(each["flag"]), str(each["flag_variant"]))
        for each in evaluations
        if "flag_variant" in each and each.get("flag") in registered
    }
    if len(found) > 1:
        raise RowError(
            "several-experiments", "the call belongs to several variants of registered experiments"
        )
    for experiment, variant in found:
        return {"experiment": experiment, "variant": variant}
    if "flag_variant" in seen and "flag" not in seen:
        return {"variant": seen["flag_variant"]}  # of the experiment that the options name
    return {}


def with_cache(cells: Mapping[str, Cell]) -> Cell:
    """Return input tokens with those of the cache, from a producer that counts them apart."""
    parts = [cells.get(name) for name in ("input_tokens", "cached_tokens", "cache_write_tokens")]
    try:
        return sum(int(str(part)) for part in parts if not is_missing(part))
    except ValueError:
        return parts[0]  # the reader of the call will say what is wrong with it


def prompt_name(name: Cell, version: Cell) -> Cell:
    """Return ``name@7``, or ``name:label`` when the version is a word."""
    if is_missing(name) or is_missing(version):
        return name
    text = str(version)
    return f"{name}@{text}" if text[0] in _LABELLED_VERSION else f"{name}:{text}"


def _parts(request: Mapping[str, Any], key: str) -> Iterable[Mapping[str, Any]]:
    """Return the objects under ``key``, none when it is missing.

    Raises
    ------
    RowError
        Something else is there: spans in it would be lost without a count.
    """
    parts = request.get(key) or []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise RowError("broken-row", f"not an OTLP export request: {key} is no list of objects")
    return parts


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def _value(value: object) -> Cell:
    """Return a scalar of OTLP; integers may be written as text, lists and maps are not read."""
    if not isinstance(value, dict):
        return None
    for kind in ("stringValue", "intValue", "doubleValue", "boolValue"):
        found = value.get(kind)
        if isinstance(found, str | int | float):
            return found
    return None


def _instant(span: Mapping[str, Any], name: str) -> datetime:
    nanoseconds = span.get(name)
    text = str(nanoseconds)
    if not isinstance(nanoseconds, str | int) or not text.isdecimal() or len(text) > 20:
        raise RowError("bad-time", f"{name} is not a number of nanoseconds since 1970")
    if int(text) == 0:
        raise RowError("time-missing", f"{name} is 0")
    return _EPOCH + timedelta(microseconds=int(text) // 1000)


def _hex(span: Mapping[str, Any], name: str) -> str:
    text = span.get(name)
    if not isinstance(text, str) or not text.strip("0"):
        raise RowError("id-missing", f"the span has no {name}")
    if len(text) > 64:
        raise RowError("bad-id", f"{name} has {len(text)} characters")
    return text.lower()
