"""Group commit: rows of many requests in one durable transaction, answered when it is durable."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klartext.experiments.records import FactRow

MAX_ROWS = 1_000
"""Rows per transaction; one request may exceed it."""

MAX_PENDING = 20_000
"""Rows waiting; beyond them the service says so instead of growing."""

_log = logging.getLogger("klartext.service")


class NotWrittenError(Exception):
    """The rows are not durable: the queue is full, or the state cannot be written."""


@dataclass(frozen=True, slots=True)
class _Pending:
    rows: Sequence[FactRow]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class Writer:
    """One thread that commits; while it does, the next group gathers.

    Parameters
    ----------
    commit
        Writes rows durably in one transaction, or raises.
    """

    def __init__(self, commit: Callable[[Sequence[FactRow]], None]) -> None:
        self._commit = commit
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name="klartext-writer")

    @property
    def waiting(self) -> int:
        """Rows that are not yet durable."""
        return self._waiting

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    async def write(self, rows: Sequence[FactRow]) -> None:
        """Return when ``rows`` are durable.

        Raises
        ------
        NotWrittenError
            They are not.
        """
        if not rows:
            return
        if self._waiting + len(rows) > MAX_PENDING:
            raise NotWrittenError("too many rows are waiting to be written")
        loop = asyncio.get_running_loop()
        pending = _Pending(rows, loop, loop.create_future())
        self._waiting += len(rows)  # the event loop's thread only, as in _answer
        self._queue.put(pending)
        await pending.done

    def _run(self) -> None:
        going = True
        while going:
            first = self._queue.get()
            if first is None:
                return
            group, going = self._gather(first)
            try:
                self._commit([row for pending in group for row in pending.rows])
            except Exception as error:  # noqa: BLE001 - edge of the thread: every waiter is told
                _log.error("rows were not written: %s", getattr(error, "orig", error))
                answer: str | None = "the state database cannot be written"
            else:
                answer = None
            for pending in group:
                pending.loop.call_soon_threadsafe(self._answer, pending, answer)

    def _gather(self, first: _Pending) -> tuple[list[_Pending], bool]:
        group = [first]
        size = len(first.rows)
        while size < MAX_ROWS:
            try:
                pending = self._queue.get_nowait()
            except queue.Empty:
                break
            if pending is None:
                return group, False
            group.append(pending)
            size += len(pending.rows)
        return group, True

    def _answer(self, pending: _Pending, failure: str | None) -> None:
        self._waiting -= len(pending.rows)
        if pending.done.done():
            return  # the client went away
        if failure is None:
            pending.done.set_result(None)
        else:
            pending.done.set_exception(NotWrittenError(failure))
