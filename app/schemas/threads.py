"""Threads and their state as clients ask for them and see them."""

from __future__ import annotations

from typing import Any

from marshmallow import EXCLUDE, Schema, fields

from runyard.app.schemas.fields import (
    Flag,
    Number,
    Strict,
    Value,
    anything,
    boolean,
    is_texts,
    mapping,
    one_of,
    text,
    texts,
    unsupported,
    uuid,
    whole,
)
from runyard.app.schemas.runs import Checkpoint

STATUSES = ("idle", "busy", "interrupted", "error")
THREAD_FIELDS = (
    *("thread_id", "created_at", "updated_at", "state_updated_at", "metadata", "status"),
    *("config", "values", "interrupts", "error"),
)
SORT_FIELDS = ("thread_id", "status", "created_at", "updated_at", "state_updated_at")


class ThreadCreate(Strict):
    thread_id = uuid("The thread's id; made by the server when left out.")
    metadata = mapping("Your own labels, to search by.")
    if_exists = one_of(["raise", "do_nothing"], "What to do when the thread exists. raise.")
    ttl = unsupported("a time to live")
    supersteps = unsupported("seeding a thread with supersteps")


class ThreadPatch(Strict):
    metadata = mapping("Merged into the metadata there is, key by key.")
    ttl = unsupported("a time to live")


class ThreadFilter(Strict):
    ids = Value("a list of UUIDs", is_texts, {"type": "array", "items": {"type": "string", "format": "uuid"}})
    metadata = mapping("Threads whose metadata holds all of this.")
    values = mapping("Threads whose values hold all of this.")
    status = one_of(STATUSES)


class ThreadSearch(ThreadFilter):
    limit = whole("Most threads to answer. 10.", least=1, most=1000)
    offset = whole("How many matching threads to leave out.")
    sort_by = one_of(SORT_FIELDS, "updated_at")
    sort_order = one_of(["asc", "desc"], "desc")
    select = texts("Answer only these fields.", among=THREAD_FIELDS)
    extract = unsupported("extract")


class Thread(Schema):
    """A conversation and its state."""

    thread_id = fields.UUID()
    created_at = fields.DateTime()
    updated_at = fields.DateTime()
    state_updated_at = fields.DateTime()
    metadata = fields.Dict(keys=fields.String())
    status = fields.String(metadata={"enum": list(STATUSES)})
    config = fields.Dict(keys=fields.String())
    values = fields.Raw(allow_none=True)
    interrupts = fields.Dict(keys=fields.String(), metadata={"description": "Task id to what the task asks."})
    error = fields.Dict(keys=fields.String(), allow_none=True)


class StateQuery(Strict):
    class Meta:
        unknown = EXCLUDE

    subgraphs = Flag("Also the states of subgraphs that are under way.")


class StateRead(Strict):
    checkpoint = fields.Nested(Checkpoint, required=True)
    subgraphs = boolean("Also the states of subgraphs that are under way.")


class StateUpdate(Strict):
    values = anything("What to write, as a node would return it; null only moves on.")
    as_node = text("The node that is to have written it.")
    checkpoint = fields.Nested(Checkpoint, allow_none=True)
    checkpoint_id = uuid("Where in the history to fork from.")


def _is_before(value: Any) -> bool:
    return isinstance(value, str | dict)


class HistoryRead(Strict):
    limit = whole("Most states to answer. 10.", least=1, most=1000)
    before = Value(
        "a checkpoint id, a checkpoint, or a config that names one",
        _is_before,
        {"oneOf": [{"type": "string"}, {"type": "object", "additionalProperties": True}]},
        "Only states older than this checkpoint.",
    )
    metadata = mapping("Only states whose metadata holds all of this.")
    checkpoint = fields.Nested(Checkpoint, allow_none=True)


class HistoryQuery(Strict):
    class Meta:
        unknown = EXCLUDE

    limit = Number(10, least=1, most=1000)
    before = fields.String(metadata={"description": "Only states older than this checkpoint id."})


class ThreadState(Schema):
    """A thread at one of its checkpoints."""

    values = fields.Raw()
    next = fields.List(fields.String())
    tasks = fields.List(fields.Dict(keys=fields.String()))
    metadata = fields.Dict(keys=fields.String(), allow_none=True)
    created_at = fields.String(allow_none=True)
    checkpoint = fields.Dict(keys=fields.String(), allow_none=True)
    parent_checkpoint = fields.Dict(keys=fields.String(), allow_none=True)
    interrupts = fields.List(fields.Dict(keys=fields.String()))
    checkpoint_id = fields.String(allow_none=True)
    parent_checkpoint_id = fields.String(allow_none=True)


class Updated(Schema):
    """Where an edit left the thread."""

    checkpoint = fields.Dict(keys=fields.String())
    configurable = fields.Dict(keys=fields.String())
    checkpoint_id = fields.String()
