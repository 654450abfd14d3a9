"""One attempt of a node: when and where it ran, and how its failure is noted."""

from __future__ import annotations

import time
import traceback
from typing import Any

from langgraph.types import PregelExecutableTask

from runyard.engine import redact, wire
from runyard.engine.retry import GiveUp, TryAgain


class Clock:
    """When an attempt began: on the wall, and to measure by; and where, if not here."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.worker = ""
        self.began_at, self._began = time.time(), time.monotonic()

    def began_before(self, seconds: float, *, worker: str) -> None:
        """It began so long ago, in a process that was killed."""
        self.worker = worker
        self.began_at -= seconds
        self._began -= seconds

    def took_s(self) -> float:
        return time.monotonic() - self._began


def record_of(
    task: PregelExecutableTask,
    attempt: int,
    error: Exception,
    clock: Clock,
    decision: GiveUp | TryAgain,
    *,
    worker: str,
    slice_: int,
) -> dict[str, Any]:
    """A failed attempt as the run keeps it and people read it; secrets in what was raised are not in it."""
    again = f"again in {decision.wait_s:.1f} s" if isinstance(decision, TryAgain) else "gave up"
    return {
        "task_id": task.id,
        "node": task.name,
        "attempt": attempt,
        **wire.error_of(error),
        "traceback": redact.text("".join(traceback.format_exception(error))[-10_000:], 10_000),
        "started_at": round(clock.began_at * 1000),
        "duration_ms": round(clock.took_s() * 1000, 1),
        "worker": clock.worker or worker,
        "slice": slice_,
        "decision": again,
    }
