"""Group commit: requests share transactions, and a failure reaches every waiter."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from klartext.app.service import writer as module
from klartext.app.service.writer import NotWrittenError, Writer
from klartext.experiments.records import FactRow
from tests.app.service.rows import row


def test_what_arrives_during_a_commit_shares_the_next_one() -> None:
    groups: list[int] = []
    gate = threading.Event()

    def commit(rows: Sequence[FactRow]) -> None:
        gate.wait(5)
        groups.append(len(rows))

    async def run() -> None:
        writing = [asyncio.create_task(writer.write([row(i)])) for i in range(200)]
        await asyncio.sleep(0.05)
        assert writer.waiting == 200
        gate.set()
        await asyncio.gather(*writing)

    writer = Writer(commit)
    writer.start()
    asyncio.run(run())
    writer.stop()
    assert sum(groups) == 200
    assert len(groups) <= 3
    assert writer.waiting == 0


def test_failure_reaches_every_waiter_and_the_thread_goes_on() -> None:
    broken = True

    def commit(rows: Sequence[FactRow]) -> None:
        if broken:
            raise OSError("disk full")

    async def run() -> None:
        nonlocal broken
        outcomes = await asyncio.gather(
            *(writer.write([row(i)]) for i in range(20)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {NotWrittenError}
        broken = False
        await writer.write([row(1)])

    writer = Writer(commit)
    writer.start()
    asyncio.run(run())
    writer.stop()


def test_full_queue_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 10)
    gate = threading.Event()

    def commit(rows: Sequence[FactRow]) -> None:
        gate.wait(5)

    async def run() -> None:
        first = asyncio.create_task(writer.write([row(i) for i in range(10)]))
        await asyncio.sleep(0.01)
        with pytest.raises(NotWrittenError, match="too many"):
            await writer.write([row(11)])
        gate.set()
        await first

    writer = Writer(commit)
    writer.start()
    asyncio.run(run())
    writer.stop()


def test_rows_that_wait_are_written_before_the_end() -> None:
    written: list[FactRow] = []
    started = threading.Event()

    def commit(rows: Sequence[FactRow]) -> None:
        started.wait(5)
        written.extend(rows)

    async def run() -> None:
        writing = [asyncio.create_task(writer.write([row(i)])) for i in range(5)]
        await asyncio.sleep(0.01)
        stopping = asyncio.create_task(asyncio.to_thread(writer.stop))
        await asyncio.sleep(0.01)
        started.set()
        await asyncio.gather(*writing, stopping)

    writer = Writer(commit)
    writer.start()
    asyncio.run(run())
    assert len(written) == 5
