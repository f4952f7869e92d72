"""Overlapped DuckDB: it works through what it is asked while Python builds the next query.

To build a query takes Python up to a third of a second on one processor. Those of a refresh would
take as long as what they ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import Any, TypeVar

import duckdb
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
import sqlglot.expressions as sge
from ibis.backends.duckdb import Backend
from ibis.backends.duckdb.converter import DuckDBPyArrowData

T = TypeVar("T")


class OverlappedDuckDb(Backend):  # type: ignore[misc] # Ibis has no types for it
    """DuckDB with a queue: `later`, `ask` and `fill` go on before the work is done.

    A thread of its own does the work, in order. Whoever else uses the connection waits until all of
    it is done. What fails ends the queue: nothing after it is begun, and the error is that of the
    next who waits.
    """

    _worker: ThreadPoolExecutor | None = None
    _thread: int | None = None
    _last: Future[Any] | None = None
    _error: BaseException | None = None

    @property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The connection, as soon as nobody else uses it."""
        last = self._last
        if last is not None and get_ident() != self._thread:
            self._wait(last)
            if self._last is last:
                self._last = None
        return self._connection

    @con.setter
    def con(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def later(self, job: Callable[[], T]) -> Callable[[], T]:
        """Do a job after all others; return what waits for its result.

        Done within a job, it is done at once.
        """
        if get_ident() == self._thread:
            found = job()
            return lambda: found
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1)
        self._last = own = self._worker.submit(self._do, job)
        return lambda: self._wait(own)

    def ask(self, rows: ir.Table) -> Callable[[], pa.Table]:
        """Compute ``rows`` later; return what waits for them."""
        query, register = self.compile(rows), self._register(rows)

        def job() -> pa.Table:
            register()
            return self.con.sql(query).to_arrow_table()

        found = self.later(job)
        return lambda: rows.__pyarrow_result__(found(), data_mapper=DuckDBPyArrowData)

    @contextmanager
    def fill(self, name: str, rows: ir.Table) -> Iterator[ir.Table]:
        """Keep a temporary table, which is being filled with ``rows``, until the end of the block.

        An exception in the block ends the queue, and is not replaced by an error of it.
        """
        schema, register = rows.schema(), self._register(rows)
        if len({column.casefold() for column in schema}) < len(schema):
            raise duckdb.CatalogException(f"columns differ only in case: {', '.join(schema)}")
        types = self.compiler.type_mapper
        columns = ", ".join(
            f"CAST({column} AS {types.to_string(kind)}) AS {column}"
            for column, kind in zip(map(_quoted, schema), schema.types, strict=True)
        )
        query = self.compile(rows)
        # One statement, since after each the thread waits for Python, which may be busy.
        statement = f"CREATE TEMPORARY TABLE {_quoted(name)} AS SELECT {columns} FROM ({query}) q"  # noqa: S608 - quoted

        def job() -> None:
            register()
            self.con.execute(statement).fetchall()

        try:
            self.later(job)
            yield ops.DatabaseTable(
                name, schema=schema, source=self, namespace=ops.Namespace("temp", "main")
            ).to_expr()
            _ = self.con  # all that was asked in the block is answered, or its error raised
        except BaseException:
            self._give_up()
            with suppress(duckdb.Error):
                self.drop_table(name, force=True)
            raise
        self.drop_table(name, force=True)

    def disconnect(self) -> None:
        """Close the connection; what is in the queue is given up."""
        self._give_up()
        if self._worker is not None:
            self._worker.shutdown()
            self._worker = None
        super().disconnect()

    def _register(self, rows: ir.Table) -> Callable[[], None]:
        """Return what a query of ``rows`` needs done before it: mostly nothing."""
        if not rows.op().find((ops.InMemoryTable, ops.ScalarUDF, ops.AggUDF)):
            return lambda: None
        return lambda: self._run_pre_execute_hooks(rows)

    def _do(self, job: Callable[[], T]) -> T:
        self._thread = get_ident()
        if self._error is not None:
            raise self._error
        try:
            return job()
        except BaseException as error:
            self._error = error
            raise

    def _wait(self, for_job: Future[T]) -> T:
        try:
            return for_job.result()
        except BaseException:
            # An old failure is no reason to end what was asked since.
            if not for_job.done() or self._error is not None:
                self._give_up()
            raise

    def _give_up(self) -> None:
        """Empty the queue, and end the query that runs; a job cannot."""
        if self._worker is None or get_ident() == self._thread:
            return
        self._error = self._error or duckdb.InterruptException("given up")
        behind_all = self._worker.submit(int)
        while not behind_all.done():
            self._connection.interrupt()  # again and again: it may not have begun
            wait([behind_all], timeout=0.05)
        self._last = self._error = None


def _quoted(name: str) -> str:
    return str(sge.to_identifier(name, quoted=True).sql("duckdb"))
