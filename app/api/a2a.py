"""The Agent2Agent protocol over JSON-RPC: assistants are agents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Response, request
from marshmallow import missing

from runyard.app import a2a, a2a_stream, answers, json_rpc
from runyard.app.api.streams import EVENT_STREAM, shaped
from runyard.app.auth import identity
from runyard.app.auth.handlers import check_assistant
from runyard.app.auth.scopes import needs
from runyard.app.body import read
from runyard.app.errors import Forbidden
from runyard.app.json_rpc import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError
from runyard.app.resources import Resource
from runyard.app.schemas.json_rpc import AgentCard, CardQuery, RpcAnswer
from runyard.app.wiring import service, wired
from runyard.engine import wire
from runyard.engine.errors import AssistantNotFound, EngineError, InvalidInput, StoreUnavailable
from runyard.engine.store.assistants import Assistant
from runyard.graphs.errors import GraphBroken

blueprint = Resource("a2a", __name__, description="Assistants as agents of the Agent2Agent protocol.")

Json = dict[str, Any]


@blueprint.route("/.well-known/agent-card.json")
@blueprint.query(CardQuery)
@blueprint.response(200, AgentCard)
@needs("assistants:read", "assistants.read")
def well_known(query: Json) -> Response:
    """The card of an assistant."""
    return _card(query["assistant_id"])


@blueprint.route("/a2a/<assistant_id>")
@blueprint.route("/a2a/<assistant_id>/.well-known/agent-card.json")
@blueprint.response(200, AgentCard)
@needs("assistants:read", "assistants.read")
def card(assistant_id: str) -> Response:
    """The card of an assistant, by its id or by the name of its graph."""
    return _card(assistant_id)


@blueprint.route("/a2a/<assistant_id>", methods=["POST"])
@blueprint.response(200, RpcAnswer)
@blueprint.alt_response(200, **EVENT_STREAM)
@needs("runs:write")
def message(assistant_id: str) -> Response:
    """Carry out a request: message/send, message/stream, tasks/get, tasks/cancel. What is wrong is in the answer."""
    named = None
    try:
        given = _request()
        named = given["id"]
        return _carry_out(_assistant(assistant_id), given)
    except (StoreUnavailable, Forbidden):
        raise
    except RpcError as error:
        return answers.json(json_rpc.refusal(named, error))
    except (EngineError, GraphBroken) as error:
        code = INVALID_PARAMS if isinstance(error, InvalidInput | AssistantNotFound) else INTERNAL_ERROR
        return answers.json(json_rpc.refusal(named, RpcError(code, str(error))))


def _card(assistant_id: str) -> Response:
    return answers.json(a2a.card(wired().catalog.find(assistant_id), request.root_url.rstrip("/")))


def _assistant(assistant_id: str) -> Assistant:
    found = wired().catalog.find(assistant_id)
    check_assistant(wired(), found)
    return found


def _request() -> Json:
    try:
        given = read(request)
    except InvalidInput as error:
        raise RpcError(PARSE_ERROR, str(error)) from None
    given = None if given is missing else given
    if fault := json_rpc.fault(given):
        raise RpcError(INVALID_REQUEST, fault)
    if given.get("id") is None or not isinstance(given.get("method"), str):
        raise RpcError(INVALID_REQUEST, "The message must have an id and a method.")
    return dict(given)


def _carry_out(assistant: Assistant, given: Json) -> Response:
    carry = _METHODS.get(given["method"])
    if carry is None:
        raise RpcError(json_rpc.METHOD_NOT_FOUND, f"Method not found: {given['method'][:60]}")
    return carry(assistant, given)


def _send(assistant: Assistant, given: Json) -> Response:
    run, _ = a2a.send(wired(), assistant, json_rpc.params_of(given))
    return shaped(run, lambda told: wire.encode(json_rpc.result(given["id"], a2a.ended(run, wire.decode(told)))))


def _stream(assistant: Assistant, given: Json) -> Response:
    run, said = a2a.send(wired(), assistant, json_rpc.params_of(given))
    kept = partial(service().kept_result, run, joined=False)
    return answers.events(lambda live: a2a_stream.stream(live, run, said, kept, given["id"]), {})


def _get(assistant: Assistant, given: Json) -> Response:  # noqa: ARG001
    identity.ask("threads.read")
    params = json_rpc.params_of(given)
    run = a2a.find(service(), params.get("id"), params.get("contextId"))
    return answers.json(json_rpc.result(given["id"], a2a.stored(service(), run, params.get("historyLength"))))


def _cancel(assistant: Assistant, given: Json) -> Response:  # noqa: ARG001
    identity.ask("threads.update")
    params = json_rpc.params_of(given)
    run = a2a.find(service(), params.get("id"), params.get("contextId"))
    return answers.json(json_rpc.result(given["id"], a2a.cancel(service(), run)))


_METHODS: dict[str, Callable[[Assistant, Json], Response]] = {
    "message/send": _send,
    "message/stream": _stream,
    "tasks/get": _get,
    "tasks/cancel": _cancel,
}
