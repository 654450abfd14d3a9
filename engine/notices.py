"""Notices: what somebody is told when nobody looks, who that is, and how often, as a project's configuration says.

``"runyard": {"notify": {"to": ["https://hooks.example.com/runyard", "slack://…"], "on": ["failed", "stuck"], …}}``,
with ``graphs`` and ``tenants`` for what is different for one. An http address is a signed webhook; everything else is a
URL of the library apprise (mail, Slack, Teams, …).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from runyard.engine import wire
from runyard.engine.errors import ConfigError
from runyard.engine.faults import faults_of
from runyard.engine.tenancy import stored

#: What is told of, and in what words.
KINDS = {
    "failed": "A run failed for good: it is a dead letter.",
    "stuck": "A run that is in hand, or waits for a worker, makes no progress.",
    "late": "A run takes longer than it is expected to.",
    "parked": "A run has been waiting for room for long.",
    "waiting": "A run waits for a person.",
    "budget": "A run has come to the edge of a budget.",
    "circuit": "A circuit has opened or closed.",
}
#: What variables begin with that a target may name.
ENV_PREFIX = "RUNYARD_NOTIFY_"
_TEMPLATE = re.compile(r"\$\{\{\s*env\.(\w+)\s*\}\}")
_HTTP = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a notice goes. The address may hold secrets: it is neither stored nor shown."""

    address: str = field(repr=False)

    @property
    def name(self) -> str:
        """What the store and people know it by."""
        digest = hashlib.sha256(self.address.encode()).hexdigest()[:12]
        return f"{self.address.partition(':')[0]}:{digest}"

    @property
    def is_webhook(self) -> bool:
        return self.address.startswith(_HTTP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    to: tuple[Target, ...] = ()
    on: frozenset[str] = frozenset(KINDS)
    stuck_after_s: float = 900.0
    #: None: a run is never late.
    late_after_s: float | None = None
    parked_after_s: float = 900.0
    #: When a person is reminded of a run that waits for them, after it began to.
    remind_s: tuple[float, ...] = (3600.0, 86_400.0)
    #: One notice of a group, say of one graph's failures in one node, is followed by no other for so long.
    quiet_s: float = 300.0
    most_per_hour: int = 60

    def tells(self, kind: str) -> bool:
        return bool(self.to) and kind in self.on


@dataclass(frozen=True, slots=True)
class Notify:
    everybody: Rules = field(default_factory=Rules)
    graphs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tenants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, graph_id: str = "", tenant: str = "") -> Rules:
        """The rules for a graph's runs of a tenant: what is said of the tenant wins."""
        own = {**self.graphs.get(graph_id, {}), **self.tenants.get(tenant, {})}
        return replace(self.everybody, **own) if own else self.everybody

    def all(self) -> list[Rules]:
        """Every set of rules that some run may have."""
        some = [self.everybody, *(replace(self.everybody, **own) for own in self.tenants.values())]
        return some + [replace(rules, **own) for rules in some for own in self.graphs.values()]

    def tells(self, kind: str) -> bool:
        """Whether anybody is told of anything of a kind."""
        return any(rules.tells(kind) for rules in self.all())

    def soonest(self, what: str) -> float:
        """The least of a number of seconds that some rules have; infinity for none."""
        said = [getattr(rules, what) for rules in self.all()]
        return min((number for number in said if number is not None), default=float("inf"))

    @property
    def targets(self) -> dict[str, Target]:
        """By name."""
        return {target.name: target for rules in self.all() for target in rules.to}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell, once. ``facts`` are what a program may want; no secret is in any of it."""

    kind: str
    #: Tells it from every other; the same when it is found again.
    key: str
    #: With what it is grouped.
    group: str
    title: str
    text: str
    tenant: str = ""
    run_id: str = ""
    thread_id: str = ""
    graph_id: str = ""
    link: str = ""
    at: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.kind}\0{self.key}".encode()).hexdigest()[:24]

    def told(self) -> dict[str, Any]:
        """As receivers get it."""
        return {
            "type": f"runyard.{self.kind}", "id": self.id, "kind": self.kind, "at": self.at, "title": self.title,
            "text": self.text, "tenant": self.tenant or "default", "run_id": self.run_id or None,
            "thread_id": self.thread_id or None, "graph_id": self.graph_id or None, "link": self.link or None,
            "facts": self.facts,
        }  # fmt: skip


def plain_text(told: Mapping[str, Any], more: int) -> str:
    """A notice for people; ``more``: how many of its group were not told since the one before."""
    lines = [str(told["text"])]
    if more:
        lines.append(f"And {more} more like it since the last notice.")
    if told.get("link"):
        lines.append(str(told["link"]))
    return "\n\n".join(lines)


def body_of(told: Mapping[str, Any], more: int) -> bytes:
    """A notice for programs."""
    return wire.encode({**told, "more": more})


# --- configuration


class _RulesSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"type": "must be an object", "unknown": "is not a field of notify"}  # noqa: RUF012

    to = fields.List(fields.String(required=True), error_messages={"invalid": "must be a list of addresses"})
    on = fields.List(
        fields.String(validate=validate.OneOf(list(KINDS), error=f"must be out of {', '.join(KINDS)}")),
        error_messages={"invalid": "must be a list of kinds"},
    )
    stuck_after_s = fields.Float(validate=validate.Range(1, 1e9, error="must be a number of seconds from 1"))
    late_after_s = fields.Float(
        validate=validate.Range(1, 1e9, error="must be a number of seconds from 1"), allow_none=True
    )
    parked_after_s = fields.Float(validate=validate.Range(1, 1e9, error="must be a number of seconds from 1"))
    remind_s = fields.List(
        fields.Float(validate=validate.Range(1, 1e9, error="must be a number of seconds from 1")),
        validate=validate.Length(max=20, error="must be a list of at most 20 numbers of seconds"),
        error_messages={"invalid": "must be a list of numbers of seconds"},
    )
    quiet_s = fields.Float(validate=validate.Range(0, 1e9, error="must be a number of seconds"))
    most_per_hour = fields.Integer(
        strict=True, validate=validate.Range(1, 10**6, error="must be a whole number above 0")
    )


class _NotifySchema(_RulesSchema):
    graphs = fields.Dict(keys=fields.String(), values=fields.Nested(_RulesSchema))
    tenants = fields.Dict(keys=fields.String(), values=fields.Nested(_RulesSchema))


def notify_of(configured: object, environ: Mapping[str, str], otherwise: str = "") -> Notify:
    """The rules of a project. ``otherwise``: addresses with spaces between, where it names none of its own.

    Raises ConfigError that names the field.
    """
    try:
        said: dict[str, Any] = _NotifySchema().load(configured)  # type: ignore[arg-type]  # what is no mapping is refused
    except ValidationError as error:
        raise ConfigError(f"runyard.notify is not valid: {faults_of(error)}.") from error
    own = {"to": otherwise.split(), **said}
    graphs, tenants = own.pop("graphs", {}), own.pop("tenants", {})
    return Notify(
        Rules(**_rules(own, "", environ)),
        {name: _rules(rules, f"graphs.{name}.", environ) for name, rules in graphs.items()},
        {stored(name): _rules(rules, f"tenants.{name}.", environ) for name, rules in tenants.items()},
    )


def _rules(said: Mapping[str, Any], where: str, environ: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = dict(said)
    if "to" in made:
        filled = [_filled(address, f"{where}to", environ) for address in made["to"]]
        made["to"] = tuple(Target(address) for address in filled if address)
    if "on" in made:
        made["on"] = frozenset(made["on"])
    if "remind_s" in made:
        made["remind_s"] = tuple(sorted(made["remind_s"]))
    return made


def _filled(address: str, where: str, environ: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if not found[1].startswith(ENV_PREFIX):
            raise ConfigError(f"runyard.notify.{where} may only use variables that begin with {ENV_PREFIX}.")
        if found[1] not in environ:
            raise ConfigError(f"runyard.notify.{where} uses {found[1]}, which is not set.")
        return environ[found[1]]

    made = _TEMPLATE.sub(value, address).strip()
    if made and ":" not in made:
        raise ConfigError(f"runyard.notify.{where} has an address that is none: it must be like https://… or slack://…")
    return made
