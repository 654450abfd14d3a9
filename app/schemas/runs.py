"""Runs as clients ask for them and see them."""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema, ValidationError, fields, pre_load, validates, validates_schema

from runyard.app.schemas.fields import (
    Flag,
    Lenient,
    Number,
    Strict,
    Value,
    Word,
    anything,
    boolean,
    is_texts,
    mapping,
    one_of,
    seconds,
    text,
    texts,
    uuid,
    uuids,
    whole,
)

STREAM_MODES = (
    *("values", "updates", "messages", "messages-tuple", "custom"),
    *("events", "debug", "tasks", "checkpoints"),
)
STATUSES = ("pending", "running", "success", "error", "timeout", "interrupted")
#: A year. A start that lies further ahead is a mistake in units.
MAX_DELAY_S = 366 * 86400.0
RUN_FIELDS = (
    *("run_id", "thread_id", "assistant_id", "created_at", "updated_at", "status", "metadata", "kwargs"),
    "multitask_strategy",
)


def _is_configurable(value: Any) -> bool:
    return isinstance(value, dict) and not any(key.startswith("__") for key in value)


def _modes() -> Value:
    spec = {
        "description": "What a stream of the run tells. An empty list means values.",
        "oneOf": [
            {"type": "string", "enum": list(STREAM_MODES)},
            {"type": "array", "items": {"type": "string", "enum": list(STREAM_MODES)}},
        ],
    }
    known = frozenset(STREAM_MODES)
    accepted = f"one of {', '.join(STREAM_MODES)}, or a list of these"
    return Value(accepted, lambda v: known.issuperset(v) if is_texts(v) else isinstance(v, str) and v in known, spec)


def _nodes(when: str) -> Value:
    spec = {
        "description": f'Nodes to stop {when}; "*" for all of them.',
        "oneOf": [{"type": "string", "enum": ["*"]}, {"type": "array", "items": {"type": "string"}}],
    }
    return Value('"*" or a list of node names', lambda v: v == "*" or is_texts(v), spec)


class RunConfig(Schema):
    """LangGraph's config; what the runtime sets itself cannot be given."""

    class Meta:
        unknown = INCLUDE

    error_messages = {"type": "must be a JSON object"}  # noqa: RUF012 - marshmallow declares it so

    tags = texts("Tags that callbacks and traces see.")
    recursion_limit = whole("Most supersteps of the run.", least=1)
    max_concurrency = whole("Most nodes of a superstep at once.", least=1)
    metadata = mapping("Metadata that callbacks and checkpoints see.")
    configurable = Value(
        'a JSON object without names that begin with "__", which belong to LangGraph',
        _is_configurable,
        {"type": "object", "additionalProperties": True},
        "What nodes find in config['configurable'].",
    )


class Command(Strict):
    """How to go on after an interrupt."""

    resume = anything("The answer to an interrupt, or an object {interrupt id: answer}.")
    update = Value(
        "a JSON object or a list of [key, value] pairs",
        lambda v: isinstance(v, dict) or (isinstance(v, list) and all(_is_pair(item) for item in v)),
        {"oneOf": [{"type": "object", "additionalProperties": True}, {"type": "array", "items": {"type": "array"}}]},
        "Changes of the state.",
    )
    goto = Value(
        'a node name, {"node": name, "input": value}, or a list of these',
        lambda v: all(_is_goto(item) for item in (v if isinstance(v, list) else [v])),
        {"description": "Where to go on; an empty list means nothing."},
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _is_goto(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("node"), str) and value.keys() <= {"node", "input"}
    return isinstance(value, str)


class Checkpoint(Lenient):
    """A point in a thread's history."""

    thread_id = text()
    checkpoint_ns = text()
    checkpoint_id = text()
    checkpoint_map = mapping()


class RunCreate(Lenient):
    """A run to be started. Fields that are not listed are ignored, as LangGraph's server does."""

    assistant_id = text("An assistant's id, or the name of a graph.", required=True)
    input = anything("What the graph is given; null goes on where the thread stands.")
    command = fields.Nested(Command, allow_none=True)
    config = fields.Nested(RunConfig, allow_none=True)
    context = mapping("What nodes find in runtime.context.")
    metadata = mapping("Your own labels; checkpoints of the run carry them too.")
    checkpoint = fields.Nested(Checkpoint, allow_none=True)
    checkpoint_id = uuid("Where in the thread's history to go on from.")
    interrupt_before = _nodes("before")
    interrupt_after = _nodes("after")
    stream_mode = _modes()
    stream_subgraphs = boolean("Whether a stream also tells what subgraphs do.")
    stream_resumable = boolean("Whether events have ids, so that a reader can come back to where it was.")
    on_disconnect = one_of(["continue", "cancel"], "What becomes of the run when its waiting client goes. continue.")
    on_completion = one_of(["delete", "keep"], "What becomes of the thread of a stateless run. delete.")
    multitask_strategy = one_of(
        ["enqueue", "reject", "interrupt", "rollback"], "What to do when the thread is busy. enqueue."
    )
    if_not_exists = one_of(["reject", "create"], "What to do when there is no such thread. reject.")
    after_seconds = seconds("How long to wait before the run starts.", most=MAX_DELAY_S)
    timeout_s = Value(
        f"a number of seconds above 0 and up to {MAX_DELAY_S:g}",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 < v <= MAX_DELAY_S,
        {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DELAY_S},
        "How long the run may take from its first step on; then its status is timeout. The server's own limit.",
    )
    priority = whole("Of your runs that wait for a worker, those with a higher one go first. 0.", least=-100, most=100)
    durability = one_of(["sync", "async", "exit"], "exit keeps one checkpoint, at the end; the others keep them all.")
    checkpoint_during = boolean("Older word for durability: false means exit.")
    webhook = text("Where the run's end is told: an http or https URL that is sent a POST.")
    feedback_keys = texts("Accepted and ignored: it asks for links to LangSmith, which this server does not make.")

    @validates("assistant_id")
    def _named(self, value: str, data_key: str) -> None:  # noqa: ARG002
        if not value.strip():
            raise ValidationError("must be an assistant's id or the name of a graph, not empty")


class StatelessRun(RunCreate):
    """The same in the Agent Protocol's words, too: a run of an agent, which may name its thread in the body."""

    agent_id = text("An agent's id: another name for assistant_id.")
    thread_id = uuid("The thread to run on. Only together with agent_id; else it is ignored.")

    @pre_load
    def _in_our_words(self, data: Any, **_: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("assistant_id") is None and data.get("agent_id") is not None:
            return {"if_not_exists": "create", **data, "assistant_id": data["agent_id"]}
        return {key: value for key, value in data.items() if key != "thread_id"} if "thread_id" in data else data


class RunsCancel(Lenient):
    status = one_of(["pending", "running", "all"], "All runs of this status.")
    thread_id = uuid("The thread of run_ids.")
    run_ids = uuids("Runs of that thread.")

    @validates_schema
    def _either(self, data: dict[str, Any], **_: Any) -> None:
        if bool(data.get("status")) == bool(data.get("thread_id") and data.get("run_ids")):
            raise ValidationError("give either status, or thread_id and run_ids")


class Delivery(Schema):
    """What became of a webhook."""

    state = fields.String(metadata={"enum": ["pending", "delivered", "failed"]})
    attempts = fields.Integer()
    status_code = fields.Integer(allow_none=True, metadata={"description": "What the receiver answered last."})
    next_attempt_at = fields.DateTime(allow_none=True)
    settled_at = fields.DateTime(allow_none=True, metadata={"description": "When it was delivered or given up."})
    problem = fields.String(allow_none=True, metadata={"description": "Why the last attempt failed."})


class Run(Schema):
    """A run as it stands."""

    run_id = fields.UUID()
    thread_id = fields.UUID()
    assistant_id = fields.UUID()
    status = fields.String(metadata={"enum": list(STATUSES)})
    metadata = fields.Dict(keys=fields.String())
    kwargs = fields.Dict(keys=fields.String(), metadata={"description": "What was asked for."})
    multitask_strategy = fields.String()
    created_at = fields.DateTime()
    updated_at = fields.DateTime()
    started_at = fields.DateTime(allow_none=True)
    ended_at = fields.DateTime(allow_none=True)
    phase = fields.String(metadata={"description": "The status in finer words."})
    reason = fields.String(metadata={"description": "Where it stands and since when, in words."})
    due_at = fields.DateTime(allow_none=True, metadata={"description": "When a delayed run, or an attempt, is due."})
    deadline_at = fields.DateTime(allow_none=True, metadata={"description": "When it must have ended."})
    waits_for = fields.List(
        fields.Dict(keys=fields.String()), metadata={"description": "What a parked run waits for, by node."}
    )
    error = fields.Dict(keys=fields.String(), allow_none=True)
    partial = fields.Boolean(metadata={"description": "Whether something is missing."})
    missing = fields.List(
        fields.Dict(keys=fields.String()), metadata={"description": "Of `degraded`, what nothing stands in for."}
    )
    degraded = fields.List(fields.Dict(keys=fields.String()), metadata={"description": "What it does without."})
    attempts = fields.Dict(
        keys=fields.String(), values=fields.Integer(), metadata={"description": "Failed attempts, by task id."}
    )
    replays = fields.Integer(metadata={"description": "How often it was taken up from the dead letters."})
    priority = fields.Integer()
    spent = fields.Dict(keys=fields.String(), metadata={"description": "By kind; counted where there is a budget."})
    webhook_delivery = fields.Nested(
        Delivery, allow_none=True, metadata={"description": "How far its webhook got; null before its end."}
    )


#: LangGraph's server has one field more; runs here have no such name.
SELECTABLE = (*Run().fields, "langsmith_session_name")


class RunList(Lenient):
    limit = Number(10, least=1, most=1000, about="Most runs to answer.")
    offset = Number(0, least=0, most=2**31 - 1, about="How many of the newest to leave out.")
    status = Word(STATUSES)
    select = fields.List(Word(SELECTABLE), metadata={"description": "Answer only these fields."})


class JoinQuery(Lenient):
    cancel_on_disconnect = Flag("Cancel the run when this client goes.")


class StreamQuery(JoinQuery):
    stream_mode = fields.List(fields.String(), metadata={"description": "Only events of these modes."})


class ActionQuery(Lenient):
    action = Word(["interrupt", "rollback"], default="interrupt", about="rollback also undoes the run.")


class CancelQuery(ActionQuery):
    wait = Flag("Answer only when the run is over.")
