"""Overlapped DuckDB: it fills a table while Python builds the next query.

To build a query takes Python up to a fifth of a second on one processor. Those of a refresh would
take as long as what they ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress

import duckdb
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend


class OverlappedDuckDb(Backend):  # type: ignore[misc] # Ibis has no types for it
    """DuckDB whose `fill` goes on before the rows are there.

    One thread at a time uses the connection: who asks for it waits until the table is filled, and
    gets the error if it could not be.
    """

    _filling: Future[None] | None = None
    _filler: ThreadPoolExecutor | None = None

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The connection, as soon as nobody else uses it."""
        if self._filling is not None:
            try:
                wait([self._filling])
            except BaseException:
                self._give_up()
                raise
            filled, self._filling = self._filling, None
            filled.result()
        return self._connection

    @con.setter
    def con(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    @contextmanager
    def fill(self, name: str, rows: ir.Table) -> Iterator[ir.Table]:
        """Keep a temporary table, which is being filled with ``rows``, until the end of the block.

        An exception in the block ends the query, and is not replaced by an error of it.
        """
        query = self.compile(rows)  # first: it needs no connection
        self._run_pre_execute_hooks(rows)
        table = self.create_table(name, schema=rows.schema(), temp=True)
        try:
            if self._filler is None:
                self._filler = ThreadPoolExecutor(1)
            self._filling = self._filler.submit(self._insert, name, query)
            yield table
        except BaseException:
            self._give_up()
            with suppress(duckdb.Error):
                self.drop_table(name, force=True)
            raise
        self.drop_table(name, force=True)

    def disconnect(self) -> None:
        """Close the connection; a table that is being filled is given up."""
        self._give_up()
        if self._filler is not None:
            self._filler.shutdown()
            self._filler = None
        super().disconnect()

    def _insert(self, name: str, query: str) -> None:
        table = f'temp.main."{name}"'
        try:
            self._connection.execute(f"INSERT INTO {table} {query}").fetchall()
        except BaseException:
            self._connection.execute(f"DROP TABLE {table}")  # else it would look empty
            raise

    def _give_up(self) -> None:
        """End the query, if there is one."""
        while self._filling is not None and not self._filling.done():
            self._connection.interrupt()  # again and again: it may not have begun
            wait([self._filling], timeout=0.05)
        self._filling = None
