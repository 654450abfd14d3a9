"""What a node asks of the runtime, validated: ``add_node(..., metadata={"runyard": {...}})``.

LangGraph has no word for these, so they are plain data beside the node. An operator can change them without touching
code: the project's configuration names graph and node and wins.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
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
    #: What follows when the attempts are used up: ``fail``, ``partial`` or ``park``; None: what ``required`` says.
    on_exhausted: str | None = None
    #: Seconds after which a parked node is tried anew by itself; None: not before an operator says so.
    park_s: float | None = None
    #: What takes the node's place then: ``{"value": …}``, ``{"stale": …}``, the name of another node, or (in code) a
    #: function; or a list of them, of which the first that gives something counts.
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
    def may_leave_home(self) -> bool:
        """Whether the node may belong to another queue than its run's."""
        return self.queue is not None or self.isolate or self.deadline_s is not None

    @property
    def when_exhausted(self) -> str:
        return self.on_exhausted or ("fail" if self.required else "partial")

    @property
    def fallbacks(self) -> Sequence[Any]:
        if self.fallback is None:
            return ()
        return self.fallback if isinstance(self.fallback, (list, tuple)) else (self.fallback,)

    @property
    def stale(self) -> Stale | None:
        """How the last good result is kept, when it is a fallback."""
        return next((stale_of(one) for one in self.fallbacks if stale_of(one) is not None), None)

    @property
    def is_gated(self) -> bool:
        """Whether it has to pass :mod:`runyard.engine.gate` before an attempt."""
        return self.limit is not None or self.circuit is not None or self.sla_ms is not None


@dataclass(frozen=True, slots=True)
class Stale:
    """How long a good result of a node may stand in for it, and what it depends on.

    ``key``: names of the input's fields; None: all of them, and the run's configuration.
    """

    max_age_s: float
    key: tuple[str, ...] | None = None


def stale_of(fallback: Any) -> Stale | None:
    """What a fallback says of stale results; None: it is another kind of fallback."""
    if not isinstance(fallback, Mapping) or "stale" not in fallback:
        return None
    said = fallback["stale"]
    if not isinstance(said, Mapping):
        return Stale(said)
    key = said.get("key")
    return Stale(said["max_age_s"], None if key is None else tuple([key] if isinstance(key, str) else key))


def _check_fallback(value: Any) -> None:
    if isinstance(value, (list, tuple)) and value:
        for one in value:
            _check_one_fallback(one)
    else:
        _check_one_fallback(value)


def _check_one_fallback(value: Any) -> None:
    if isinstance(value, Mapping) and set(value) == {"stale"}:
        _check_stale(value["stale"])
    elif not (callable(value) or isinstance(value, str) or (isinstance(value, Mapping) and set(value) == {"value"})):
        raise ValidationError('must be {"value": …}, {"stale": seconds}, the name of a node, a function, or a list')


def _check_stale(said: Any) -> None:
    age, key = said, None
    if isinstance(said, Mapping):
        age, key = said.get("max_age_s"), said.get("key")
    is_age = isinstance(age, (int, float)) and not isinstance(age, bool) and 0.001 <= age <= 10 * 366 * 86400
    names = [key] if isinstance(key, str) else key
    is_key = names is None or (isinstance(names, list) and names and all(isinstance(name, str) for name in names))
    if not is_age or not is_key or (isinstance(said, Mapping) and set(said) - {"max_age_s", "key"}):
        raise ValidationError(
            'stale: must be seconds above 0, or {"max_age_s": seconds, "key": names of fields of the input}'
        )


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
    on_exhausted = fields.String(
        allow_none=True, validate=validate.OneOf(["fail", "partial", "park"], error="must be fail, partial or park")
    )
    park_s = fields.Float(
        allow_none=True, validate=validate.Range(min=0, min_inclusive=False, error="must be seconds above 0")
    )
    fallback = fields.Raw(allow_none=True, validate=_check_fallback)
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
        if data.get("park_s") is not None and data.get("on_exhausted") != "park":
            raise ValidationError('says nothing without "on_exhausted": "park"', "park_s")
        if data.get("quorum") is not None and data.get("on_exhausted") not in (None, "fail"):
            raise ValidationError('"quorum" says already what follows when a task fails', "on_exhausted")

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
        for other in policy.fallbacks:
            if isinstance(other, str) and other not in nodes:
                raise ConfigError(
                    f"Policy of node {name!r} of graph {graph_id!r} is not valid: fallback: there is no node {other!r}."
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
