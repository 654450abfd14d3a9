"""Dead letters, their repairs, and what a run has produced so far."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validates, validates_schema

from runyard.app.schemas.fields import Number, Strict, Value, boolean, mapping, seconds, text, texts, whole
from runyard.engine.kinds import shown

#: Ages and waits beyond ten years are mistakes in units.
MOST_S = 10 * 366 * 86400.0
FILTERS = ("graph_id", "node", "fingerprint", "graph_fingerprint", "older_than", "younger_than")


class Age(fields.Float):
    """A query parameter that is a number of seconds."""

    def __init__(self, about: str) -> None:
        words: Any = {"invalid": f"must be a number of seconds from 0 to {MOST_S:g}"}
        super().__init__(error_messages=words, metadata={"minimum": 0, "description": about})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        age = super()._deserialize(value, attr, data, **options)
        if not 0 <= age <= MOST_S:
            raise self.make_error("invalid")
        return age


class LetterFilter(Strict):
    """Which dead letters are meant: those that fit all that is given. A misspelt filter must not mean all of them."""

    graph_id = fields.String(metadata={"description": "Runs of this graph."})
    node = fields.String(metadata={"description": "This node failed."})
    fingerprint = fields.String(metadata={"description": "The same kind of failure: the letters' `fingerprint`."})
    graph_fingerprint = fields.String(metadata={"description": "Runs of this version of a graph."})
    older_than = Age("Failed at least so many seconds ago.")
    younger_than = Age("Failed less than so many seconds ago.")


class LetterList(LetterFilter):
    limit = Number(20, least=1, most=1000, about="Most dead letters to answer.")
    offset = Number(0, least=0, most=2**31 - 1, about="How many of the newest to leave out.")


def _is_names(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


class Repair(Strict):
    """What to change before a replay. Without anything only what failed is tried again."""

    values = mapping(
        "Written into the state as if `as_node` had returned them; the run goes on behind that node. This begins a new "
        "superstep: what finished siblings of the failed node have saved is left behind. The other repairs keep it."
    )
    as_node = text("The node that is to have written `values`; without it, the node that wrote last.")
    output = mapping("By failed node: what it is to be taken to have returned.")
    skip = texts("Failed nodes that are to be taken to have returned nothing.")
    goto = Value(
        "a JSON object {failed node: node to go on with}",
        _is_names,
        {"type": "object", "additionalProperties": {"type": "string"}},
        "By failed node: the node to go on with instead.",
    )
    accept_change = boolean("Go on although the graph was changed and has lost the nodes that were next.")


class BulkReplay(Repair):
    """Which dead letters to replay, how, and how fast."""

    graph_id = text("Runs of this graph.")
    node = text("This node failed.")
    fingerprint = text("The same kind of failure: the letters' `fingerprint`.")
    graph_fingerprint = text("Runs of this version of a graph.")
    older_than = seconds("Failed at least so many seconds ago.", most=MOST_S)
    younger_than = seconds("Failed less than so many seconds ago.", most=MOST_S)
    all = boolean("Needed when no filter is given: every dead letter.")
    per_second = Value(
        "a number from 0.1 to 1000",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0.1 <= v <= 1000,
        {"type": "number", "minimum": 0.1, "maximum": 1000},
        "Most replays a second. 10.",
    )
    limit = whole("Most dead letters to replay, the oldest first. 1000.", least=1, most=100_000)

    @validates_schema
    def _meant(self, data: dict[str, Any], **_: Any) -> None:
        if not data.get("all") and not any(data.get(name) is not None for name in FILTERS):
            raise ValidationError(f'give at least one of {", ".join(FILTERS)}, or "all": true for every dead letter')


class Discard(Strict):
    reason = text("Why; kept with the run.", required=True)

    @validates("reason")
    def _said(self, value: str, data_key: str) -> None:  # noqa: ARG002
        if not value.strip() or len(value) > 1000:
            raise ValidationError(f"must be text of 1 to 1000 characters, not {shown(value)}")


class LetterSummary(Schema):
    """A run that failed for good, in a list."""

    run_id = fields.UUID()
    thread_id = fields.UUID()
    graph_id = fields.String()
    status = fields.String(metadata={"enum": ["error", "timeout", "running"]})
    phase = fields.String(metadata={"description": "`failed`, `timed_out`, or `parked`: it waits for an operator."})
    node = fields.String(allow_none=True, metadata={"description": "The first node that failed for good."})
    error = fields.String(metadata={"description": "The type of its error."})
    message = fields.String()
    fingerprint = fields.String(metadata={"description": "The same for the same kind of failure."})
    graph_fingerprint = fields.String(metadata={"description": "The version of the graph."})
    failed_at = fields.DateTime()
    replays = fields.Integer(metadata={"description": "How often it was taken up again before."})


class Letter(LetterSummary):
    """All that is known of a run that failed for good."""

    request = fields.Dict(keys=fields.String(), metadata={"description": "Input, command and config."})
    traceback = fields.String(allow_none=True)
    attempts = fields.List(
        fields.Dict(keys=fields.String()),
        metadata={"description": "Every failed attempt: node, error, traceback, duration, worker, what was decided."},
    )
    degraded = fields.List(fields.Dict(keys=fields.String()))
    checkpoint = fields.Dict(keys=fields.String(), allow_none=True)
    values = fields.Dict(keys=fields.String(), allow_none=True)
    siblings = fields.List(
        fields.Dict(keys=fields.String()),
        metadata={"description": "What finished nodes of the failed superstep have written; kept by a replay."},
    )


class BulkLine(Schema):
    """One line of a bulk replay's answer; the last one has `done` instead, with the counts."""

    run_id = fields.UUID()
    replayed = fields.Boolean()
    detail = fields.String(metadata={"description": "Why it was not."})
    done = fields.Boolean()
    refused = fields.Integer()


class Part(Schema):
    """What one execution of a node has produced."""

    step = fields.Integer()
    node = fields.String()
    task_id = fields.UUID()
    status = fields.String(metadata={"enum": ["done", "failed", "waiting", "open"]})
    result = fields.Raw(metadata={"description": "When done."})
    error = fields.String(metadata={"description": "When failed."})
    interrupts = fields.List(fields.Dict(keys=fields.String()), metadata={"description": "When waiting."})


class Partial(Schema):
    """What a run has produced so far."""

    run_id = fields.UUID()
    thread_id = fields.UUID()
    status = fields.String()
    phase = fields.String()
    reason = fields.String(metadata={"description": "Where the run stands, in words."})
    parts = fields.List(fields.Nested(Part))
    partial = fields.Boolean(metadata={"description": "Whether something is missing."})
    missing = fields.List(
        fields.Dict(keys=fields.String()), metadata={"description": "Of `degraded`, what nothing stands in for."}
    )
    degraded = fields.List(fields.Dict(keys=fields.String()), metadata={"description": "What the run does without."})
    attempts = fields.Dict(keys=fields.String(), values=fields.Integer(), metadata={"description": "By task id."})
