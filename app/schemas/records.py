"""A run's ledger, and the explanation that is made of it."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import Schema, ValidationError, fields

from runyard.app.schemas.fields import Number, Strict, Word
from runyard.engine.kinds import shown
from runyard.engine.record import Kind, Status
from runyard.engine.records import START

_ID = re.compile(r"\d{1,20}-\d{1,20}")


class After(fields.String):
    """The id of a record."""

    def __init__(self, about: str) -> None:
        super().__init__(load_default=START, metadata={"description": about, "example": "1795341704320-0"})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        given = super()._deserialize(value, attr, data, **options)
        if not _ID.fullmatch(given):
            raise ValidationError(f"must be the id of a record, such as 1795341704320-0, not {shown(given)}")
        return given


class RecordList(Strict):
    """Which records are meant: those that fit all that is given."""

    kind = Word(Kind, about="Records of this kind.")
    status = Word(Status, about="Records of what ended so.")
    node = fields.String(metadata={"description": "Of this node, and of the nodes of graphs that it called."})
    after = After("Only records after the one with this id.")
    limit = Number(0, least=0, most=10_000, about="Most records to answer; 0: 100, or as JSON lines all.")
    format = Word(("json", "jsonl"), default="json", about="JSON lines are answered at once, however many there are.")


class TokensSchema(Schema):
    """What models were given and gave."""

    in_ = fields.Integer(data_key="in")
    out = fields.Integer()
    by_model = fields.Dict(keys=fields.String(), values=fields.Dict(keys=fields.String(), values=fields.Integer()))


class RecordSchema(Schema):
    """One thing that happened in a run; what does not apply is null."""

    class Meta:
        ordered = True

    id = fields.String(metadata={"description": "Its place in the ledger; ids grow."})
    kind = fields.String(metadata={"enum": list(Kind)})
    run_id = fields.UUID()
    thread_id = fields.UUID()
    graph = fields.String()
    node = fields.String(allow_none=True, metadata={"description": "`outer/inner` in a graph that a node called."})
    step = fields.Integer(allow_none=True)
    attempt = fields.Integer(allow_none=True)
    tool = fields.String(allow_none=True, metadata={"description": "The tool, or the model."})
    args = fields.Raw(allow_none=True, metadata={"description": "Redacted and cut."})
    latency_ms = fields.Float(allow_none=True)
    queue_ms = fields.Float(allow_none=True)
    status = fields.String(metadata={"enum": list(Status)})
    result_count = fields.Integer(allow_none=True)
    tokens_used = fields.Nested(TokensSchema, allow_none=True)
    cost = fields.Float(allow_none=True, metadata={"description": "By `runyard.prices`; null without a price."})
    decision = fields.String(allow_none=True, metadata={"description": "Where it leads, or what followed a failure."})
    error = fields.String(allow_none=True)
    worker = fields.String()
    slice = fields.Integer()
    trace_id = fields.String()
    timestamp = fields.DateTime(metadata={"description": "When it began."})


class NextSchema(Schema):
    """A command, and what it is for."""

    command = fields.String()
    why = fields.String()


class CostSchema(Schema):
    """What a run used."""

    took_ms = fields.Integer()
    node_ms = fields.Float(metadata={"description": "Time in nodes; those side by side count each."})
    node_attempts = fields.Integer()
    tool_calls = fields.Integer()
    model_calls = fields.Integer()
    tokens_used = fields.Nested(TokensSchema)
    cost = fields.Float(allow_none=True)


class WhySchema(Schema):
    """Why a run is where it is."""

    run_id = fields.UUID()
    status = fields.String()
    phase = fields.String()
    headline = fields.String()
    story = fields.List(fields.String())
    attempts = fields.List(fields.String(), metadata={"description": "Those that did not go well."})
    decisions = fields.List(fields.String())
    cost = fields.Nested(CostSchema)
    next = fields.List(fields.Nested(NextSchema))
    text = fields.String(metadata={"description": "All of it, as lines for a person."})
