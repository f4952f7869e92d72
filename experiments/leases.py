"""Leases with fencing: one writer at a time, and a stale one is found out.

A lease is a row in state with a holder, an end and a fencing number that only grows. Its holder
renews it in every transaction it makes; after a crash the next one takes over when the lease has
ended, or at once when the holder was a process of this machine that is gone.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from klartext.experiments.errors import ConflictError
from klartext.experiments.tables import leases

TTL = timedelta(seconds=60)
_POLL_SECONDS = 0.2


class LeaseHeldError(ConflictError):
    """Somebody else holds the lease."""


class LeaseLostError(ConflictError):
    """The lease ended while it was needed, and somebody else took it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write, until it ends; ``fence`` is higher than any before."""

    name: str
    holder: str
    fence: int


def acquire(connection: sa.Connection, name: str, *, now: datetime) -> Lease:
    """Take the lease when it is free.

    Raises
    ------
    LeaseHeldError
        It is not.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    row = connection.execute(sa.select(leases).where(leases.c.name == name)).one_or_none()
    if row is None:
        connection.execute(
            leases.insert().values(name=name, holder=holder, fence=1, expires_at=now + TTL)
        )
        return Lease(name, holder, 1)
    if _is_in_force(row, now):
        raise LeaseHeldError(
            f"{name} are being written by another process ({row.holder}) until "
            f"{row.expires_at:%H:%M:%S} UTC or longer; try again then"
        )
    taken = connection.execute(
        leases.update()
        .where(leases.c.name == name, leases.c.fence == row.fence)
        .values(holder=holder, fence=row.fence + 1, expires_at=now + TTL)
    )
    if taken.rowcount != 1:
        raise LeaseHeldError(f"{name} were taken by another process just now; try again")
    return Lease(name, holder, row.fence + 1)


def is_held(connection: sa.Connection, name: str, *, now: datetime) -> bool:
    """Whether somebody holds the lease."""
    row = connection.execute(sa.select(leases).where(leases.c.name == name)).one_or_none()
    return row is not None and _is_in_force(row, now)


def renew(connection: sa.Connection, lease: Lease, *, now: datetime) -> None:
    """Extend the lease; part of every transaction that relies on it.

    Raises
    ------
    LeaseLostError
        Somebody else has taken it.
    """
    written = connection.execute(
        leases.update()
        .where(leases.c.name == lease.name, leases.c.fence == lease.fence)
        .values(expires_at=now + TTL)
    )
    if written.rowcount != 1:
        raise LeaseLostError(f"the right to write {lease.name} was taken over; nothing was lost")


@contextmanager
def held(
    engine: sa.Engine, name: str, *, clock: Callable[[], datetime], wait: timedelta = TTL
) -> Iterator[Lease]:
    """Hold the lease during the block; waits for it at most ``wait``.

    Raises
    ------
    LeaseHeldError
        It did not become free in time.
    """
    deadline = time.monotonic() + wait.total_seconds()
    while True:
        try:
            with engine.begin() as connection:
                lease = acquire(connection, name, now=clock())
            break
        except LeaseHeldError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)
    try:
        yield lease
    finally:
        with engine.begin() as connection:
            connection.execute(
                leases.update()
                .where(leases.c.name == name, leases.c.fence == lease.fence)
                .values(expires_at=clock())
            )


def _is_in_force(row: sa.Row[Any], now: datetime) -> bool:
    return bool(row.expires_at > now) and not _is_gone(row.holder)


def _is_gone(holder: str) -> bool:
    """Whether the holder was a process of this machine that no longer runs."""
    host, pid, _ = holder.rsplit(":", 2)
    if os.name != "posix" or host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
