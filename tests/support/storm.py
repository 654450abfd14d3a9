"""Bad weather for a fleet: runs of mixed shapes while workers, connections, wake-ups and the store are taken away."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from runyard.app.processes import WORKER, WORKER_CPU
from runyard.engine.errors import StoreUnavailable
from runyard.engine.run import TERMINAL, Run
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, Steps, do, expected


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
    """Submits runs and does harm, turn by turn. ``faults`` counts the harm that was done."""

    def __init__(self, crew: Fleet, server: EmbeddedServer, dice: random.Random, *, runs: int) -> None:
        self.crew, self.server, self.dice, self.runs = crew, server, dice, runs
        self.accepted: list[Run] = []
        self.refused = self.forgotten = 0
        self.faults: Counter[str] = Counter()

    def blow(self, duration_s: float) -> None:
        """Harm at random until the time is up and all runs are submitted."""
        harms = [self.kill_worker, self.kill_worker, self.kill_child, self.restart_store, self.cut, self.forget]
        ends, next_at = time.monotonic() + duration_s, time.monotonic() + 2
        while (now := time.monotonic()) < ends or len(self.accepted) < self.runs:
            harm = self.dice.choice(harms) if next_at <= now < ends else None
            self.turn(harm)
            if harm:
                next_at = time.monotonic() + self.dice.uniform(1.0, 3.0)

    def go_through(self, harms: Sequence[Callable[[], None]], *, turns: int) -> None:
        """These harms in their order, so many turns apart, and all runs submitted."""
        left = list(harms)
        for turn in itertools.count(1):
            if not left and len(self.accepted) >= self.runs:
                return
            self.turn(left.pop(0) if left and turn % turns == 0 else None)

    def turn(self, harm: Callable[[], None] | None) -> None:
        if len(self.accepted) < self.runs:
            self.submit()
        if harm is not None:
            self.faults[harm.__name__] += 1
            harm()
        self.replace_the_dead()
        pause(0.1)

    def submit(self) -> None:
        try:
            self.accepted.append(self.crew.submit(shape(self.dice)))
        except StoreUnavailable:
            self.refused += 1

    def kill_worker(self) -> None:
        self.dice.choice(self.crew.members).kill()

    def kill_child(self) -> None:
        children = [pid for m in self.crew.members if m.kind is WORKER_CPU and m.is_running() for pid in m.pids()]
        if children:
            os.kill(self.dice.choice(children), 9)

    def restart_store(self) -> None:
        self.server.kill()
        pause(self.dice.uniform(0.0, 1.5))
        self.server.restart()

    def cut(self) -> None:
        """Break all connections to the store."""
        self.crew.redis.client_kill_filter(_type="normal", skipme=True)

    def forget(self) -> None:
        """Delete the wake-ups that wait in the broker, those of three new runs among them: each worker that is paused
        may have asked for one before."""
        self.crew.pause(WORKER)
        for _ in range(3 + len(self.crew.members)):
            self.submit()
        gone = [self.crew.forget_messages(queue) for queue in (self.crew.settings.queue, "cpu")]
        self.crew.resume_all()
        self.forgotten += sum(gone)

    def replace_the_dead(self) -> None:
        for member in [member for member in self.crew.members if not member.is_running()]:
            self.crew.stop(member)
            self.crew.launch(member.kind)

    def come_to_an_end(self, *, timeout_s: float) -> str:
        """Wait until all accepted runs have ended and look at each; answers what is wrong, "" when nothing is.

        Prints what was measured: faults injected, runs accepted, lost, doubled.
        """
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.crew.ended(self.accepted) == len(self.accepted) or self.replace_the_dead(),
                       timeout_s=timeout_s, interval_s=0.5)  # fmt: skip
        lost = [run.run_id for run in self.accepted if self.crew.run(run).phase not in TERMINAL]
        wrong = [found for run in self.accepted if run.run_id not in lost and (found := fault_of(self.crew, run))]
        doubled = sum(doubles(self.crew, run) for run in self.accepted)
        again = sum(n - 1 for run in self.accepted for n in self.crew.executions(run).values())
        told = (
            f"faults injected {self.faults.total()} {dict(self.faults)}, runs accepted {len(self.accepted)}, "
            f"refused {self.refused}, wake-ups deleted {self.forgotten}, "
            f"lost {len(lost)}, wrong {len(wrong)}, supersteps committed twice {doubled}, "
            f"nodes executed again {again}"
        )
        print(f"measured: {told}")
        return f"{told}: {[*lost, *wrong][:3]}" if lost or wrong or doubled else ""


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
        for later, earlier in itertools.pairwise(history)
    )
    return sum(number - 1 for number in steps.values()) + forks
