"""Whether the process is alive, and whether it is worth sending traffic to."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from klartext.app.service.problems import json_response
from klartext.app.service.service import service_of


async def healthz(_request: Request) -> Response:
    """``GET /healthz``: 200 while the process answers at all."""
    return json_response({"status": "ok"})


async def readyz(request: Request) -> Response:
    """``GET /readyz``: 200 once experiments were loaded; stays 200 when the state is gone.

    ``stale_s`` above 0 says for how many seconds the state could not be read: allocations go on,
    events are refused.
    """
    service = service_of(request)
    catalogue = service.catalogue
    document = {
        "status": "ready" if catalogue.loaded else "loading",
        "experiments": len(catalogue.servings),
        "stale_s": catalogue.stale_s(service.session.now()),
        "rows_waiting": service.writer.waiting,
    }
    return json_response(document, 200 if catalogue.loaded else 503)
