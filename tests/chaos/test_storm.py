"""Two hundred runs of mixed shapes while workers and the store are killed at random. The seed is printed."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from runyard.app.processes import WORKER, WORKER_CPU
from runyard.engine.errors import StoreUnavailable
from runyard.engine.run import TERMINAL, Run
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, Steps, do, expected, fleet

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]
RUNS, STORM_S = 200, 40.0


def shape(dice: random.Random) -> Steps:
    """A few steps of a few actions each, on any of the three kinds of node."""

    def action() -> dict[str, object]:
        on = dice.choice(["io", "io", "io", "sync", "cpu"])
        longest_s = 0.1 if on == "cpu" else 0.4
        return do("wait", s=round(dice.uniform(0.0, longest_s), 3), on=on)

    steps = [[action() for _ in range(dice.choice([1, 1, 2, 3, 6]))] for _ in range(dice.randint(2, 8))]
    if dice.random() < 0.05:
        steps.append([do("ok"), do("raise")])
    return steps


def pause(duration_s: float) -> None:
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > duration_s)


class Storm:
    """Accepts runs and does harm, turn by turn."""

    def __init__(self, crew: Fleet, server: EmbeddedServer, dice: random.Random) -> None:
        self.crew, self.server, self.dice = crew, server, dice
        self.accepted: list[Run] = []
        self.refused = 0
        self.faults: Counter[str] = Counter()

    def blow(self) -> None:
        """Until the time is up and all runs are submitted: some runs, then some harm."""
        ends = time.monotonic() + STORM_S
        next_at = time.monotonic() + 2
        while time.monotonic() < ends or len(self.accepted) < RUNS:
            if len(self.accepted) < RUNS:
                self.submit()
            if time.monotonic() >= next_at and time.monotonic() < ends:
                self.harm()
                next_at = time.monotonic() + self.dice.uniform(1.0, 3.0)
            self.replace_the_dead()
            pause(0.1)

    def submit(self) -> None:
        try:
            self.accepted.append(self.crew.submit(shape(self.dice)))
        except StoreUnavailable:
            self.refused += 1

    def harm(self) -> None:
        fault = self.dice.choice([self.kill_worker, self.kill_worker, self.kill_child, self.kill_store, self.cut])
        self.faults[fault.__name__] += 1
        fault()

    def kill_worker(self) -> None:
        self.dice.choice(self.crew.members).kill()

    def kill_child(self) -> None:
        children = [pid for m in self.crew.members if m.kind is WORKER_CPU and m.is_running() for pid in m.pids()]
        if children:
            os.kill(self.dice.choice(children), 9)

    def kill_store(self) -> None:
        self.server.kill()
        pause(self.dice.uniform(0.0, 1.5))
        self.server.restart()

    def cut(self) -> None:
        self.crew.redis.client_kill_filter(_type="normal", skipme=True)

    def replace_the_dead(self) -> None:
        for member in [member for member in self.crew.members if not member.is_running()]:
            self.crew.stop(member)
            self.crew.launch(member.kind)


def test_every_accepted_run_ends_and_nothing_is_committed_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("RUNYARD_TEST_SEED", "0")) or random.randrange(1, 10**6)
    print(f"seed: {seed} (RUNYARD_TEST_SEED repeats it)")
    with fleet(tmp_path, WORKER, WORKER, WORKER_CPU) as (crew, server):
        storm = Storm(crew, server, random.Random(seed))
        storm.blow()
        eventually(lambda: crew.ended(storm.accepted) == len(storm.accepted) or storm.replace_the_dead(),
                   timeout_s=240, interval_s=0.5, what="every accepted run has ended")  # fmt: skip
        lost = [run for run in storm.accepted if crew.run(run).phase not in TERMINAL]
        wrong = [found for run in storm.accepted if (found := fault_of(crew, run))]
        doubled = sum(doubles(crew, run) for run in storm.accepted)
        again = sum(n - 1 for run in storm.accepted for n in crew.executions(run).values())
        print(
            f"measured: faults injected {storm.faults.total()} {dict(storm.faults)}, "
            f"runs accepted {len(storm.accepted)}, refused {storm.refused}, "
            f"lost {len(lost)}, wrong {len(wrong)}, supersteps committed twice {doubled}, "
            f"nodes executed again {again}"
        )
        assert not lost
        assert not wrong, wrong[:3]
        assert doubled == 0
        assert storm.faults.total() >= 5


def fault_of(crew: Fleet, run: Run) -> str | None:
    """What is wrong with an ended run, compared with plain LangGraph; None when nothing is."""
    now, given = crew.run(run), run.request.input
    if any(action["do"] == "raise" for step in given["steps"] for action in step):
        failed = now.phase == "failed" and now.error and now.error["error"] == "ValueError"
        return None if failed else f"{now.run_id} should have failed: {now.phase} {now.error}"
    if now.phase != "succeeded":
        return f"{now.run_id} {now.phase}: {now.error}"
    if crew.values(run) != expected(given["steps"], given["name"]):
        return f"{now.run_id} holds {crew.values(run)}"
    never = [(at, i) for at, step in enumerate(given["steps"]) for i in range(len(step))
             if not crew.executions(run, "end")[at, i]]  # fmt: skip
    return f"{now.run_id} never executed {never}" if never else None


def doubles(crew: Fleet, run: Run) -> int:
    """Supersteps that stand twice in the thread's history, or that were not built upon the one before."""
    history = list(crew.service.saver.list({"configurable": {"thread_id": run.thread_id, "checkpoint_ns": ""}}))
    steps = Counter(saved.metadata["step"] for saved in history)
    forks = sum(
        (later.parent_config or {}).get("configurable", {}).get("checkpoint_id") != earlier.checkpoint["id"]
        for later, earlier in pairwise(history)
    )
    return sum(number - 1 for number in steps.values()) + forks
