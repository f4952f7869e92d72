"""Overlapped DuckDB: it fills a table while Python builds the next query.

To build a query takes Python up to a fifth of a second on one processor. Those of a refresh would
take as long as what they ask for.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait

import duckdb
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend


class OverlappedDuckDb(Backend):  # type: ignore[misc] # Ibis has no types for it
    """DuckDB whose `fill` returns before the rows are there.

    One thread at a time uses the connection: who asks for it waits until the table is filled, and
    gets the error if it could not be.
    """

    _filling: Future[None] | None = None
    _filler: ThreadPoolExecutor | None = None

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The connection, as soon as nobody else uses it."""
        filling, self._filling = self._filling, None
        if filling is not None:
            try:
                filling.result()
            except KeyboardInterrupt:
                self._give_up(filling)
                raise
        return self._connection

    @con.setter
    def con(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def fill(self, name: str, rows: ir.Table) -> ir.Table:
        """Return a temporary table that is being filled with ``rows``."""
        query = self.compile(rows)  # first: it needs no connection
        self._run_pre_execute_hooks(rows)
        table = self.create_table(name, schema=rows.schema(), temp=True)
        if self._filler is None:
            self._filler = ThreadPoolExecutor(1)
        self._filling = self._filler.submit(self._insert, name, query)
        return table

    def disconnect(self) -> None:
        """Close the connection; a table that is being filled is given up."""
        if self._filling is not None:
            self._give_up(self._filling)
            self._filling = None
        if self._filler is not None:
            self._filler.shutdown()
            self._filler = None
        super().disconnect()

    def _insert(self, name: str, query: str) -> None:
        self._connection.execute(f'INSERT INTO temp.main."{name}" {query}').fetchall()

    def _give_up(self, filling: Future[None]) -> None:
        while not filling.done():  # once is not enough: a query may be about to begin
            self._connection.interrupt()
            wait([filling], timeout=0.05)
