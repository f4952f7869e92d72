"""Which engine turns facts into moments, as ``engine:`` of ``klartext.yaml`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class DuckDbEngine:
    """DuckDB in this process; beyond ``memory_limit`` (``4GB``) it spills to the disk.

    What is None is left to DuckDB: 80 % of memory, all cores. ``temp_directory`` is where each
    engine makes a private folder for spilled data, which goes with it; else the system's place.
    ``database`` is a file whose tables are mapped; it is opened for reading only.
    """

    memory_limit: str | None = None
    threads: int | None = None
    temp_directory: Path | None = None
    database: Path | None = None


@dataclass(frozen=True, slots=True)
class SparkEngine:
    """Spark: a Connect server (``sc://host:15002``) or a master (``local[2]``, ``spark://…``).

    ``options`` are Spark's own settings.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PostgresEngine:
    """PostgreSQL by URL; it analyses tables that are mapped, not the files of the facts."""

    url: str


EngineSettings: TypeAlias = DuckDbEngine | SparkEngine | PostgresEngine

_HOLDING_VALUES = ("22", "23")  # SQLSTATE classes of PostgreSQL: bad data, violated constraints
_DUCKDB_SAYS = ("Catalog", "Binder", "Parser", "IO", "Permission", "OutOfMemory", "NotImplemented")


def failures(engine: str) -> tuple[type[Exception], ...]:
    """Return what an engine, by its name in Ibis, raises when a query fails."""
    import duckdb  # noqa: PLC0415 - heavy, and its types are wanted here only
    from ibis.common.exceptions import IbisError  # noqa: PLC0415

    found: tuple[type[Exception], ...] = (IbisError, duckdb.Error, NotImplementedError)
    if engine == "postgres":
        import psycopg  # noqa: PLC0415 - an extra

        return (*found, psycopg.Error)
    if engine == "pyspark":
        from pyspark.errors import PySparkException  # noqa: PLC0415 - an extra

        return (*found, PySparkException)
    return found


def said(error: Exception) -> str:
    """Return the first line of what an engine says, or only its kind of error.

    An engine that cannot convert a value prints it, and the value can be somebody's address.
    """
    kind = type(error).__name__
    match type(error).__module__.partition(".")[0]:
        case "_duckdb" | "duckdb":
            may_be_shown = kind.removesuffix("Exception") in _DUCKDB_SAYS
        case "psycopg":
            state = getattr(error, "sqlstate", None) or ""
            may_be_shown = not state.startswith(_HOLDING_VALUES)
        case "pyspark":
            may_be_shown = kind in {"AnalysisException", "ParseException"}
        case _:
            may_be_shown = True
    lines = str(error).strip().splitlines()
    if may_be_shown and lines:
        return lines[0].rstrip(".")
    return f"{kind} (what it says is not shown: it can hold values of your tables)"
