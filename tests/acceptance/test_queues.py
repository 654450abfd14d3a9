"""Fan-out over queues, and wake-ups that are lost, doubled or merely many."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from runyard.app.processes import WORKER, WORKER_CPU
from runyard.engine.run import Wake
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, Steps, assert_as_langgraph, do, fleet, fleet_on, measured
from tests.support.processes import is_alive

pytestmark = pytest.mark.timeout(180)
BACK_IN_HANDS_S = 10.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet"), WORKER, WORKER_CPU, RUNYARD_DRAIN_S=2) as (made, _):
        yield made


@pytest.fixture
def crew(made: Fleet) -> Fleet:
    """One worker for runs and one for the CPU, whatever the test before has done to them."""
    made.restore(WORKER, WORKER_CPU)
    return made


def cpu_pids(crew: Fleet) -> set[int]:
    return next(member for member in crew.members if member.kind is WORKER_CPU).pids()


def test_a_fan_out_on_another_queue_uses_all_of_its_processes_and_the_last_branch_wakes_the_run(crew: Fleet) -> None:
    steps = [[do("spin", s=0.2, on="cpu") for _ in range(8)] + [do("ok")], [do("ok", on="cpu")], [do("ok")]]
    run = crew.submit(steps)
    crew.finish([run])
    assert_as_langgraph(crew, run)
    on_cpu = [line for line in crew.log(run) if line["action"] == "spin" or line["step"] == 1]
    assert {line["pid"] for line in on_cpu} <= cpu_pids(crew)
    assert {line["pid"] for line in on_cpu if line["step"] == 0} == cpu_pids(crew)
    assert len(cpu_pids(crew)) == 2
    assert set(crew.executions(run).values()) == {1}
    last, following = max(line["at"] for line in crew.log(run, "end") if line["step"] == 0), crew.log(run)[-2]["at"]
    measured("end of the last branch to the next superstep's first node", following - last)
    assert following - last < crew.settings.rewake_s, "recovery woke the run, not its last branch"


def test_a_failed_and_an_asking_branch_end_the_run_as_in_one_process(crew: Fleet) -> None:
    failing = crew.submit([[do("ok", on="cpu"), do("raise", on="cpu"), do("ok")]])
    asking = crew.submit([[do("ok", on="cpu"), do("ask", on="cpu"), do("ok")], [do("ok")]])
    failed, paused = crew.finish([failing, asking])
    assert failed.phase == "failed"
    assert failed.error
    assert failed.error["error"] == "ValueError"
    assert "told to fail at 0.1" in failed.error["message"]
    assert paused.phase == "paused"
    answered = crew.resume(asking, "yes")
    assert crew.finish([answered])[0].phase == "succeeded"
    assert crew.values(asking)["results"] == ["0.0 ok", "0.1 yes", "0.2 ok", "end of 0", "1.0 ok", "end of 1"]
    assert crew.executions(asking) == {(0, 0): 1, (0, 1): 2, (0, 2): 1, (1, 0): 1}


def test_a_branch_whose_process_is_killed_is_redone_and_its_siblings_are_not(crew: Fleet) -> None:
    run = crew.submit([[do("ok", on="cpu"), do("gate", gate="child killed", on="cpu"), do("ok")], [do("ok")]])
    eventually(lambda: crew.executions(run, "end").total() == 2 and crew.executions(run)[0, 1] == 1, timeout_s=30)
    victim = next(line["pid"] for line in crew.log(run) if line["action"] == "gate")
    assert victim in cpu_pids(crew)
    os.kill(victim, signal.SIGKILL)
    killed_at = time.monotonic()
    eventually(lambda: crew.executions(run)[0, 1] == 2, timeout_s=30)
    back_s = time.monotonic() - killed_at
    measured("branch begun again after kill -9 of its process", back_s)
    assert back_s < BACK_IN_HANDS_S
    crew.open("child killed")
    crew.finish([run])
    assert_as_langgraph(crew, run)
    assert crew.executions(run) == {(0, 0): 1, (0, 1): 2, (0, 2): 1, (1, 0): 1}


def test_a_worker_that_lost_a_process_still_drains_and_gives_back_what_takes_too_long(crew: Fleet) -> None:
    """A child that was killed must not leave its parent waiting for it to hear of the drain."""
    worker = next(member for member in crew.members if member.kind is WORKER_CPU)
    killed = cpu_pids(crew)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(worker.pids()) == 2 and worker.pids().isdisjoint(killed) and crew.present() >= worker.pids(),
               timeout_s=60)  # fmt: skip
    short = crew.submit([[do("wait", s=0.5, on="cpu")], [do("ok", on="cpu")], [do("ok")]])
    long = crew.submit([[do("ok"), do("gate", gate="prefork drained", on="cpu")], [do("ok")]])
    crew.started(short)
    crew.started(long, 2)
    worker.terminate()
    assert worker.exit_code(30) == 0
    assert {crew.run(short).phase, crew.run(long).phase} == {"dispatched"}
    crew.restore(WORKER, WORKER_CPU)
    crew.open("prefork drained")
    crew.finish([short, long])
    assert_as_langgraph(crew, short, long)
    assert set(crew.executions(short).values()) == {1}
    assert crew.executions(long) == {(0, 0): 1, (0, 1): 2, (1, 0): 1}
    assert crew.run(short).crashes == crew.run(long).crashes == 0


def test_branches_of_a_killed_prefork_worker_are_taken_by_the_next_one(crew: Fleet) -> None:
    run = crew.submit([[do("gate", gate="all killed", on="cpu") for _ in range(4)]])
    crew.started(run, 2)
    worker = next(member for member in crew.members if member.kind is WORKER_CPU)
    children = worker.pids()
    worker.kill()
    eventually(lambda: crew.present().isdisjoint(children) or not any(map(is_alive, children)), timeout_s=30)
    crew.restore(WORKER, WORKER_CPU)
    crew.open("all killed")
    crew.finish([run])
    assert_as_langgraph(crew, run)


def test_lost_wake_ups_are_sent_again(crew: Fleet) -> None:
    steps: Steps = [[do("ok")], [do("ok", on="cpu")]]
    crew.pause(WORKER)
    runs = [crew.submit(steps) for _ in range(10)]
    assert crew.forget_messages("default") > 0
    crew.resume_all()
    began = time.monotonic()
    crew.finish(runs)
    lost_s = time.monotonic() - began
    measured("10 runs whose wake-ups were deleted, to the end of the last", lost_s)
    assert lost_s < crew.settings.rewake_s + BACK_IN_HANDS_S
    assert_as_langgraph(crew, *runs)


def test_doubled_wake_ups_do_nothing(crew: Fleet) -> None:
    steps: Steps = [[do("wait", s=0.2), do("wait", s=0.2, on="cpu")], [do("ok")]]
    runs = [crew.submit(steps) for _ in range(10)]
    for _ in range(5):
        crew.waker([Wake(run_id=run.run_id, queue="default") for run in runs])
        crew.waker([Wake(run_id=run.run_id, queue="cpu", branch=name) for run in runs for name in ("b0", "b1", "b9")])
    crew.finish(runs)
    crew.waker([Wake(run_id=run.run_id, queue="default") for run in runs])
    eventually(lambda: crew.depth("default") == crew.depth("cpu") == 0)
    assert_as_langgraph(crew, *runs)
    for run in runs:
        assert set(crew.executions(run).values()) == {1}


def test_a_backlog_is_not_fed(crew: Fleet) -> None:
    """Two processes, ten seconds of work for them: the rest waits in the queue, each wake-up once."""
    steps: Steps = [[do("wait", s=1.0, on="cpu")] for _ in range(1)]
    runs = [crew.submit(steps) for _ in range(16)]
    eventually(lambda: sum(crew.run(run).phase == "dispatched" for run in runs) == 16, timeout_s=30)
    depths: list[int] = []

    def all_ended() -> bool:
        depths.append(crew.depth("cpu"))
        return crew.ended(runs) == 16

    eventually(all_ended, timeout_s=60, interval_s=0.2)
    print(f"measured: messages in the queue over time: {depths}")
    assert max(depths) <= 16
    growth = [later - earlier for earlier, later in pairwise(depths)]
    assert max(growth) <= 2, depths
    assert_as_langgraph(crew, *runs)
    for run in runs:
        assert crew.executions(run) == {(0, 0): 1}


def test_a_run_whose_wake_up_cannot_be_sent_is_accepted_and_starts_when_the_broker_is_back(tmp_path: Path) -> None:
    with EmbeddedServer() as store, EmbeddedServer() as broker:
        url = broker.url.replace("unix://", "redis+socket://")
        with fleet_on(store.url, tmp_path, WORKER, WORKER_CPU, RUNYARD_BROKER_URL=url) as crew:
            under_way = crew.submit([[do("gate", gate="broker away")], [do("ok")], [do("ok", on="cpu")]])
            crew.started(under_way)
            broker.kill()
            began = time.monotonic()
            accepted = [crew.submit([[do("ok")], [do("ok", on="cpu")]]) for _ in range(3)]
            measured("one run accepted while the broker is away", (time.monotonic() - began) / 3)
            assert {crew.run(run).phase for run in accepted} == {"waiting"}
            crew.open("broker away")
            eventually(lambda: crew.executions(under_way)[1, 0] == 1, timeout_s=30)
            broker.restart()
            back_at = time.monotonic()
            crew.finish([under_way, *accepted])
            measured("from the broker's return to the end of all", time.monotonic() - back_at)
            assert_as_langgraph(crew, under_way, *accepted)
            assert all(member.is_running() for member in crew.members)
