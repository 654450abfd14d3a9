"""The circuits that one worker process calls through. One per process, on its event loop.

A closed circuit is asked once a second, not once a call: its answer holds until then, or until it is told of a change.
So a circuit that is closed costs a node no round trip; what its calls came to rides along with what they saved.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable

import structlog

from runyard.engine import metrics
from runyard.engine.background import Background
from runyard.engine.breaker import Admission, Circuit, Mode, Result
from runyard.engine.errors import StoreUnavailable
from runyard.engine.shares import SendWakes
from runyard.engine.store import circuits as calls
from runyard.engine.store.circuits import Turned
from runyard.engine.store.client import AsyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import acarry_out

log = structlog.get_logger(__name__)

#: How long a circuit that was closed is taken to be, in seconds, should the word that it opened be lost.
CLOSED_FOR_S = 1.0
#: A parked run is remembered for that much longer than it means to wait: its worker may be busy. In ms.
_PATIENCE_MS = 600_000


class Circuits:
    def __init__(self, store: AsyncStore, keys: Keys, background: Background, wake: SendWakes) -> None:
        self._store, self._keys, self._background, self._wake = store, keys, background, wake
        #: Of those that were closed: epoch, and until when that holds (monotonic).
        self._closed: dict[str, tuple[int, float]] = {}
        self._remembered: set[str] = set()

    async def admit(
        self, circuit: Circuit, caller: str, tell: Callable[[Turned], None], *, wake: str = "", believed_s: float = 0.0
    ) -> Admission:
        """Whether ``caller`` may call now; if not, ``wake`` names what is to be woken when the circuit closes."""
        known = self._closed.get(circuit.name)
        if known and known[1] > time.monotonic():
            return Admission(True, known[0])
        believed_ms = round(believed_s * 1000) + _PATIENCE_MS
        asked = await self._store.do(calls.admit(self._keys, circuit, caller, wake=wake, believed_ms=believed_ms))
        self._note(circuit.name, asked.mode, asked.admission.epoch, asked.turned, tell)
        return asked.admission

    async def record(
        self, circuit: Circuit, caller: str, admission: Admission, result: Result, tell: Callable[[Turned], None]
    ) -> None:
        """Tell what an admitted call came to. When the store is away it is not counted."""
        if result is Result.VOID and not admission.probe:
            return
        telling = self._record(circuit, caller, admission, result, tell)
        if result is Result.OK and not admission.probe:
            self._background.add(telling)
        else:  # it may change the circuit, and the run is to hear of it
            await telling

    async def _record(
        self, circuit: Circuit, caller: str, admission: Admission, result: Result, tell: Callable[[Turned], None]
    ) -> None:
        with contextlib.suppress(StoreUnavailable):
            call = calls.record(self._keys, circuit, caller, admission.epoch, result)
            nobody_waits = result is Result.OK and not admission.probe
            told = await (self._store.ride(call) if nobody_waits else self._store.do(call))
            self._note(circuit.name, told.mode, told.epoch, told.turned, tell)
            if told.members:
                self._background.add(self._wake_all(told.members))

    async def _wake_all(self, members: list[str]) -> None:
        with contextlib.suppress(StoreUnavailable):
            if wakes := await acarry_out(calls.wake(self._keys, members), self._store):
                await asyncio.get_running_loop().run_in_executor(None, self._wake, wakes)

    def _note(self, name: str, mode: Mode, epoch: int, turned: Turned | None, tell: Callable[[Turned], None]) -> None:
        if mode is Mode.CLOSED:
            self._closed[name] = (epoch, time.monotonic() + CLOSED_FOR_S)
        else:
            self._closed.pop(name, None)
        if name not in self._remembered:
            self._remembered.add(name)
            self._background.add(self._remember(name))
        if turned is not None:
            metrics.inc("runyard_circuit_turns_total", name, str(turned.now))
            log.warning("circuit.turned", **{**dataclasses.asdict(turned), "before": str(turned.before)})
            tell(turned)

    async def _remember(self, name: str) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self._store.do(calls.remember(self._keys, name))

    def changed(self, name: str) -> None:
        """A circuit has changed somewhere in the fleet. Called on a thread of the lease keeper."""
        self._closed.pop(name, None)
