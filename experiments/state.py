"""The state database: one engine, immediate transactions, durable commits."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

BUSY_TIMEOUT_SECONDS = 30


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
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # else the driver emits its own deferred BEGIN
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
