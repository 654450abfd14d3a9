"""From what went wrong to an HTTP answer. Status numbers exist here and nowhere else.

Every error body is ``{"detail": "<a sentence>"}``: LangGraph's clients show that sentence to people.
"""

from __future__ import annotations

from typing import Any

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound as NoSuchPath,
    RequestEntityTooLarge,
    UnprocessableEntity,
)

from runyard.engine import errors, wire
from runyard.graphs.errors import GraphBroken, UnknownGraph
from runyard.tasks.observe import report

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 1


class BadRequest(errors.InvalidInput):
    """The request contradicts itself."""

    code = "bad_request"


class WrongContentType(errors.InvalidInput):
    """The body is not JSON."""

    code = "wrong_content_type"


class NotReady(errors.EngineError):
    """Something that is needed to carry out runs is missing."""

    code = "not_ready"


class NotAuthenticated(errors.EngineError):
    """Nobody knows who asks."""

    code = "not_authenticated"


class Forbidden(errors.EngineError):
    """Forbidden"""

    code = "forbidden"


class HandlerRefused(Exception):
    """A handler of the project's Auth object has said no, and with which status."""

    def __init__(self, detail: str, status: int, headers: dict[str, str]) -> None:
        super().__init__(detail)
        self.status, self.headers = status if 400 <= status < 600 else 500, headers


class RateLimited(errors.Refused):
    """Too many requests."""

    code = "rate_limited"


#: The first that fits counts, so the special stand before the general.
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (BadRequest, 400),
    (NotAuthenticated, 401),
    (Forbidden, 403),
    (WrongContentType, 415),
    (errors.TooLarge, 413),
    (errors.InvalidInput, 422),
    (errors.StateTooLarge, 413),
    (errors.NotFound, 404),
    (UnknownGraph, 404),
    (errors.Conflict, 409),
    (RateLimited, 429),
    (errors.TooManyWaiting, 429),
    (errors.Backlogged, 503),
    (errors.StoreUnavailable, 503),
    (NotReady, 503),
    (errors.EmbeddingFailed, 502),
    # What the caller asked for is right, and the server's own project is not: its operator must hear of it.
    (GraphBroken, 500),
    (errors.GraphUnavailable, 500),
    (errors.EngineError, 500),
)


#: What an answer of a status says besides.
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": str(RETRY_AFTER_S)}}


class BadPath(UnprocessableEntity):
    """An id in the path is not one. A werkzeug error: it is raised while the path is being matched."""


def register(app: Flask) -> None:
    """Let every error of ``app`` leave as a JSON sentence."""
    for kind, status in STATUS:
        app.register_error_handler(kind, _known(status))
    app.register_error_handler(HandlerRefused, lambda error: answer(str(error), error.status, error.headers))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def answer(detail: str, status: int, headers: Any = ()) -> Response:
    return Response(wire.encode({"detail": detail}), status, headers, mimetype="application/json")


def _known(status: int) -> Any:
    def handle(error: Exception) -> Response:
        if status == 500:
            log.error("request.failed", path=request.path, error=str(error))
            report(error)
        headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, errors.Refused) else None
        return answer(str(error), status, headers or _HEADERS.get(status, {}))

    return handle


def _http(error: HTTPException) -> Response:
    headers = [pair for pair in error.get_headers() if pair[0].lower() not in ("content-type", "content-length")]
    return answer(_sentence(error), error.code or 500, headers)


def _sentence(error: HTTPException) -> str:
    path = request.path
    match error:
        case MethodNotAllowed():
            accepted = ", ".join(sorted(error.valid_methods or ()))
            return f"{request.method} is not allowed on {path}; it takes {accepted}."
        case NoSuchPath():
            return f"There is nothing at {path}. /docs describes the API."
        case RequestEntityTooLarge():
            limit = request.max_content_length
            return f"The body is too large: at most {limit} bytes are accepted (RUNYARD_MAX_BODY_BYTES)."
    return error.description or error.name


def _unexpected(error: Exception) -> Response:
    # The boundary of the web process: a bug must become an answer, and a line in the log that can be found from it.
    name = g.get("request_id", "")
    report(error)
    log.error("request.crashed", method=request.method, path=request.path, request_id=name, exc_info=error)
    named = f"Request {name}" if name else "The request"
    return answer(f"{named} failed in a way nobody expected ({type(error).__name__}); the log says more.", 500)
