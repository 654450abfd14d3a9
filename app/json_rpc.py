"""JSON-RPC 2.0, as MCP and A2A speak it: what a request must look like, and how it is answered."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603


class RpcError(Exception):
    """A request that cannot be carried out, with JSON-RPC's or the protocol's code for why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def fault(given: Any) -> str | None:
    """What is wrong with a message, if anything is."""
    if not isinstance(given, dict):
        return "The message must be one JSON object."
    if given.get("jsonrpc") != "2.0":
        return 'jsonrpc: must be "2.0"'
    if not isinstance(given.get("id"), str | int | None) or isinstance(given.get("id"), bool):
        return "id: must be text or a whole number"
    return None


def params_of(message: Json) -> Json:
    """A request's parameters by name. Raises RpcError when they are given in another form."""
    given = message.get("params")
    if given is not None and not isinstance(given, dict):
        raise RpcError(INVALID_PARAMS, "params: must be a JSON object")
    return given or {}


def result(message_id: Any, value: Any) -> Json:
    return {"jsonrpc": "2.0", "id": message_id, "result": value}


def refusal(message_id: Any, error: RpcError) -> Json:
    return {"jsonrpc": "2.0", "id": message_id, "error": {"code": error.code, "message": str(error)}}
