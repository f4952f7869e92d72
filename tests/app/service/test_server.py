"""A real ``klartext serve``: it starts, answers, restarts with the same answers, and ends well."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from klartext.analysis.engine import open_engine
from klartext.app.service import server
from klartext.app.session import Session
from klartext.app.usecases import registry
from klartext.experiments.errors import KlartextError
from klartext.experiments.inbox import pending
from klartext.experiments.state import reading

ALLOCATIONS = "/v1/experiments/subject-bandit/allocations"
UNITS = [f"customer-{number}" for number in range(100)]


@contextmanager
def serving(root: Path) -> Iterator[httpx.Client]:
    """Run ``klartext serve`` on a free port until the end of the block."""
    command = [sys.executable, "-m", "klartext", "-w", str(root), "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("listening on http://127.0.0.1:"), line
            with httpx.Client(base_url=line.split()[2], timeout=30) as client:
                yield client
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    assert process.returncode == 0


def variants(client: httpx.Client) -> list[str]:
    answers = [client.post(ALLOCATIONS, json={"unit": unit}).json() for unit in UNITS]
    return [answer["variant"] for answer in answers]


def test_restart_changes_no_variant_and_loses_no_event(root: Path, session: Session) -> None:
    event = {
        "id": "open-1",
        "unit": "customer-1",
        "name": "mail_open",
        "occurred_at": "2026-01-12T09:00:00Z",  # a real service has a real clock
    }
    with serving(root) as client:
        before = variants(client)
        shown = client.post(ALLOCATIONS, json={"unit": "customer-1", "expose": True})
        assert shown.json()["exposed"]
        assert client.post("/v1/events", json=event).status_code == 202
    with serving(root) as client:
        assert variants(client) == before
        assert client.post("/v1/events", json=[event, event]).status_code == 202
        registry.move(session, "subject-bandit", "paused", actor="lena", reason="incident")
        deadline = time.monotonic() + 10  # it takes two seconds; a busy machine more
        while client.post(ALLOCATIONS, json={"unit": "x"}).json()["reason"] != "paused":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with reading(session.engine) as connection:
        assert pending(connection) == 0
    with open_engine() as engine:
        facts = session.facts.tables(engine)
        assert facts.events.count().to_pyarrow().as_py() == 1
        assert facts.exposures.count().to_pyarrow().as_py() == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "::"])  # noqa: S104
def test_only_loopback_without_an_explicit_word(session: Session, host: str) -> None:
    with pytest.raises(KlartextError, match="--insecure-listen"):
        server.serve(session, host=host, port=0, insecure_listen=False, announce=print)


def test_hot_modules_import_nothing_heavy() -> None:
    heavy = ("numpy", "pyarrow", "ibis", "scipy", "pandas", "duckdb", "deltalake")
    code = (
        "import sys, klartext.app.service.server, klartext.experiments.policies\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_records_and_tokens_need_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import klartext.experiments.assignment, klartext.experiments.tokens\n"
        "import klartext.experiments.policies\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'klartext'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
