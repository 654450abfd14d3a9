"""Plain Celery, as one writes it without a runtime: a task for each node, or the whole graph in one task.

Results are pushed to a list: a result backend would be one more write for each task.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import redis
from celery import Celery, chain, group
from celery.canvas import Signature

from bench import workloads

URL = os.environ["BENCH_REDIS_URL"]
DONE = "bench:done"
BRANCHES = 100

app = Celery("bench", broker=URL.replace("unix://", "redis+socket://", 1))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
_store = redis.Redis.from_url(URL)

State = dict[str, Any]


def chain_of(length: int, run: str, *, wait_s: float = 0.0) -> Signature:
    """The chain as a canvas: each message carries what is still to come."""
    names = [f"n{index}" for index in range(length)]
    middle = [node.s(name, wait_s) for name in names[1:-1]]
    return chain(node.s({"log": []}, names[0], wait_s), *middle, last_node.s(names[-1], run, wait_s))


@app.task
def node(state: State, name: str, wait_s: float = 0.0) -> State:
    if wait_s:
        time.sleep(wait_s)
    return {"log": [*state["log"], name]}


@app.task
def last_node(state: State, name: str, run: str, wait_s: float = 0.0) -> None:
    _done(run, node(state, name, wait_s))


@app.task
def split(run: str) -> None:
    group(branch.s(run, i) for i in range(BRANCHES)).apply_async()


@app.task
def branch(run: str, i: int) -> None:
    """One of the 100; the last to end reduces. A counter, because a chord needs a result backend and is slower."""
    out = f"bench:out:{run}"
    if _store.rpush(out, *workloads.double({"i": i})["out"]) == BRANCHES:
        total = sum(int(value) for value in _store.lrange(out, 0, -1))
        _store.delete(out)
        _done(run, {"total": total})


@app.task
def invoke(graph: str, run: str) -> None:
    """The whole graph in one task, without checkpoints."""
    _done(run, asyncio.run(getattr(workloads, graph).ainvoke(workloads.GIVEN[graph])))


@app.task
def invoke_sync(graph: str, run: str) -> None:
    """The same for a graph of sync nodes, which is faster in a process that has no event loop."""
    _done(run, getattr(workloads, graph).invoke(workloads.GIVEN[graph]))


def _done(run: str, state: State) -> None:
    _store.rpush(DONE, json.dumps([run, state]))
