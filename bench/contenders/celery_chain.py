"""Plain Celery on the same kind of store: prefork, two children, its own defaults.

A task for each node (a chain), and the graph whole in one task. The client is this process: it sends, and takes what
was pushed to a list in the end, so that Celery is not measured with a result backend that nobody asked for.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import redis

from bench import measures as m, workloads
from bench.measure import Number, Rate, Scale, Tell, percentile
from bench.plan import Plan
from bench.stack import NotReady, Processes

#: Runs in flight in the closed loop.
IN_FLIGHT = 32
FANOUT_IN_FLIGHT = 4
#: Chains of a burst march in step: the first ends when nearly all work is done.
LONGEST_S = 120.0
#: Threads of the worker that waits: prefork would need a process for each.
THREADS = 200

_APP = "bench.contenders.celery_app"

Send = Callable[[str], Any]


class CeleryWorker:
    """One worker, and the client's side of it."""

    def __init__(self, processes: Processes, pool: str) -> None:
        os.environ["BENCH_REDIS_URL"] = processes.redis_url
        # A Celery application remembers its connections: each store gets an application of its own.
        sys.modules.pop(_APP, None)
        self.app = import_module(_APP)
        self._store = redis.Redis.from_url(processes.redis_url, socket_timeout=LONGEST_S + 10)
        processes.spawn("celery", f"celery -A {_APP} worker {pool} --loglevel WARNING",
                        {"BENCH_REDIS_URL": processes.redis_url})  # fmt: skip

    def take(self, graph: str, *, timeout_s: float = LONGEST_S) -> str:
        """The next run that has ended; its result is checked."""
        popped = self._store.blpop([self.app.DONE], timeout=timeout_s)
        if popped is None:
            raise NotReady(f"Celery gave no result within {timeout_s:g} s")
        run, values = json.loads(popped[1])
        workloads.check(graph, values)
        return str(run)

    def close(self) -> None:
        self._store.close()
        self.app.app.close()


class CeleryContender:
    """``per_node``: a task for each node; else one task for the graph."""

    def __init__(self, contender: m.Contender, *, per_node: bool) -> None:
        self.contender, self._per_node = contender, per_node

    def measure(self, plan: Plan, scale: Scale, tell: Tell) -> Iterator[Number]:
        if plan.wants_any(self.contender, m.CHAIN, m.BURST, m.IDLE_P50, m.IDLE_P99, m.ACCEPT_P50, m.ACCEPT_P99,
                          m.ACCEPT_BURST_P99, m.FANOUT):  # fmt: skip
            yield from self._with_worker(
                "-P prefork -c 2", tell, lambda worker: self._at_work(plan, scale, tell, worker)
            )
        if self._per_node and plan.wants(self.contender, m.WAITS):
            yield from self._with_worker(
                f"-P threads -c {THREADS}", tell, lambda worker: self._waits(scale, tell, worker)
            )

    def _with_worker(
        self, pool: str, tell: Tell, measured: Callable[[CeleryWorker], Iterator[Number]]
    ) -> Iterator[Number]:
        tell(f"starting a worker, {pool}")
        with Processes() as processes:
            worker = CeleryWorker(processes, pool)
            try:
                yield from measured(worker)
            finally:
                worker.close()

    def _at_work(self, plan: Plan, scale: Scale, tell: Tell, worker: CeleryWorker) -> Iterator[Number]:
        send, fan = self._senders(worker)
        _keep_in_flight(worker, send, "chain10a", in_flight=8, seconds=0, least=scale.warm)
        if plan.wants_any(self.contender, m.IDLE_P50, m.IDLE_P99, m.ACCEPT_P50, m.ACCEPT_P99):
            tell("one at a time")
            accepted, taken = _one_by_one(worker, send, scale.idle)
            yield self._number(m.IDLE_P50, percentile(taken, 50), len(taken))
            yield self._number(m.IDLE_P99, percentile(taken, 99), len(taken))
            yield self._number(m.ACCEPT_P50, percentile(accepted, 50), len(accepted))
            yield self._number(m.ACCEPT_P99, percentile(accepted, 99), len(accepted))
        if plan.wants(self.contender, m.CHAIN):
            tell(f"10-node chain, {IN_FLIGHT} in flight")
            rate = _keep_in_flight(worker, send, "chain10a", in_flight=IN_FLIGHT, seconds=scale.seconds)
            yield self._number(m.CHAIN, rate.per_s, rate.count, clients=IN_FLIGHT)
        if plan.wants_any(self.contender, m.BURST, m.ACCEPT_BURST_P99):
            tell("a burst")
            rate, accepted = _burst(worker, send, "chain10a", scale.burst // 4)
            yield self._number(m.BURST, rate.per_s, rate.count)
            yield self._number(m.ACCEPT_BURST_P99, percentile(accepted, 99), len(accepted))
        if plan.wants(self.contender, m.FANOUT):
            tell("fan-out")
            _keep_in_flight(worker, fan, "fanout100a", in_flight=FANOUT_IN_FLIGHT, seconds=0, least=4)
            rate = _keep_in_flight(worker, fan, "fanout100a", in_flight=FANOUT_IN_FLIGHT, seconds=scale.seconds)
            yield self._number(m.FANOUT, rate.per_s, rate.count, clients=FANOUT_IN_FLIGHT)

    def _senders(self, worker: CeleryWorker) -> tuple[Send, Send]:
        app = worker.app
        if self._per_node:
            return (
                lambda run: app.chain_of(10, run).apply_async(),
                lambda run: app.split.apply_async((run,)),
            )
        return (
            lambda run: app.invoke_sync.apply_async(("chain10", run)),
            lambda run: app.invoke.apply_async(("fanout100a", run)),
        )

    def _waits(self, scale: Scale, tell: Tell, worker: CeleryWorker) -> Iterator[Number]:
        tell(f"{scale.waiting} waiting runs in {THREADS} threads")

        def send(run: str) -> Any:
            return worker.app.chain_of(3, run, wait_s=0.2).apply_async()

        _burst(worker, send, "io3a", 16)
        rate, _ = _burst(worker, send, "io3a", scale.waiting)
        yield self._number(m.WAITS, rate.seconds, rate.count, threads=THREADS)

    def _number(self, measure: m.Measure, value: float, count: int, **detail: Any) -> Number:
        detail = {"pool": "prefork 2", **detail} if "threads" not in detail else detail
        return Number(contender=self.contender.name, measure=measure.name, value=value, count=count, detail=detail)


def _keep_in_flight(
    worker: CeleryWorker, send: Send, graph: str, *, in_flight: int, seconds: float, least: int = 0
) -> Rate:
    """Send the next as soon as one has ended, for ``seconds`` and until ``least`` have ended.

    Chains of one age march in step and end together, so only whole rounds are counted.
    """
    for _ in range(in_flight):
        send(uuid.uuid4().hex)
    began, done = time.monotonic(), 0
    while time.monotonic() < began + seconds or done < least or done % in_flight:
        worker.take(graph)
        send(uuid.uuid4().hex)
        done += 1
    rate = Rate(done, time.monotonic() - began)
    for _ in range(in_flight):
        worker.take(graph)
    return rate


def _one_by_one(worker: CeleryWorker, send: Send, count: int) -> tuple[list[float], list[float]]:
    """For each run how long sending it took, and how long until its result, in ms."""
    accepted, taken = [], []
    for _ in range(count):
        began = time.perf_counter()
        send(uuid.uuid4().hex)
        accepted.append((time.perf_counter() - began) * 1000)
        worker.take("chain10a")
        taken.append((time.perf_counter() - began) * 1000)
    return accepted, taken


def _burst(worker: CeleryWorker, send: Send, graph: str, count: int) -> tuple[Rate, list[float]]:
    began, accepted = time.monotonic(), []
    for _ in range(count):
        sent = time.perf_counter()
        send(uuid.uuid4().hex)
        accepted.append((time.perf_counter() - sent) * 1000)
    for _ in range(count):
        worker.take(graph)
    return Rate(count, time.monotonic() - began), accepted
