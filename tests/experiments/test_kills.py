"""SIGKILL of real processes at every step and at random times: no loss, no double, sums hold."""

import multiprocessing
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import ibis
import pytest
import sqlalchemy as sa

from klartext.experiments.facts import FactsStore
from klartext.experiments.ingest import Writer
from tests.experiments import killing
from tests.experiments.doors import NOW, PROPERTIES
from tests.experiments.killing import INBOX, ROWS

RANDOM_KILLS = 60
SEED = 20261121

pytestmark = pytest.mark.slow


@pytest.fixture
def writer(state: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return Writer(state, FactsStore(f"{tmp_path}/facts", PROPERTIES), lambda: NOW)


def start(writer: Writer, what: str, turn: int, *, dies_at: int = 0) -> "multiprocessing.Process":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.experiments.killing"])
    arguments = (str(writer.engine.url), writer.facts.root)
    process = context.Process(target=killing.run, args=(arguments, what, turn, dies_at))
    process.start()
    return process  # type: ignore[return-value]  # a process of the context


def expect(writer: Writer, turns: Sequence[int], *, over_http: bool) -> None:
    """Compare tables and counts with what was sent."""
    tables = writer.facts.tables(ibis.duckdb.connect())
    imported = sorted(
        (10 * turn + place).to_bytes(16, "big") for turn in turns for place in range(1, ROWS + 1)
    )
    acknowledged = sorted(
        (INBOX + 10 * turn + place).to_bytes(16, "big")
        for turn in turns
        for place in range(1, ROWS + 1)
        if over_http
    )
    assert sorted(tables.exposures.id.to_pyarrow().to_pylist()) == imported
    assert sorted(tables.events.id.to_pyarrow().to_pylist()) == sorted(imported + acknowledged)
    query = sa.text("SELECT sum(accepted) FROM batches WHERE kind = :kind")
    with writer.engine.connect() as connection:
        for kind, ids in (("unit_table", imported), ("inbox", acknowledged)):
            assert (connection.scalar(query, {"kind": kind}) or 0) == len(ids)
        assert connection.scalar(sa.text("SELECT count(*) FROM inbox")) == 0
        whole = sa.text(
            "SELECT count(*) FROM batches WHERE kind = 'unit_table' AND finished_at IS NOT NULL"
            " AND accepted + duplicate + conflict + rejected <> :sent"
        )
        assert connection.scalar(whole, {"sent": ROWS + 1}) == 0


@pytest.mark.parametrize("what", ["import", "flush", "maintain"])
def test_a_kill_after_each_step(writer: Writer, what: str) -> None:
    """Turn by turn the process dies one step later, until it comes to its end."""
    turn = 0
    turns = []
    while True:
        turn += 1
        turns.append(turn)
        killing.acknowledge(writer, turn)
        if what != "import":
            killing.work(writer, "import", turn)
        if what == "maintain":
            killing.work(writer, "flush", turn)
        process = start(writer, what, turn, dies_at=turn)
        process.join(120)
        killing.work(writer, "import", turn)
        killing.work(writer, "flush", turn)
        expect(writer, turns, over_http=True)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert turn > {"import": 10, "flush": 8, "maintain": 8}[what]


def test_kills_at_random_times(writer: Writer) -> None:
    chance = random.Random(SEED)  # noqa: S311 - not for secrets
    turns = [0, 1]
    for turn in turns:  # the second one is timed: the first starts the server of processes
        began = time.monotonic()
        whole = start(writer, "all", turn)
        whole.join(120)
        assert whole.exitcode == 0
    longest = time.monotonic() - began
    killed = 0
    while killed < RANDOM_KILLS:
        turns.append(turns[-1] + 1)
        process = start(writer, "all", turns[-1])
        time.sleep(chance.uniform(0.05, 1.1) * longest)
        process.kill()
        process.join(120)
        killed += process.exitcode == -signal.SIGKILL
        if chance.random() < 0.3:
            killing.work(writer, "flush", turns[-1])
    for turn in turns:
        killing.acknowledge(writer, turn)
        killing.work(writer, "import", turn)
    killing.work(writer, "flush", 0)
    killing.work(writer, "maintain", 0)
    tables = writer.facts.tables(ibis.duckdb.connect())
    assert tables.events.count().to_pyarrow().as_py() == 2 * ROWS * len(turns)
    expect(writer, turns, over_http=True)
