"""Threads and their state as clients ask for them and see them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

from runyard.app.extracts import MAX_PATHS, is_paths
from runyard.app.schemas.fields import (
    Flag,
    Lenient,
    Number,
    Value,
    anything,
    boolean,
    mapping,
    one_of,
    text,
    texts,
    uuid,
    uuids,
    whole,
)
from runyard.app.schemas.runs import Checkpoint, Command

STATUSES = ("idle", "busy", "interrupted", "error")
THREAD_FIELDS = (
    *("thread_id", "created_at", "updated_at", "state_updated_at", "metadata", "status"),
    *("config", "values", "interrupts", "error"),
)
SORT_FIELDS = ("thread_id", "status", "created_at", "updated_at", "state_updated_at")


TTL_STRATEGIES = ("delete", "keep_latest")
#: Ten years. A longer time to live is a mistake in units.
MAX_MINUTES = 10 * 366 * 1440


def _is_ttl(value: Any) -> bool:
    if isinstance(value, dict):
        known = value.keys() <= {"ttl", "strategy"} and value.get("strategy", "delete") in TTL_STRATEGIES
        return known and _is_minutes(value.get("ttl"))
    return _is_minutes(value)


def _is_minutes(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_MINUTES


def _ttl() -> Value:
    minutes = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_MINUTES}
    whole_ = {
        "type": "object",
        "properties": {"ttl": minutes, "strategy": {"type": "string", "enum": list(TTL_STRATEGIES)}},
        "required": ["ttl"],
        "additionalProperties": False,
    }
    return Value(
        'a number of minutes, or {"ttl": minutes, "strategy": "delete" or "keep_latest"}',
        _is_ttl,
        {"oneOf": [minutes, whole_]},
        "How many minutes after its last change the thread goes, or all of its history but the latest state.",
    )


class SuperstepUpdate(Lenient):
    values = anything("What the node is to have returned.")
    command = fields.Nested(Command, allow_none=True)
    as_node = text("The node; __input__ for the graph's input.")


class Superstep(Lenient):
    updates = fields.List(fields.Nested(SuperstepUpdate), required=True)


class ThreadCreate(Lenient):
    thread_id = uuid("The thread's id; made by the server when left out.")
    metadata = mapping("Your own labels, to search by.")
    if_exists = one_of(["raise", "do_nothing"], "What to do when the thread exists. raise.")
    ttl = _ttl()
    supersteps = fields.List(
        fields.Nested(Superstep),
        allow_none=True,
        metadata={"description": "A history to begin with; needs metadata.graph_id."},
    )


class ThreadPatch(Lenient):
    metadata = mapping("Merged into the metadata there is, key by key.")
    ttl = _ttl()


class ThreadFilter(Lenient):
    ids = uuids()
    metadata = mapping("Threads whose metadata holds all of this.")
    values = mapping("Threads whose values hold all of this.")
    status = one_of(STATUSES)


class ThreadSearch(ThreadFilter):
    limit = whole("Most threads to answer. 10.", least=1, most=1000)
    offset = whole("How many matching threads to leave out.")
    sort_by = one_of(SORT_FIELDS, "updated_at")
    sort_order = one_of(["asc", "desc"], "desc")
    order_by = anything("Another way to say both, like created_at ASC; what is not understood is ignored.")
    select = texts("Answer only these fields.", among=THREAD_FIELDS)
    extract = Value(
        f"a JSON object with up to {MAX_PATHS} paths such as values.messages[-1].content",
        is_paths,
        {"type": "object", "additionalProperties": {"type": "string"}},
        "Also answer these parts of each thread, by names of your choice, as `extracted`.",
    )


class Prune(Lenient):
    thread_ids = uuids(required=True)
    strategy = one_of(TTL_STRATEGIES, "delete, or keep_latest: only the history goes.")


class Pruned(Schema):
    pruned_count = fields.Integer()


class ThreadQuery(Lenient):
    include = fields.List(fields.String(), metadata={"description": "ttl: also tell when the thread will go."})


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
    ttl = fields.Dict(keys=fields.String(), allow_none=True, metadata={"description": "With include=ttl."})
    extracted = fields.Dict(keys=fields.String(), metadata={"description": "With extract."})


class Share(Schema):
    count = fields.Integer()
    bytes = fields.Integer()


class ChannelValues(Share):
    by_channel = fields.Dict(
        keys=fields.String(), metadata={"description": "By channel: `versions`, how many are kept, and their `bytes`."}
    )


class ThreadStorage(Schema):
    """What a thread's checkpoints take, as they are kept: compressed, and encrypted where that is set up."""

    thread_id = fields.UUID()
    total_bytes = fields.Integer()
    checkpoints = fields.Nested(Share)
    channel_values = fields.Nested(ChannelValues)
    pending_writes = fields.Nested(Share)


SELECT = "Answer only these fields; values.<key> for a single key of the state."


class StateQuery(Lenient):
    subgraphs = Flag("Also the states of subgraphs that are under way.")
    select = fields.List(fields.String(), metadata={"description": SELECT})


class StateRead(Lenient):
    checkpoint = fields.Nested(Checkpoint, required=True)
    subgraphs = boolean("Also the states of subgraphs that are under way.")
    select = texts(SELECT)


class StatePatch(Lenient):
    metadata = mapping("Merged into the thread's metadata, key by key.")


class StateUpdate(Lenient):
    values = anything("What to write, as a node would return it; null only moves on.")
    as_node = text("The node that is to have written it.")
    checkpoint = fields.Nested(Checkpoint, allow_none=True)
    checkpoint_id = uuid("Where in the history to fork from.")


def _is_before(value: Any) -> bool:
    return isinstance(value, str | dict)


class HistoryRead(Lenient):
    limit = whole("Most states to answer. 10.", least=1, most=1000)
    before = Value(
        "a checkpoint id, a checkpoint, or a config that names one",
        _is_before,
        {"oneOf": [{"type": "string"}, {"type": "object", "additionalProperties": True}]},
        "Only states older than this checkpoint.",
    )
    metadata = mapping("Only states whose metadata holds all of this.")
    checkpoint = fields.Nested(Checkpoint, allow_none=True)
    select = texts(SELECT)


class HistoryQuery(Lenient):
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
