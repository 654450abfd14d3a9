"""What operators see of circuits, and do to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from runyard.engine.breaker import Mode
from runyard.engine.errors import CircuitNotFound
from runyard.engine.run import Wake
from runyard.engine.store import circuits as calls
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import carry_out
from runyard.engine.store.recovery import clock

log = structlog.get_logger(__name__)

Json = dict[str, Any]
#: What an operator may want a circuit to be: kept open, kept closed, or left to itself again.
WANTED: dict[str, Mode | None] = {"open": Mode.OPEN, "closed": Mode.CLOSED, "auto": None}


class CircuitDesk:
    def __init__(self, store: SyncStore, keys: Keys, wake: Callable[[Sequence[Wake]], None]) -> None:
        self._store, self._keys, self._wake = store, keys, wake

    def all(self) -> list[Json]:
        """Every circuit that was ever used, by name, without its history."""
        names = self._store.do(calls.known(self._keys))
        reading = [call for name in names for call in self._reading(name)]
        replies = self._store.do_all(reading) if reading else []
        return [_shown(name, *replies[3 * i : 3 * i + 3]) for i, name in enumerate(names) if replies[3 * i]]

    def get(self, name: str, *, history: int = 100) -> Json:
        """One circuit, with how it changed lately, newest first. Raises CircuitNotFound."""
        found, waiting, now_ms, changes = self._store.do_all(
            [*self._reading(name), calls.history(self._keys, name, limit=history)]
        )
        if not found:
            raise CircuitNotFound(f"Circuit {name!r} not found: no node has been called through it yet.")
        return {**_shown(name, found, waiting, now_ms), "history": changes}

    def force(self, name: str, wanted: str, *, why: str, by: str) -> Json:
        """Keep it open or closed, or leave it to itself, beginning anew; ``wanted`` is one of WANTED.

        What was parked until it closes goes on. Raises CircuitNotFound.
        """
        self.get(name, history=1)
        members = self._store.do(calls.force(self._keys, name, WANTED[wanted], why=why, by=by))
        log.warning("circuit.forced", circuit=name, wanted=wanted, why=why, by=by)
        if wakes := carry_out(calls.wake(self._keys, members), self._store):
            self._wake(wakes)
        return self.get(name)

    def _reading(self, name: str) -> list[Call[Any]]:
        return [calls.state(self._keys, name), calls.waiting(self._keys, name), clock()]


def _shown(name: str, found: Json, waiting: int, now_ms: int) -> Json:
    state, thresholds = found["state"], found["thresholds"]
    span_ms = thresholds.get("window_s", 60) * 1000
    window = [part for part in state.window if part[0] > now_ms - span_ms]
    counted = [sum(column) for column in zip(*window, strict=True)][1:] or [0, 0, 0]
    return {
        "name": name,
        "mode": str(state.mode),
        "forced": state.forced,
        "since": state.since or None,
        "until": state.until or None,
        "why": found["why"] or None,
        "by": found["by"] or None,
        "calls": counted[0],
        "errors": counted[1],
        "slow": counted[2],
        "trying": len(state.probes),
        "waiting": waiting,
        "thresholds": {key: value for key, value in thresholds.items() if key != "name"},
    }
