"""The same expression on DuckDB, PostgreSQL and Spark: real engines, nasty facts, one answer."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pytest

from klartext.analysis.engine import EngineError, connect, open_engine, rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.instants import microseconds
from klartext.analysis.moments import Moments
from klartext.analysis.quantiles import Observations
from klartext.analysis.reading import read_out
from klartext.analysis.readout import Readout
from klartext.analysis.series import read_series
from klartext.analysis.unit_table import build
from klartext.experiments.engines import (
    DuckDbEngine,
    EngineSettings,
    PostgresEngine,
    SparkEngine,
)
from klartext.experiments.experiment import Experiment
from klartext.experiments.fact_columns import TABLES
from klartext.experiments.facts import FactsStore, FactTables
from klartext.experiments.splits import Split
from tests.analysis import nasty
from tests.analysis.samples import DAY, START, WATERMARK, Tables

SEED = 20261121
EXACT = ("counts", "events", "all_units", "all_events", "first_exposure", "last_exposure",
         "usage", "highest_price", "amounts", "strangers", "aliases")  # fmt: skip


SPLITS = tuple(
    Split(version, START + days * DAY, dict.fromkeys(("control", "ai"), 1))
    for version, days in ((1, -9_999), (2, 0), (5, 1))
)


@pytest.fixture(scope="module")
def facts() -> nasty.Facts:
    return nasty.generate(SEED, units=1_500)


@pytest.fixture(scope="module")
def store(facts: nasty.Facts, tmp_path_factory: pytest.TempPathFactory) -> FactsStore:
    return facts.deliver(tmp_path_factory.mktemp("facts"))


@pytest.fixture(scope="module")
def loaded(facts: nasty.Facts, store: FactsStore, postgres: PostgresEngine) -> PostgresEngine:
    """PostgreSQL with the same rows in tables of its own."""
    facts.load(store, postgres.url)
    return postgres


def answers(
    settings: EngineSettings, store: FactsStore | None, spec: Experiment | None = None
) -> tuple[dict[int, dict[str, Any]], Readout]:
    """Compute the unit table and the readout; without a store, of the engine's own tables."""
    spec = spec or nasty.spec()
    with open_engine(settings) as engine:
        found: FactTables | Tables
        if store is None:
            found = FactTables(**{name: engine.table(name) for name in TABLES})
        else:
            found = store.tables(engine)
        units = rows_of(engine, build(spec, found, WATERMARK))
        readout = read_out(spec, found, WATERMARK, engine=engine)
    return {row["unit"]: row for row in units}, readout


@pytest.fixture(scope="module")
def reference(store: FactsStore) -> tuple[dict[int, dict[str, Any]], Readout]:
    return answers(DuckDbEngine(), store)


def assert_alike(
    found: tuple[dict[int, dict[str, Any]], Readout],
    expected: tuple[dict[int, dict[str, Any]], Readout],
    *,
    within: float = 1e-9,
) -> None:
    """Rows of units to 1e-9, moments ``within`` of each other, counts and exact sums equal."""
    units, readout = found
    assert units.keys() == expected[0].keys()
    for unit, row in expected[0].items():
        for name, value in row.items():
            if isinstance(value, float):
                assert math.isclose(units[unit][name], value, rel_tol=1e-9), (unit, name)
            elif name != "exposed_at":  # the readout compares instants, in microseconds
                assert units[unit][name] == value, (unit, name)
    for name in EXACT:
        assert getattr(readout, name) == getattr(expected[1], name), name
    sizes = [
        [(one.day, {key: moments.n for key, moments in one.moments.items()}) for one in found.daily]
        for found in (readout, expected[1])
    ]
    assert sizes[0] == sizes[1]
    assert readout.observations.keys() == expected[1].observations.keys()
    for metric, found_of in expected[1].observations.items():
        assert_same_observations(readout.observations[metric], found_of)
    calls, known = readout.calls, expected[1].calls
    assert calls is not None
    assert known is not None
    assert calls.coverage == known.coverage
    assert_same_observations(calls.latencies, known.latencies)
    for key, total in known.totals.items():
        assert calls.totals[key] == pytest.approx(total, rel=1e-12)
    assert_same_moments(calls.moments, known.moments)
    assert_same_moments(readout.moments, expected[1].moments, within)
    seen, diagnosed = readout.diagnostics, expected[1].diagnostics
    assert seen is not None
    assert diagnosed is not None
    assert (seen.days, seen.calls, seen.halved) == (
        diagnosed.days,
        diagnosed.calls,
        diagnosed.halved,
    )
    for variant, halves in diagnosed.halves.items():
        assert astuple(seen.halves[variant]) == pytest.approx(astuple(halves), rel=1e-6, abs=1e-3)


def assert_same_observations(
    found: Mapping[str, Observations] | NotEstimable,
    expected: Mapping[str, Observations] | NotEstimable,
) -> None:
    assert not isinstance(found, NotEstimable)
    assert not isinstance(expected, NotEstimable)
    assert found.keys() == expected.keys()
    for variant, one in expected.items():
        assert found[variant].n == one.n
        for name in ("values", "counts", "earlier", "sizes"):
            assert getattr(found[variant], name).tolist() == getattr(one, name).tolist()


def assert_same_moments(
    found: Mapping[str, Moments], expected: Mapping[str, Moments], within: float = 1e-9
) -> None:
    for variant, moments in expected.items():
        other = found[variant]
        assert other.n == moments.n
        assert (other.nonzero == moments.nonzero).all()
        scale = moments.m2.diagonal() ** 0.5
        # Amounts of 1e14 that cancel leave a mean of 4 whose last digits are noise.
        for i, mean in enumerate(moments.mean):
            bound = 1e-9 * scale[i] / max(moments.n, 1)  # of the standard error
            assert other.mean[i] == pytest.approx(mean, rel=1e-9, abs=bound), (variant, i)
        for i, column in enumerate(moments.columns):
            where = (variant, column)
            assert other.m3[i] == pytest.approx(
                moments.m3[i], rel=1e-9, abs=1e-9 * scale[i] ** 3
            ), where
            for j in range(i + 1):
                bound = within * scale[i] * scale[j]
                assert other.m2[i, j] == pytest.approx(moments.m2[i, j], abs=bound), where


def test_the_nasty_facts_hold_what_they_promise(
    reference: tuple[dict[int, dict[str, Any]], Readout],
) -> None:
    units, readout = reference
    aliases = readout.aliases
    assert aliases is not None
    assert min(aliases.merged, aliases.contested, aliases.unresolved) > 10
    assert 1_500 - aliases.merged <= len(units) < 1_500
    by_variant = {count.variant: count for count in readout.counts}
    assert by_variant["solo"].exposed == 1
    assert by_variant["empty"].exposed == 0
    assert all(by_variant[key].excluded > 10 for key in ("control", "ai"))
    assert all(by_variant[key].exposed > by_variant[key].mature for key in ("control", "ai"))
    assert {row.charged_to for row in readout.usage} == {"unit", "after", "shared", "nobody"}
    assert any(row.unpriced for row in readout.usage)
    assert readout.strangers > 10
    assert max(row["huge"] for row in units.values()) > 1.9e9
    revenue = next(one for one in readout.amounts if one.metric == "revenue")
    assert revenue.missing
    assert revenue.foreign
    assert revenue.negative_refunds


def test_postgresql_agrees(
    loaded: PostgresEngine,
    reference: tuple[dict[int, dict[str, Any]], Readout],
) -> None:
    assert_alike(answers(loaded, None), reference)


def test_postgresql_agrees_on_units_that_reached_an_event(
    store: FactsStore, loaded: PostgresEngine
) -> None:
    spec = replace(nasty.spec(), exposure_event="visit")
    found, expected = answers(loaded, None, spec), answers(DuckDbEngine(), store, spec)
    assert 100 < len(expected[0]) < 1_400
    assert_alike(found, expected)
    assert found[1].assigned is not None
    assert found[1].assigned.counts == expected[1].assigned.counts  # type: ignore[union-attr]  # as above


def test_postgresql_agrees_on_segments(store: FactsStore, loaded: PostgresEngine) -> None:
    spec = replace(nasty.spec(), segments=("country",))
    _, found = answers(loaded, None, spec)
    _, expected = answers(DuckDbEngine(), store, spec)
    assert [one.property for one in found.segments] == ["country"]
    (segment,), (other,) = found.segments, expected.segments
    assert [level.level for level in segment.levels] == [level.level for level in other.levels]
    assert len(segment.levels) > 5
    for level, same in zip(segment.levels, other.levels, strict=True):
        assert level.units == same.units
        for variant, moments in level.moments.items():
            assert moments.n == same.moments[variant].n
            # sums of doubles cancel to any size: what counts is their standard error
            error = np.sqrt(moments.m2.diagonal()) / max(moments.n, 1)
            apart = np.abs(moments.mean - same.moments[variant].mean)
            assert (apart <= 1e-9 * np.maximum(error, np.abs(moments.mean))).all()
            assert moments.m2 == pytest.approx(
                same.moments[variant].m2, rel=1e-6, abs=1e-9 * max(1.0, np.abs(moments.m2).max())
            )


def test_postgresql_agrees_on_the_course(store: FactsStore, loaded: PostgresEngine) -> None:
    spec = nasty.spec()
    with open_engine(loaded) as engine:
        own = FactTables(**{name: engine.table(name) for name in TABLES})
        found = read_series(spec, own, WATERMARK, engine=engine)
    with open_engine() as engine:
        expected = read_series(spec, store.tables(engine), WATERMARK, engine=engine)
    assert len(found.days) > 500
    for name in ("days", "ages", "cohorts"):
        for row, other in zip(getattr(found, name), getattr(expected, name), strict=True):
            assert replace(row, totals={}) == replace(other, totals={})
            if isinstance(row.totals, NotEstimable):
                assert row.totals == other.totals
            else:
                assert row.totals == pytest.approx(other.totals, rel=1e-9, abs=1)


def regimes(settings: EngineSettings, store: FactsStore | None) -> dict[int, int]:
    with open_engine(settings) as engine:
        found = (
            FactTables(**{name: engine.table(name) for name in TABLES})
            if store is None
            else store.tables(engine)
        )
        units = build(nasty.spec(), found, WATERMARK, SPLITS).select("unit", "regime")
        return {row["unit"]: row["regime"] for row in rows_of(engine, units)}


def test_postgresql_finds_the_same_splits(store: FactsStore, loaded: PostgresEngine) -> None:
    expected = regimes(DuckDbEngine(), store)
    assert set(expected.values()) == {0, 1, 2}
    assert regimes(loaded, None) == expected


@pytest.mark.slow
def test_spark_finds_the_same_splits(store: FactsStore, spark: SparkEngine) -> None:
    assert regimes(spark, store) == regimes(DuckDbEngine(), store)


@pytest.mark.slow
def test_spark_agrees_on_several_processes(
    store: FactsStore,
    spark: SparkEngine,
    reference: tuple[dict[int, dict[str, Any]], Readout],
) -> None:
    assert_alike(answers(spark, store), reference)


@pytest.mark.slow
def test_spark_reads_old_and_new_files_and_empty_tables(tmp_path: Path, spark: SparkEngine) -> None:
    few = nasty.generate(7, units=20)
    root = tmp_path / "facts with space"
    before = FactsStore(str(root), {})
    before.append("events", few.arrow(before, "events"), application="one", version=1)
    after = FactsStore(str(root), {"amount_net": "money", "country": "text"})
    after.append("events", few.arrow(after, "events"), application="two", version=1)
    with open_engine(spark) as engine, open_engine() as other:
        for name in TABLES[:-1]:  # of aliases there are none
            counted = [
                rows_of(
                    backend,
                    table.aggregate(
                        rows=table.count(),
                        first=microseconds(table.occurred_at.min()),
                        days=table.day.nunique(),
                        amounts=table.p_amount_net.sum() if name == "events" else ibis.literal(0),
                    ),
                )
                for backend in (engine, other)
                for table in [getattr(after.tables(backend), name)]
            ]
            assert counted[0] == counted[1], name
        assert counted[0][0]["rows"] == 0
        readout = read_out(nasty.spec(), after.tables(engine), WATERMARK, engine=engine)
    assert [count.exposed for count in readout.counts] == [0] * 5


@pytest.mark.parametrize("dialect", ["bigquery", "snowflake", "databricks"])
def test_the_unit_table_compiles_for_other_warehouses(dialect: str) -> None:
    unbound = Tables(
        **{
            name: ibis.table(FactsStore("x", {"amount_net": "money"}).schema(name), name=name)
            for name in TABLES
        }
    )
    lazy = build(nasty.spec(), unbound, WATERMARK, SPLITS)  # type: ignore[arg-type]  # alike
    sql = str(ibis.to_sql(lazy, dialect=dialect))
    assert "exposures" in sql
    assert sql.count("SELECT") > 5


@pytest.mark.parametrize(
    ("settings", "module", "extra"),
    [
        (SparkEngine("local[1]"), "pyspark.sql", "spark"),
        (PostgresEngine("postgresql://localhost/x"), "psycopg", "postgres"),
    ],
)
def test_a_missing_package_names_the_command(
    monkeypatch: pytest.MonkeyPatch, settings: EngineSettings, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=rf"pip install 'klartext\[{extra}\]'"):
        connect(settings)


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    silent = PostgresEngine("postgresql://reader:secret@localhost:1/shop")
    with pytest.raises(EngineError, match="PostgreSQL does not answer at localhost") as caught:
        connect(silent)
    assert "secret" not in str(caught.value)
