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
    """

    memory_limit: str | None = None
    threads: int | None = None
    temp_directory: Path | None = None


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
