"""Engines spill within their memory limit, into a folder that goes with them."""

from __future__ import annotations

import gc
import signal
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from klartext.analysis.engine import (
    EngineError,
    asked_rows,
    connect,
    materialised,
    open_engine,
    rows_of,
    undisturbed,
)
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


def test_what_is_asked_is_done_in_order_while_python_goes_on() -> None:
    done: list[str] = []
    with open_engine() as engine:
        gate = threading.Event()
        waited = engine.later(lambda: gate.wait(60))
        first = asked_rows(engine, ONE)
        nested = engine.later(lambda: [*rows_of(engine, ONE), *rows_of(engine, ONE)])
        last = engine.later(lambda: done.append("last"))
        assert done == []
        gate.set()
        last()
        assert done == ["last"]
        assert first() == first() == [{"n": 1}]
        assert nested() == [{"n": 1}, {"n": 1}]
        assert waited()


def test_what_fails_ends_the_queue_and_nothing_else() -> None:
    done: list[str] = []
    with open_engine() as engine:
        gate = threading.Event()
        before = asked_rows(engine, ONE)
        engine.later(lambda: gate.wait(60))
        wrong = asked_rows(engine, WRONG)
        behind = engine.later(lambda: done.append("behind"))
        gate.set()
        for pending in (behind, wrong, behind):
            with pytest.raises(duckdb.ConversionException):
                pending()
        assert (before(), rows_of(engine, ONE), done) == ([{"n": 1}], [{"n": 1}], [])


def test_an_old_failure_does_not_end_what_was_asked_since() -> None:
    with open_engine() as engine:
        wrong = asked_rows(engine, WRONG)
        with pytest.raises(duckdb.ConversionException):
            wrong()
        new = engine.later(lambda: threading.Event().wait(0.2))
        with pytest.raises(duckdb.ConversionException):
            wrong()
        assert new() is False


def test_a_kept_table_has_the_types_and_rows_of_its_query() -> None:
    at = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    rows = pa.table(
        {
            "money": pa.array([Decimal("1.10"), None], pa.decimal128(38, 12)),
            "at": pa.array([at, None], pa.timestamp("us", "UTC")),
            'a "b"': pa.array(["x", ""]),
            "n": pa.array([1, 2**62], pa.int64()),
            "small": pa.array([1, None], pa.int8()),
            "is_x": pa.array([True, None]),
        }
    )
    table = ibis.memtable(rows)
    grown = table.mutate(total=table.money.sum().over(), twice=table.n.sum().over(ibis.window()))
    with open_engine() as engine, materialised(engine, grown) as kept:
        assert kept.schema() == grown.schema() == engine.table(kept.op().name).schema()
        assert engine.to_pyarrow(kept).equals(engine.to_pyarrow(grown))
        with materialised(engine, kept.filter(kept.n < 0)) as none:
            assert rows_of(engine, none) == []


def test_files_are_opened_while_something_else_is_done(tmp_path: Path) -> None:
    file = tmp_path / "it's one.parquet"
    pq.write_table(
        pa.table({"n": [1, 2], "at": pa.array([0, None], pa.timestamp("us", "UTC"))}), file
    )
    with open_engine() as engine:
        gate = threading.Event()
        waited = engine.later(lambda: gate.wait(60))
        table = engine.read_parquet([str(file)], hive_partitioning=False)
        assert table.schema() == engine.read_parquet(file).schema()
        assert list(table.schema().items()) == [("n", dt.int64), ("at", dt.Timestamp("UTC", 6))]
        total = asked_rows(engine, table.aggregate(n=table.n.sum(), some=table["at"].count()))
        gate.set()
        assert waited()
        assert total() == [{"n": 3, "some": 1}]
        with pytest.raises(duckdb.IOException, match="none"):
            engine.read_parquet([str(tmp_path / "none")])
        assert rows_of(engine, ONE) == [{"n": 1}]


def test_files_are_opened_beside_a_database_of_the_company(tmp_path: Path) -> None:
    file, database = tmp_path / "two.parquet", tmp_path / "company.duckdb"
    pq.write_table(pa.table({"n": [2]}), file)
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE TABLE three AS SELECT 3 AS n")
    with open_engine(DuckDbEngine(database=database)) as engine:
        both = engine.read_parquet([str(file)]).cross_join(engine.table("three").select(m="n"))
        with materialised(engine, both) as kept:
            assert rows_of(engine, kept) == [{"n": 2, "m": 3}]


def test_a_file_is_as_narrow_as_its_values(tmp_path: Path) -> None:
    wide, narrow = dt.Decimal(38, 12), {"amount": dt.Decimal(18, 12)}
    for amount, kind in ("999999.999999999999", dt.Decimal(18, 12)), ("1000000", wide):
        file = tmp_path / f"it's {amount}.parquet"
        with open_engine() as engine:
            rows = ibis.memtable({"n": [1, 2]}).mutate(amount=ibis.literal(amount).cast(wide))
            assert engine.copy(rows, file, narrow)() == 2
            found = engine.read_parquet([str(file)])
            assert found.schema() == ibis.schema({"n": "int64", "amount": kind})
            assert rows_of(engine, found.select("amount").distinct()) == [
                {"amount": Decimal(amount)}
            ]
    assert len(list(tmp_path.iterdir())) == 2  # nothing of what was too narrow


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    for narrow in {}, {"n": dt.int8}:
        with open_engine() as engine:
            written = engine.copy(WRONG, tmp_path / "wrong.parquet", narrow)
            with pytest.raises(duckdb.ConversionException, match="one"):
                written()
            assert rows_of(engine, ONE) == [{"n": 1}]
    assert not list(tmp_path.iterdir())


def test_a_failure_within_a_job_is_the_jobs() -> None:
    with open_engine() as engine:
        wrong = asked_rows(engine, WRONG)
        with pytest.raises(duckdb.ConversionException):
            wrong()
        within = engine.later(wrong)
        with pytest.raises(duckdb.ConversionException):
            within()
        assert rows_of(engine, ONE) == [{"n": 1}]


def test_a_table_goes_with_its_block_whatever_failed_there() -> None:
    with open_engine() as engine:
        with pytest.raises(duckdb.ConversionException), materialised(engine, ONE):
            asked_rows(engine, WRONG)
        assert engine.raw_sql("FROM duckdb_tables()").fetchall() == []


def test_columns_that_differ_in_case_are_not_mixed_up(tmp_path: Path) -> None:
    both = ONE.mutate(N=ONE.n + 1)
    with open_engine() as engine, pytest.raises(duckdb.CatalogException, match="in case: n, N"):
        engine.copy(both, tmp_path / "both.parquet", {})
    with (
        pytest.raises(EngineError, match="differ only in case: n, N"),
        open_engine() as engine,
        materialised(engine, both),
    ):
        pass


def test_what_is_there_is_collected_again_after_an_analysis() -> None:
    assert gc.get_freeze_count() == 0
    with undisturbed():
        with undisturbed():
            pass
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


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
