"""The engine that turns facts into moments: DuckDB, Spark or PostgreSQL, behind Ibis."""

from __future__ import annotations

import gc
import logging
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends import BaseBackend

from klartext.experiments.engines import (
    DuckDbEngine,
    EngineSettings,
    PostgresEngine,
    SparkEngine,
    failures,
    said,
)
from klartext.experiments.errors import KlartextError

if TYPE_CHECKING:
    from klartext.analysis.overlapped import OverlappedDuckDb

T = TypeVar("T")
Pending: TypeAlias = Callable[[], T]
"""What was asked of an engine: called, it waits and returns the answer."""

_PREFIX = "klartext-"
_QUIET = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
# A nested loop over tables without statistics (temporary ones never have any) takes minutes
# where a hash join takes a tenth of a second.
_POSTGRES = ("TIME ZONE 'UTC'", "enable_nestloop = off")
_DUCKDB = DuckDbEngine()
_DATABASE = "klartext_warehouse"  # a schema of the same name would make names ambiguous


class EngineError(KlartextError):
    """The engine cannot be reached, or a package for it is missing."""

    exit_code = 3


def connect(settings: EngineSettings = _DUCKDB) -> BaseBackend:
    """Open an engine that lives as long as somebody holds a table of it.

    Raises
    ------
    EngineError
        Its package is not installed, or it does not answer.

    Notes
    -----
    Sums of doubles differ in their last digits between runs with several threads; figures are
    printed to ten significant digits for that reason.
    """
    match settings:
        case DuckDbEngine():
            folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_spill(settings))
            backend = _duckdb(settings, folder)
            weakref.finalize(backend, shutil.rmtree, folder, ignore_errors=True)
            return backend
        case SparkEngine():
            return _spark(settings)
        case PostgresEngine():
            return _postgres(settings)


@contextmanager
def open_engine(settings: EngineSettings = _DUCKDB) -> Iterator[BaseBackend]:
    """Open an engine and close it at the end of the block.

    A Spark session that was running before is left running: somebody else uses it.

    Raises
    ------
    EngineError
        As `connect`; or a query of the block fails.
    """
    with _opened(settings) as backend:
        try:
            yield backend
        except failures(backend.name) as error:
            # Without its cause: a traceback in a log would show what the message must not.
            raise EngineError(f"{backend.name} fails: {said(error)}") from None


@contextmanager
def _opened(settings: EngineSettings) -> Iterator[BaseBackend]:
    if isinstance(settings, DuckDbEngine):
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_spill(settings)) as folder:
            duckdb = _duckdb(settings, folder)
            try:
                yield duckdb
            finally:
                duckdb.disconnect()
        return
    borrowed = isinstance(settings, SparkEngine) and _has_session()
    backend = connect(settings)
    try:
        yield backend
    finally:
        if not borrowed:
            backend.disconnect()


@contextmanager
def materialised(engine: BaseBackend, table: ir.Table) -> Iterator[ir.Table]:
    """Compute ``table`` once and keep it in the engine until the end of the block."""
    name = ibis.util.gen_name("readout")
    if engine.name == "pyspark":  # it has no temporary tables, but it caches
        # The view ties an expression of Python's memory alone to Spark.
        view = engine.create_view(name, table)
        try:
            with view.cache() as cached:
                yield cached
        finally:
            engine.drop_view(name)
        return
    overlapped = _overlapped(engine)
    if overlapped is not None:
        with overlapped.fill(name, table) as kept:
            yield kept
        return
    kept = engine.create_table(name, table, temp=True)
    try:
        yield kept
    finally:
        engine.drop_table(name)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let the garbage collector pass over what is there already, until the end of the block.

    To look through all modules takes it a sixth of a second, in which no thread gets on.
    """
    if gc.get_freeze_count():  # somebody else does, who also ends it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def asked(engine: BaseBackend, table: ir.Table) -> Pending[pa.Table]:
    """Ask ``engine`` for a table that is small enough for Python."""
    overlapped = _overlapped(engine)
    if overlapped is not None:
        return overlapped.ask(table)
    found = engine.to_pyarrow(table)
    return lambda: found


def asked_rows(engine: BaseBackend, table: ir.Table) -> Pending[list[dict[str, Any]]]:
    """Ask ``engine`` for a small table: one dictionary per row."""
    found = asked(engine, table)
    return lambda: list(found().to_pylist())


def rows_of(engine: BaseBackend, table: ir.Table) -> list[dict[str, Any]]:
    """Compute a small table on ``engine``: one dictionary per row."""
    return asked_rows(engine, table)()


def prove(engine: BaseBackend) -> str:
    """Return the version of an engine after it has done what an analysis needs, correctly.

    Raises
    ------
    EngineError
        An operation fails or gives another answer than it should.
    """
    rows = {
        "unit": [1, 1, 2, -7],
        "name": ["a", "b", "a", "b"],
        "at": pa.array([1, 2_000_001, 3, -5], pa.timestamp("us", "UTC")),
        "amount": pa.array([Decimal("0.1"), Decimal("0.2"), Decimal(-3), Decimal(0)],
                           pa.decimal128(38, 12)),
    }  # fmt: skip
    facts = ibis.memtable(pa.table(rows))
    since = facts.at.delta(ibis.timestamp(datetime(1970, 1, 1, tzinfo=UTC)), unit="microsecond")
    first = facts.group_by("unit").aggregate(
        packed=(since * 256 + (facts.name == "b").ifelse(1, 0)).min(),
        total=facts.amount.sum(),
        rare=facts.amount.sum(where=facts.name == "c").fill_null(0).cast("float64"),
    )
    units = first.select("unit", "total", "rare", at=first.packed >> 8, place=first.packed & 255)
    expected = [
        {"unit": -7, "total": Decimal(0), "rare": 0.0, "at": -5, "place": 1, "missing": True},
        {"unit": 1, "total": Decimal("0.3"), "rare": 0.0, "at": 1, "place": 0, "missing": False},
        {"unit": 2, "total": Decimal(-3), "rare": 0.0, "at": 3, "place": 0, "missing": False},
    ]
    try:
        with materialised(engine, units) as kept:
            some = kept.filter(kept.total != 0).select(other=kept.unit)
            joined = kept.left_join(some, kept.unit == some.other)
            found = rows_of(engine, joined.mutate(missing=joined.other.isnull()).drop("other"))
    except failures(engine.name) as error:
        raise EngineError(f"{engine.name} fails: {said(error)}") from error
    found.sort(key=lambda row: int(row["unit"]))
    if found != expected:
        raise EngineError(f"{engine.name} gives {found} where {expected} is right")
    return str(engine.version)


def _overlapped(engine: BaseBackend) -> OverlappedDuckDb | None:
    if engine.name != "duckdb":
        return None
    from klartext.analysis.overlapped import OverlappedDuckDb  # noqa: PLC0415 - as `_duckdb`

    return engine if isinstance(engine, OverlappedDuckDb) else None


def _spill(settings: DuckDbEngine) -> Path | None:
    if settings.temp_directory is not None:
        settings.temp_directory.mkdir(parents=True, exist_ok=True)
    return settings.temp_directory


def _duckdb(settings: DuckDbEngine, folder: str) -> BaseBackend:
    from klartext.analysis.overlapped import OverlappedDuckDb  # noqa: PLC0415 - half a second

    given = {
        "memory_limit": settings.memory_limit,
        "threads": settings.threads,
        # Its own default is .tmp in the current directory, the same for every engine.
        "temp_directory": folder,
        # The system keeps what is read of files: to keep it twice takes time.
        "enable_external_file_cache": False,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    backend = OverlappedDuckDb().connect(**chosen)
    if settings.database is not None:
        _attach(backend, settings.database)
    return backend


def _attach(backend: BaseBackend, file: Path) -> None:
    """Make the tables of a database file those of the engine, for reading only.

    Attached and not opened: each engine keeps its own memory limit and folder, and several read
    one file at the same time.
    """
    import duckdb  # noqa: PLC0415 - its types are wanted here only

    if not file.is_file():
        raise EngineError(f"engine.database in klartext.yaml is {file}: there is no such file")
    try:
        backend.attach(file, name=_DATABASE, read_only=True)
        backend.raw_sql(f"USE {_DATABASE}").fetchall()
    except duckdb.Error as error:
        raise EngineError(
            f"DuckDB cannot open {file}: {_first_line(error)}. While a process writes to it, no "
            "other can read it."
        ) from error


def _spark(settings: SparkEngine) -> BaseBackend:
    try:
        from pyspark.errors import PySparkException  # noqa: PLC0415 - an extra
        from pyspark.logger import PySparkLogger  # noqa: PLC0415
        from pyspark.sql import SparkSession  # noqa: PLC0415
    except ImportError as error:
        raise _missing("Spark", "spark", error) from error
    # It writes failed queries to the log with everything that Spark says of them.
    PySparkLogger.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    builder = SparkSession.builder.appName("klartext")
    remote = settings.url.startswith("sc://")
    builder = builder.remote(settings.url) if remote else builder.master(settings.url)
    for key, value in {**({} if remote else _QUIET), **settings.options}.items():
        builder = builder.config(key, value)
    try:
        return ibis.pyspark.connect(builder.getOrCreate())
    except ImportError as error:  # Connect needs more than Spark itself
        raise _missing("Spark Connect", "spark", error) from error
    except (PySparkException, OSError) as error:
        raise EngineError(
            f"Spark does not answer at {settings.url}: {_first_line(error)}. "
            "A local master needs Java 17 or 21 (Debian: apt-get install openjdk-17-jre-headless)."
        ) from error


def _has_session() -> bool:
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - an extra
    except ImportError:
        return False
    return SparkSession.getActiveSession() is not None


def _postgres(settings: PostgresEngine) -> BaseBackend:
    try:
        import psycopg  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing("PostgreSQL", "postgres", error) from error
    try:
        backend = ibis.connect(re.sub(r"^postgresql:", "postgres:", settings.url))
        for setting in _POSTGRES:
            backend.raw_sql(f"SET {setting}").close()
    except psycopg.Error as error:
        place = urlsplit(settings.url).hostname or "the given place"
        raise EngineError(
            f"PostgreSQL does not answer at {place}: {_first_line(error)}. Check engine.url in "
            "klartext.yaml; a password comes from PGPASSWORD or ~/.pgpass."
        ) from error
    return backend


def _missing(what: str, extra: str, error: ImportError) -> EngineError:
    return EngineError(
        f"{what} needs a package that is not installed ({error}): pip install 'klartext[{extra}]'"
    )


def _first_line(error: Exception) -> str:
    """Return what an engine says of a connection: there are no values in it."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
