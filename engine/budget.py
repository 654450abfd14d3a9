"""What a run, a thread, and a tenant in a day may spend, as a project's configuration says: ``runyard.budgets``.

``{"run": {"tokens": 200000, "cost": 1.5}, "thread": {"model_calls": 500}, "tenant_day": {"cost": 50}, "at_the_edge":
"pause"}``, and ``graphs`` for what is different for one graph. :mod:`runyard.engine.meter` counts what was spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from runyard.engine.errors import ConfigError
from runyard.engine.faults import faults_of

Scope = Literal["run", "thread", "tenant_day"]
SCOPES: tuple[Scope, ...] = ("run", "thread", "tenant_day")
#: What is counted. ``cost`` is in the currency of ``runyard.prices``, ``seconds`` is time in the hands of workers.
KINDS = ("tokens", "cost", "model_calls", "tool_calls", "supersteps", "seconds")
#: What an answer has at most whose request names no most.
ANSWER_TOKENS = 131_072
_ONE_BY_ONE = frozenset({"model_calls", "tool_calls", "supersteps"})
Amounts = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Reached:
    """A budget that is used up."""

    scope: Scope
    what: str
    spent: float
    limit: float

    def told(self) -> dict[str, Any]:
        """What the person is asked who can grant more."""
        return {
            "kind": "budget", "scope": self.scope, "what": self.what, "spent": round(self.spent, 6),
            "limit": round(self.limit, 6), "question": f"{self}. Grant more?",
        }  # fmt: skip

    def __str__(self) -> str:
        whose = {"run": "this run", "thread": "this thread", "tenant_day": "this tenant for today"}[self.scope]
        return f"The budget of {whose} is used up: {self.spent:g} of {self.limit:g} {self.what.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class Budget:
    limits: Mapping[Scope, Amounts] = field(default_factory=dict)
    pauses: bool = True
    #: Tokens of an answer whose request names no most, at most.
    answer_tokens: int = ANSWER_TOKENS

    def __bool__(self) -> bool:
        return any(self.limits.values())

    @property
    def kinds(self) -> frozenset[str]:
        """What is limited, in whatever scope."""
        return frozenset(kind for limits in self.limits.values() for kind in limits)

    def reached(
        self, spent: Mapping[Scope, Amounts], granted: Mapping[Scope, Amounts], kind: str | None = None
    ) -> Reached | None:
        """The first budget that leaves nothing for one more of ``kind``; a grant comes on top of it.

        What is counted one by one matters only to the next one of its kind.
        """
        for scope, limits in self.limits.items():
            for what, limit in limits.items():
                if what in _ONE_BY_ONE and what != kind:
                    continue
                most = limit + granted.get(scope, {}).get(what, 0.0)
                if (used := spent.get(scope, {}).get(what, 0.0)) >= most:
                    return Reached(scope, what, used, most)
        return None


def grant_of(answer: Any, asked: Mapping[str, Any]) -> dict[str, float] | None:
    """What an answer to a budget's question grants; None: nothing.

    A number is so much more of what was asked for, an object says it by kind, false is a no, anything else as much
    again as the budget was.
    """
    if answer is False:
        return None
    if isinstance(answer, Mapping):
        return {kind: float(answer[kind]) for kind in KINDS if _is_amount(answer.get(kind))}
    return {asked["what"]: float(answer if _is_amount(answer) else asked["limit"])}


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e15


class _AmountsSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"type": "must be an object", "unknown": "is not counted"}  # noqa: RUF012


def _amount() -> fields.Float:
    said = "must be a number above 0"
    return fields.Float(
        validate=validate.Range(0, 1e15, min_inclusive=False, error=said), error_messages={"invalid": said}
    )


_Amounts = _AmountsSchema.from_dict({kind: _amount() for kind in KINDS}, name="_Amounts")


class _BudgetSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"type": "must be an object", "unknown": "is not a field of a budget"}  # noqa: RUF012

    run = fields.Nested(_Amounts)
    thread = fields.Nested(_Amounts)
    tenant_day = fields.Nested(_Amounts)
    at_the_edge = fields.String(validate=validate.OneOf(["pause", "fail"], error='must be "pause" or "fail"'))
    answer_tokens = fields.Integer(
        strict=True,
        validate=validate.Range(1, 10**9, error="must be a whole number above 0"),
        error_messages={"invalid": "must be a whole number above 0"},
    )


class _BudgetsSchema(_BudgetSchema):
    graphs = fields.Dict(keys=fields.String(), values=fields.Nested(_BudgetSchema))


@dataclass(frozen=True, slots=True)
class Budgets:
    everybody: Budget = field(default_factory=Budget)
    graphs: Mapping[str, Budget] = field(default_factory=dict)

    def of(self, graph_id: str) -> Budget:
        return self.graphs.get(graph_id, self.everybody)


def budgets_of(configured: object) -> Budgets:
    """The budgets of a project. Raises ConfigError that names the field."""
    try:
        said: dict[str, Any] = _BudgetsSchema().load(configured)  # type: ignore[arg-type]  # what is no mapping is refused
    except ValidationError as error:
        raise ConfigError(f"runyard.budgets is not valid: {faults_of(error)}.") from error
    everybody = _budget(Budget(), said)
    return Budgets(everybody, {name: _budget(everybody, own) for name, own in said.get("graphs", {}).items()})


def _budget(base: Budget, said: Mapping[str, Any]) -> Budget:
    limits = {**base.limits, **{scope: said[scope] for scope in SCOPES if scope in said}}
    pauses = said["at_the_edge"] == "pause" if "at_the_edge" in said else base.pauses
    return replace(base, limits=limits, pauses=pauses, answer_tokens=said.get("answer_tokens", base.answer_tokens))
