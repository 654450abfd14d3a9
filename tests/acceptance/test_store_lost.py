"""The store is killed, cut off and frozen under load. Workers go on by themselves; nothing accepted is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import redis as redis_py

from runyard.app.processes import WORKER, WORKER_CPU
from runyard.engine.errors import StoreUnavailable
from runyard.engine.run import Run
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, Steps, assert_as_langgraph, do, fleet, measured

pytestmark = pytest.mark.timeout(180)
STEPS: Steps = [[do("wait", s=0.1), do("ok", on="sync")], [do("wait", s=0.1, on="cpu"), do("ok")]] * 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, EmbeddedServer]]:
    with fleet(tmp_path_factory.mktemp("fleet"), WORKER, WORKER, WORKER_CPU) as made:
        yield made


@pytest.fixture
def crew(made: tuple[Fleet, EmbeddedServer]) -> Iterator[Fleet]:
    """The same workers for all these tests: none of them may need to be started again."""
    pids = [member.pid for member in made[0].members]
    yield made[0]
    assert [member.pid for member in made[0].members if member.is_running()] == pids, "a worker has ended"


@pytest.fixture
def server(made: tuple[Fleet, EmbeddedServer]) -> EmbeddedServer:
    return made[1]


def under_load(crew: Fleet, count: int = 20) -> list[Run]:
    """Runs of which some have come some way."""
    runs = [crew.submit(STEPS) for _ in range(count)]
    for run in runs[: count // 2]:
        crew.started(run, 2)
    return runs


def assert_committed_once(crew: Fleet, runs: list[Run]) -> None:
    """Every superstep stands once in the history of its thread, each upon the one before."""
    for run in runs:
        history = list(crew.service.saver.list({"configurable": {"thread_id": run.thread_id, "checkpoint_ns": ""}}))
        steps = [saved.metadata["step"] for saved in reversed(history)]
        assert steps == list(range(-1, len(steps) - 1))
        for later, earlier in pairwise(history):
            assert later.parent_config
            assert (
                later.parent_config["configurable"]["checkpoint_id"] == earlier.config["configurable"]["checkpoint_id"]
            )


def test_a_store_that_is_killed_under_load_and_comes_back_loses_no_accepted_run(
    crew: Fleet, server: EmbeddedServer
) -> None:
    runs = under_load(crew)
    server.kill()
    with pytest.raises(StoreUnavailable):
        crew.submit(STEPS, name="refused", thread_id="11111111-1111-4111-8111-111111111111")
    server.restart()
    back_at = time.monotonic()
    assert set(crew.redis.scan_iter("*11111111-1111-4111-8111-111111111111*")) == set(), (
        "what was refused was half written"
    )
    first = crew.submit([[do("ok")]])
    crew.finish([first])
    measured("from the store's return to the end of a new run", time.monotonic() - back_at)
    crew.finish(runs)
    measured("from the store's return to the end of all that was under way", time.monotonic() - back_at)
    assert_as_langgraph(crew, *runs)
    assert_committed_once(crew, runs)


def test_a_store_that_is_away_for_longer_than_anything_waits_for_it(crew: Fleet, server: EmbeddedServer) -> None:
    """Twelve seconds: every retry of the drivers is used up, every lease and the office of the leader have ended."""
    runs = under_load(crew, 20)
    server.kill()
    away_at = time.monotonic()
    eventually(lambda: time.monotonic() - away_at > 12, timeout_s=20, interval_s=0.5)
    server.restart()
    back_at = time.monotonic()
    first = crew.submit([[do("ok")]])
    crew.finish([first])
    measured("from the store's return after 12 s to the end of a new run", time.monotonic() - back_at)
    crew.finish(runs)
    measured("from the store's return after 12 s to the end of all", time.monotonic() - back_at)
    assert_as_langgraph(crew, *runs)
    assert_committed_once(crew, runs)
    assert eventually(crew.leader)
    pids = {pid for member in crew.members for pid in member.pids()}
    eventually(lambda: crew.present() >= pids, what="every worker says that it is there again")


def test_connections_that_are_all_cut_under_load_do_no_harm(crew: Fleet, server: EmbeddedServer) -> None:
    runs = under_load(crew)
    with redis_py.Redis.from_url(server.url) as admin:
        for _ in range(5):
            for kind in ("normal", "pubsub"):
                admin.client_kill_filter(_type=kind, skipme=True)
            began = len(crew.log())
            eventually(lambda began=began: len(crew.log()) > began or crew.ended(runs) == len(runs))
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)
    assert_committed_once(crew, runs)


def test_a_store_that_hangs_past_the_lease_lets_nothing_be_committed_twice(crew: Fleet, server: EmbeddedServer) -> None:
    runs = under_load(crew)
    server.pause()
    frozen_at = time.monotonic()
    eventually(lambda: time.monotonic() - frozen_at > crew.settings.lease_s + 2, timeout_s=20, interval_s=0.2)
    server.resume()
    back_at = time.monotonic()
    crew.finish(runs)
    measured("from SIGCONT of the store to the end of all", time.monotonic() - back_at)
    assert_as_langgraph(crew, *runs)
    assert_committed_once(crew, runs)
    for run in runs:
        assert_no_late_work(crew, run)


def assert_no_late_work(crew: Fleet, run: Run) -> None:
    """Once a step's nodes have begun, no node of an earlier step begins any more: that step is committed."""
    latest = 0
    for line in crew.log(run):
        assert line["step"] >= latest, f"{line} began after step {latest} had"
        latest = line["step"]


def test_workers_that_start_while_the_store_is_away_wait_for_it(tmp_path: Path) -> None:
    with fleet(tmp_path) as (crew, server):
        run = crew.submit([[do("ok")], [do("ok", on="cpu")]])
        server.kill()
        members = [crew.launch(WORKER), crew.launch(WORKER_CPU)]
        began = time.monotonic()
        eventually(lambda: time.monotonic() - began > 6, timeout_s=20, interval_s=0.5)
        server.restart()
        for member in members:
            crew.await_ready(member)
        crew.finish([run])
        assert_as_langgraph(crew, run)
