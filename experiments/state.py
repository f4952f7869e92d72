"""The state database: one engine, immediate transactions, durable commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

BUSY_TIMEOUT_SECONDS = 30
_READ_ONLY = "klartext_read_only"


def open_state(url: str) -> sa.Engine:
    """Return an engine on which every transaction is durable and serialised by writers.

    Parameters
    ----------
    url
        SQLAlchemy URL. On SQLite: WAL, ``synchronous=FULL``, foreign keys on, and
        ``BEGIN IMMEDIATE``, so that a transaction that will write never fails half-way.

    Returns
    -------
    sqlalchemy.Engine
        Not yet connected; `klartext.experiments.migrations` brings the schema.
    """
    engine = sa.create_engine(url)
    if engine.dialect.name == "sqlite":
        if engine.url.database not in {None, "", ":memory:"}:
            Path(str(engine.url.database)).parent.mkdir(parents=True, exist_ok=True)
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a connection that sees one snapshot and waits for no writer; not for writing.

    On SQLite ``engine.begin()`` takes the write lock, so readers would queue behind an import.
    """
    options: dict[str, Any] = {_READ_ONLY: True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect() as connection:
        yield connection.execution_options(**options)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # else the driver emits its own deferred BEGIN
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
