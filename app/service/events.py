"""Events, exposures, aliases: what is acknowledged is committed, once however often sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from klartext.app.service.body import read_json
from klartext.app.service.problems import ProblemError, json_response
from klartext.app.service.service import Service, service_of
from klartext.experiments import inbox
from klartext.experiments.cells import RowError, identifier, instant
from klartext.experiments.door import FUTURE_TOLERANCE, Door
from klartext.experiments.records import (
    ExposureRow,
    FactRow,
    Parsed,
    Reject,
    microseconds,
    parse_alias,
    parse_event,
    properties_of,
)
from klartext.experiments.tokens import TokenError

BODY_LIMIT = 1024 * 1024
MAX_ITEMS = 1_000

_Judged: TypeAlias = "tuple[FactRow, ...] | RowError"
_Judge: TypeAlias = Callable[[Service, Door, Mapping[str, Any]], _Judged]


async def post_events(request: Request) -> Response:
    """``POST /v1/events``: one event or an array of them.

    An empty array is a sign of life: all that happened until now has been sent.
    """
    return await _deliver(request, _parsed_by(parse_event), on_empty=_note_life)


async def post_exposures(request: Request) -> Response:
    """``POST /v1/exposures``: ``{"allocation_id": ...}`` or an array of them."""
    return await _deliver(request, _exposure)


async def post_aliases(request: Request) -> Response:
    """``POST /v1/aliases``: one alias or an array of them."""
    return await _deliver(request, _parsed_by(parse_alias))


async def _deliver(
    request: Request,
    judge: _Judge,
    *,
    on_empty: Callable[[Service], None] | None = None,
) -> Response:
    """Answer 202 when at least one item is durable, 422 when none could be read.

    ``accepted`` means committed. Whether an item was seen before is known when the inbox is
    flushed into the facts: there a repeat is dropped and counted.
    """
    service = service_of(request)
    body = await read_json(request, limit=BODY_LIMIT)
    items = body if isinstance(body, list) else [body]
    if not items:
        if on_empty is None:
            raise ProblemError(422, "empty", "The array has no items.")
        await asyncio.to_thread(on_empty, service)
        return json_response({"accepted": 0, "rejected": 0, "results": []}, 202)
    if len(items) > MAX_ITEMS:
        raise ProblemError(413, "too-many-items", f"Send at most {MAX_ITEMS} items at once.")
    door = service.door(service.session.now())
    judged = [
        judge(service, door, item)
        if isinstance(item, dict)
        else RowError("not-an-object", "an item is a JSON object")
        for item in items
    ]
    await service.write([row for rows in judged if not isinstance(rows, RowError) for row in rows])
    results = [_result(position, outcome) for position, outcome in enumerate(judged, start=1)]
    rejected = sum(isinstance(outcome, RowError) for outcome in judged)
    counts = {"accepted": len(items) - rejected, "rejected": rejected, "results": results}
    if rejected == len(items):
        detail = f"Nothing was accepted; the first reason: {results[0]['detail']}."
        raise ProblemError(422, "rejected", detail, members=counts)
    return json_response(counts, 202)


def _note_life(service: Service) -> None:
    session = service.session
    with session.engine.begin() as connection:
        inbox.mark_live(connection, session.now())


def _result(position: int, outcome: _Judged) -> dict[str, Any]:
    if isinstance(outcome, RowError):
        return {
            "position": position,
            "status": "rejected",
            "reason": outcome.reason,
            "detail": outcome.detail,
        }
    return {"position": position, "status": "accepted"}


def _parsed_by(parse: Callable[[Mapping[str, Any], Door], Parsed | Reject]) -> _Judge:
    def judge(_service: Service, door: Door, document: Mapping[str, Any]) -> _Judged:
        parsed = parse(document, door)
        if isinstance(parsed, Parsed):
            return parsed.facts
        return RowError(parsed.reason, parsed.detail)

    return judge


def _exposure(service: Service, door: Door, document: Mapping[str, Any]) -> _Judged:
    """Return the exposure that an allocation id stands for.

    The payload is what was sent, not when it came, so that a retry is a repeat.
    """
    try:
        text = identifier(document.get("allocation_id"), "allocation_id", reason="id-missing")
        allocation = service.signer.verify(text)
        if allocation.reason != "assigned":
            return RowError("not-assigned", f"the variant was served as {allocation.reason}")
        at = document.get("occurred_at")
        occurred_at = door.latest - FUTURE_TOLERANCE if at is None else instant(at, "occurred_at")
        door.past(occurred_at, "occurred_at")
        properties, _ = door.declared(properties_of(document), occurred_at=occurred_at)
    except TokenError as error:
        return RowError(error.reason, str(error))
    except RowError as error:
        return error
    sent = "" if at is None else str(microseconds(occurred_at))
    row = ExposureRow(
        id=service.pseudonymiser.digest("exposure", text),
        payload=service.pseudonymiser.digest("allocation", text, sent),
        experiment=allocation.experiment,
        unit=allocation.pseudonym,
        variant=allocation.variant,
        occurred_at=occurred_at,
        propensity=allocation.propensity,
        policy_version=allocation.policy_version,
        properties=properties,
    )
    return (row,)
