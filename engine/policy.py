"""What a node asks of the runtime, validated: ``add_node(..., metadata={"runyard": {...}})``.

LangGraph has no word for these, so they are plain data beside the node. An operator can change them without touching
code: the project's configuration names graph and node and wins.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validate, validates_schema

from runyard.engine.breaker import Circuit, circuit_of
from runyard.engine.errors import ConfigError
from runyard.engine.faults import faults_of

#: 0% to 100%, with decimals.
_SHARE = re.compile(r"(100(\.0+)?|\d{1,2}(\.\d+)?)%")
_QUEUE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


@dataclass(frozen=True, slots=True)
class NodePolicy:
    #: Workers of this queue run the node; None: wherever its run is.
    queue: str | None = None
    #: Seconds one attempt may take; None: what the server allows any node. A plain function that has one is run where
    #: it can be killed.
    deadline_s: float | None = None
    #: Run in a process that may be killed, whatever the node is.
    isolate: bool = False
    #: When False, the run goes on without the node once its attempts are used up, and says so.
    required: bool = True
    #: What takes the node's place then: ``{"value": …}``, the name of another node, or (in code) a function.
    fallback: Any = None
    #: How many of the tasks of a fan-out must succeed: a number, or a share such as ``"80%"``. None: all of them.
    quorum: int | str | None = None
    #: Nodes that share it are one fan-out when they run in one superstep; None: the tasks of one node are.
    group: str | None = None
    #: Seconds that the rest gets once the quorum is reached; None: as long as it takes.
    rest_s: float | None = None
    #: The limit of the fleet that it needs a share of; see :mod:`runyard.engine.limits`.
    limit: str | None = None
    #: How long an attempt should take at most, in ms; a slower one is a breach, and counts against its circuit.
    sla_ms: float | None = None
    #: The circuit it is called through; see :mod:`runyard.engine.breaker`.
    circuit: Circuit | None = None
    #: What becomes of it while that is open: "fail" (a fallback or ``required: false`` hold), or "park".
    when_open: str = "fail"

    @property
    def is_gated(self) -> bool:
        """Whether it has to pass :mod:`runyard.engine.gate` before an attempt."""
        return self.limit is not None or self.circuit is not None or self.sla_ms is not None


def _check_fallback(value: Any) -> None:
    if callable(value) or isinstance(value, str) or (isinstance(value, Mapping) and set(value) == {"value"}):
        return
    raise ValidationError('must be {"value": …}, the name of a node, or a function')


def _check_quorum(value: Any) -> None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not is_number and not (isinstance(value, str) and _SHARE.fullmatch(value)):
        raise ValidationError(f'must be a number of tasks, or a share such as "80%", not {value!r}')


class _NodePolicySchema(Schema):
    class Meta:
        unknown = RAISE

    queue = fields.String(validate=validate.Regexp(_QUEUE, error="must be 1 to 64 letters, digits, '_', '.' or '-'"))

    deadline_s = fields.Float(validate=validate.Range(min=0, min_inclusive=False, error="must be seconds above 0"))
    isolate = fields.Boolean()
    required = fields.Boolean()
    fallback = fields.Raw(validate=_check_fallback)
    limit = fields.String()
    sla_ms = fields.Float(validate=validate.Range(min=0, min_inclusive=False, error="must be ms above 0"))
    circuit = fields.Raw()
    when_open = fields.String(validate=validate.OneOf(["fail", "park"], error='must be "fail" or "park"'))
    quorum = fields.Raw(allow_none=True, validate=_check_quorum)
    group = fields.String(
        allow_none=True, validate=validate.Length(min=1, max=64, error="must be a name of 1 to 64 characters")
    )
    rest_s = fields.Float(allow_none=True, validate=validate.Range(min=0, error="must be seconds from 0"))

    @validates_schema
    def _of_a_fan_out(self, data: dict[str, Any], **_: Any) -> None:
        for name in ("group", "rest_s"):
            if data.get(name) is not None and data.get("quorum") is None:
                raise ValidationError('says nothing without "quorum"', name)

    @post_load
    def _made(self, data: dict[str, Any], **_: Any) -> NodePolicy:
        return NodePolicy(**data)


def policies_of(
    graph_id: str,
    nodes: Mapping[str, Mapping[str, Any] | None],
    overrides: Mapping[str, Any] | None = None,
    *,
    limits: Collection[str] = (),
    circuits: Mapping[str, Circuit] | None = None,
) -> dict[str, NodePolicy]:
    """The policy of each node of a graph.

    ``nodes`` maps a node's name to its metadata, ``overrides`` a node's name to what configuration says about it;
    ``limits`` and ``circuits`` are what configuration defines by name.
    Raises ConfigError that names graph, node and field.
    """
    for name in overrides or {}:
        if name not in nodes:
            raise ConfigError(f"Policy for node {name!r} of graph {graph_id!r}: there is no such node.")
    made = {
        name: _policy(graph_id, name, [(metadata or {}).get("runyard"), (overrides or {}).get(name)], circuits or {})
        for name, metadata in nodes.items()
    }
    for name, policy in made.items():
        if isinstance(policy.fallback, str) and policy.fallback not in nodes:
            raise ConfigError(
                f"Policy of node {name!r} of graph {graph_id!r} is not valid: "
                f"fallback: there is no node {policy.fallback!r}."
            )
        if policy.limit is not None and policy.limit not in limits:
            raise ConfigError(
                f"Policy of node {name!r} of graph {graph_id!r} is not valid: limit: runyard.limits of langgraph.json "
                f"defines no {policy.limit!r}, only {', '.join(sorted(limits)) or 'nothing'}."
            )
    _check_groups(graph_id, made)
    return made


def _check_groups(graph_id: str, policies: Mapping[str, NodePolicy]) -> None:
    """Nodes of one group must agree on what the group needs."""
    said: dict[str, str] = {}
    for name, policy in policies.items():
        if policy.group is None:
            continue
        first = said.setdefault(policy.group, name)
        for field in ("quorum", "rest_s"):
            if (mine := getattr(policy, field)) != (theirs := getattr(policies[first], field)):
                raise ConfigError(
                    f"Policy of node {name!r} of graph {graph_id!r} is not valid: {field}: it is of group "
                    f"{policy.group!r} and says {mine!r}, node {first!r} of the same group says {theirs!r}."
                )


def _policy(graph_id: str, node: str, layers: list[Any], circuits: Mapping[str, Circuit]) -> NodePolicy:
    """One policy from what the code and the configuration say; the later layer wins, field by field."""
    data: dict[str, Any] = {}
    for layer in layers:
        if layer is not None and not isinstance(layer, Mapping):
            raise ConfigError(f"Policy of node {node!r} of graph {graph_id!r} is not valid: {layer!r} is no mapping.")
        data.update(layer or {})
    if not data:
        return NodePolicy()
    try:
        policy: NodePolicy = _NodePolicySchema().load(data)
        return replace(policy, circuit=_circuit(policy.circuit, f"{graph_id}.{node}", circuits))
    except ValidationError as error:
        raise ConfigError(f"Policy of node {node!r} of graph {graph_id!r} is not valid: {faults_of(error)}") from error


def _circuit(given: Any, own: str, circuits: Mapping[str, Circuit]) -> Circuit | None:
    """A circuit that is shared by name, or one of the node's ``own``. Raises ValidationError."""
    if given is None or given is False:
        return None
    if isinstance(given, str):
        if given not in circuits:
            known = ", ".join(sorted(circuits)) or "nothing"
            raise ValidationError(f"runyard.circuits of langgraph.json defines no {given!r}, only {known}.", "circuit")
        return circuits[given]
    try:
        return circuit_of(own, {} if given is True else given)
    except ValidationError as error:
        raise ValidationError(faults_of(error), "circuit") from error
