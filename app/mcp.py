"""The assistants of the project as tools of the Model Context Protocol."""

from __future__ import annotations

import re
from typing import Any

from runyard.app import assistants
from runyard.app.json_rpc import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError, params_of
from runyard.app.json_schemas import schemas_of
from runyard.app.run_requests import start
from runyard.app.version import VERSION
from runyard.app.wiring import Wiring
from runyard.engine import wire
from runyard.engine.run import Run
from runyard.engine.store.assistants import Assistant
from runyard.graphs.errors import GraphBroken

Json = dict[str, Any]

#: Newest first; a client that speaks none of them is offered the first and may go.
VERSIONS = ("2025-06-18", "2025-03-26", "2024-11-05")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")
_MESSAGES = {"type": "string", "title": "Messages", "description": "What to tell the agent."}
_HINTS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": True}


def answer(wiring: Wiring, message: Json) -> Json:
    """The result of a request that starts no run. Raises RpcError."""
    method = message.get("method")
    if method == "initialize":
        return _initialized(params_of(message))
    if method == "ping":
        return {}
    if method == "tools/list":
        return {"tools": [tool for name, each in _named(wiring).items() if (tool := _tool(wiring, name, each))]}
    raise RpcError(METHOD_NOT_FOUND, f"Method not found: {str(method)[:60]}")


def call(wiring: Wiring, params: Json) -> Run:
    """The run, on a thread of its own, that a call of a tool starts. Raises RpcError, and what starting a run does."""
    found = _named(wiring).get(str(params.get("name")))
    if found is None:
        raise RpcError(INVALID_PARAMS, f"Unknown tool: {str(params.get('name'))[:60]}")
    given = params.get("arguments")
    if given is not None and not isinstance(given, dict):
        raise RpcError(INVALID_PARAMS, "arguments: must be a JSON object")
    return start(wiring, {"assistant_id": found.assistant_id, "input": _input(given or {})})


def outcome(values: Any) -> Json:
    """What a call answers: the values of the run as text, or why it failed."""
    error = values.get("__error__") if isinstance(values, dict) else None
    if error:
        return {"isError": True, "content": [_text(f"{error.get('error')}: {error.get('message')}")]}
    return {"content": [_text(wire.encode(values).decode())]}


def _text(said: str) -> Json:
    return {"type": "text", "text": said}


def _initialized(params: Json) -> Json:
    asked = params.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "Runyard", "version": VERSION},
    }


def _named(wiring: Wiring) -> dict[str, Assistant]:
    """Assistants by the names of their tools. Of several with one name the oldest has it; graphs come first."""
    own = wiring.catalog.known
    found = sorted(
        assistants.search(wiring, {}),
        key=lambda each: (own(each.assistant_id) is None, *assistants.order(each, "created_at")),
    )
    named: dict[str, Assistant] = {}
    for each in found:
        named.setdefault(_NOT_IN_NAMES.sub("_", each.name)[:128], each)
    return named


def _tool(wiring: Wiring, name: str, assistant: Assistant) -> Json | None:
    """A tool as it is listed; None when its graph cannot be loaded or does not take an object."""
    try:
        with wiring.catalog.open(assistant.graph_id) as graph:
            schema = schemas_of(assistant.graph_id, graph)["input_schema"]
    except GraphBroken:
        return None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return None
    about = assistant.description or f"Runs the assistant {assistant.name}."
    facts = {"name": name, "title": assistant.name, "description": about}
    return {**facts, "inputSchema": _spoken(schema), "annotations": _HINTS}


def _spoken(schema: Json) -> Json:
    """The schema with a chat's messages as what the caller says: models fill in a text, not LangChain's messages."""
    properties = dict(schema.get("properties") or {})
    if properties.get("messages", {}).get("type") != "array":
        return schema
    spoken = {**schema, "properties": {**properties, "messages": _MESSAGES}}
    if b'"$ref"' not in wire.encode(spoken["properties"]):
        spoken.pop("$defs", None)
    return spoken


def _input(arguments: Json) -> Json:
    said = arguments.get("messages")
    return {**arguments, "messages": [{"role": "user", "content": said}]} if isinstance(said, str) else arguments
