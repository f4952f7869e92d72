"""The warehouse: mapped tables as fact tables of its engine, checked column by column."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias
from zoneinfo import ZoneInfo

from klartext.experiments.engines import failures, said
from klartext.experiments.errors import ConfigurationError, Problem
from klartext.experiments.mapped_tables import COLUMNS, ColumnKind, MappedFacts, MappedTable

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt
    import ibis.expr.types as ir
    from ibis.backends import BaseBackend

    from klartext.experiments.documents.wording import Wording
    from klartext.experiments.door import PropertyType, TableName

Kind: TypeAlias = "ColumnKind | PropertyType"

_MONEY = "decimal(38, 12)"
_TYPES: Mapping[str, str] = {
    "text": "string",
    "instant": "timestamp('UTC', 6)",
    "money": _MONEY,
    "number": "float64",
    "integer": "int64",
    "boolean": "boolean",
}
_BOUNDS = {"money": 1e26, "number": 1e300}
"""What is beyond, infinite or not a number is no amount: null, and reported as missing."""

_WANTED: Mapping[str, str] = {
    "key": "an integer or text",
    "text": "text",
    "instant": "a time",
    "money": "a number",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}
_NEEDED = ("unit", "occurred_at")
_DIALECTS = {"duckdb": "duckdb", "postgres": "postgres", "pyspark": "spark"}


@dataclass(frozen=True, slots=True)
class _Relation:
    """A table as the engine has it; ``naive`` are its times without a zone."""

    rows: ir.Table
    naive: frozenset[str]


class _Mistake(Exception):  # noqa: N818 - becomes a problem with its place
    def __init__(self, loc: tuple[str, ...], code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.loc = loc
        self.words: Wording = (code, message, fix)


def read(facts: MappedFacts, connection: BaseBackend) -> dict[TableName, ir.Table]:
    """Return the mapped tables with the columns and types of facts; nothing is computed.

    Rows without a unit or a time are still in them, see `complete`.

    Raises
    ------
    ConfigurationError
        Tables, columns or types that do not fit; all of them, at their lines.
    """
    problems: list[Problem] = []
    found: dict[TableName, ir.Table] = {}
    for name, mapped in facts.tables.items():
        try:
            relation = _relation(connection, mapped)
        except _Mistake as mistake:
            problems.append(facts.problem((name, *mistake.loc), mistake.words))
            continue
        columns, mistakes = _columns(facts, name, relation)
        problems += [facts.problem((name, *item.loc), item.words) for item in mistakes]
        if not mistakes:
            found[name] = relation.rows.select(**columns)
    problems += _unlike_keys(facts, found)
    if problems:
        raise ConfigurationError(problems)
    return {name: _filled(facts, name, table, key_type(found)) for name, table in found.items()}


def key_type(tables: Mapping[TableName, ir.Table]) -> dt.DataType:
    """Return the type of the units' keys: int64 or string."""
    return tables["exposures"].unit.type()


def complete(table: ir.Table) -> ir.Table:
    """Return the rows that have a unit and a time: others belong to nobody."""
    return table.filter(*(table[name].notnull() for name in _NEEDED))


def _relation(connection: BaseBackend, mapped: MappedTable) -> _Relation:
    try:
        if mapped.table is not None:
            return _table(connection, mapped.table)
        return _query(connection, mapped.query or "")
    except failures(connection.name) as error:
        key = "query" if mapped.table is None else "table"
        fix = f"{connection.name} is asked for it as engine: in klartext.yaml says."
        raise _Mistake((key,), f"{key}-unreadable", f"cannot be read: {said(error)}", fix) from None


def _table(connection: BaseBackend, label: str) -> _Relation:
    from ibis.common.exceptions import TableNotFound  # noqa: PLC0415 - ibis takes half a second

    *place, name = label.split(".")
    if len(place) > 2:
        fix = "Write table, schema.table or catalog.schema.table; for other names use a query."
        raise _Mistake(("table",), "table-name", f"is {label!r}: too many dots", fix)
    database = (place[0] if len(place) == 1 else tuple(place)) or None
    try:
        if connection.name == "pyspark":
            frame = connection._session.table(label)  # noqa: SLF001 - Ibis hides which have a zone
            return _Relation(connection.table(name, database=database), _naive_in_spark(frame))
        rows = connection.table(name, database=database)
    except (TableNotFound, *_absent(connection.name)):
        near = difflib.get_close_matches(label, _table_names(connection), n=1, cutoff=0.5)
        fix = f"Did you mean {near[0]!r}?" if near else "Name one as schema.table."
        message = f"is {label!r}: there is no such table"
        raise _Mistake(("table",), "unknown-table", message, fix) from None
    return _Relation(rows, _naive(rows))


def _query(connection: BaseBackend, query: str) -> _Relation:
    import ibis  # noqa: PLC0415 - half a second that other commands do not need
    import sqlglot  # noqa: PLC0415

    try:
        statements = sqlglot.parse(query, read=_DIALECTS[connection.name])
    except sqlglot.errors.SqlglotError as error:
        message = f"is no query: {str(error).splitlines()[0]}"
        raise _Mistake(("query",), "query", message, "Write one SELECT.") from None
    if len(statements) != 1 or not isinstance(statements[0], sqlglot.exp.Query):
        raise _Mistake(("query",), "query", "is not one SELECT", "Write one SELECT.")
    if connection.name == "pyspark":
        frame = connection._session.sql(query)  # noqa: SLF001 - as above
        name = ibis.util.gen_name("mapped")
        frame.createOrReplaceTempView(name)
        return _Relation(connection.table(name), _naive_in_spark(frame))
    schema = None
    if connection.name == "duckdb":  # Ibis asks DuckDB 2 in words that it no longer has
        sample = connection.con.sql(query).limit(0).to_arrow_table()
        schema = ibis.Schema.from_pyarrow(sample.schema)
    rows = connection.sql(query, schema=schema)
    return _Relation(rows, _naive(rows))


def _naive(rows: ir.Table) -> frozenset[str]:
    types = rows.schema().items()
    return frozenset(name for name, kind in types if kind.is_timestamp() and kind.timezone is None)


def _naive_in_spark(frame: object) -> frozenset[str]:
    types: list[tuple[str, str]] = frame.dtypes  # type: ignore[attr-defined] # a Spark frame
    return frozenset(name for name, kind in types if kind == "timestamp_ntz")


def _absent(engine: str) -> tuple[type[Exception], ...]:
    if engine != "pyspark":
        return ()
    from pyspark.errors import AnalysisException  # noqa: PLC0415 - an extra

    return (AnalysisException,)


def _table_names(connection: BaseBackend) -> list[str]:
    if connection.name == "pyspark":
        return [
            f"{database}.{name}"
            for database in connection.list_databases()
            for name in connection.list_tables(database=database)
        ]
    known = connection.table("tables", database="information_schema")
    rows = connection.to_pyarrow(known.select("table_schema", "table_name")).to_pylist()
    qualified = [f"{row['table_schema']}.{row['table_name']}" for row in rows]
    return [*qualified, *(row["table_name"] for row in rows)]


def _columns(
    facts: MappedFacts, name: TableName, relation: _Relation
) -> tuple[dict[str, ir.Value], list[_Mistake]]:
    """Return the mapped columns as expressions of the right types, and what does not fit."""
    mapped = facts.tables[name]
    found: dict[str, ir.Value] = {}
    mistakes: list[_Mistake] = []
    for target, loc, column, kind in _wanted(facts, name):
        try:
            value = _cast(_column(relation, mapped, column, loc), kind, relation, mapped, loc)
        except _Mistake as mistake:
            mistakes.append(mistake)
        else:
            found[target] = value
    for target, origin in mapped.columns.items():
        if origin.constant is not None:
            found[target] = _constant(origin.constant)
        elif origin.values and target in found:
            found[target] = _translated(found[target], origin.values)
    return found, mistakes


def _wanted(
    facts: MappedFacts, name: TableName
) -> Iterator[tuple[str, tuple[str, ...], str, Kind]]:
    """Yield target, key path, column and kind of everything that a column is mapped to."""
    mapped = facts.tables[name]
    for target, origin in mapped.columns.items():
        if origin.column is not None:
            yield target, ("columns", target), origin.column, COLUMNS[name][target]
    for target, column in mapped.properties.items():
        yield f"p_{target}", ("properties", target), column, facts.declared[target]


def _column(
    relation: _Relation, mapped: MappedTable, column: str, loc: tuple[str, ...]
) -> ir.Value:
    if column in relation.rows.columns:
        return relation.rows[column]
    present: Sequence[str] = relation.rows.columns
    lowered = {name.lower(): name for name in present}
    near = difflib.get_close_matches(column.lower(), lowered, n=1)
    shown = ", ".join(present[:12]) + (", …" if len(present) > 12 else "")
    fix = f"Did you mean {lowered[near[0]]!r}?" if near else f"Its columns: {shown}."
    message = f"is {column!r}: {mapped.label} has no such column"
    raise _Mistake(loc, "missing-column", message, fix)


def _cast(
    value: ir.Value, kind: Kind, relation: _Relation, mapped: MappedTable, loc: tuple[str, ...]
) -> ir.Value:
    """Return the column in the type that facts have, or raise what is wrong with it."""
    seen = value.type()
    if not _fits(kind, seen):
        must = _WANTED[kind]
        if kind == "instant" and seen.is_date():
            must += ": say in a query which instant of the day is meant"
        message = f"is {value.get_name()!r}, which is {_called(seen)}: must be {must}"
        raise _Mistake(loc, "column-type", message, "Map another column, or cast it in a query.")
    if kind == "instant":
        return _instant(value, relation, mapped, loc)
    if kind == "key":
        return value.cast("int64") if seen.is_integer() else value.cast("string").nullif("")
    if kind in _BOUNDS and not seen.is_integer():
        value = (value.abs() < _BOUNDS[kind]).ifelse(value, None)
    return value.cast(_TYPES[kind])


def _fits(kind: Kind, seen: dt.DataType) -> bool:
    match kind:
        case "key" | "text":
            return bool(seen.is_string() or seen.is_uuid() or seen.is_integer())
        case "instant":
            return bool(seen.is_timestamp())
        case "money" | "number":
            return bool(seen.is_numeric() and not seen.is_boolean())
        case "integer":
            return bool(seen.is_integer())
        case "boolean":
            return bool(seen.is_boolean())


def _called(kind: dt.DataType) -> str:
    return type(kind).__name__.lower()


def _instant(
    value: ir.Value, relation: _Relation, mapped: MappedTable, loc: tuple[str, ...]
) -> ir.Value:
    if value.get_name() not in relation.naive:
        return value.cast(_TYPES["instant"])
    if mapped.timezone is None:
        message = f"is {value.get_name()!r}, which has no time zone"
        fix = f"Add timezone: Europe/Berlin, or whichever is meant, beside {loc[0]}."
        raise _Mistake(loc, "naive-time", message, fix)
    return _in_utc(value, mapped.timezone, relation.rows.get_backend().name)


def _in_utc(local: ir.Value, zone: str, engine: str) -> ir.Value:
    """Return the instants of local times; one that a clock change repeats is its first.

    One that a clock change leaves out is as long after the gap as it seems: 02:30 is 03:30.
    """
    import ibis  # noqa: PLC0415 - half a second that other commands do not need
    import ibis.expr.datatypes as dt  # noqa: PLC0415

    naive, utc = dt.Timestamp(), dt.Timestamp("UTC", 6)
    define = ibis.udf.scalar.builtin
    if engine == "pyspark":
        name, signature = "to_utc_timestamp", ((utc, dt.string), utc)
        return define(_of_engine, name=name, signature=signature)(local.cast(utc), zone)
    to_utc = define(_of_engine, name="timezone", signature=((dt.string, naive), utc))
    to_local = define(_of_engine, name="timezone", signature=((dt.string, utc), naive))
    last = to_utc(zone, local)
    first = last
    for shift in _repeats(zone):
        earlier = last - ibis.interval(seconds=int(shift.total_seconds()))
        first = (to_local(zone, earlier) == local).ifelse(earlier, first)
    return first


def _of_engine(_one: object, _two: object) -> None:
    """Stand for a function of the engine's own."""


@lru_cache(maxsize=64)
def _repeats(zone: str) -> tuple[timedelta, ...]:
    """Return by how much the clocks of a zone were ever set back, 1970 to 2037, smallest first."""
    at, tz = datetime(1970, 1, 1, tzinfo=UTC), ZoneInfo(zone)
    offsets = [(at + timedelta(days=day)).astimezone(tz).utcoffset() for day in range(24_837)]
    known = [offset for offset in offsets if offset is not None]
    back = {was - now for was, now in pairwise(known) if now < was}
    return tuple(sorted(back))


def _translated(value: ir.Value, values: Mapping[str, str]) -> ir.Value:
    import ibis  # noqa: PLC0415 - half a second that other commands do not need

    return ibis.cases(*((value == old, new) for old, new in values.items()), else_=value)


def _constant(text: str) -> ir.Value:
    import ibis  # noqa: PLC0415 - half a second that other commands do not need

    return ibis.literal(text)


def _unlike_keys(facts: MappedFacts, found: Mapping[TableName, ir.Table]) -> Iterator[Problem]:
    """Yield the tables whose units cannot be those of the exposures."""
    if "exposures" not in found:
        return
    expected = key_type(found)
    for name, table in found.items():
        if "unit" in table.columns and table.unit.type() != expected:
            message = (
                f"is {_called(table.unit.type())} here and {_called(expected)} in exposures: one "
                "key names a unit in all tables"
            )
            fix = "Cast one of them in a query."
            yield facts.problem((name, "columns", "unit"), ("unlike-keys", message, fix))


def _filled(facts: MappedFacts, name: TableName, table: ir.Table, key: dt.DataType) -> ir.Table:
    """Add what is not mapped, as null, and what mapped tables do not have: a batch, a category."""
    import ibis  # noqa: PLC0415 - half a second that other commands do not need

    absent: dict[str, ir.Value] = {
        target: ibis.null(key if kind == "key" else _TYPES[kind])
        for target, kind in COLUMNS[name].items()
        if target not in table.columns
    }
    absent["ingest_batch"] = ibis.literal(0, type="int64")
    if name == "exposures":  # an exposure without a variant is one in an unregistered variant
        return table.mutate(variant=table.variant.fill_null(""), **absent)
    if name == "events":
        return table.mutate(**absent)
    own = table.currency == facts.currency
    absent["category"] = ibis.literal("model_fees")
    absent["amount"] = own.ifelse(table.amount, None)
    words = {word: table[word].fill_null("") for word in ("source", "model")}
    evidence = f"as charged in {facts.tables[name].label}"
    if "evidence" in absent:
        del absent["evidence"]
        words["evidence"] = ibis.literal(evidence)
    else:
        words["evidence"] = table.evidence.fill_null(evidence)
    return table.mutate(**absent, **words)
