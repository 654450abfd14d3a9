"""Questions that are answered when nobody does: ``"runyard": {"waiting": {"expires_s": 86400, "answer": "no"}}``.

``graphs`` says what is different for one graph. A node may say it itself, in what it asks:
``interrupt({"question": "Send it?", "expires_s": 3600, "default": "no"})``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from runyard.engine.errors import ConfigError
from runyard.engine.faults import faults_of
from runyard.engine.notices import Notify
from runyard.engine.run import Run

_SOONEST_S, _LATEST_S = 1.0, 1e9


@dataclass(frozen=True, slots=True)
class Expiry:
    """After so many seconds the answer is taken for a person's."""

    after_s: float
    answer: Any


@dataclass(frozen=True, slots=True)
class Waiting:
    everybody: Expiry | None = None
    graphs: Mapping[str, Expiry] = field(default_factory=dict)

    def of(self, graph_id: str, question: Any) -> Expiry | None:
        """When a question expires, and what its answer is then; None: never. What it says itself wins."""
        if isinstance(question, Mapping) and "default" in question and _is_time(question.get("expires_s")):
            return Expiry(float(question["expires_s"]), question["default"])
        return self.graphs.get(graph_id, self.everybody)


def is_looked_at(notify: Notify, waiting: Waiting, run: Run, interrupts: Mapping[str, list[dict[str, Any]]]) -> bool:
    """Whether somebody is told that a run asks a person, or it is answered when nobody does."""
    if not interrupts:
        return False
    rules = notify.of(run.graph_id, run.tenant)
    if rules.tells("waiting") or rules.tells("budget"):
        return True
    asked = [item.get("value") for items in interrupts.values() for item in items]
    return any(waiting.of(run.graph_id, question) for question in asked)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _SOONEST_S <= value <= _LATEST_S


class _ExpirySchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"type": "must be an object", "unknown": "is not a field of waiting"}  # noqa: RUF012

    expires_s = fields.Float(
        validate=validate.Range(_SOONEST_S, _LATEST_S, error="must be a number of seconds from 1"),
        error_messages={"invalid": "must be a number of seconds from 1"},
    )
    answer = fields.Raw(allow_none=True)

    @validates_schema
    def _has_both(self, data: Mapping[str, Any], **_: Any) -> None:
        if ("expires_s" in data) != ("answer" in data):
            raise ValidationError("expires_s and answer go together", "answer")


class _WaitingSchema(_ExpirySchema):
    graphs = fields.Dict(keys=fields.String(), values=fields.Nested(_ExpirySchema))


def waiting_of(configured: object) -> Waiting:
    """Raises ConfigError that names the field."""
    try:
        said: dict[str, Any] = _WaitingSchema().load(configured)  # type: ignore[arg-type]  # what is no mapping is refused
    except ValidationError as error:
        raise ConfigError(f"runyard.waiting is not valid: {faults_of(error)}.") from error
    graphs = {name: expiry for name, own in said.get("graphs", {}).items() if (expiry := _expiry(own))}
    return Waiting(_expiry(said), graphs)


def _expiry(said: Mapping[str, Any]) -> Expiry | None:
    return Expiry(said["expires_s"], said["answer"]) if "expires_s" in said else None
