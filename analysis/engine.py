"""The engine that turns facts into moments: DuckDB in this process, behind Ibis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ibis
from ibis.backends.duckdb import Backend


def connect() -> Backend:
    """Open an in-memory DuckDB that lives as long as somebody holds a table of it.

    Notes
    -----
    Sums of doubles differ in their last digits between runs with several threads; figures are
    printed to ten significant digits for that reason.
    """
    return ibis.duckdb.connect()


@contextmanager
def open_engine() -> Iterator[Backend]:
    """Open an in-memory DuckDB and close it at the end of the block."""
    backend = connect()
    try:
        yield backend
    finally:
        backend.disconnect()
