"""A thread as clients of the thread-centric protocol see it, and its stream for all others."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from marshmallow import missing

from runyard.app import answers, protocol, sse, thread_stream
from runyard.app.api.streams import EVENT_STREAM
from runyard.app.auth.scopes import needs
from runyard.app.body import read, sentence
from runyard.app.errors import BadRequest
from runyard.app.protocol_commands import carry_out, no_command
from runyard.app.resources import Resource
from runyard.app.schemas.commands import Answered, EventStream, ThreadStreamQuery, envelope_fault
from runyard.app.wiring import service, wired
from runyard.engine.errors import InvalidInput
from runyard.engine.store import events

blueprint = Resource(
    "thread streams", __name__, url_prefix="/threads/<thread:thread_id>", description="What a thread tells."
)

Json = dict[str, Any]


@blueprint.route("/commands", methods=["POST"])
@blueprint.response(200, Answered)
@blueprint.alt_response(400, description="It is no command.")
@needs("runs:write", "threads.read")
def command(thread_id: str) -> Response:
    """Carry out a command {id, method, params}; what is wrong with it is in the answer, whose status is 200."""
    try:
        given = read(request)
    except InvalidInput as error:
        raise BadRequest(str(error)) from None
    given = None if given is missing else given
    if fault := envelope_fault(given):
        return answers.json(no_command(given, fault), status=400)
    service().reach(thread_id)
    return answers.json(carry_out(wired(), thread_id, given))


@blueprint.route("/stream/events", methods=["POST"])
@blueprint.response(200, **EVENT_STREAM)
@blueprint.alt_response(400, description="It names no channels, or others than there are.")
@needs("threads:read", "threads.read")
def stream_events(thread_id: str) -> Response:
    """What the thread's runs tell, in the protocol's events, until the client goes."""
    body = _event_stream()
    service().reach(thread_id)
    wanted = protocol.Subscription(
        channels=frozenset(body["channels"]), namespaces=body.get("namespaces"), depth=body.get("depth")
    )
    since = body.get("since")
    if since is None and wanted.is_below_the_root:
        since = 0  # whoever opens a subgraph late wants to see what it did; no end of a run is told here
    return _stream(thread_id, since, protocol.shower(wanted), protocol.hold(wanted))


@blueprint.route("/stream")
@blueprint.query(ThreadStreamQuery)
@blueprint.response(200, **EVENT_STREAM)
@needs("threads:read", "threads.read")
def stream(query: Json, thread_id: str) -> Response:
    """What the thread's runs tell from now on, or after the header Last-Event-ID (-1: from the start)."""
    service().get_thread(thread_id)
    given = [*query.get("stream_mode", ()), *query.get("stream_modes", ())]
    modes = [mode for part in given for mode in part.split(",") if mode] or ["run_modes"]
    if unknown := [mode for mode in modes if mode not in thread_stream.MODES]:
        raise InvalidInput(f"stream_mode: must be among {', '.join(thread_stream.MODES)}, not {unknown[0][:60]!r}")
    return _stream(thread_id, _since(thread_id), thread_stream.shower(modes))


def _event_stream() -> Json:
    """The body, whose faults are 400 in this protocol."""
    try:
        given = read(request)
    except InvalidInput as error:
        raise BadRequest(str(error)) from None
    if faults := EventStream().validate({} if given is missing else given):
        raise BadRequest(sentence({"json": faults}))
    return dict(given)


def _stream(thread_id: str, since: int | None, shown: Any, hold: Any = lambda _: 0.0) -> Response:
    sees = service().sees
    return answers.events(lambda live: sse.thread(live, thread_id, since, shown, sees, hold), {})


def _since(thread_id: str) -> int:
    given = request.headers.get("Last-Event-ID")
    if given is None:
        return service().store.do(events.last_seq(service().keys, thread_id))
    if given in ("-", "-1"):
        return 0
    if not given.isdecimal() or len(given) > 15:
        raise InvalidInput(f"Last-Event-ID: must be an id of an event of this stream, or -1, not {given[:60]!r}")
    return int(given)
