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

ONE = ibis.literal(1).name("n").as_table()
WRONG = ibis.literal("one").cast("int64").name("n").as_table()


def endless() -> ir.Table:
    """Return a row that nobody will live to see."""
    rows = ibis.range(10**5).unnest().name("n").as_table()
    cube = rows.cross_join(rows.select(m=rows.n)).cross_join(rows.select(k=rows.n))
    return cube.aggregate(largest=((cube.n * cube.m * cube.k) % 7919).max())


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


def test_who_reads_a_table_waits_until_it_is_filled() -> None:
    with open_engine() as engine:
        rows = ibis.range(3_000_000).unnest().name("n").as_table()
        with materialised(engine, rows) as first, materialised(engine, first) as second:
            assert rows_of(engine, second.aggregate(n=second.count())) == [{"n": 3_000_000}]


def test_who_reads_a_table_hears_why_it_could_not_be_filled() -> None:
    with open_engine() as engine:
        with materialised(engine, WRONG) as table:
            with pytest.raises(duckdb.ConversionException):
                rows_of(engine, table)
            with pytest.raises(duckdb.CatalogException):  # it does not look empty
                rows_of(engine, table)
        assert rows_of(engine, ONE) == [{"n": 1}]


@pytest.mark.parametrize("rows", [WRONG, endless()], ids=["wrong", "endless"])
def test_an_exception_is_that_of_the_block_and_ends_the_query(rows: ir.Table) -> None:
    with open_engine() as engine:
        with pytest.raises(ValueError, match="the block's"), materialised(engine, rows):
            raise ValueError("the block's")
        assert isinstance(engine, OverlappedDuckDb)
        assert engine.con.execute("FROM duckdb_tables()").fetchall() == []


def test_a_failure_that_nobody_waited_for_is_the_engines() -> None:
    with (
        pytest.raises(EngineError, match="duckdb fails"),
        open_engine() as engine,
        materialised(engine, WRONG),
    ):
        pass


def test_what_nobody_waits_for_ends_with_the_engine() -> None:
    engine = connect()
    filling = materialised(engine, endless())
    filling.__enter__()
    engine.disconnect()
    with pytest.raises(duckdb.ConnectionException):
        filling.__exit__(None, None, None)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_who_waits_can_be_interrupted(stop: type[BaseException]) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise stop

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with open_engine() as engine:
            with pytest.raises(stop), materialised(engine, endless()) as table:
                rows_of(engine, table)
            assert rows_of(engine, ONE) == [{"n": 1}]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_who_interrupts_twice_ends_the_query_with_the_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: OverlappedDuckDb) -> NoReturn:
        monkeypatch.undo()
        raise KeyboardInterrupt

    def interrupted() -> None:
        with open_engine() as engine, materialised(engine, endless()):
            monkeypatch.setattr(OverlappedDuckDb, "_give_up", refuse)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
