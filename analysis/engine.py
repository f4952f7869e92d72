"""The engine that turns facts into moments: DuckDB in this process, behind Ibis."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ibis
from ibis.backends.duckdb import Backend

_PREFIX = "klartext-"


def connect(
    *, memory_limit: str | None = None, threads: int | None = None, spill: Path | None = None
) -> Backend:
    """Open an in-memory DuckDB that lives as long as somebody holds a table of it.

    Parameters
    ----------
    memory_limit
        From which size on DuckDB spills to disk, e.g. ``"4GiB"``; its own default is 80 % of the
        machine's memory. Python and results come on top.
    threads
        Default: one per processor.
    spill
        Folder for a private folder of spilled data, which goes with the engine; default: the
        system's folder for temporary files.

    Notes
    -----
    Sums of doubles differ in their last digits between runs with several threads; figures are
    printed to ten significant digits for that reason.
    """
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=spill)
    backend = _open(folder, memory_limit, threads)
    weakref.finalize(backend, shutil.rmtree, folder, ignore_errors=True)
    return backend


@contextmanager
def open_engine(
    *, memory_limit: str | None = None, threads: int | None = None, spill: Path | None = None
) -> Iterator[Backend]:
    """Open an in-memory DuckDB and close it at the end of the block; parameters as `connect`."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=spill) as folder:
        backend = _open(folder, memory_limit, threads)
        try:
            yield backend
        finally:
            backend.disconnect()


def _open(folder: str, memory_limit: str | None, threads: int | None) -> Backend:
    # DuckDB's own default is .tmp in the current directory, the same for every engine.
    given = {"memory_limit": memory_limit, "threads": threads}
    settings = {name: value for name, value in given.items() if value is not None}
    return ibis.duckdb.connect(temp_directory=folder, **settings)
