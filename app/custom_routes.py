"""The project's own routes: the application that ``http.app`` of langgraph.json names, beside the API.

It answers every path that the API has nothing for. An ASGI application (Starlette, FastAPI) runs on an event loop of
its own in each web process, its lifespan begins with the process and ends with it; a WSGI application (Flask) runs in
the request's thread. Its middleware sees its own routes only. It has no WebSockets, and a body without a length is
refused. An answer that streams holds one of the process's threads.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog
from a2wsgi import ASGIMiddleware
from flask import Flask, Response, request
from werkzeug.exceptions import LengthRequired, RequestEntityTooLarge

from runyard.app.auth import identity
from runyard.app.auth.custom import User
from runyard.app.auth.scopes import KNOWN, OPEN, needs
from runyard.engine.errors import ConfigError
from runyard.graphs.loops import LoopThread
from runyard.graphs.registry import load_object

log = structlog.get_logger(__name__)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: How long the application's start, and its end, may take.
LIFESPAN_S = 60.0
_USER = "runyard.user"

Wsgi = Callable[..., Iterable[bytes]]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def register(app: Flask, http: Mapping[str, Any], root: Path) -> None:
    """Serve the project's routes where ``app`` has none. Raises ConfigError for what cannot be loaded or started."""
    location = http.get("app")
    if location is None:
        return
    closed = http.get("enable_custom_route_auth") or False
    if not isinstance(closed, bool):
        raise ConfigError(f"langgraph.json: http.enable_custom_route_auth must be true or false, not {closed!r}.")
    theirs = _as_wsgi(_load(location, root), str(location))

    @needs(KNOWN if closed else OPEN)
    def custom(rest: str = "") -> Response:  # noqa: ARG001 - the path is in the environment
        return Response.from_app(theirs, _environ(app))  # type: ignore[return-value]  # werkzeug names its base class

    app.add_url_rule("/<path:rest>", "custom_routes", custom, methods=METHODS)


def _load(location: object, root: Path) -> Any:
    path, _, attribute = str(location).rpartition(":")
    if not path or not attribute:
        raise ConfigError(f'langgraph.json: http.app must be "./file.py:app", not {location!r}.')
    try:
        return load_object(path, attribute, root)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise ConfigError(
            f"langgraph.json: http.app {location!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def _as_wsgi(theirs: Any, location: str) -> Wsgi:
    if not callable(theirs):
        raise ConfigError(f"langgraph.json: http.app {location!r} is no ASGI or WSGI application: it cannot be called.")
    if not (inspect.iscoroutinefunction(theirs) or inspect.iscoroutinefunction(type(theirs).__call__)):
        return theirs  # type: ignore[no-any-return]
    loop = LoopThread("custom routes")
    life = Lifespan(theirs)
    try:
        loop.run(life.begin(), timeout_s=LIFESPAN_S)
    except Exception as error:  # whatever its start raises
        raise ConfigError(f"langgraph.json: http.app {location!r} does not start: {error!r}") from error
    atexit.register(lambda: loop.run(life.end(), timeout_s=LIFESPAN_S))
    return ASGIMiddleware(life.serve, loop=loop.running())  # type: ignore[return-value]


def _environ(app: Flask) -> dict[str, Any]:
    environ = request.environ
    if "HTTP_TRANSFER_ENCODING" in environ and request.content_length is None:
        raise LengthRequired("A body for the project's own routes needs a Content-Length.")
    most = app.config["MAX_CONTENT_LENGTH"]
    if request.content_length and request.content_length > most:
        raise RequestEntityTooLarge
    who = identity.current()
    # What a client could not have sent: no header of its has a name like this.
    return {**environ, _USER: who.principal or (User(who.user) if who.user else None)}


class Lifespan:
    """An ASGI application's start and end, and its state in between. All of it on one loop."""

    def __init__(self, theirs: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._theirs = theirs
        self._state: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Scope] | None = None
        self._answers: asyncio.Queue[Scope] | None = None

    async def begin(self) -> None:
        """Start the application. One that knows no lifespan has none. Raises RuntimeError with what it says."""
        self._events, self._answers = asyncio.Queue(), asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        self._task = asyncio.ensure_future(self._theirs(scope, self._events.get, self._answers.put))
        answer = await self._after("lifespan.startup")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            raise RuntimeError(answer.get("message") or "it says that its start failed")

    async def end(self) -> None:
        if self._task is not None and not self._task.done():
            await self._after("lifespan.shutdown")

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, with the lifespan's state and who asks."""
        more: Scope = {"state": dict(self._state)}
        if user := scope["wsgi_environ"].get(_USER):
            more |= {"user": user, "auth": user.permissions}
        await self._theirs({**scope, **more}, receive, send)

    async def _after(self, event: str) -> Scope | None:
        """What the application answers to an event; None when it ended without an answer."""
        assert self._events is not None and self._answers is not None and self._task is not None  # noqa: S101, PT018
        await self._events.put({"type": event})
        answer = asyncio.ensure_future(self._answers.get())
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        if failure := self._task.exception():
            log.info("custom_routes.no_lifespan", error=repr(failure))
        return None
