"""What is measured, who is measured, and what design.md wants of Runyard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measure:
    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    #: The goal for Runyard with everything on disk.
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """``durability``: what is left of a run in hand when its process is killed, and when the power fails."""

    name: str
    title: str
    short_durability: str
    durability: str


CHAIN = Measure("chain_runs_s", "10-node chain, closed loop", "runs/s", "higher", 200)
BURST = Measure("chain_burst_runs_s", "10-node chain, open burst", "runs/s", "higher", 200)
IDLE_P50 = Measure("idle_result_p50_ms", "idle POST to result, p50", "ms", "lower", 15)
IDLE_P99 = Measure("idle_result_p99_ms", "idle POST to result, p99", "ms", "lower", 30)
ACCEPT_P50 = Measure("accepted_idle_p50_ms", "accepted, idle p50", "ms", "lower", 2)
ACCEPT_P99 = Measure("accepted_idle_p99_ms", "accepted, idle p99", "ms", "lower")
ACCEPT_BURST_P99 = Measure("accepted_burst_p99_ms", "accepted in a burst, p99", "ms", "lower", 25)
FANOUT = Measure("fanout_runs_s", "100-way fan-out", "runs/s", "higher", 25)
WAITS = Measure("waits_wall_s", "200 runs of 3 x 200 ms, wall", "s", "lower", 1.2)
RECOVERY = Measure("recovery_s", "back in hands after kill -9", "s", "lower", 5)
LOST = Measure("recovery_lost", "runs lost by it", "runs", "lower", 0)

MEASURES = (CHAIN, BURST, IDLE_P50, IDLE_P99, ACCEPT_P50, ACCEPT_P99, ACCEPT_BURST_P99, FANOUT, WAITS, RECOVERY, LOST)

RUNYARD = Contender(
    "runyard", "Runyard", "fsync always",
    "every superstep and event in the store, appendfsync always: survives kill -9 of anything and a power cut",
)  # fmt: skip
RUNYARD_EVERYSEC = Contender(
    "runyard_everysec", "Runyard", "fsync 1/s",
    "every superstep and event in the store, appendfsync everysec: survives kill -9, a power cut may take a second",
)  # fmt: skip
FLOOR = Contender("inprocess", "LangGraph in-process", "nothing", "nothing is saved: all is lost with the process")
MEMORY = Contender(
    "inprocess_memory", "LangGraph in-process", "memory", "InMemorySaver: every superstep, lost with the process"
)
CELERY = Contender(
    "celery_chain", "Celery, a task per node", "messages",
    "messages only, in a store with appendfsync always; what a killed worker had in hand is lost",
)  # fmt: skip
CELERY_INVOKE = Contender(
    "celery_invoke", "Celery + invoke", "messages",
    "messages only, in a store with appendfsync always; a run in hand has no steps to go back to and is lost",
)  # fmt: skip

CONTENDERS = (RUNYARD, RUNYARD_EVERYSEC, FLOOR, MEMORY, CELERY, CELERY_INVOKE)
#: What the others are compared with.
BASES = (FLOOR, MEMORY, CELERY)

MEASURE = {measure.name: measure for measure in MEASURES}
CONTENDER = {contender.name: contender for contender in CONTENDERS}
