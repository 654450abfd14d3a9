"""The thread-centric protocol's bodies."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

from runyard.app.protocol import CHANNELS, CUSTOM
from runyard.app.schemas.fields import Lenient, Value, is_texts, is_whole


def _is_channel(value: str) -> bool:
    return value in CHANNELS or (value.startswith(CUSTOM) and value != CUSTOM)


def channels() -> Value:
    accepted = f"a list of {', '.join(CHANNELS)} or custom:<name>"
    spec = {"type": "array", "items": {"type": "string"}}
    check = lambda v: is_texts(v) and bool(v) and all(_is_channel(item) for item in v)  # noqa: E731
    return Value(accepted, check, spec, "What to tell.", required=True)


class EventStream(Lenient):
    """What a stream of a thread's events is to tell."""

    channels = channels()
    namespaces = Value(
        "a list of namespaces, each a list of texts",
        lambda v: v is None or (isinstance(v, list) and all(is_texts(item) for item in v)),
        {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        "Only events at or below these.",
    )
    depth = Value(
        "a whole number of 0 or more",
        lambda v: v is None or (is_whole(v) and v >= 0),
        {"type": "integer", "minimum": 0},
        "How far below the namespaces events are still told; without namespaces it says nothing.",
    )
    since = Value(
        "the number of an event",
        lambda v: v is None or (is_whole(v) and v >= 0),
        {"type": "integer", "minimum": 0},
        "Only events after this one. Without it, those of the newest run and what follows; of subgraphs, all.",
    )


class ThreadStreamQuery(Lenient):
    stream_mode = fields.List(fields.String(), metadata={"description": "run_modes, lifecycle, state_update."})
    stream_modes = fields.List(fields.String(), metadata={"description": "Another name for stream_mode."})


class Answered(Schema):
    """What a command came to."""

    type = fields.String(required=True, metadata={"enum": ["success", "error"]})
    id = fields.Integer(required=True)
    result = fields.Dict(keys=fields.String())
    error = fields.String()
    message = fields.String()
    meta = fields.Dict(keys=fields.String())


def envelope_fault(value: Any) -> str | None:
    """What is wrong with a command's envelope, if anything is."""
    if not isinstance(value, dict):
        return "must be a JSON object {id, method, params}"
    if not is_whole(value.get("id")):
        return "id: must be a whole number"
    if not isinstance(value.get("method"), str):
        return "method: must be text"
    return None
