"""The hot route: it says which variant a unit gets."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from klartext.app.service.body import read_json
from klartext.app.service.problems import ProblemError
from klartext.app.service.service import Service, service_of
from klartext.app.usecases import allocation
from klartext.app.usecases.allocation import Answer, Serving, share
from klartext.experiments.cells import RowError, identifier
from klartext.experiments.door import PropertyValue
from klartext.experiments.records import ExposureRow
from klartext.experiments.registry import not_registered

BODY_LIMIT = 64 * 1024
_KEYS = frozenset({"unit", "context", "expose", "force", "allocation_id"})


async def allocate(request: Request) -> Response:
    """``POST /v1/experiments/{key}/allocations``."""
    service = service_of(request)
    serving = _serving(service, request.path_params["key"])
    asked, expose = _read(await read_json(request, limit=BODY_LIMIT))
    now = service.session.now()
    answer = allocation.allocate(
        serving,
        asked,
        pseudonymiser=service.pseudonymiser,
        signer=service.signer,
        now=now,
    )
    served = answer.served
    exposed = served.reason == "assigned" and (expose or serving.expose_always)
    if exposed:
        await service.write((_exposure(service, serving, asked, answer, now),))
    document = {
        "allocation_id": answer.allocation_id,
        "experiment": serving.experiment.key,
        "version": serving.version,
        "policy_version": answer.policy_version,
        "variant": served.variant,
        "payload": served.payload,
        "propensity": share(served.propensity),
        "reason": served.reason,
        "exposed": exposed,
        "stale_s": service.catalogue.stale_s(now),
    }
    return Response(orjson.dumps(document), 200, None, "application/json")


def _serving(service: Service, key: str) -> Serving:
    servings = service.catalogue.servings
    serving = servings.get(key)
    if serving is None:
        detail = not_registered(key[:100], tuple(servings))
        raise ProblemError(404, "unknown-experiment", detail)
    if serving.experiment.assignment == "external":
        detail = f"{key} is split elsewhere (assignment: external); send its exposures instead."
        raise ProblemError(409, "external-assignment", detail)
    return serving


def _read(document: Any) -> tuple[allocation.Request, bool]:
    """Return the request and whether it wants its exposure written.

    Raises
    ------
    ProblemError
        422 with every member that is wrong.
    """
    if not isinstance(document, dict):
        raise ProblemError(422, "not-an-object", 'The body is an object such as {"unit": "u-1"}.')
    errors = [
        {"pointer": f"/{name}", "detail": f"unknown member; known are {', '.join(sorted(_KEYS))}"}
        for name in document.keys() - _KEYS
    ]
    unit = ""
    try:
        unit = identifier(document.get("unit"), "unit")
    except RowError as error:
        errors.append({"pointer": "/unit", "detail": error.detail})
    for name, kind, word in (
        ("context", dict, "an object"),
        ("expose", bool, "true or false"),
        ("force", str, "text"),
        ("allocation_id", str, "text"),
    ):
        if document.get(name) is not None and not isinstance(document[name], kind):
            errors.append({"pointer": f"/{name}", "detail": f"is not {word}"})
    if errors:
        detail = "; ".join(f"{error['pointer']}: {error['detail']}" for error in errors[:5])
        raise ProblemError(422, "invalid-request", detail, members={"errors": errors[:20]})
    context: Mapping[str, object] = document.get("context") or {}
    request = allocation.Request(
        unit, context, document.get("force"), document.get("allocation_id")
    )
    return request, bool(document.get("expose"))


def _exposure(
    service: Service, serving: Serving, asked: allocation.Request, answer: Answer, now: datetime
) -> ExposureRow:
    """Return the exposure; its id stands for the allocation, so posting that later is a repeat."""
    return ExposureRow(
        id=service.pseudonymiser.digest("exposure", answer.allocation_id),
        payload=service.pseudonymiser.digest("allocation", answer.allocation_id, ""),
        experiment=serving.experiment.key,
        unit=answer.pseudonym,
        variant=answer.served.variant,
        occurred_at=now,
        propensity=answer.served.propensity,
        policy_version=answer.policy_version,
        properties=_segments(service, serving, asked, now),
    )


def _segments(
    service: Service, serving: Serving, asked: allocation.Request, now: datetime
) -> dict[str, PropertyValue]:
    """Return what the context says of the segments of the experiment, and nothing else of it.

    A value that does not fit its declared type is not known: an allocation never fails for it.
    """
    found: dict[str, PropertyValue] = {}
    for name in serving.experiment.segments:
        value = asked.context.get(name)
        if isinstance(value, (str, int, float)):
            with contextlib.suppress(RowError):
                found |= service.judge.declared({name: value}, occurred_at=now)[0]
    return found
