"""Circuits in the store: one state for the whole fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runyard.engine import wire
from runyard.engine.breaker import Admission, Circuit, Mode, Result, State
from runyard.engine.run import Wake
from runyard.engine.store import runs
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import Plan
from runyard.engine.store.scripts import script


@dataclass(frozen=True, slots=True)
class Turned:
    """A circuit that has just changed its mode."""

    name: str
    before: Mode
    now: Mode
    at: int
    why: str


@dataclass(frozen=True, slots=True)
class Asked:
    admission: Admission
    mode: Mode
    now_ms: int
    turned: Turned | None


@dataclass(frozen=True, slots=True)
class Told:
    mode: Mode
    epoch: int
    now_ms: int
    turned: Turned | None
    #: Runs and branches that waited for it to close.
    members: list[str]


def admit(keys: Keys, circuit: Circuit, caller: str, *, wake: str = "", believed_ms: int = 0) -> Call[Asked]:
    """Ask whether ``caller`` may call; ``wake`` names what is to be woken when the circuit closes, if it may not."""
    shown = wire.encode(asdict(circuit))
    words = (caller, circuit.open_ms, circuit.probes, shown, wake, believed_ms, keys.circuits_changed)

    def parse(reply: Any) -> Asked:
        mode, before = Mode(reply[4].decode()), reply[6].decode()
        turned = _turned(circuit.name, before, mode, int(reply[5]), "it was open for long enough")
        admission = Admission(reply[0] == 1, int(reply[1]), reply[2] == 1, int(reply[3]))
        return Asked(admission, mode, int(reply[5]), turned)

    return Call(script("admit_call"), keys.circuit_all(circuit.name), words, parse)


def record(keys: Keys, circuit: Circuit, caller: str, epoch: int, result: Result) -> Call[Told]:
    """Tell what a call came to that was admitted in ``epoch``."""
    words = (
        caller, epoch, str(result), circuit.error_rate, circuit.slow_rate, circuit.min_calls, circuit.window_ms,
        circuit.open_ms, circuit.probes, keys.circuits_changed,
    )  # fmt: skip

    def parse(reply: Any) -> Told:
        mode, before, why, *members = (word.decode() for word in (reply[0], *reply[3:]))
        at = int(reply[2])
        return Told(Mode(mode), int(reply[1]), at, _turned(circuit.name, before, Mode(mode), at, why), members)

    return Call(script("record_call"), keys.circuit_all(circuit.name), words, parse)


def force(keys: Keys, name: str, mode: Mode | None, *, why: str, by: str) -> Call[list[str]]:
    """Keep a circuit as it is to be, or (None) let it begin anew; answers what waited for it to close."""
    words = (str(mode or Mode.CLOSED), "1" if mode else "", why, by, keys.circuits_changed)
    return Call(script("force_circuit"), keys.circuit_all(name), words, lambda reply: [word.decode() for word in reply])


def wake(keys: Keys, members: Sequence[str]) -> Plan[list[Wake]]:
    """Unpark what waited; answers the wake-ups to send."""
    replies: list[tuple[bool, str]] = (yield [runs.unpark(keys, member) for member in members]) if members else []
    found = []
    for member, (_, queue) in zip(members, replies, strict=True):
        run_id, branch = runs.split_member(member)
        if queue:
            found.append(Wake(run_id=run_id, queue=queue, branch=branch))
    return found


def remember(keys: Keys, name: str) -> Call[int]:
    """Let operators know of a circuit."""
    return Call.command("SADD", keys.circuits, name)


def known(keys: Keys) -> Call[list[str]]:
    """Names of the circuits that were ever used."""
    return Call.command("SMEMBERS", keys.circuits, parse=lambda reply: sorted(name.decode() for name in reply))


def state(keys: Keys, name: str) -> Call[dict[str, Any]]:
    """A circuit as it is stored: ``state`` and what else is known; empty when it was never used."""
    return Call.command("HGETALL", keys.circuit(name), parse=_described)


def history(keys: Keys, name: str, *, limit: int) -> Call[list[dict[str, Any]]]:
    """How a circuit changed lately, newest first."""
    return Call.command("XREVRANGE", keys.circuit_log(name), "+", "-", "COUNT", limit, parse=_entries)


def waiting(keys: Keys, name: str) -> Call[int]:
    """How many runs and branches are parked until it closes."""
    return Call.command("ZCARD", keys.circuit_waiting(name))


def _turned(name: str, before: str, now: Mode, at: int, why: str) -> Turned | None:
    return Turned(name, Mode(before), now, at, why) if before else None


def _described(reply: Any) -> dict[str, Any]:
    found = _texts(reply)
    if "mode" not in found and "thresholds" not in found:
        return {}
    return {
        "state": decode(found),
        "why": found.get("why", ""),
        "by": found.get("by", ""),
        "thresholds": wire.decode(found["thresholds"].encode()) if "thresholds" in found else {},
    }


def decode(found: Mapping[str, str]) -> State:
    """A circuit's state from the fields of its hash."""

    def listed(field: str) -> list[list[Any]]:
        text = found.get(field, "")
        return wire.decode(text.encode()) if text else []

    return State(
        Mode(found.get("mode", "closed")),
        int(found.get("epoch", 0)),
        int(found.get("since", 0)),
        int(found.get("until", 0)),
        tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in listed("window")),
        tuple((str(caller), int(ends)) for caller, ends in listed("probes")),
        int(found.get("passed", 0)),
        found.get("forced") == "1",
    )


def _entries(reply: Any) -> list[dict[str, Any]]:
    found = []
    for _, flat in reply:
        entry = _texts(flat)
        found.append({
            "from": entry["from"], "to": entry["to"], "forced": entry["forced"] == "1", "why": entry["why"],
            "by": entry["by"], "at": int(entry["at"]),
        })  # fmt: skip
    return found


def _texts(reply: Any) -> dict[str, str]:
    """A hash, or the fields of an entry: a mapping or a flat list, as the driver has it."""
    if isinstance(reply, Mapping):
        return {key.decode(): value.decode() for key, value in reply.items()}
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))
