"""Answers: JSON at once, JSON that is waited for, and pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Response

from runyard.engine import wire

Headers = Mapping[str, str]


def json(value: Any, headers: Headers | None = None) -> Response:
    return Response(wire.encode(value), 200, headers, mimetype="application/json")


def nothing(status: int) -> Response:
    answer = Response(status=status)
    del answer.headers["Content-Type"]
    return answer


def chunked(parts: Iterable[bytes], headers: Headers) -> Response:
    """JSON that is still to come: headers go out at once, white space keeps proxies awake."""
    return Response(parts, 200, headers, mimetype="application/json")


def events(parts: Iterable[bytes], headers: Headers) -> Response:
    """Server-sent events that no proxy may hold back."""
    quiet = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers}
    return Response(parts, 200, quiet, mimetype="text/event-stream")


def page(items: list[Any], *, total: int, limit: int, offset: int) -> Response:
    """A part of a listing; its headers say how much there is and where the next part begins."""
    headers = {"X-Pagination-Total": str(total)}
    if offset + limit < total:
        headers["X-Pagination-Next"] = str(offset + limit)
    return json(items, headers)
