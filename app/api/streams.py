"""Runs that a client stays with: wait for the result, stream the events, come back to either."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Response, request

from runyard.app import answers, sse
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.run_requests import start
from runyard.app.schemas.runs import STREAM_MODES, JoinQuery, RunCreate, StreamQuery
from runyard.app.wiring import service, wired
from runyard.engine import wire
from runyard.engine.errors import InvalidInput, NotFound
from runyard.engine.run import Run
from runyard.engine.store import events
from runyard.engine.watch import Awaited

blueprint = Resource(
    "streams", __name__, url_prefix="/threads/<thread:thread_id>/runs", description="Waiting for runs."
)

Json = dict[str, Any]
EVENT_STREAM = {"content_type": "text/event-stream", "description": "Server-sent events."}
_EVENT_ID = re.compile(r"\d{1,20}(-\d{1,20})?")


@blueprint.route("/wait", methods=["POST"])
@blueprint.body(RunCreate)
@blueprint.response(200, {}, description='The thread\'s values, or {"__error__": …}.')
@needs("runs:write")
def wait(body: Json, thread_id: str) -> Response:
    """Start a run and answer its result when it has ended."""
    return started_and_awaited(body, thread_id)


@blueprint.route("/stream", methods=["POST"])
@blueprint.body(RunCreate)
@blueprint.response(200, **EVENT_STREAM)
@needs("runs:write")
def stream(body: Json, thread_id: str) -> Response:
    """Start a run and stream what it tells."""
    return streaming(start(wired(), body, thread_id), cancel=body.get("on_disconnect") == "cancel")


@blueprint.route("/<run:run_id>/join")
@blueprint.query(JoinQuery)
@blueprint.response(200, {}, description='The thread\'s values, or {"__error__": …}.')
@needs("runs:read", "threads.read")
def join(query: Json, thread_id: str, run_id: str) -> Response:
    """The result of a run, when it has ended."""
    return waiting(service().get_run(run_id, thread_id), cancel=query["cancel_on_disconnect"])


@blueprint.route("/<run:run_id>/stream")
@blueprint.query(StreamQuery)
@blueprint.response(200, **EVENT_STREAM)
@needs("runs:read", "threads.read")
def join_stream(query: Json, thread_id: str, run_id: str) -> Response:
    """What a run tells from now on, or from the event after the header Last-Event-ID (-1: from the start)."""
    try:
        run = service().get_run(run_id, thread_id)
    except NotFound as error:  # a stream is expected, so the news is an event of one
        told = sse.frame("error", wire.encode({"error": "NotFound", "message": str(error)}))
        return answers.events_at_once(told)
    return joined(run, query)


def started_and_awaited(body: Json, thread_id: str | None) -> Response:
    """Start a run; the answer takes as long as it does."""
    with service().watch.awaited() as awaited:
        run = start(wired(), body, thread_id, before=awaited.begin)
        return _waiting(run, awaited, cancel=body.get("on_disconnect") == "cancel", joined=False)


def waiting(run: Run, *, cancel: bool) -> Response:
    """An answer that takes as long as a run that is there already."""
    with service().watch.awaited() as awaited:
        return _waiting(run, awaited, cancel=cancel, joined=True)


def _waiting(run: Run, awaited: Awaited, *, cancel: bool, joined: bool) -> Response:
    here = _place(run)
    kept = partial(service().kept_result, run, joined=joined)
    headers = {"Location": f"{here}/join", "Content-Location": here}
    if not cancel and (known := sse.soon(awaited, run, wired().spare, kept)) is not None:
        return answers.raw(known, headers)
    heard = awaited if awaited.keep(run) else None
    return answers.chunked(
        lambda live: sse.result(live, run, kept, heard), headers, on_gone=_ender(run, cancel), on_end=awaited.leave
    )


def shaped(run: Run, shape: Callable[[bytes], bytes]) -> Response:
    """An answer that takes as long as the run, whose result ``shape`` turns into what its client expects."""
    kept = partial(service().kept_result, run, joined=False)
    with service().watch.awaited() as awaited:
        if (known := sse.soon(awaited, run, wired().spare, kept)) is not None:
            return answers.raw(shape(known), {})
        heard = awaited if awaited.keep(run) else None
        return answers.chunked(lambda live: sse.shaped(live, run, kept, shape, heard), {}, on_end=awaited.leave)


def streaming(run: Run, *, cancel: bool, here: str | None = None) -> Response:
    """The events of a run from its start."""
    view = sse.View(ids=run.request.stream_resumable)
    return _events(run, view, cancel=cancel, here=here or _place(run))


def joined(run: Run, query: Json) -> Response:
    """The events of a run that is under way, for a reader that comes back or comes along."""
    given = request.headers.get("Last-Event-ID") or None
    after, names = _after(run, given), sse.names_of(_modes(query.get("stream_mode") or []))
    view = sse.View(
        after=after,
        names=names,
        ids=run.request.stream_resumable or given is not None,
        greeting=after == events.START and given is not None and names is None,
    )
    return _events(run, view, cancel=query["cancel_on_disconnect"], here=_place(run))


def _events(run: Run, view: sse.View, *, cancel: bool, here: str) -> Response:
    headers = {"Location": f"{here}/stream", "Content-Location": here}
    return answers.events(lambda live: sse.stream(live, run, view), headers, on_gone=_ender(run, cancel))


def _ender(run: Run, cancel: bool) -> Callable[[], None] | None:
    """What ends a run whose client has gone, if that is what the client asked for."""
    engine = service()
    return (lambda: engine.abandon(run)) if cancel else None


def _place(run: Run) -> str:
    return f"/threads/{run.thread_id}/runs/{run.run_id}"


def _after(run: Run, given: str | None) -> str:
    """The event id after which a reader of ``run`` wants to read on."""
    if given == "-1":
        return events.START
    if given is None:
        # An ended run has nothing left to tell; its last event would tell an error a second time.
        return service().last_event_id(run.run_id)
    if not _EVENT_ID.fullmatch(given):
        raise InvalidInput(f"Last-Event-ID: must be an id of an event of this stream, or -1, not {given[:60]!r}")
    return given if "-" in given else f"{given}-0"


def _modes(given: list[str]) -> list[str]:
    """Modes of the query, each given by itself or several with commas between them."""
    modes = [mode for part in given for mode in part.split(",") if mode]
    if unknown := [mode for mode in modes if mode not in STREAM_MODES]:
        raise InvalidInput(f"stream_mode: must be among {', '.join(STREAM_MODES)}, not {unknown[0][:60]!r}")
    return modes
