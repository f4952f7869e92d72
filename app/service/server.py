"""The HTTP service: one process on one workspace, its routes, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from klartext.app.service import allocations, events, health
from klartext.app.service.catalogue import Catalogue
from klartext.app.service.periodic import Periodic
from klartext.app.service.problems import HANDLERS, ProblemError, problem_response
from klartext.app.service.service import Service
from klartext.app.service.writer import Writer
from klartext.app.usecases.allocation import open_signer
from klartext.experiments import inbox
from klartext.experiments.door import Door
from klartext.experiments.errors import KlartextError
from klartext.experiments.leases import LeaseHeldError
from klartext.experiments.ledger.fx import Rates, read_rates

if TYPE_CHECKING:
    from klartext.app.session import Session
    from klartext.experiments.records import FactRow

POLL_S = 1.0
"""Changes of the state reach the service within twice this."""

FLUSH_S = 5.0
"""Acknowledged rows reach the facts within about this."""


def build(
    session: Session, *, flush_s: float = FLUSH_S, allowed_hosts: Sequence[str] | None = None
) -> ASGIApp:
    """Return the service as an ASGI application with a lifespan.

    Parameters
    ----------
    session
        The open workspace.
    flush_s
        Seconds between flushes of the inbox into the facts.
    allowed_hosts
        Host names a request may carry; None for any. A loopback service checks them, because a
        web page can make its own name resolve to 127.0.0.1.
    """
    signer = open_signer(session.workspace)

    def commit(rows: Sequence[FactRow]) -> None:
        with session.engine.begin() as connection:
            inbox.put(connection, rows, now=session.now())

    service = Service(
        session=session,
        pseudonymiser=session.pseudonymiser,
        signer=signer,
        catalogue=Catalogue(session, signer),
        writer=Writer(commit),
        judge=_door(session),
    )
    jobs = (
        Periodic("poll", service.catalogue.poll, interval_s=POLL_S),
        Periodic("flush", lambda: _flush(session), interval_s=flush_s),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(service.catalogue.refresh)
        service.writer.start()
        for job in jobs:
            job.start()
        try:
            yield
        finally:
            for job in jobs:
                await asyncio.to_thread(job.stop)
            await asyncio.to_thread(service.writer.stop)
            await asyncio.to_thread(jobs[-1].once)  # what was acknowledged last, into the facts

    app = Starlette(
        routes=[
            Route("/v1/experiments/{key}/allocations", allocations.allocate, methods=["POST"]),
            Route("/v1/events", events.post_events, methods=["POST"]),
            Route("/v1/exposures", events.post_exposures, methods=["POST"]),
            Route("/v1/aliases", events.post_aliases, methods=["POST"]),
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
        ],
        exception_handlers=dict(HANDLERS),
        lifespan=lifespan,
    )
    app.state.service = service
    return app if allowed_hosts is None else _HostGuard(app, allowed_hosts)


def _door(session: Session) -> Door:
    workspace = session.workspace
    return Door(
        pseudonymiser=session.pseudonymiser,
        properties=workspace.properties,
        currency=workspace.currency,
        timezone=workspace.timezone,
        rates=Rates() if workspace.rates_file is None else read_rates(workspace.rates_file),
        latest=session.now(),
        variants={},
    )


def _flush(session: Session) -> None:
    """Move the inbox into the facts, unless somebody else is writing there: then next time."""
    from klartext.app.usecases import facts  # noqa: PLC0415 - pyarrow and Delta, not for routes

    if not facts.flush_is_needed(session):
        return
    with contextlib.suppress(LeaseHeldError):
        facts.flush(session)


class _HostGuard:
    """Refuses requests whose Host header names another host."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(name.encode("ascii") for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = next((value for name, value in scope["headers"] if name == b"host"), b"")
            name = host.partition(b"]")[0] + b"]" if host[:1] == b"[" else host.partition(b":")[0]
            if name.lower() not in self._allowed:
                problem = ProblemError(421, "wrong-host", "This service answers on loopback only.")
                await problem_response(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def serve(
    session: Session,
    *,
    host: str,
    port: int,
    insecure_listen: bool,
    announce: Callable[[str], None],
) -> None:
    """Serve until the process is told to end; requests under way are answered first.

    Parameters
    ----------
    session
        The open workspace.
    host, port
        Where to listen; port 0 takes a free one.
    insecure_listen
        Allow an address other machines can reach, although requests carry no key yet.
    announce
        Called with the address once it listens.

    Raises
    ------
    KlartextError
        The host is not a loopback address, or the address cannot be used.
    """
    import uvicorn  # noqa: PLC0415 - only needed by the process that serves

    loopback = _is_loopback(host)
    if not loopback and not insecure_listen:
        raise KlartextError(
            f"{host} can be reached by other machines, and requests carry no key: anybody there "
            "could send events. Listen on 127.0.0.1 behind a gateway that checks who asks, or "
            "accept it with --insecure-listen."
        )
    allowed = ("localhost", "127.0.0.1", "[::1]", host.lower()) if loopback else None
    app = build(session, allowed_hosts=allowed)
    with _listen(host, port) as listening:
        address = listening.getsockname()
        shown = f"[{address[0]}]" if listening.family == socket.AF_INET6 else address[0]
        announce(f"http://{shown}:{address[1]}")
        configuration = uvicorn.Config(
            app, log_level="warning", access_log=False, ws="none", server_header=False
        )
        uvicorn.Server(configuration).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise KlartextError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    listening.listen(2048)  # requests from now on wait for the start to end instead of failing
    return listening
