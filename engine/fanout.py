"""Fan-outs that need not be complete: k of n tasks must succeed, and the rest gets so many seconds more.

A fan-out is the tasks of one superstep whose node has a ``quorum``: those of one node (``Send``), or of all nodes of a
``group``. A task that fails for good waits for what becomes of the others: once the quorum is reached it is missing,
once it cannot be reached any more it fails like any other. So nothing is given up that a replay could still repair.

Decisions only: what is stored, and who is cancelled, is in :mod:`runyard.engine.node`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from langgraph.types import PregelExecutableTask

from runyard.engine.policy import NodePolicy


class Verdict(Enum):
    #: It depends on tasks that have not ended.
    OPEN = auto()
    #: Enough tasks have succeeded: what fails now is missing.
    REACHED = auto()
    #: Too many have failed for good: the run fails.
    LOST = auto()


def needed(quorum: int | str, tasks: int) -> int:
    """How many of so many tasks must succeed. A share is rounded up; more than there are means all."""
    if isinstance(quorum, int):
        return min(quorum, tasks)
    return min(tasks, math.ceil(float(quorum.rstrip("%")) * tasks / 100 - 1e-9))


class CutOff(Exception):
    """Not done when the time that the quorum leaves the rest was over."""


@dataclass(eq=False, slots=True)
class Fanout:
    """The tasks of one fan-out, as far as this process knows. The key is the same in every process."""

    key: str
    needed: int
    rest_s: float | None
    tasks: frozenset[str]
    answered: set[str]
    #: Have a task here that has not ended.
    running: set[str]
    failed: set[str] = field(default_factory=set)
    #: When the rest is cut off, on the loop's clock; None: not yet known, or never.
    ends_at: float | None = None
    #: Set once nothing that runs here can change the verdict.
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    _limits: set[asyncio.Timeout] = field(default_factory=set)

    @property
    def verdict(self) -> Verdict:
        if len(self.answered) >= self.needed:
            return Verdict.REACHED
        return Verdict.LOST if len(self.tasks) - len(self.failed) < self.needed else Verdict.OPEN

    @property
    def is_over(self) -> bool:
        """Whether the rest has had its time."""
        late = self.ends_at is not None and asyncio.get_running_loop().time() >= self.ends_at
        return late and self.verdict is Verdict.REACHED

    @property
    def unfinished(self) -> bool:
        return bool(self.tasks - self.answered - self.failed)

    def answer(self, task_id: str) -> None:
        self.answered.add(task_id)
        self.leave(task_id)

    def fail(self, task_id: str) -> None:
        self.failed.add(task_id)
        self.leave(task_id)

    def leave(self, task_id: str) -> None:
        """A task has ended here, or is not run here (now)."""
        self.running.discard(task_id)
        if self.verdict is not Verdict.OPEN or not self.running:
            self.decided.set()

    def end_at(self, when: float) -> None:
        """Cut what still runs off at this time of the loop's clock. Only the first word counts."""
        if self.ends_at is not None:
            return
        self.ends_at = when
        for limit in self._limits:
            limit.reschedule(when)

    @contextmanager
    def limiting(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Have ``limit`` end with the time of the rest, as soon as that is known."""
        self._limits.add(limit)
        if self.ends_at is not None:
            limit.reschedule(self.ends_at)
        try:
            yield
        finally:
            self._limits.discard(limit)

    def told(self) -> str:
        """For a person: why a task was not waited for."""
        return (
            f"{len(self.answered)} of {len(self.tasks)} had answered and {self.needed} were needed; "
            f"{self.rest_s:g} s later this one had not."
        )


def fanouts(
    tasks: Mapping[str, PregelExecutableTask], policies: Mapping[str, NodePolicy]
) -> dict[str, Fanout]:  # task id -> its fan-out
    """The fan-outs of a superstep that is about to start. A task that has its writes already has answered."""
    grouped: dict[str, list[PregelExecutableTask]] = {}
    for task in tasks.values():
        if (name := _group(task.name, policies)) is not None:
            grouped.setdefault(name, []).append(task)
    return {task.id: made for group in grouped.values() for made in [_fanout(group, policies)] for task in group}


def _group(node: str, policies: Mapping[str, NodePolicy]) -> str | None:
    policy = policies.get(node)
    if policy is None or policy.quorum is None:
        return None
    return f"group {policy.group}" if policy.group else f"node {node}"


def _fanout(tasks: Iterable[PregelExecutableTask], policies: Mapping[str, NodePolicy]) -> Fanout:
    every = {task.id: task for task in tasks}
    policy = policies[next(iter(every.values())).name]
    answered = {task_id for task_id, task in every.items() if task.writes}
    return Fanout(
        key=min(every),
        needed=needed(policy.quorum or 0, len(every)),
        rest_s=policy.rest_s,
        tasks=frozenset(every),
        answered=answered,
        running=set(every) - answered,
    )
