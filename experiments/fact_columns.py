"""The columns of the fact tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from klartext.experiments.door import PropertyType, TableName

TABLES: tuple[TableName, ...] = ("exposures", "events", "usage_costs", "aliases")


INSTANT = pa.timestamp("us", "UTC")
MONEY = pa.decimal128(38, 12)
PROPERTY_TYPES: Mapping[PropertyType, pa.DataType] = {
    "text": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "money": MONEY,
}
_COLUMNS: Mapping[TableName, Sequence[tuple[str, pa.DataType]]] = {
    "exposures": (
        ("id", pa.binary()),
        ("payload", pa.binary()),
        ("experiment", pa.string()),
        ("unit", pa.int64()),
        ("variant", pa.string()),
        ("occurred_at", INSTANT),
        ("propensity", pa.int32()),
        ("policy_version", pa.int32()),
    ),
    "events": (
        ("id", pa.binary()),
        ("payload", pa.binary()),
        ("unit", pa.int64()),
        ("name", pa.string()),
        ("occurred_at", INSTANT),
        ("value", MONEY),
        ("currency", pa.string()),
    ),
    "usage_costs": (
        ("id", pa.binary()),
        ("payload", pa.binary()),
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("unit", pa.int64()),
        ("source", pa.string()),
        ("occurred_at", INSTANT),
        ("category", pa.string()),
        ("provider", pa.string()),
        ("model", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("cache_write_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("service_tier", pa.string()),
        ("task", pa.string()),
        ("duration_ms", pa.int64()),
        ("error", pa.string()),
        ("prompt", pa.string()),
        ("amount", MONEY),
        ("currency", pa.string()),
        ("evidence", pa.string()),
    ),
    "aliases": (
        ("id", pa.binary()),
        ("payload", pa.binary()),
        ("unit", pa.int64()),
        ("canonical", pa.int64()),
        ("occurred_at", INSTANT),
    ),
}
IDS = pa.schema([("id", pa.binary()), ("payload", pa.binary()), ("ingest_batch", pa.int64())])
_LAST = (("ingest_batch", pa.int64()), ("received_at", INSTANT), ("day", pa.date32()))
WITH_PROPERTIES = frozenset({"exposures", "events"})
"""Tables that have a column for each declared property."""


def columns_of(table: TableName, properties: Mapping[str, PropertyType]) -> pa.Schema:
    """Return the columns of a table, declared ``properties`` included."""
    declared = properties if table in WITH_PROPERTIES else {}
    own = [(f"p_{name}", PROPERTY_TYPES[kind]) for name, kind in declared.items()]
    return pa.schema([*_COLUMNS[table], *own, *_LAST])
