"""Engines spill within their memory limit, into a folder that goes with them."""

from __future__ import annotations

import gc
from pathlib import Path

import ibis

from klartext.analysis.engine import connect, open_engine
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
