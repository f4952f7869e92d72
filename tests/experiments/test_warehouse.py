"""Mapped tables become facts, or a mistake with its line: real tables in DuckDB and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import duckdb
import psycopg
import pytest
from ibis.backends import BaseBackend

from klartext.analysis.engine import EngineError, open_engine, rows_of
from klartext.experiments import warehouse
from klartext.experiments.engines import DuckDbEngine, EngineSettings, PostgresEngine, SparkEngine
from klartext.experiments.errors import ConfigurationError
from klartext.experiments.mapped_tables import MappedFacts
from klartext.experiments.workspace import find_workspace

Rows: TypeAlias = dict[str, list[dict[str, Any]]]

TABLES = """
CREATE SCHEMA crm;
CREATE TABLE crm.exposures (customer integer, test text, arm text, sent_at timestamptz,
                            country text, day date);
INSERT INTO crm.exposures VALUES
  (1, 'mail', 'A', '2026-01-10 09:00:00+01', 'DE', '2026-01-10'),
  (2, 'mail', 'B', '2026-01-10 09:00:00.000001+01', NULL, '2026-01-10'),
  (3, 'mail', NULL, '2026-01-10 10:00:00+01', 'AT', '2026-01-10'),
  (NULL, 'mail', 'A', '2026-01-10 10:00:00+01', 'AT', '2026-01-10'),
  (4, 'mail', 'A', NULL, 'AT', '2026-01-10');
CREATE TABLE crm.orders (customer bigint, kind text, local_at timestamp, amount double precision,
                         exact numeric(38, 12), code text, pieces integer, is_new boolean);
INSERT INTO crm.orders VALUES
  (1, 'order', '2026-03-29 02:30:00', 19.99, 19.99, 'EUR', 2, true),
  (1, 'order', '2026-10-25 02:30:00', 'NaN', 0.000000000001, 'EUR', 1, false),
  (1, 'return', '2026-10-25 01:59:59.999999', 'Infinity', -3.5, 'USD', NULL, NULL),
  (2, 'order', '2026-10-25 03:00:00', 1e27, 10000000000000000000000000.0, NULL, 0, true),
  (2, NULL, NULL, -0.0, NULL, 'EUR', 7, true);
CREATE TABLE crm.people (customer text, seen_at timestamptz);
INSERT INTO crm.people VALUES ('a', '2026-01-10 09:00:00+01'), ('', '2026-01-10 09:00:00+01');
"""
EXPOSURES = """\
  exposures:
    table: crm.exposures
    columns: {unit: customer, experiment: test, variant: arm, occurred_at: sent_at}
    properties: [country]
"""
EVENTS = """\
  events:
    table: crm.orders
    timezone: Europe/Berlin
    columns:
      unit: customer
      name: {column: kind, values: {order: purchase}}
      occurred_at: local_at
      value: amount
      currency: code
    properties: {pieces: pieces, is_new: is_new, exact: exact}
"""
QUARTERS = """\
  events:
    query: |
      select 1 as customer, t, cast(t as text) as written
      from generate_series(timestamp '2025-01-01 00:15:00', timestamp '2025-12-31 23:15:00',
                           interval '15 minutes') as s(t)
    timezone: ZONE
    columns: {unit: customer, name: written, occurred_at: t}
"""
MINIMUM = """\
schema: klartext/workspace/v1
name: shop
properties: {country: text, pieces: integer, is_new: boolean, exact: money}
facts:
"""


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Engines with the tables above."""
    settings: EngineSettings
    if request.param == "duckdb":
        settings = DuckDbEngine(database=tmp_path_factory.mktemp("db") / "shop.duckdb")
        with duckdb.connect(str(settings.database)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(TABLES)
    else:
        settings = request.getfixturevalue("postgres")
        assert isinstance(settings, PostgresEngine)
        with psycopg.connect(settings.url) as connection:
            connection.execute("DROP SCHEMA IF EXISTS crm CASCADE")
            connection.execute(TABLES.encode())
    return settings


@pytest.fixture
def connection(engine: EngineSettings) -> Iterator[BaseBackend]:
    with open_engine(engine) as opened:
        yield opened


def mapped(root: Path, text: str) -> MappedFacts:
    (root / "klartext.yaml").write_text(MINIMUM + text)
    found = find_workspace(root).mapped
    assert found is not None
    return found


def read(root: Path, connection: BaseBackend, text: str = EXPOSURES + EVENTS) -> Rows:
    tables = warehouse.read(mapped(root, text), connection)
    return {name: rows_of(connection, table) for name, table in tables.items()}


def refusal(root: Path, connection: BaseBackend, text: str) -> list[tuple[str, int, str]]:
    with pytest.raises(ConfigurationError) as caught:
        read(root, connection, text)
    return [(each.code, each.line, str(each)) for each in caught.value.problems]


def test_columns_are_what_is_mapped(tmp_path: Path, connection: BaseBackend) -> None:
    rows = read(tmp_path, connection)
    first = min(rows["exposures"], key=lambda row: row["unit"] or 99)
    berlin = ZoneInfo("Europe/Berlin")
    assert first == {
        "unit": 1,
        "experiment": "mail",
        "variant": "A",
        "occurred_at": datetime(2026, 1, 10, 9, tzinfo=berlin),
        "p_country": "DE",
        "ingest_batch": 0,
    }
    order = next(row for row in rows["events"] if row["p_pieces"] == 2)
    assert order["name"] == "purchase"
    assert order["value"] == Decimal("19.99")
    assert order["currency"] == "EUR"
    assert order["p_is_new"] is True
    assert order["p_exact"] == Decimal("19.99")


def test_amounts_that_are_none_are_missing_and_not_zero(
    tmp_path: Path, connection: BaseBackend
) -> None:
    """Not a number, infinite, larger than an amount can be."""
    rows = read(tmp_path, connection)["events"]
    assert [row["value"] for row in rows if row["p_pieces"] in {1, None, 0}] == [None] * 3
    exact = {row["p_exact"] for row in rows}
    assert exact == {Decimal("19.99"), Decimal("1e-12"), Decimal("-3.5"), Decimal("1e25"), None}


def test_a_local_time_that_happens_twice_is_the_first_and_one_that_is_left_out_shifts(
    tmp_path: Path, connection: BaseBackend
) -> None:
    """As files are read: Python's own rule, `datetime.fold` 0."""
    rows = read(tmp_path, connection)["events"]
    found = sorted(row["occurred_at"] for row in rows if row["occurred_at"] is not None)
    berlin = ZoneInfo("Europe/Berlin")
    expected = [  # never equal across zones in such hours: compare seconds
        datetime(2026, 3, 29, 2, 30, tzinfo=berlin).timestamp(),
        datetime(2026, 10, 25, 1, 59, 59, 999_999, tzinfo=berlin).timestamp(),
        datetime(2026, 10, 25, 2, 30, tzinfo=berlin).timestamp(),
        datetime(2026, 10, 25, 3, 0, tzinfo=berlin).timestamp(),
    ]
    assert [instant.timestamp() for instant in found] == expected
    assert found[2].isoformat() == "2026-10-25T00:30:00+00:00"


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu"])
def test_every_hour_of_a_year_is_read_as_python_does(
    tmp_path: Path, connection: BaseBackend, zone: str
) -> None:
    """Lord Howe sets its clocks back by half an hour."""
    rows = read(tmp_path, connection, EXPOSURES + QUARTERS.replace("ZONE", zone))["events"]
    assert len(rows) > 35_000
    for row in rows:
        local = datetime.fromisoformat(row["name"]).replace(tzinfo=ZoneInfo(zone))
        assert row["occurred_at"].timestamp() == local.timestamp(), row["name"]


def test_rows_without_unit_or_time_are_left_out_and_an_unknown_variant_is_not(
    tmp_path: Path, connection: BaseBackend
) -> None:
    tables = warehouse.read(mapped(tmp_path, EXPOSURES + EVENTS), connection)
    exposures = rows_of(connection, warehouse.complete(tables["exposures"]))
    assert {row["unit"]: row["variant"] for row in exposures} == {1: "A", 2: "B", 3: ""}
    assert len(rows_of(connection, warehouse.complete(tables["events"]))) == 4


def test_keys_may_be_text_and_an_empty_one_is_none(tmp_path: Path, connection: BaseBackend) -> None:
    people = """\
  exposures:
    query: select * from crm.people;
    columns:
      unit: customer
      experiment: {constant: mail}
      variant: {constant: a}
      occurred_at: seen_at
  events:
    query: select customer, seen_at, 'visit' as what from crm.people
    columns: {unit: customer, name: what, occurred_at: seen_at}
"""
    rows = read(tmp_path, connection, people)
    assert {row["unit"] for row in rows["exposures"]} == {"a", None}
    assert {row["value"] for row in rows["events"]} == {None}


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "words"),
    [
        ("unit: customer, exp", "unit: custmer, exp", "missing-column", 7, "mean 'customer'"),
        ("variant: arm", "variant: Arm", "missing-column", 7, "mean 'arm'"),
        ("occurred_at: sent_at", "occurred_at: day", "column-type", 7, "which is date"),
        ("value: amount", "value: kind", "column-type", 16, "'kind', which is string"),
        ("is_new: is_new", "is_new: pieces", "column-type", 18, "must be true or false"),
        ("    timezone: Europe/Berlin\n", "", "naive-time", 14, "timezone: Europe/Berlin"),
        ("table: crm.exposures", "table: crm.exposure", "unknown-table", 6, "'crm.exposures'"),
        ("table: crm.exposures", "table: a.b.c.d", "table-name", 6, "too many dots"),
        ("table: crm.exposures", "query: select nope from crm.orders", "query-unreadable", 6,
         "nope"),
        ("table: crm.exposures", "query: drop table crm.orders", "query", 6, "not one SELECT"),
        ("table: crm.exposures", "query: select 1; select 2", "query", 6, "not one SELECT"),
        ("table: crm.exposures", "query: selec", "query", 6, "Write one SELECT"),
        ("unit: customer\n", "unit: code\n", "unlike-keys", 13, "string here and int64 in"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_at_its_line(
    tmp_path: Path,
    connection: BaseBackend,
    old: str,
    new: str,
    code: str,
    line: int,
    words: str,
) -> None:
    text = EXPOSURES + EVENTS
    assert old in text
    (found,) = refusal(tmp_path, connection, text.replace(old, new, 1))
    assert found[:2] == (code, line)
    assert f"klartext.yaml:{line} facts." in found[2]
    assert words in found[2]


def test_all_mistakes_come_at_once(tmp_path: Path, connection: BaseBackend) -> None:
    text = EXPOSURES.replace("unit: customer", "unit: x") + EVENTS.replace("crm.orders", "crm.y")
    text = text.replace("experiment: test", "experiment: day")
    codes = [each[0] for each in refusal(tmp_path, connection, text)]
    assert sorted(codes) == ["column-type", "missing-column", "unknown-table"]


def test_a_query_that_fails_on_a_value_does_not_tell_it(
    tmp_path: Path, engine: EngineSettings
) -> None:
    events = EVENTS.replace(
        "table: crm.orders", "query: select *, cast(kind as integer) as bad from crm.orders"
    ).replace("pieces: pieces", "pieces: bad")
    with (
        pytest.raises(EngineError, match="what it says is not shown") as caught,
        open_engine(engine) as opened,
    ):
        read(tmp_path, opened, EXPOSURES + events)
    assert "order" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_database_is_only_read(tmp_path: Path, engine: EngineSettings) -> None:
    if not isinstance(engine, DuckDbEngine):
        pytest.skip("a file is opened by DuckDB only")
    with open_engine(engine) as one, open_engine(engine) as other:
        assert read(tmp_path, one)["events"] == read(tmp_path, other)["events"]
        with pytest.raises(duckdb.Error, match="read-only"):
            one.raw_sql("CREATE TABLE crm.x (a int)")


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match=r"shop\.duckdb: there is no such file"),
        open_engine(DuckDbEngine(database=tmp_path / "shop.duckdb")),
    ):
        pass
    assert not (tmp_path / "shop.duckdb").exists()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop.duckdb").write_text("nonsense " * 1000)
    with (
        pytest.raises(EngineError, match=r"DuckDB cannot open .*shop\.duckdb"),
        open_engine(DuckDbEngine(database=tmp_path / "shop.duckdb")),
    ):
        pass


@pytest.mark.slow
def test_spark_reads_its_own_tables_alike(tmp_path: Path, spark: SparkEngine) -> None:
    with open_engine(spark) as connection:
        session = connection._session
        session.sql("CREATE DATABASE IF NOT EXISTS crm")
        session.sql("DROP TABLE IF EXISTS crm.exposures")
        session.sql(
            "CREATE TABLE crm.exposures USING parquet AS SELECT 'a' AS customer, 'mail' AS test, "
            "'A' AS arm, timestamp'2026-01-10 09:00:00+01:00' AS sent_at, 'DE' AS country, "
            "date'2026-01-10' AS day"
        )
        events = QUARTERS.replace("ZONE", "Europe/Berlin").replace("select 1 as", "select 'a' as")
        events = events.replace("as text", "as string")
        source = events[events.index("      from") : events.index("    timezone")]
        quarters = (
            "      from (select explode(sequence(timestamp_ntz'2025-01-01 00:15:00', "
            "timestamp_ntz'2025-12-31 23:15:00', interval 15 minutes)) as t)\n"
        )
        rows = read(tmp_path, connection, EXPOSURES + events.replace(source, quarters))
        assert rows["exposures"][0]["occurred_at"] == datetime(2026, 1, 10, 8, tzinfo=UTC)
        assert len(rows["events"]) > 35_000
        for row in rows["events"]:
            local = datetime.fromisoformat(row["name"]).replace(tzinfo=ZoneInfo("Europe/Berlin"))
            assert row["occurred_at"].timestamp() == local.timestamp(), row["name"]
        for old, new, code in (
            ("unit: customer, exp", "unit: custmer, exp", "missing-column"),
            ("occurred_at: sent_at", "occurred_at: day", "column-type"),
            ("table: crm.exposures", "table: crm.exposure", "unknown-table"),
            ("table: crm.exposures", "query: select nope from crm.exposures", "query-unreadable"),
            ("table: crm.exposures", "query: drop table crm.exposures", "query"),
        ):
            text = EXPOSURES.replace(old, new) + events.replace(source, quarters)
            assert [each[0] for each in refusal(tmp_path, connection, text)] == [code]
        naive = EXPOSURES + events.replace(source, quarters).replace(
            "    timezone: Europe/Berlin\n", ""
        )
        assert [each[0] for each in refusal(tmp_path, connection, naive)] == ["naive-time"]
