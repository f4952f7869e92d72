"""Errors over HTTP: problem details as RFC 9457 has them, one shape for every refusal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from klartext.app.usecases.allocation import AllocationError
from klartext.experiments.tokens import TokenError

MEDIA_TYPE = "application/problem+json"
_TITLES = {
    400: "The request cannot be read",
    404: "Not found",
    405: "Method not allowed",
    409: "The request contradicts the state of the experiment",
    413: "The request is too large",
    415: "Unsupported media type",
    421: "Wrong host",
    422: "The request was read but is not valid",
    500: "Something is broken here; the log says what",
    503: "Not available at present",
}
_log = logging.getLogger("klartext.service")


class ProblemError(Exception):
    """A refusal: HTTP status, stable kebab-case code, and what to do about it."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after_s: int | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.members = members or {}


def json_response(
    document: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return ``document`` as JSON."""
    return Response(orjson.dumps(document), status, headers, "application/json")


def problem_response(problem: ProblemError) -> Response:
    """Return the problem document."""
    document = {
        "type": f"urn:klartext:problem:{problem.code}",
        "title": _TITLES.get(problem.status, "The request was refused"),
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    headers = {} if problem.retry_after_s is None else {"Retry-After": str(problem.retry_after_s)}
    return Response(orjson.dumps(document), problem.status, headers, MEDIA_TYPE)


def _refused(_request: Request, error: Exception) -> Response:
    match error:
        case ProblemError():
            return problem_response(error)
        case TokenError() | AllocationError():
            return problem_response(ProblemError(422, error.reason, str(error)))
        case HTTPException(status_code=status):
            code = {404: "no-such-path", 405: "wrong-method"}.get(status, "refused")
            response = problem_response(ProblemError(status, code, str(error.detail)))
            response.headers.update(error.headers or {})
            return response
        case _:
            _log.error("unexpected error", exc_info=error)
            detail = "The server met an error it did not expect; nothing was acknowledged."
            return problem_response(ProblemError(500, "unexpected", detail))


HANDLERS: Mapping[Any, Any] = dict.fromkeys(
    (ProblemError, TokenError, AllocationError, HTTPException, Exception), _refused
)
"""For Starlette's ``exception_handlers``."""
