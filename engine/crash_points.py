"""Points at which a worker may die: around every attempt of a node, and after everything it writes.

Nothing of this is in the engine's way: a worker is given stores and a hook that count, and one that is told to dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from langgraph.types import PregelExecutableTask

from runyard.engine import seam, wire
from runyard.engine.store.client import AsyncStore, Call, SyncStore
from runyard.engine.store.save import part_names

#: Script, or part of what is saved -> what has happened then. What else is written (events, leases) decides nothing.
HAPPENED = {
    "claim_run": "run claimed",
    "claim_branch": "branch claimed",
    "writes": "writes saved",
    "checkpoint": "checkpoint saved",
    "note_attempt": "failure noted",
    "begin_effect": "effect begun",
    "dispatch_run": "superstep spread",
    "end_branch": "branch ended",
    "yield_run": "slice given back",
    "delay_run": "retry put off",
    "end_run": "outcome saved",
}


class Faults:
    """Counts the points a process comes to and kills it, with SIGKILL, at one of them (1-based; 0: at none).

    Everything is written to ``log``, a file that was opened for appending: what is in it survives the process.
    """

    def __init__(self, log: int, kill_at: int) -> None:
        self._log, self._kill_at = log, kill_at
        self._count, self._lock = 0, threading.Lock()
        self._names: dict[str, str] = {}

    @contextmanager
    def attempt(self, task: PregelExecutableTask) -> Iterator[None]:
        """Around one attempt of a node; what it wrote is saved after the block."""
        if task.name == seam.START:  # the input on its way into the state: no code of the graph's author
            yield
            return
        name = self._names[task.id] = task.name
        self.reach("node starts", name)
        self._note({"ran": name})
        try:
            yield
        except Exception:
            self.reach("node stopped, nothing saved", name)
            raise
        self.reach("node ended, nothing saved", name)

    def before(self, call: Call[Any]) -> None:
        if key := _effect_done(call):
            task_id, _, name = key.partition(":")
            self._note({"effect": f"{self._names.get(task_id, '?')}: {name}"})

    def after(self, call: Call[Any]) -> None:
        names = _names(call)
        if {"writes", "checkpoint"} <= set(names):
            self.reach("superstep saved", self._node_of(call))
        elif what := next((HAPPENED[name] for name in names if name in HAPPENED), None):
            self.reach(what, self._node_of(call))
        elif _effect_done(call):
            self.reach("effect noted", self._node_of(call))

    def reach(self, what: str, node: str = "") -> None:
        with self._lock:
            self._count += 1
            self._note({"point": self._count, "what": what, "node": node, "kill": self._count == self._kill_at})
            if self._count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def _node_of(self, call: Call[Any]) -> str:
        """The node that a call speaks of: its task's id is in one of the words."""
        words = [word for word in call.args if isinstance(word, str)]
        return next((name for task_id, name in self._names.items() if any(task_id in word for word in words)), "")

    def _note(self, line: dict[str, Any]) -> None:
        os.write(self._log, wire.encode(line) + b"\n")


def _names(call: Call[Any]) -> list[str]:
    """What a call does: its script's name, or those of the parts that it saves."""
    if call.script is None:
        return []
    return part_names(call) if call.script.name == "save" else [call.script.name]


def _effect_done(call: Call[Any]) -> str:
    """The effect that a call notes as done: ``task id:key``, or nothing."""
    if call.script is None or call.script.name != "set_fields":
        return ""
    key, word = call.args[-2:]
    return str(key) if isinstance(word, bytes) and word.startswith(b"done") else ""


class CountingStore(AsyncStore):
    """Tells ``faults`` of every call."""

    def __init__(self, store: AsyncStore, faults: Faults) -> None:
        super().__init__(store.client)
        self._faults = faults

    def send(self, call: Call[Any]) -> asyncio.Future[Any]:
        self._faults.before(call)
        future = super().send(call)
        future.add_done_callback(lambda _: self._faults.after(call))
        return future


class CountingSyncStore(SyncStore):
    """As CountingStore, for threads."""

    def __init__(self, store: SyncStore, faults: Faults) -> None:
        super().__init__(store.client)
        self._faults = faults

    def do_all(self, calls: Sequence[Call[Any]]) -> list[Any]:
        for call in calls:
            self._faults.before(call)
        answers = super().do_all(calls)
        for call in calls:
            self._faults.after(call)
        return answers
