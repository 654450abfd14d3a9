"""Nodes that do not end, and nodes that take their process with them: real workers, real signals, real clocks."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runyard.app.processes import WORKER, WORKER_CPU
from runyard.engine.run import Run, RunRequest
from runyard.engine.store import runs
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, Member, fleet, measured
from tests.support.processes import is_alive

pytestmark = pytest.mark.timeout(240)

#: A loaded machine is slow to schedule, and slower to notice. The numbers are printed; the bounds leave room.
SLACK_S = 5.0

#: Each execution of a node writes its name, its process and the time.
GRAPHS = """
import asyncio, json, operator, os, signal, time
from pathlib import Path
from typing import Annotated, TypedDict
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy

class State(TypedDict, total=False):
    name: str
    log: Annotated[list[str], operator.add]

def note(state, node):
    line = {"name": state["name"], "node": node, "pid": os.getpid(), "at": time.time()}
    with (Path(__file__).parent / "executions").open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\\n")

def sleeps(state):
    note(state, "sleeps")
    time.sleep(600)

def hogs(state):
    note(state, "hogs")
    pow(7, 10**10)  # one instruction of C that holds the interpreter's lock for hours

def stubborn(state):
    note(state, "stubborn")
    sum(range(4 * 10**8))  # holds it for longer than a lease lasts, and comes to an end
    return {"log": ["stubborn"]}

def kills(state):
    note(state, "kills")
    os.kill(os.getpid(), signal.SIGKILL)

async def waits(state):
    note(state, "waits")
    await asyncio.sleep(600)

async def quick(state):
    note(state, "quick")
    for _ in range(20):
        await asyncio.sleep(0.1)
    return {"log": ["quick"]}

def fails(state):
    note(state, "fails")
    raise ConnectionError("away")

def after(state):
    return {"log": ["after"]}

ONE_S = {"runyard": {"deadline_s": 1}}
AGAIN = RetryPolicy(max_attempts=2, initial_interval=0.1, retry_on=Exception)

def build(node, **how):
    graph = StateGraph(State)
    graph.add_node("node", node, **how)
    graph.add_node("after", after)
    graph.add_edge(START, "node")
    graph.add_edge("node", "after")
    graph.add_edge("after", END)
    return graph.compile()

sleeper = build(sleeps, metadata=ONE_S)
sleeper_again = build(sleeps, metadata=ONE_S, retry_policy=AGAIN)
hog = build(hogs, metadata=ONE_S)
hog_again = build(hogs, metadata=ONE_S, retry_policy=AGAIN)
stubborn_one = build(stubborn, metadata={"runyard": {"deadline_s": 120}})
killer = build(kills, metadata={"runyard": {"isolate": True}})
killer_in_time = build(kills, metadata=ONE_S)
waiter = build(waits)
bystander = build(quick)
patient_bystander = build(quick, metadata={"runyard": {"deadline_s": 60}})
isolated_bystander = build(quick, metadata={"runyard": {"isolate": True}})
left_behind = build(sleeps)
optional = build(sleeps, metadata={"runyard": {"deadline_s": 1, "required": False}})
slow_retry = build(fails, retry_policy=RetryPolicy(max_attempts=3, initial_interval=2.0, backoff_factor=1, jitter=False,
                                                  retry_on=Exception))
"""
NAMES = [line.split(" = build")[0] for line in GRAPHS.splitlines() if " = build(" in line]


class Crew:
    """A fleet that serves the graphs above."""

    def __init__(self, of: Fleet, folder: Path) -> None:
        self.fleet, self._folder = of, folder

    def start(self, graph_id: str) -> Run:
        given = {"name": uuid.uuid4().hex, "log": []}
        return self.fleet.service.create_run(
            RunRequest(input=given), graph_id=graph_id, assistant_id=graph_id,
            thread_id=str(uuid.uuid4()), create_thread=True,
        )  # fmt: skip

    def executions(self, run: Run) -> list[dict[str, Any]]:
        path = self._folder / "executions"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["name"] == run.request.input["name"]]

    def began(self, run: Run, count: int = 1) -> list[dict[str, Any]]:
        return eventually(
            lambda: found if len(found := self.executions(run)) >= count else None, timeout_s=60, what="nodes began"
        )

    def attempts(self, run: Run) -> list[dict[str, Any]]:
        return self.fleet.store.do(runs.attempts(self.fleet.keys, run.run_id))

    def ended(self, run: Run) -> Run:
        return self.fleet.finish([run], timeout_s=90)[0]

    def member(self, kind: Any) -> Member:
        return next(member for member in self.fleet.members if member.kind is kind)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    folder = tmp_path_factory.mktemp("deadlines")
    (folder / "unruly.py").write_text(GRAPHS)
    config = folder / "unruly.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": {name: f"./unruly.py:{name}" for name in NAMES}}))
    with fleet(folder, WORKER, WORKER_CPU, RUNYARD_CONFIG=str(config), RUNYARD_DRAIN_S=2) as (of, _):
        yield Crew(of, folder)


@pytest.fixture
def crew(made: Crew) -> Crew:
    made.fleet.restore(WORKER, WORKER_CPU)
    return made


def gone(pid: int) -> bool:
    return not is_alive(pid)


def test_a_sleeping_function_is_stopped_at_its_deadline_with_the_process_it_runs_in(crew: Crew) -> None:
    run, bystander, isolated = crew.start("sleeper"), crew.start("bystander"), crew.start("isolated_bystander")
    (began,) = crew.began(run)
    assert began["pid"] in crew.member(WORKER_CPU).pids()
    eventually(lambda: gone(began["pid"]), timeout_s=30, interval_s=0.01)
    late_s = time.time() - began["at"] - 1.0
    measured("a sleeping node's process was gone after its deadline by", late_s)
    assert late_s < 1.0 + SLACK_S
    ended = crew.ended(run)
    assert ended.phase == "failed"
    assert ended.error
    assert (ended.error["error"], ended.error["node"]) == ("NodeTimeoutError", "node")
    assert [(item["attempt"], item["error"]) for item in crew.attempts(run)] == [(1, "NodeTimeoutError")]
    assert crew.fleet.store.do(runs.is_dead(crew.fleet.keys, run.run_id))
    for other in (bystander, isolated):
        assert crew.ended(other).phase == "succeeded"
        assert len(crew.executions(other)) == 1


def test_each_attempt_of_a_sleeping_function_ends_with_its_process(crew: Crew) -> None:
    run = crew.start("sleeper_again")
    first, second = crew.began(run, 2)
    assert first["pid"] != second["pid"]
    assert gone(first["pid"])
    assert crew.ended(run).phase == "failed"
    eventually(lambda: gone(second["pid"]))
    assert [(item["attempt"], item["error"]) for item in crew.attempts(run)] == [
        (1, "NodeTimeoutError"), (2, "NodeTimeoutError"),
    ]  # fmt: skip


def test_a_run_goes_on_without_an_optional_node_that_was_stopped(crew: Crew) -> None:
    run = crew.ended(crew.start("optional"))
    assert run.phase == "succeeded"
    assert [item["node"] for item in run.degraded] == ["node"]


@pytest.mark.parametrize(("graph", "tries"), [("hog", 1), ("hog_again", 2)])
def test_code_that_never_lets_go_of_the_interpreter_is_ended_by_the_kernel(crew: Crew, graph: str, tries: int) -> None:
    run, bystander = crew.start(graph), crew.start("bystander")
    began = crew.began(run)[0]
    eventually(lambda: gone(began["pid"]), timeout_s=30, interval_s=0.01)
    late_s = time.time() - began["at"] - 1.0
    measured("a process in C code was gone after its node's deadline by", late_s)
    assert late_s < 1.0 + SLACK_S
    ended = crew.ended(run)
    measured("from that node's start to the run's end", time.time() - began["at"])
    assert ended.phase == "failed"
    assert ended.error
    assert ended.error["error"] == "NodeTimeoutError"
    attempts = crew.attempts(run)
    assert [item["error"] for item in attempts] == ["NodeTimeoutError"] * tries
    # The record is of the process that was killed, not of the one that found it out.
    assert [int(item["worker"].split(":")[1]) for item in attempts] == [one["pid"] for one in crew.executions(run)]
    assert all(item["duration_ms"] >= 1000 for item in attempts)
    assert len(crew.executions(run)) == tries
    assert crew.ended(bystander).phase == "succeeded"
    assert len(crew.executions(bystander)) == 1


def test_code_that_holds_the_interpreter_within_its_deadline_keeps_its_lease(crew: Crew) -> None:
    run = crew.start("stubborn_one")
    began = crew.began(run)[0]
    ended = crew.ended(run)
    took_s = time.time() - began["at"]
    measured("a node in C code, with a lease of 3 s", took_s)
    assert took_s > crew.fleet.settings.lease_s
    assert (ended.phase, ended.crashes, len(crew.executions(run))) == ("succeeded", 0, 1)


@pytest.mark.parametrize("graph", ["killer", "killer_in_time"])
def test_a_node_that_kills_its_process_is_quarantined_and_the_worker_lives_on(crew: Crew, graph: str) -> None:
    parent, bystander = crew.member(WORKER_CPU).pid, crew.start("isolated_bystander")
    run = crew.start(graph)
    ended = crew.ended(run)
    assert ended.phase == "failed"
    assert ended.error
    assert (ended.error["error"], ended.error["node"]) == ("Quarantined", "node")
    assert ended.crashes == crew.fleet.settings.max_crashes == len(crew.executions(run)) == 3
    assert crew.attempts(run) == []
    assert crew.member(WORKER_CPU).pid == parent
    assert crew.member(WORKER_CPU).is_running()
    assert crew.ended(bystander).phase == "succeeded"
    assert crew.ended(crew.start("isolated_bystander")).phase == "succeeded"


def test_cancelling_ends_a_running_async_node_within_a_second(crew: Crew) -> None:
    run = crew.start("waiter")
    crew.began(run)
    asked_at = time.monotonic()
    crew.fleet.service.cancel_run(crew.fleet.run(run))
    assert crew.ended(run).phase == "cancelled"
    took_s = time.monotonic() - asked_at
    measured("cancelling a run with a waiting node", took_s)
    assert took_s < 1.0 + SLACK_S


def test_attempts_outlive_the_worker_that_counted_them(crew: Crew) -> None:
    run = crew.start("slow_retry")
    eventually(lambda: len(crew.attempts(run)) == 1 and crew.fleet.run(run).phase == "due", timeout_s=30)
    crew.member(WORKER).kill()
    crew.fleet.restore(WORKER, WORKER_CPU)
    ended = crew.ended(run)
    assert ended.phase == "failed"
    attempts = crew.attempts(run)
    assert [item["attempt"] for item in attempts] == [1, 2, 3]
    assert attempts[0]["worker"] != attempts[1]["worker"]
    assert len(crew.executions(run)) == 3
    starts = [line["at"] for line in crew.executions(run)]
    assert min(later - earlier for earlier, later in pairwise(starts)) >= 2.0


def test_a_worker_with_too_many_functions_left_behind_in_threads_ends_by_itself(crew: Crew) -> None:
    crew.fleet.stop(crew.member(WORKER))
    (limited,) = crew.fleet.start(WORKER, RUNYARD_NODE_DEADLINE_S=1, RUNYARD_MAX_ABANDONED=2)
    first = crew.start("left_behind")
    ended = crew.ended(first)
    assert ended.phase == "failed"
    assert ended.error
    assert ended.error["error"] == "NodeTimeoutError"
    assert limited.is_running()
    second, bystander = crew.start("left_behind"), crew.start("patient_bystander")
    crew.began(second)
    began = time.monotonic()
    assert limited.exit_code(timeout_s=40) == 0
    measured("a worker with two threads that never end was gone after", time.monotonic() - began)
    crew.fleet.restore(WORKER, WORKER_CPU)
    assert crew.ended(second).phase == "failed"
    assert crew.ended(bystander).phase == "succeeded"
