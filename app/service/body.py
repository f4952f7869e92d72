"""Request bodies: JSON of limited size, read strictly."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import orjson
from starlette.requests import Request

from klartext.app.service.problems import ProblemError


async def read_json(request: Request, *, limit: int) -> Any:
    """Return the JSON body of at most ``limit`` bytes.

    Raises
    ------
    ProblemError
        415 unless the body says it is JSON, so that a web page cannot post to a loopback service
        without a preflight; 413 when it is larger, also when its length was not announced or was
        understated; 400 when it is not JSON (RFC 8259, UTF-8), or an object has a member twice:
        of two values readers take one or the other.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(415, "not-json", "Send the body as Content-Type: application/json.")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    body = b"".join(chunks)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}."
        raise ProblemError(400, "bad-json", detail) from None
    _require_unique_members(body)
    return document


def _require_unique_members(body: bytes) -> None:
    """Read the JSON once more for its members alone: orjson keeps the last of two in silence."""
    try:
        json.loads(body, object_pairs_hook=_members, parse_int=len, parse_float=len)
    except RecursionError:
        raise ProblemError(400, "bad-json", "The body is nested too deeply.") from None


def _members(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        detail = f"An object has the member {twice[:40]!r} twice; send one."
        raise ProblemError(400, "repeated-member", detail)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, "body-too-large", f"A body has at most {limit} bytes.")
