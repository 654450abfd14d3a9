"""What a deployment is made of, for simpy: machines with cores, processes of one thread each, and a store.

Seconds everywhere. A process of Python computes on one core at a time, and so does the store.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, None]


class Machine:
    """So many cores; whoever wants one waits for it, the more important first."""

    def __init__(self, env: simpy.Environment, cores: int) -> None:
        self.env, self.cores = env, simpy.PriorityResource(env, capacity=cores)


class Process:
    """One thread on a machine: what it is asked to do it does in order of arrival.

    One that has nothing to do sleeps, and to be woken takes it ``wake_s`` of the core. What comes while it is at work,
    or waits for the core, wakes nobody.
    """

    def __init__(self, machine: Machine, *, nice: int = 0, wake_s: float = 0.0) -> None:
        self._machine, self._nice, self._wake_s = machine, nice, wake_s
        self._turn = simpy.Resource(machine.env, capacity=1)
        self.busy_s = 0.0

    @property
    def load(self) -> int:
        """How many have something to be done here."""
        return self._turn.count + len(self._turn.queue)

    def work(self, seconds: float) -> Steps:
        if self._turn.count == 0:
            seconds += self._wake_s
        with self._turn.request() as turn:
            yield turn
            with self._machine.cores.request(priority=self._nice) as core:
                yield core
                yield self._machine.env.timeout(seconds)
                self.busy_s += seconds


class Store:
    """A Redis with an append-only file: in each turn of its event loop it executes all that has arrived, writes that to
    the disk once (``fsync_s``, without a core), and then answers everyone in it. ``turn_s`` is what a turn takes
    whatever is in it."""

    def __init__(self, machine: Machine, *, fsync_s: float, turn_s: float = 0.0) -> None:
        self._machine, self._env, self._fsync_s, self._turn_s = machine, machine.env, fsync_s, turn_s
        self._arrived: list[tuple[simpy.Event, float]] = []
        self._bell = machine.env.event()
        self.busy_s = 0.0
        self.turns = self.answered = 0
        machine.env.process(self._loop())

    def ask(self, seconds: float) -> simpy.Event:
        """A command that takes the store so long; the event comes when it is answered."""
        done = self._env.event()
        self._arrived.append((done, seconds))
        if not self._bell.triggered:
            self._bell.succeed()
        return done

    def _loop(self) -> Steps:
        while True:
            yield self._bell
            self._bell = self._env.event()
            with self._machine.cores.request(priority=0) as core:
                yield core
                batch, self._arrived = self._arrived, []
                took = self._turn_s + sum(seconds for _, seconds in batch)
                yield self._env.timeout(took)
            if self._fsync_s:
                yield self._env.timeout(self._fsync_s)
            self.busy_s += took
            self.turns += 1
            self.answered += len(batch)
            for done, _ in batch:
                done.succeed()
            if self._arrived and not self._bell.triggered:
                self._bell.succeed()
