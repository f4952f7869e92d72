"""The state database: one engine, immediate transactions, durable commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from klartext.experiments.errors import StateError

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
        sa.event.listen(engine, "handle_error", _explain)
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


_UNUSABLE = {
    "file is not a database": "is not a database: restore it from a backup",
    "database disk image is malformed": "is damaged: restore it from a backup",
    "unable to open database file": "cannot be opened: check that its folder can be written",
    "attempt to write a readonly database": "cannot be written: check its permissions",
    "database or disk is full": "cannot grow: the disk is full",
}
"""What SQLite says of a file that no statement can work with, and what to do about it."""


def _explain(context: sa.engine.ExceptionContext) -> None:
    """Raise what the user can act on where the file, not the statement, is at fault."""
    advice = _UNUSABLE.get(str(context.original_exception))
    if advice is None or context.engine is None:
        return
    message = f"The state database {context.engine.url.database} {advice}."
    raise StateError(message) from context.original_exception


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
