"""Overlapped DuckDB: it works through what it is asked while Python builds the next query.

To build a query takes Python up to a third of a second on one processor. Those of a refresh would
take as long as what they ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
import sqlglot.expressions as sge
from ibis.backends.duckdb import Backend
from ibis.backends.duckdb.converter import DuckDBPyArrowData
from ibis.expr.operations.udf import InputType

T = TypeVar("T")

_MEMORY = "memory"
"""The database of an engine, which is in no file; those of a company are attached to it."""


class OverlappedDuckDb(Backend):  # type: ignore[misc] # Ibis has no types for it
    """DuckDB with a queue: `later`, `ask`, `copy` and `fill` go on before the work is done.

    A thread of its own does the work, in order. Whoever else uses the connection waits until all of
    it is done; `read_parquet` has one of its own. What fails ends the queue: nothing after it is
    begun, and the error is that of the next who waits.
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

    def read_parquet(self, paths: str | Path | Iterable[str | Path], /, **options: Any) -> ir.Table:
        """Return files as a view, without waiting for the queue."""
        name = ibis.util.gen_name("read_parquet")
        files = ibis.util.normalize_filenames(paths)
        given = (sge.to_identifier(key).eq(sge.convert(value)) for key, value in options.items())
        rows = sge.select("*").from_(self.compiler.f.read_parquet(files, *given))
        view = f"{_MEMORY}.main.{_quoted(name)}"
        with self._connection.cursor() as beside:  # of which nobody would see a temporary view
            beside.execute(f"CREATE VIEW {view} AS {rows.sql(self.dialect)}")
            found = beside.sql(f"FROM {view}")
            kinds = map(self.compiler.type_mapper.from_string, map(str, found.types))
            schema = ibis.schema(dict(zip(found.columns, kinds, strict=True)))
        return self._table(name, schema, _MEMORY)

    def ask(self, rows: ir.Table) -> Callable[[], pa.Table]:
        """Compute ``rows`` later; return what waits for them."""
        query, register = self.compile(rows), self._register(rows)

        def job() -> pa.Table:
            register()
            return self.con.sql(query).to_arrow_table()

        found = self.later(job)
        return lambda: rows.__pyarrow_result__(found(), data_mapper=DuckDBPyArrowData)

    def copy(
        self, rows: ir.Table, file: Path, narrow: Mapping[str, dt.DataType]
    ) -> Callable[[], int]:
        """Write ``rows`` to a Parquet file later; return what waits for their number.

        Columns are of their ``narrow`` types if all values fit into them.
        """
        query, register, schema = self.compile(rows), self._register(rows), rows.schema()
        wide, narrower = (self._as(query, each) for each in (schema, {**schema, **narrow}))

        def copied(found: str) -> int:
            to = sge.convert(str(file)).sql(self.dialect)
            # Packed they are a tenth smaller, and unpacking them is a third of reading them.
            kind = "FORMAT parquet, COMPRESSION uncompressed"
            (row,) = self.con.execute(f"COPY ({found}) TO {to} ({kind})").fetchall()
            return int(row[0])

        def job() -> int:
            register()
            try:
                return copied(narrower)
            except duckdb.ConversionException:
                if not narrow:
                    raise
                return copied(wide)

        return self.later(job)

    @contextmanager
    def fill(self, name: str, rows: ir.Table) -> Iterator[ir.Table]:
        """Keep a temporary table, which is being filled with ``rows``, until the end of the block.

        An exception in the block ends the queue, and is not replaced by an error of it.
        """
        schema, register = rows.schema(), self._register(rows)
        # One statement, since after each the thread waits for Python, which may be busy.
        query = f"CREATE TEMPORARY TABLE {_quoted(name)} AS {self._as(self.compile(rows), schema)}"

        def job() -> None:
            register()
            self.con.execute(query).fetchall()

        try:
            self.later(job)
            yield self._table(name, schema, "temp")
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

    def _table(self, name: str, schema: ibis.Schema, catalog: str) -> ir.Table:
        of = ops.Namespace(catalog, "main")
        return ops.DatabaseTable(name, schema=schema, source=self, namespace=of).to_expr()

    def _as(self, query: str, schema: Mapping[str, dt.DataType]) -> str:
        """Return a query with columns of exactly these types."""
        if len({column.casefold() for column in schema}) < len(schema):
            raise duckdb.CatalogException(f"columns differ only in case: {', '.join(schema)}")
        types = {kind: self.compiler.type_mapper.to_string(kind) for kind in set(schema.values())}
        quoted = ((_quoted(name), types[kind]) for name, kind in schema.items())
        columns = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in quoted)
        return f"SELECT {columns} FROM ({query}) q"  # noqa: S608 - quoted

    def _register(self, rows: ir.Table) -> Callable[[], None]:
        """Return what a query of ``rows`` needs done before it: mostly nothing."""
        if rows.op().find(_needs_registering):
            return lambda: self._run_pre_execute_hooks(rows)
        return lambda: None

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


def _needs_registering(node: ops.Node) -> bool:
    if isinstance(node, ops.ScalarUDF | ops.AggUDF):  # DuckDB's own functions are there already
        return node.__input_type__ is not InputType.BUILTIN
    return isinstance(node, ops.InMemoryTable)


def _quoted(name: str) -> str:
    return str(sge.to_identifier(name, quoted=True).sql("duckdb"))
