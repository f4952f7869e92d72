"""What an allocation costs in CPU time, and over HTTP against a bare ASGI echo.

Run: ``python benchmarks/allocation.py``. Times depend on the machine; the ratios are what to
compare. Each figure is the median of interleaved rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from klartext.app.service import server
from klartext.app.session import Session, open_session
from klartext.app.usecases import allocation, registry
from klartext.app.usecases.allocation import Request, open_signer
from klartext.experiments.assignment import Assigner, Split

ROUNDS = 7
CALLS = 20_000
REQUESTS = 2_000
KEY = "subject-bandit"
PATH = f"/v1/experiments/{KEY}/allocations"

WORKSPACE = """\
schema: klartext/workspace/v1
name: benchmark
pseudonym_key: ../pseudonym.key
"""

EXPERIMENT = f"""\
schema: klartext/experiment/v1
key: {KEY}
title: Subject lines
owner: lena.vogt
hypothesis: One of the subject lines is opened more often.
kind: bandit
unit: customer
variants:
  - {{key: control, weight: 50%, payload: {{subject: classic}}}}
  - {{key: short, weight: 30%, payload: {{subject: short}}}}
  - {{key: long, weight: 20%, payload: {{subject: long}}}}
control: control
metrics:
  - {{key: open, kind: conversion, event: mail_open, window: 1d}}
value:
  - {{metric: open, worth: 0.10 EUR}}
plan: {{total_units: 100000}}
decision: {{hurdle_roi: 0%, probability: 80%, expected_loss: 100 EUR}}
bandit: {{policy: thompson, reward: open, floor: 5%}}
"""

Message: TypeAlias = dict[str, Any]
App: TypeAlias = Callable[[Message, Any, Any], Awaitable[None]]


@contextlib.contextmanager
def running_bandit() -> Iterator[Session]:
    """Yield a session on a new workspace in which the bandit runs."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "workspace"
        (root / "experiments").mkdir(parents=True)
        (root / "klartext.yaml").write_text(WORKSPACE)
        (root / "experiments" / "bandit.yaml").write_text(EXPERIMENT)
        session = open_session(root)
        registry.apply(session, (), actor="benchmark")
        registry.move(session, KEY, "running", actor="benchmark")
        yield session


def cpu_us(calls: int, run: Callable[[], object]) -> float:
    """Return CPU microseconds per call of ``run``, which makes ``calls`` of them."""
    before = time.process_time()
    run()
    return (time.process_time() - before) / calls * 1e6


def in_process(session: Session) -> dict[str, Callable[[], object]]:
    """Return the loops measured without HTTP."""
    from klartext.app.service.catalogue import Catalogue  # noqa: PLC0415 - part of the set-up

    signer = open_signer(session.workspace)
    catalogue = Catalogue(session, signer)
    catalogue.refresh()
    serving = catalogue.servings[KEY]
    units = [f"customer-{number}" for number in range(CALLS)]
    raw = [unit.encode() for unit in units]
    requests = [Request(unit) for unit in units]
    assigner = Assigner.of(layer="mails", experiment=KEY, slots=[(0, 900_000)])
    split = Split.of([("control", 500_000), ("short", 300_000), ("long", 200_000)])
    pseudonymiser, now = session.pseudonymiser, datetime.now(UTC)

    def one_hash() -> None:
        for unit in raw:
            split.index(assigner.bucket(unit))

    def both_hashes() -> None:
        for unit in raw:
            if assigner.in_traffic(unit):
                split.index(assigner.bucket(unit))

    def whole() -> None:
        for request in requests:
            allocation.allocate(
                serving, request, pseudonymiser=pseudonymiser, signer=signer, now=now
            )

    return {
        "hash and look-up": one_hash,
        "slot, hash and look-up": both_hashes,
        "with pseudonym and signature": whole,
    }


async def echo(_scope: Message, receive: Any, send: Any) -> None:
    """Answer a JSON body with itself: the least an ASGI application can do."""
    message = await receive()
    body = orjson.dumps(orjson.loads(message["body"]))
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def drive(app: App, bodies: list[bytes]) -> None:
    """Send POST requests into the application, below the HTTP parser."""
    for body in bodies:
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive(messages: Iterator[Message] = messages) -> Message:
            return next(messages)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != 200:
                raise RuntimeError(message)

        await app(scope(body), receive, send)


def scope(body: bytes) -> Message:
    """Return the ASGI scope of a request for an allocation."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:8787"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8787),
    }


class Connection:
    """uvicorn's h11 protocol on one connection in memory: parser and writer, no socket."""

    def __init__(self, app: App) -> None:
        import uvicorn  # noqa: PLC0415 - part of the set-up
        from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415
        from uvicorn.server import ServerState  # noqa: PLC0415

        config = uvicorn.Config(app, log_level="critical", access_log=False, ws="none")
        config.load()
        self._written = io.BytesIO()
        self._protocol = H11Protocol(config, ServerState(), {})
        self._protocol.connection_made(self)  # type: ignore[arg-type] # a transport in memory

    async def post(self, body: bytes) -> None:
        """Send one request and wait for its answer."""
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._written = io.BytesIO()
        self._protocol.data_received(head.encode() + body)
        while not self._protocol.cycle.response_complete:  # noqa: ASYNC110 - one turn at a time
            await asyncio.sleep(0)
        if not self._written.getvalue().startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self._written.getvalue())

    def write(self, data: bytes) -> None:
        """Take what the protocol writes."""
        self._written.write(data)

    def get_extra_info(self, name: str) -> Any:
        """Return addresses as a socket would."""
        return {"sockname": ("127.0.0.1", 8787), "peername": ("127.0.0.1", 1)}.get(name)

    def is_closing(self) -> bool:
        """Whether the connection ends: never."""
        return False

    def close(self) -> None:
        """Do nothing."""

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""


async def over_http(session: Session) -> dict[str, list[float]]:
    """Return CPU microseconds per request of the echo and of the service, per round."""
    app = server.build(session, flush_s=3600)
    bodies = [orjson.dumps({"unit": f"customer-{number}"}) for number in range(REQUESTS)]
    figures: dict[str, list[float]] = {}

    async def connected(target: App) -> None:
        connection = Connection(target)
        for body in bodies:
            await connection.post(body)

    runs: dict[str, Callable[[], Awaitable[None]]] = {
        "ASGI echo": lambda: drive(echo, bodies),
        "ASGI service": lambda: drive(app, bodies),
        "HTTP echo": lambda: connected(echo),
        "HTTP service": lambda: connected(app),
    }
    async with app.router.lifespan_context(app):  # type: ignore[attr-defined] # Starlette's
        for _ in range(ROUNDS):
            for name, run in runs.items():
                before = time.process_time()
                await run()
                cost = (time.process_time() - before) / REQUESTS * 1e6
                figures.setdefault(name, []).append(cost)
    return figures


def main() -> None:
    """Measure and print."""
    figures: dict[str, list[float]] = {}
    with running_bandit() as session:
        loops = in_process(session)
        for _ in range(ROUNDS):
            for name, run in loops.items():
                figures.setdefault(name, []).append(cpu_us(CALLS, run))
        figures |= asyncio.run(over_http(session))
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, median in medians.items():
        print(f"{name:<30} {median:8.1f} µs CPU")  # noqa: T201 - its output
    for kind in ("ASGI", "HTTP"):
        pairs = zip(figures[f"{kind} service"], figures[f"{kind} echo"], strict=True)
        ratio = statistics.median(service / echoed for service, echoed in pairs)
        print(f"{f'{kind} service / echo':<30} {ratio:8.2f}")  # noqa: T201 - its output


if __name__ == "__main__":
    main()
