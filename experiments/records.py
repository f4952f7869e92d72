"""Typed fact rows, and how JSON bodies become them; what cannot is a `Reject` with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, TypeAlias

from klartext.experiments.cells import (
    Cell,
    RowError,
    decimal,
    identifier,
    instant,
    integer,
    is_missing,
)
from klartext.experiments.door import Door, PropertyValue, TableName, event_name
from klartext.experiments.experiment import MILLION

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ExposureRow:
    """A unit met a variant. ``propensity`` is in millionths, None for a split made elsewhere."""

    table: ClassVar[TableName] = "exposures"

    id: bytes
    payload: bytes
    experiment: str
    unit: int
    variant: str
    occurred_at: datetime
    propensity: int | None = None
    policy_version: int | None = None
    properties: Mapping[str, PropertyValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something a unit did. ``currency`` None: ``value`` is a number, not money."""

    table: ClassVar[TableName] = "events"

    id: bytes
    payload: bytes
    unit: int
    name: str
    occurred_at: datetime
    value: Decimal | None = None
    currency: str | None = None
    properties: Mapping[str, PropertyValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One AI call. ``amount`` None means unpriced, never free; ``evidence`` proves the price."""

    table: ClassVar[TableName] = "usage_costs"

    id: bytes
    payload: bytes
    source: str
    occurred_at: datetime
    category: str
    model: str
    input_tokens: int
    output_tokens: int
    amount: Decimal | None
    currency: str
    evidence: str
    experiment: str | None = None
    variant: str | None = None
    unit: int | None = None
    provider: str | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    service_tier: str | None = None
    task: str | None = None
    duration_ms: int | None = None
    error: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class AliasRow:
    """``unit`` is the same as ``canonical``: a visitor who turned out to be a customer."""

    table: ClassVar[TableName] = "aliases"

    id: bytes
    payload: bytes
    unit: int
    canonical: int
    occurred_at: datetime


FactRow: TypeAlias = ExposureRow | EventRow | UsageRow | AliasRow


@dataclass(frozen=True, slots=True)
class Parsed:
    """One row of a source as facts; the first of them decides whether the row is new.

    ``dropped`` names properties that the workspace does not declare.
    """

    position: int
    facts: tuple[FactRow, ...]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be a fact. Nothing here holds a raw id.

    Parameters
    ----------
    position
        One-based row in its source.
    reason
        Stable kebab-case code.
    detail
        What was wrong, for a person; shapes instead of values.
    row_hash
        Keyed hash of the row as it came.
    unit
        Pseudonym, when it could be read.
    """

    position: int
    reason: str
    detail: str
    row_hash: str
    unit: int | None = None


def microseconds(at: datetime) -> int:
    """Return microseconds since 1970 UTC."""
    return (at - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """Return the instant that many microseconds after 1970 UTC."""
    return _EPOCH + count * _MICROSECOND


def exposure(  # noqa: PLR0913, PLR0917 - one argument per column
    door: Door,
    id: bytes,  # noqa: A002 - the column's name
    experiment: str,
    unit: int,
    variant: str,
    occurred_at: datetime,
    *,
    propensity: int | None = None,
    policy_version: int | None = None,
    properties: Mapping[str, PropertyValue] | None = None,
    outcomes: str = "",
) -> ExposureRow:
    """Return an exposure with its payload digest; ``outcomes`` are what came in the same row."""
    properties = properties or {}
    payload = door.pseudonymiser.digest(
        experiment,
        str(unit),
        variant,
        str(microseconds(occurred_at)),
        f"{propensity} {policy_version}",
        _canonical(properties),
        outcomes,
    )
    return ExposureRow(
        id, payload, experiment, unit, variant, occurred_at, propensity, policy_version, properties
    )


def event(  # noqa: PLR0913 - one argument per column
    door: Door,
    id: bytes,  # noqa: A002 - the column's name
    unit: int,
    name: str,
    occurred_at: datetime,
    *,
    value: Decimal | None = None,
    currency: Cell = None,
    properties: Mapping[str, PropertyValue] | None = None,
) -> EventRow:
    """Return an event with its payload digest; with a ``currency``, ``value`` is money.

    The digest is of the amount as it came, so that a corrected exchange rate is no contradiction.
    """
    properties = properties or {}
    payload = door.pseudonymiser.digest(
        str(unit),
        name,
        str(microseconds(occurred_at)),
        str(value),
        "" if currency is None else str(currency),
        _canonical(properties),
    )
    if value is None or is_missing(currency):
        return EventRow(id, payload, unit, name, occurred_at, value, None, properties)
    amount = door.money(value, currency, occurred_at)
    return EventRow(id, payload, unit, name, occurred_at, amount, door.currency, properties)


def alias(door: Door, fact_id: bytes, cells: tuple[Cell, Cell], occurred_at: datetime) -> AliasRow:
    """Return an alias with its payload digest; ``cells`` are the raw ids of unit and canonical.

    Raises
    ------
    RowError
        An id is missing or bad, or both are one: a row that says nothing has the wrong columns.
    """
    unit, canonical = door.unit(cells[0]), door.unit(cells[1], "canonical")
    if unit == canonical:
        raise RowError("alias-of-itself", "unit and canonical are the same id")
    payload = door.pseudonymiser.digest(str(unit), str(canonical), str(microseconds(occurred_at)))
    return AliasRow(fact_id, payload, unit, canonical, occurred_at)


def _canonical(properties: Mapping[str, PropertyValue]) -> str:
    return "" if not properties else json.dumps(properties, sort_keys=True, default=str)


def parse_event(document: Mapping[str, Any], door: Door, *, position: int = 1) -> Parsed | Reject:
    """Return an event from a JSON body, or why it is none.

    Parameters
    ----------
    document
        ``id`` (unique within ``source``, itself optional), ``unit``, ``name``, ``occurred_at``
        (ISO 8601 with a zone), optional ``value`` with ``currency`` when it is money, and
        ``properties``.
    door
        What it is judged by.
    position
        Its place in a batch.
    """

    def parse() -> Parsed:
        key = identifier(document.get("id"), "id", reason="id-missing")
        name = event_name(document.get("name"))
        occurred_at = door.past(instant(document.get("occurred_at"), "occurred_at"), "occurred_at")
        unit = door.unit(document.get("unit"))
        value = None if is_missing(document.get("value")) else decimal(document["value"], "value")
        currency = document.get("currency")
        properties, dropped = door.declared(
            properties_of(document), currency=currency, occurred_at=occurred_at
        )
        row = event(
            door,
            door.fact_id("events", _source(document), key),
            unit,
            name,
            occurred_at,
            value=value,
            currency=currency,
            properties=properties,
        )
        return Parsed(position, (row,), dropped)

    return _judged(parse, document, door, position)


def parse_exposure(
    document: Mapping[str, Any], door: Door, *, position: int = 1
) -> Parsed | Reject:
    """Return an exposure from a JSON body, or why it is none.

    Parameters
    ----------
    document
        ``id``, ``experiment``, ``unit``, ``variant``, ``occurred_at``, optional ``propensity``
        (millionths), ``policy_version``, ``source`` and ``properties``.
    door
        What it is judged by.
    position
        Its place in a batch.
    """

    def parse() -> Parsed:
        key = identifier(document.get("id"), "id", reason="id-missing")
        experiment = identifier(
            document.get("experiment"), "experiment", reason="experiment-missing"
        )
        variant = door.variant(experiment, document.get("variant"))
        occurred_at = door.past(instant(document.get("occurred_at"), "occurred_at"), "occurred_at")
        unit = door.unit(document.get("unit"))
        propensity = _optional_integer(document, "propensity")
        if propensity is not None and not 0 < propensity <= MILLION:
            raise RowError("bad-number", "propensity is in millionths: 1 to 1000000")
        properties, dropped = door.declared(properties_of(document), occurred_at=occurred_at)
        row = exposure(
            door,
            door.fact_id("exposures", _source(document), experiment, key),
            experiment,
            unit,
            variant,
            occurred_at,
            propensity=propensity,
            policy_version=_optional_integer(document, "policy_version"),
            properties=properties,
        )
        return Parsed(position, (row,), dropped)

    return _judged(parse, document, door, position)


def parse_alias(document: Mapping[str, Any], door: Door, *, position: int = 1) -> Parsed | Reject:
    """Return an alias from a JSON body, or why it is none.

    Parameters
    ----------
    document
        ``id``, ``unit``, ``canonical``, ``occurred_at`` (when it was found out) and optional
        ``source``.
    door
        What it is judged by.
    position
        Its place in a batch.
    """

    def parse() -> Parsed:
        key = identifier(document.get("id"), "id", reason="id-missing")
        at = door.past(instant(document.get("occurred_at"), "occurred_at"), "occurred_at")
        fact_id = door.fact_id("aliases", _source(document), key)
        row = alias(door, fact_id, (document.get("unit"), document.get("canonical")), at)
        return Parsed(position, (row,))

    return _judged(parse, document, door, position)


def _judged(
    parse: Callable[[], Parsed], document: Mapping[str, Any], door: Door, position: int
) -> Parsed | Reject:
    try:
        return parse()
    except RowError as error:
        return reject(error, door, position, document, unit=document.get("unit"))


def reject(
    error: RowError, door: Door, position: int, content: object, *, unit: Cell = None
) -> Reject:
    """Return the dead letter of a row; ``content`` is hashed under the key, never kept."""
    try:
        pseudonym = None if unit is None else door.unit(unit)
    except RowError:
        pseudonym = None
    raw = json.dumps(content, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    return Reject(position, error.reason, error.detail, door.pseudonymiser.row_hash(raw), pseudonym)


def _source(document: Mapping[str, Any]) -> str:
    source = document.get("source")
    return "" if source is None else identifier(source, "source")


def properties_of(document: Mapping[str, Any]) -> Mapping[str, Cell]:
    """Return the properties of a JSON body; none when it has none.

    Raises
    ------
    RowError
        They are no object of plain values.
    """
    properties = document.get("properties")
    if properties is None:
        return {}
    if not isinstance(properties, Mapping):
        raise RowError("bad-properties", "properties is not an object")
    for cell in properties.values():
        if isinstance(cell, Mapping | list):
            raise RowError("bad-properties", "a property is an object or a list")
    return properties


def _optional_integer(document: Mapping[str, Any], key: str) -> int | None:
    cell = document.get(key)
    return None if cell is None else integer(cell, key)
