"""Answers: JSON at once, JSON that is waited for, and pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from flask import Response
from werkzeug.datastructures import Headers as AllHeaders

from runyard.app.errors import NotReady
from runyard.app.relay import Stream
from runyard.app.wiring import wired
from runyard.engine import wire
from runyard.engine.live import Live

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Headers = Mapping[str, str]
#: Makes the body of an answer that takes long; see Stream.
Parts = Callable[[Live], AsyncGenerator[bytes, None]]
#: Called when a client goes, or when an answer that takes long has ended.
OnGone = Callable[[], None] | None


class _Json(Response):
    """JSON that is all there, with headers that are right as they stand: werkzeug would copy them for each answer, to
    write addresses that hold other than ASCII anew, and to count the body once more."""

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> AllHeaders:  # noqa: ARG002
        return self.headers


def json(value: Any, headers: Headers | None = None, *, status: int = 200) -> Response:
    return _Json(wire.encode(value), status, headers, mimetype="application/json")


def nothing(status: int) -> Response:
    answer = Response(status=status)
    del answer.headers["Content-Type"]
    return answer


def raw(value: bytes, headers: Headers) -> Response:
    """JSON that is written already."""
    return _Json(value, 200, headers, mimetype="application/json")


def chunked(parts: Parts, headers: Headers, *, on_gone: OnGone = None, on_end: OnGone = None) -> Response:
    """JSON that is still to come: headers go out at once, white space keeps proxies awake."""
    return Response(_stream(parts, on_gone, on_end), 200, headers, mimetype="application/json", direct_passthrough=True)


def events(parts: Parts, headers: Headers, *, on_gone: OnGone = None) -> Response:
    """Server-sent events that no proxy may hold back. ``on_gone`` is called when the client goes before their end."""
    quiet = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers}
    return Response(_stream(parts, on_gone), 200, quiet, mimetype="text/event-stream", direct_passthrough=True)


def events_at_once(told: bytes) -> Response:
    """Server-sent events that are all there is to tell."""
    return Response(told, 200, {"Cache-Control": "no-store"}, mimetype="text/event-stream")


def _stream(parts: Parts, on_gone: OnGone, on_end: OnGone = None) -> Stream:
    relay = wired().relay
    if not relay.has_room():
        raise NotReady("This process serves as many streams as it can; try again, or start more web processes.")
    return Stream(relay, parts, on_gone, on_end)


def page(items: list[Any], *, total: int, limit: int, offset: int) -> Response:
    """A part of a listing; its headers say how much there is and where the next part begins."""
    headers = {"X-Pagination-Total": str(total)}
    if offset + limit < total:
        headers["X-Pagination-Next"] = str(offset + limit)
    return json(items, headers)
