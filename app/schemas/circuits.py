"""Circuits, as operators see them and set them."""

from __future__ import annotations

from marshmallow import Schema, ValidationError, fields, validates

from runyard.app.schemas.fields import Strict, one_of, text
from runyard.engine.circuit_desk import WANTED
from runyard.engine.kinds import shown


class CircuitForce(Strict):
    """What a circuit is to be, and why."""

    state = one_of(WANTED, "Kept open, kept closed, or left to itself again, beginning anew.", required=True)
    reason = text("Why; shown with the circuit and kept in its history.", required=True)

    @validates("reason")
    def _said(self, value: str, data_key: str) -> None:  # noqa: ARG002
        if not value.strip() or len(value) > 1000:
            raise ValidationError(f"must be text of 1 to 1000 characters, not {shown(value)}")


class CircuitChange(Schema):
    """How a circuit changed once."""

    from_ = fields.String(data_key="from")
    to = fields.String()
    forced = fields.Boolean(metadata={"description": "An operator keeps it so."})
    why = fields.String()
    by = fields.String()
    at = fields.DateTime()


class Circuit(Schema):
    """A circuit as the whole fleet sees it."""

    name = fields.String()
    mode = fields.String(metadata={"enum": ["closed", "open", "half_open"]})
    forced = fields.Boolean(metadata={"description": "An operator keeps it so."})
    since = fields.DateTime(allow_none=True)
    until = fields.DateTime(allow_none=True, metadata={"description": "When an open one tries."})
    why = fields.String(allow_none=True)
    by = fields.String(allow_none=True, metadata={"description": "The operator, if one changed it last."})
    calls = fields.Integer(metadata={"description": "Calls in the window."})
    errors = fields.Integer(metadata={"description": "Of them, those that failed."})
    slow = fields.Integer(metadata={"description": "Of them, those that were slower than their SLA."})
    trying = fields.Integer(metadata={"description": "Calls that try it now."})
    waiting = fields.Integer(metadata={"description": "Runs and branches that are parked until it closes."})
    thresholds = fields.Dict(keys=fields.String())


class CircuitWithHistory(Circuit):
    history = fields.List(fields.Nested(CircuitChange), metadata={"description": "Newest first."})
