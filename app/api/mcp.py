"""The Model Context Protocol over HTTP, without sessions: assistants are tools."""

from __future__ import annotations

from typing import Any, NoReturn

from flask import Response, request
from marshmallow import missing

from runyard.app import answers, json_rpc, mcp
from runyard.app.api.streams import shaped
from runyard.app.auth.scopes import needs
from runyard.app.body import read
from runyard.app.errors import BadRequest, Forbidden
from runyard.app.json_rpc import RpcError
from runyard.app.resources import Resource
from runyard.app.schemas.json_rpc import RpcAnswer
from runyard.app.wiring import wired
from runyard.engine import wire
from runyard.engine.errors import EngineError, InvalidInput, NotFound, StoreUnavailable
from runyard.graphs.errors import GraphBroken

blueprint = Resource(
    "mcp", __name__, url_prefix="/mcp", description="Assistants as tools of the Model Context Protocol."
)

_ACCEPTED = ("application/json", "text/event-stream")


@blueprint.route("", methods=["POST"])
@blueprint.response(200, RpcAnswer)
@blueprint.alt_response(202, description="A notification, or an answer: there is nothing to say to it.")
@blueprint.alt_response(400, description="It is no message, or the client takes no answer of this kind.")
@needs("runs:write", "assistants.search")
def message() -> Response:
    """Carry out a message: initialize, ping, tools/list, tools/call."""
    given = _message()
    if "method" not in given or "id" not in given:
        return answers.nothing(202)
    named = given["id"]
    try:
        if given["method"] == "tools/call":
            run = mcp.call(wired(), json_rpc.params_of(given))
            return shaped(run, lambda told: wire.encode(json_rpc.result(named, mcp.outcome(wire.decode(told)))))
        return answers.json(json_rpc.result(named, mcp.answer(wired(), given)))
    except (StoreUnavailable, Forbidden):
        raise
    except RpcError as error:
        return answers.json(json_rpc.refusal(named, error))
    except (EngineError, GraphBroken) as error:
        code = json_rpc.INVALID_PARAMS if isinstance(error, InvalidInput) else json_rpc.INTERNAL_ERROR
        return answers.json(json_rpc.refusal(named, RpcError(code, str(error))))


@blueprint.route("", methods=["DELETE"])
@blueprint.alt_response(404, description="Always: there are no sessions.")
@needs("runs:write")
def end() -> NoReturn:
    """End a session, of which there are none: every message stands for itself."""
    raise NotFound("There are no sessions: every message stands for itself.")


def _message() -> dict[str, Any]:
    if "Accept" in request.headers and not any(request.accept_mimetypes[kind] for kind in _ACCEPTED):
        raise BadRequest("Accept: must include application/json or text/event-stream")
    try:
        given = read(request)
    except InvalidInput as error:
        raise BadRequest(str(error)) from None
    given = None if given is missing else given
    if fault := json_rpc.fault(given):
        raise BadRequest(fault)
    return dict(given)
