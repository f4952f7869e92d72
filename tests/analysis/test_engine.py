"""Engines spill within their memory limit, into a folder that goes with them."""

from __future__ import annotations

import gc
import signal
from pathlib import Path
from typing import NoReturn

import duckdb
import ibis
import ibis.expr.types as ir
import pytest

from klartext.analysis.engine import EngineError, connect, materialised, open_engine, rows_of
from klartext.analysis.overlapped import OverlappedDuckDb
from klartext.experiments.engines import DuckDbEngine


def test_an_engine_takes_its_settings(tmp_path: Path) -> None:
    query = "SELECT current_setting('threads'), current_setting('memory_limit')"
    with open_engine(DuckDbEngine("100MiB", 1, tmp_path)) as engine:
        assert engine.raw_sql(query).fetchall() == [(1, "100.0 MiB")]


def test_what_does_not_fit_is_spilled_into_a_folder_that_goes(tmp_path: Path) -> None:
    with open_engine(DuckDbEngine("60MiB", 1, tmp_path)) as engine:
        rows = ibis.range(4_000_000).unnest().name("n").as_table()
        table = engine.create_table("wide", rows.mutate(a=rows.n * 3, b=rows.n * 7), temp=True)
        (folder,) = tmp_path.iterdir()
        assert list(folder.iterdir())
        assert table.b.sum().to_pyarrow().as_py() == 7 * sum(range(4_000_000))
        assert folder.stat().st_mode & 0o077 == 0
    assert not list(tmp_path.iterdir())


def test_two_engines_do_not_share_a_folder(tmp_path: Path) -> None:
    settings = DuckDbEngine(temp_directory=tmp_path)
    with open_engine(settings), open_engine(settings):
        assert len(list(tmp_path.iterdir())) == 2


def test_the_folder_of_a_free_engine_goes_with_it(tmp_path: Path) -> None:
    engine = connect(DuckDbEngine(temp_directory=tmp_path))
    assert len(list(tmp_path.iterdir())) == 1
    engine.disconnect()
    del engine
    gc.collect()
    assert not list(tmp_path.iterdir())


def endless() -> ir.Table:
    rows = ibis.range(10**5).unnest().name("n").as_table()
    cube = rows.cross_join(rows.select(m=rows.n)).cross_join(rows.select(k=rows.n))
    return cube.aggregate(largest=((cube.n * cube.m * cube.k) % 7919).max())


def test_who_reads_a_table_waits_until_it_is_filled() -> None:
    with open_engine() as engine:
        rows = ibis.range(3_000_000).unnest().name("n").as_table()
        with materialised(engine, rows) as first, materialised(engine, first) as second:
            assert rows_of(engine, second.aggregate(n=second.count())) == [{"n": 3_000_000}]


def test_who_reads_a_table_hears_why_it_could_not_be_filled() -> None:
    with open_engine() as engine:
        wrong = ibis.literal("one").cast("int64").name("n").as_table()
        with materialised(engine, wrong) as table, pytest.raises(duckdb.ConversionException):
            rows_of(engine, table)
        assert rows_of(engine, ibis.literal(1).name("n").as_table()) == [{"n": 1}]


def test_a_failure_that_nobody_waited_for_is_the_engines() -> None:
    wrong = ibis.literal("one").cast("int64").name("n").as_table()
    with (
        pytest.raises(EngineError, match="duckdb fails"),
        open_engine() as engine,
        materialised(engine, wrong),
    ):
        pass


def test_what_nobody_waits_for_ends_with_the_engine() -> None:
    with open_engine() as engine:
        assert isinstance(engine, OverlappedDuckDb)
        engine.fill("largest", endless())


def test_who_waits_can_be_interrupted() -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with open_engine() as engine:
            with materialised(engine, endless()) as table, pytest.raises(KeyboardInterrupt):
                rows_of(engine, table)
            assert rows_of(engine, ibis.literal(1).name("n").as_table()) == [{"n": 1}]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
