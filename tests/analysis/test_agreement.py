"""Every kind of metric on DuckDB, PostgreSQL and Spark, from files and from mapped tables."""

from __future__ import annotations

import statistics
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pytest
from ibis.backends import BaseBackend

from klartext.analysis.engine import open_engine, rows_of
from klartext.analysis.reading import read_out
from klartext.analysis.readout import Readout
from klartext.analysis.unit_sums import sums
from klartext.analysis.unit_table import build
from klartext.experiments.door import TableName
from klartext.experiments.engines import DuckDbEngine, PostgresEngine, SparkEngine
from klartext.experiments.facts import FactsStore, FactTables
from klartext.experiments.seen import fact_tables
from klartext.experiments.workspace import find_workspace
from tests.analysis import cases, nasty
from tests.analysis.samples import WATERMARK
from tests.analysis.test_engines import answers, assert_alike

SEED = 20261122
TABLES: tuple[TableName, ...] = ("exposures", "events", "usage_costs")


@pytest.fixture(scope="module")
def facts() -> nasty.Facts:
    return cases.generate(SEED, units=1_200)


@pytest.fixture(scope="module")
def store(facts: nasty.Facts, tmp_path_factory: pytest.TempPathFactory) -> FactsStore:
    return facts.deliver(tmp_path_factory.mktemp("facts"), cases.PROPERTIES)


@pytest.fixture(scope="module")
def reference(store: FactsStore) -> tuple[dict[int, dict[str, Any]], Readout]:
    return answers(DuckDbEngine(), store, cases.spec())


def assert_precise(found: tuple[dict[int, dict[str, Any]], Readout], facts: nasty.Facts) -> None:
    """Moments at mean 1e9 and standard deviation 1 are those of exact arithmetic.

    The third one is compared on the numbers as the engine rounded them to float64.
    """
    values = {row["unit"]: row["value"] for row in facts.events if row["name"] == cases.PRECISE}
    units, readout = found
    for variant in ("control", "ai"):
        rows = [
            row
            for row in units.values()
            if row["variant"] == variant and row["mature"] and not row["excluded"]
        ]
        seen = [Fraction(values[row["unit"]]) for row in rows]
        rounded = [Fraction(row[cases.PRECISE]) for row in rows]
        mean = sum(rounded) / len(rounded)
        third = float(sum((value - mean) ** 3 for value in rounded))
        moments = readout.moments[variant]
        place = moments.columns.index(cases.PRECISE)
        assert moments.n == len(seen) > 100
        variance = moments.m2[place, place] / (moments.n - 1)
        assert variance == pytest.approx(float(statistics.variance(seen)), rel=1e-6)
        assert 0.7 < variance < 1.4
        scale = moments.m2[place, place] ** 1.5
        assert moments.m3[place] == pytest.approx(third, abs=1e-9 * scale)
        assert moments.mean[place] == pytest.approx(float(mean), rel=2e-16)


def test_the_cases_hold_what_they_promise(
    facts: nasty.Facts, reference: tuple[dict[int, dict[str, Any]], Readout]
) -> None:
    _, readout = reference
    by_variant = {count.variant: count for count in readout.counts}
    assert (by_variant["solo"].exposed, by_variant["empty"].exposed) == (1, 0)
    small = [by_variant[key] for key in cases.cases()]
    assert {0, 1, 2} <= {case.exposed + case.excluded for case in small}
    assert any(case.exposed > case.mature for case in small)
    assert (small[0].exposed, small[0].excluded) == (0, 5)
    control = readout.moments["control"]
    assert all(control.nonzero), [
        name for name, count in zip(control.columns, control.nonzero, strict=True) if not count
    ]
    assert_precise(reference, facts)


def test_postgresql_agrees(
    facts: nasty.Facts,
    store: FactsStore,
    postgres: PostgresEngine,
    tmp_path: Path,
    reference: tuple[dict[int, dict[str, Any]], Readout],
) -> None:
    facts.load(store, postgres.url)
    found = answers(postgres, None, cases.spec())
    assert_alike((found[0], replace(found[1], aliases=None)), reference)
    assert_precise(found, facts)
    with open_engine(postgres) as engine:
        assert_mapped_alike(engine, tmp_path, reference)


MAPPED = """\
schema: klartext/workspace/v1
name: nasty
properties: {amount_net: money, country: text, items: integer, score: number, new: boolean}
facts:
  exposures:
    query: select 'u' || unit as who, e.* from exposures as e where ingest_batch <= 7
    columns: {unit: who, experiment: experiment, variant: variant, occurred_at: occurred_at}
    properties: {country: p_country}
  events:
    query: select 'u' || unit as who, e.* from events as e where ingest_batch <= 7
    columns: {unit: who, name: name, occurred_at: occurred_at, value: value, currency: currency}
    properties:
      {amount_net: p_amount_net, country: p_country, items: p_items, score: p_score, new: p_new}
  usage_costs:
    query: select 'u' || unit as who, c.* from usage_costs as c where ingest_batch <= 7
    columns:
      {unit: who, experiment: experiment, variant: variant, occurred_at: occurred_at,
       source: source, model: model, amount: amount, currency: currency, evidence: evidence,
       input_tokens: input_tokens, output_tokens: output_tokens, cached_tokens: cached_tokens,
       task: task, duration_ms: duration_ms, error: error}
"""


def assert_mapped_alike(
    engine: BaseBackend, root: Path, expected: tuple[dict[int, dict[str, Any]], Readout]
) -> None:
    """Read the same rows as mapped tables, with text for keys: the same answer."""
    (root / "klartext.yaml").write_text(MAPPED)
    mapped = find_workspace(root).mapped
    tables = fact_tables(FactsStore(str(root), {}), mapped, engine)
    units = rows_of(engine, build(cases.spec(), tables, WATERMARK))
    readout = read_out(cases.spec(), tables, WATERMARK, engine=engine)
    assert all(row["unit"].startswith("u") for row in units)
    found = {int(row["unit"][1:]): row | {"unit": int(row["unit"][1:])} for row in units}
    assert_alike((found, _proved_alike(readout)), (expected[0], _proved_alike(expected[1])))


def _proved_alike(readout: Readout) -> Readout:
    """Leave out what proves a price: a mapped table without one says its own name."""
    usage = tuple(replace(row, evidence="") for row in readout.usage)
    return replace(readout, usage=usage, aliases=None)


def test_duckdb_gives_the_same_from_tables_of_its_own(
    facts: nasty.Facts,
    store: FactsStore,
    tmp_path: Path,
    reference: tuple[dict[int, dict[str, Any]], Readout],
) -> None:
    database = tmp_path / "nasty.duckdb"
    with duckdb.connect(str(database)) as connection:
        for name in TABLES:
            connection.register("rows", facts.arrow(store, name))
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM rows")  # noqa: S608
    with open_engine(DuckDbEngine(database=database)) as engine:
        assert_mapped_alike(engine, tmp_path, reference)


@pytest.mark.slow
def test_spark_agrees_on_several_processes(
    facts: nasty.Facts,
    store: FactsStore,
    spark: SparkEngine,
    tmp_path: Path,
    reference: tuple[dict[int, dict[str, Any]], Readout],
) -> None:
    found = answers(spark, store, cases.spec())
    assert_alike((found[0], replace(found[1], aliases=None)), reference)
    assert_precise(found, facts)
    with open_engine(spark) as engine:
        for name in TABLES:
            engine.create_view(name, getattr(store.tables(engine), name), overwrite=True)
        try:
            assert_mapped_alike(engine, tmp_path, reference)
        finally:
            for name in TABLES:  # the session is that of other tests too
                engine.drop_view(name)


@pytest.mark.parametrize("dialect", ["pyspark", "bigquery", "snowflake", "databricks"])
def test_the_whole_experiment_compiles_for_other_warehouses(dialect: str) -> None:
    """Unit table and moments; with text for keys as with integers."""
    if dialect == "pyspark":
        _ = ibis.pyspark  # its compiler reads options that come with the backend
    own = FactsStore("x", cases.PROPERTIES).unbound()
    texts = {
        name: ibis.table(dict(table.schema().items()) | {"unit": "string"}, name=name)
        for name in TABLES
        for table in [getattr(own, name)]
    }
    for tables in (replace(own, aliases=None), FactTables(**texts)):
        lazy = build(cases.spec(), tables, WATERMARK)
        kept = ibis.table(lazy.schema(), name="units")
        units, moments = (
            str(ibis.to_sql(query, dialect=dialect)) for query in (lazy, sums(cases.spec(), kept))
        )
        assert all(name in units for name in TABLES)
        assert units.count("SELECT") > 5
        assert "product1_0" in moments
