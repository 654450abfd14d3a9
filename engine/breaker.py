"""When a circuit opens and closes: pure decisions over what the fleet saw in a sliding window.

The scripts ``admit_call`` and ``record_call`` decide the same in the store, for all workers at once;
``tests/integration/test_circuits.py`` holds them to these functions, step by step. Instants are ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from runyard.engine.errors import ConfigError
from runyard.engine.faults import faults_of

#: A window is counted in so many parts; what is older than the window goes a part at a time.
PARTS = 10
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"


class Mode(StrEnum):
    #: Calls go through and are counted.
    CLOSED = "closed"
    #: No call goes through until a time has passed.
    OPEN = "open"
    #: A few calls go through; what becomes of them decides.
    HALF_OPEN = "half_open"


class Result(StrEnum):
    OK = "ok"
    ERROR = "error"
    #: It succeeded, and took longer than its SLA.
    SLOW = "slow"
    #: It came to nothing that says anything: interrupted, cancelled, or it never began.
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Circuit:
    """Thresholds of one circuit, shared by all nodes that name it."""

    name: str
    #: It opens when this share of the window's calls failed, or
    error_rate: float = 0.5
    #: when this quantile of their latency is above the node's ``sla_ms``,
    quantile: float = 0.95
    #: once there were so many.
    min_calls: int = 20
    window_s: float = 60.0
    #: How long it stays open before it tries.
    open_s: float = 30.0
    #: So many calls try, over the whole fleet; all must succeed in time.
    probes: int = 3

    @property
    def slow_rate(self) -> float:
        """More slow calls than this, and the quantile is above the SLA."""
        return round(1.0 - self.quantile, 6)

    @property
    def window_ms(self) -> int:
        return round(self.window_s * 1000)

    @property
    def open_ms(self) -> int:
        return round(self.open_s * 1000)


#: (beginning, calls, errors, slow calls) of one part of the window.
Part = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class State:
    """A circuit as the fleet sees it. ``epoch`` grows with every change of ``mode``: what was admitted in another one
    says nothing about this."""

    mode: Mode = Mode.CLOSED
    epoch: int = 0
    since: int = 0
    #: Open until then.
    until: int = 0
    window: tuple[Part, ...] = ()
    #: Callers that try now, each with the instant from which its place may go to another.
    probes: tuple[tuple[str, int], ...] = ()
    #: How many have tried with success.
    passed: int = 0
    #: An operator keeps it as it is.
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    may_call: bool
    epoch: int
    probe: bool = False
    #: How long to wait before it is worth asking again; 0: until somebody says so.
    wait_ms: int = 0


def admit(circuit: Circuit, state: State, caller: str, now: int) -> tuple[State, Admission]:
    """Whether ``caller`` may call now. Asking twice is the same as once."""
    if state.mode is Mode.CLOSED:
        return state, Admission(True, state.epoch)
    if state.forced:
        return state, Admission(False, state.epoch)
    if state.mode is Mode.OPEN:
        if now < state.until:
            return state, Admission(False, state.epoch, wait_ms=state.until - now)
        state = State(Mode.HALF_OPEN, state.epoch + 1, now)
    places = dict(state.probes)
    if caller in places:
        return state, Admission(True, state.epoch, probe=True)
    if len(places) + state.passed >= circuit.probes:
        places = {name: ends for name, ends in places.items() if ends > now}
        if len(places) + state.passed >= circuit.probes:
            return state, Admission(False, state.epoch, wait_ms=circuit.open_ms)
    places[caller] = now + circuit.open_ms
    return replace(state, probes=tuple(places.items())), Admission(True, state.epoch, probe=True)


def record(circuit: Circuit, state: State, caller: str, epoch: int, result: Result, now: int) -> State:
    """What a call that was admitted in ``epoch`` came to."""
    if state.forced or epoch != state.epoch:
        return state
    if state.mode is Mode.HALF_OPEN:
        return _tried(circuit, state, caller, result, now)
    if state.mode is Mode.OPEN or result is Result.VOID:
        return state
    window = _counted(circuit, state.window, result, now)
    _, calls, errors, slow = map(sum, zip(*window, strict=True))
    failing = errors >= circuit.error_rate * calls or slow > circuit.slow_rate * calls
    if calls >= circuit.min_calls and failing:
        return State(Mode.OPEN, state.epoch + 1, now, now + circuit.open_ms)
    return replace(state, window=window)


def _tried(circuit: Circuit, state: State, caller: str, result: Result, now: int) -> State:
    if caller not in dict(state.probes):  # its place went to another
        return state
    if result in (Result.ERROR, Result.SLOW):
        return State(Mode.OPEN, state.epoch + 1, now, now + circuit.open_ms)
    left = tuple(probe for probe in state.probes if probe[0] != caller)
    passed = state.passed + (result is Result.OK)
    if passed >= circuit.probes:
        return State(Mode.CLOSED, state.epoch + 1, now)
    return replace(state, probes=left, passed=passed)


def _counted(circuit: Circuit, window: tuple[Part, ...], result: Result, now: int) -> tuple[Part, ...]:
    length = max(1, circuit.window_ms // PARTS)
    begins = now - now % length
    kept = [part for part in window if part[0] > now - circuit.window_ms]
    last = kept.pop() if kept and kept[-1][0] == begins else (begins, 0, 0, 0)
    one = (last[0], last[1] + 1, last[2] + (result is Result.ERROR), last[3] + (result is Result.SLOW))
    return (*kept, one)


def force(state: State, mode: Mode | None, now: int) -> State:
    """An operator keeps it open or closed, or (None) lets it begin anew, closed."""
    return State(mode or Mode.CLOSED, state.epoch + 1, now, forced=mode is not None)


# --- configuration


def _share(*, most_inclusive: bool = True) -> fields.Float:
    said = "must be a number above 0 and " + ("up to 1" if most_inclusive else "below 1")
    checked = validate.Range(0, 1, min_inclusive=False, max_inclusive=most_inclusive, error=said)
    return fields.Float(validate=checked, error_messages={"invalid": said})


def _seconds() -> fields.Float:
    said = "must be seconds from 0.1 to 86400"
    return fields.Float(validate=validate.Range(0.1, 86_400, error=said), error_messages={"invalid": said})


def _count(most: int) -> fields.Integer:
    said = f"must be a whole number from 1 to {most}"
    return fields.Integer(strict=True, validate=validate.Range(1, most, error=said), error_messages={"invalid": said})


class _CircuitSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"type": "must be an object", "unknown": "is not a field of a circuit"}  # noqa: RUF012

    name = fields.String(validate=validate.Regexp(_NAME, error="must be letters, digits, '_', '.' or '-'"))
    error_rate = _share()
    quantile = _share(most_inclusive=False)
    min_calls = _count(1_000_000)
    window_s = _seconds()
    open_s = _seconds()
    probes = _count(1000)


def circuit_of(name: str, given: object) -> Circuit:
    """A circuit from its configuration, which may name it. Raises ValidationError."""
    said: dict[str, Any] = _CircuitSchema().load({"name": name, **given} if isinstance(given, Mapping) else given)  # type: ignore[arg-type]
    return Circuit(**said)


def circuits_of(configured: object) -> dict[str, Circuit]:
    """The circuits of a project, ``runyard.circuits``. Raises ConfigError that names circuit and field."""
    if not isinstance(configured, Mapping):
        raise ConfigError(f"runyard.circuits must map names to circuits, not {configured!r}.")
    made = {}
    for name, given in configured.items():
        try:
            made[str(name)] = circuit_of(str(name), given)
        except ValidationError as error:
            raise ConfigError(f"Circuit {name!r} is not valid: {faults_of(error)}.") from error
    return made
