"""Request bodies: JSON of limited size, read strictly."""

from __future__ import annotations

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
        understated; 400 when it is not JSON (RFC 8259, UTF-8).
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
    try:
        return orjson.loads(b"".join(chunks))
    except orjson.JSONDecodeError as error:
        detail = f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}."
        raise ProblemError(400, "bad-json", detail) from None


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, "body-too-large", f"A body has at most {limit} bytes.")
