"""Workers die and are replaced under real work: what was accepted is finished, what was finished is not repeated."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from runyard.app.processes import WORKER
from runyard.engine.run import Run
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, assert_as_langgraph, do, fleet, measured

pytestmark = pytest.mark.timeout(180)

#: Issue: five seconds. A loaded machine gets some more before the test calls it a fault; the number is printed.
BACK_IN_HANDS_S = 5.0
SLACK_S = 5.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet"), WORKER, WORKER, RUNYARD_DRAIN_S=2, RUNYARD_MAX_CRASHES=9) as (made, _):
        yield made


@pytest.fixture
def crew(made: Fleet) -> Fleet:
    """Two workers, whatever the test before has done to them."""
    made.restore(WORKER, WORKER)
    return made


def longest_pause(crew: Fleet, runs: list[Run]) -> float:
    """The longest time that one of the runs did not begin anything new, in seconds."""
    moments = [[line["at"] for line in crew.log(run)] for run in runs]
    return max(later - earlier for run in moments for earlier, later in pairwise(run))


@pytest.mark.parametrize("whom", ["the leader", "another"])
def test_runs_of_a_killed_worker_go_on_elsewhere_and_finished_siblings_are_not_repeated(crew: Fleet, whom: str) -> None:
    gate = f"killed {whom}"
    steps = [[do("ok"), do("ok", on="sync"), do("ok"), do("gate", gate=gate)], [do("ok"), do("ok")]]
    leader = eventually(crew.leader)
    victim = next(member for member in crew.members if (member.pid == leader) == (whom == "the leader"))
    runs: list[Run] = []
    while len(runs) < 12 or not any(crew.log(run)[0]["pid"] == victim.pid for run in runs):
        runs.append(crew.submit(steps))
        crew.started(runs[-1], 4)
        eventually(lambda: saved_tasks(crew, runs[-1]) == 3)
    owned = {run.run_id: crew.run(run).token for run in runs if crew.log(run)[0]["pid"] == victim.pid}
    killed_at = victim.kill()

    def is_back(run: Run) -> bool:
        now = crew.run(run)
        return now.token > owned[run.run_id] and now.phase == "leased"

    for run in runs:
        if run.run_id in owned:
            eventually(lambda run=run: is_back(run), timeout_s=30)
    back_s = time.monotonic() - killed_at
    measured(f"work back in hands after kill -9 of a worker ({whom} of recovery), {len(owned)} runs", back_s)
    assert back_s < BACK_IN_HANDS_S + SLACK_S
    assert eventually(crew.leader) != victim.pid
    for run in runs:
        again = 2 if run.run_id in owned else 1
        eventually(lambda run=run, again=again: crew.executions(run)[0, 3] == again)
    crew.open(gate)
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)
    for run in runs:
        again = 2 if run.run_id in owned else 1
        assert crew.executions(run) == {(0, 0): 1, (0, 1): 1, (0, 2): 1, (0, 3): again, (1, 0): 1, (1, 1): 1}
        assert crew.run(run).crashes == again - 1


def saved_tasks(crew: Fleet, run: Run) -> int:
    """How many tasks of the run's superstep have saved what they wrote."""
    saved = crew.service.saver.get_tuple({"configurable": {"thread_id": run.thread_id, "checkpoint_ns": ""}})
    return len({task_id for task_id, _, _ in saved.pending_writes or []}) if saved else 0


def test_sigterm_loses_nothing_delays_nothing_and_repeats_nothing(crew: Fleet) -> None:
    steps = [[do("wait", s=0.1), do("wait", s=0.05, on="sync")] for _ in range(20)]
    runs = [crew.submit(steps) for _ in range(40)]
    for run in runs:
        crew.started(run, 3)
    leaving = crew.members[0]
    assert any(crew.log(run)[0]["pid"] == leaving.pid for run in runs)
    leaving.terminate()
    assert leaving.exit_code() == 0
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)
    pause_s = longest_pause(crew, runs)
    measured("longest pause of a run while its worker drained", pause_s)
    for run in runs:
        assert set(crew.executions(run).values()) == {1}
        assert crew.run(run).crashes == 0, "its lease was waited for"
    assert pause_s < crew.settings.lease_s + SLACK_S


@pytest.mark.parametrize("on", ["io", "sync"])
def test_a_node_that_outlasts_the_drain_is_given_back_and_done_elsewhere(crew: Fleet, on: str) -> None:
    gate = f"after the drain of {on}"
    run = crew.submit([[do("ok"), do("gate", gate=gate, on=on)], [do("ok")]])
    pid = crew.started(run, 2)[0]["pid"]
    eventually(lambda: saved_tasks(crew, run) == 1)
    leaving = crew.member_of(pid)
    began = time.monotonic()
    leaving.terminate()
    crew.started(run, 3)
    measured(f"SIGTERM with a drain of 2 s to the start of the {on} node elsewhere", time.monotonic() - began)
    assert leaving.exit_code(30) == 0
    measured(f"SIGTERM with a drain of 2 s to the end of the worker ({on} node)", time.monotonic() - began)
    crew.open(gate)
    crew.finish([run])
    assert_as_langgraph(crew, run)
    assert crew.executions(run) == {(0, 0): 1, (0, 1): 2, (1, 0): 1}
    assert {line["pid"] for line in crew.log(run)[2:]} == {member.pid for member in crew.members} - {pid}
    assert crew.run(run).crashes == 0


def test_sigterm_of_all_keeps_what_is_accepted_for_the_next_fleet(crew: Fleet) -> None:
    steps = [[do("wait", s=0.1)] for _ in range(15)]
    runs = [crew.submit(steps) for _ in range(20)]
    for run in runs:
        crew.started(run, 2)
    for member in crew.members:
        member.terminate()
    runs += [crew.submit(steps) for _ in range(5)]
    assert [member.exit_code() for member in crew.members] == [0, 0]
    crew.restore(WORKER, WORKER)
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)
    for run in runs:
        assert set(crew.executions(run).values()) == {1}
        assert crew.run(run).crashes == 0


def test_a_run_that_kills_its_workers_does_not_keep_the_others_from_their_end(crew: Fleet) -> None:
    deaths = 3
    innocent = [crew.submit([[do("wait", s=0.3)] for _ in range(20)]) for _ in range(10)]
    for run in innocent:
        crew.started(run)
    poison = crew.submit([[do("ok"), do("kill", times=deaths)]])
    seen = 0
    while seen < deaths:
        dead = eventually(lambda: next((m for m in crew.members if not m.is_running()), None), timeout_s=60)
        seen += 1
        crew.stop(dead)
        crew.launch(WORKER)
    crew.finish([*innocent, poison])
    assert_as_langgraph(crew, poison, *innocent)
    assert crew.run(poison).crashes == deaths
    pause_s = longest_pause(crew, innocent)
    measured(f"longest pause of a run beside one that killed its worker {deaths} times", pause_s)
    assert pause_s < BACK_IN_HANDS_S + 4 * SLACK_S


def test_a_thousand_runs_wait_in_one_worker_at_once(crew: Fleet) -> None:
    count = 1000
    crew.stop(*crew.members)
    runs = [crew.submit([[do("gate", gate="all are here", pause_s=0.5)]]) for _ in range(count)]
    names = {run.request.input["name"] for run in runs}
    (worker,) = crew.start(WORKER)

    def ours(what: str) -> list[dict[str, Any]]:
        return [line for line in crew.log(what=what) if line["name"] in names]

    eventually(lambda: len(ours("start")) == count, timeout_s=120, interval_s=0.5)
    began = ours("start")
    assert ours("end") == []
    assert {line["pid"] for line in began} == {worker.pid}
    crew.open("all are here")
    opened_at = time.time()
    crew.finish(runs, timeout_s=120)
    assert len(ours("start")) == len(ours("end")) == count
    measured(f"{count} runs taken up by one process, all of them waiting at once", began[-1]["at"] - began[0]["at"])
    measured("from what they waited for to the end of the last one", ours("end")[-1]["at"] - opened_at)


def test_a_leader_that_is_frozen_is_replaced_and_does_no_harm_when_it_wakes(crew: Fleet) -> None:
    leader = eventually(crew.leader)
    gate = "leader frozen"
    runs = [crew.submit([[do("ok"), do("gate", gate=gate)], [do("ok")]]) for _ in range(8)]
    for run in runs:
        crew.started(run, 2)
    frozen = crew.member_of(leader)
    os.kill(frozen.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        eventually(lambda: crew.leader() not in (0, leader), timeout_s=30)
        measured("another leads after the leader was frozen", time.monotonic() - began)
        for run in runs:
            crew_has = [line["pid"] for line in crew.log(run)]
            if crew_has[0] == leader:
                eventually(lambda run=run: crew.executions(run)[0, 1] == 2, timeout_s=30)
        crew.open(gate)
        crew.finish(runs)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert_as_langgraph(crew, *runs)
    before = {run.run_id: crew.run(run) for run in runs}
    more = crew.submit([[do("ok")]])
    crew.finish([more])
    eventually(lambda: leader in crew.present())
    assert_as_langgraph(crew, *runs)
    assert before == {run.run_id: crew.run(run) for run in runs}, "the one that woke up has written something"
