"""How a worker takes its wake-ups from a Redis broker that is not its store: what Celery promised, it still keeps."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py

from runyard.app.processes import WORKER
from runyard.engine.run import Run
from runyard.engine.store.embedded import EmbeddedServer
from runyard.tasks.wake import ADVANCE
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, do, fleet

pytestmark = pytest.mark.timeout(120)
#: Recovery would miss a wake-up after seconds, and these tests would not notice that one was lost.
SOON_S = 3.0


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture(scope="module")
def made(broker: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with fleet(folder, RUNYARD_BROKER_URL=broker.url, RUNYARD_CONCURRENCY=2, RUNYARD_DRAIN_S=2) as (made, _):
        yield made


@pytest.fixture
def crew(made: Fleet) -> Fleet:
    """One worker that may have two runs in hand at once, whatever the test before has done."""
    made.restore(WORKER)
    eventually(lambda: made.celery.control.ping(timeout=0.5), what="it hears remote control")
    return made


def letters(broker: EmbeddedServer, queue: str = "default") -> int:
    with redis_py.Redis.from_url(broker.url) as client:
        return int(client.llen(queue))


def asked(crew: Fleet, what: str, **how: Any) -> Any:
    """What the one worker answers to Celery's ``inspect``."""
    [answer] = getattr(crew.celery.control.inspect(timeout=1.5), what)(**how).values()
    return answer


def in_hand(crew: Fleet, *runs: Run) -> bool:
    return {run_id for task in asked(crew, "active") for run_id in task["args"]} == {run.run_id for run in runs}


def test_no_more_is_taken_than_may_be_in_hand(crew: Fleet, broker: EmbeddedServer) -> None:
    runs = [crew.submit([[do("gate", gate="places")]]) for _ in range(5)]
    crew.started(runs[0])
    crew.started(runs[1])
    assert eventually(lambda: in_hand(crew, *runs[:2]))
    assert asked(crew, "reserved") == []
    assert letters(broker) == 3
    crew.open("places")
    crew.finish(runs, timeout_s=SOON_S)


def test_what_comes_while_a_worker_stops_is_left_for_others(crew: Fleet, broker: EmbeddedServer) -> None:
    [leaves] = crew.members
    held = crew.submit([[do("gate", gate="leaves")]])
    crew.started(held)
    leaves.terminate()
    eventually(lambda: "worker.draining" in leaves.log.read_text())
    runs = [crew.submit([[do("ok")]]) for _ in range(10)]
    crew.open("leaves")
    assert leaves.exit_code() == 0
    assert letters(broker) >= 10  # the eleventh is of the run that was in hand, if it was given back
    crew.restore(WORKER)
    crew.finish([held, *runs], timeout_s=SOON_S)
    assert [crew.executions(run).total() for run in runs] == [1] * 10


def test_an_idle_worker_stops_soon(crew: Fleet) -> None:
    [leaves] = crew.members
    leaves.terminate()
    assert leaves.exit_code(timeout_s=10) == 0


def test_queues_can_be_added_and_cancelled(crew: Fleet, broker: EmbeddedServer) -> None:
    crew.celery.control.add_consumer("extra", reply=True)
    eventually(lambda: {queue["name"] for queue in asked(crew, "active_queues")} == {"default", "extra"})
    crew.celery.control.cancel_consumer("default", reply=True)
    eventually(lambda: {queue["name"] for queue in asked(crew, "active_queues")} == {"extra"})
    eventually(lambda: keys_asked_for(broker) == {"extra"})
    run = crew.submit([[do("ok")]])
    assert letters(broker) == 1
    crew.celery.send_task(ADVANCE, (run.run_id,), queue="extra")
    crew.finish([run], timeout_s=SOON_S)
    crew.celery.control.add_consumer("default", reply=True)
    crew.finish([crew.submit([[do("ok")]])], timeout_s=SOON_S)


def keys_asked_for(broker: EmbeddedServer) -> set[str]:
    """The queues that the next pop names."""
    with redis_py.Redis.from_url(broker.url) as client, client.monitor() as monitor:
        for seen in monitor.listen():
            words = str(seen["command"]).split()
            if words[0] == "BRPOP":
                return {word.partition("\x06")[0].partition("\\")[0] for word in words[1:-1]}
    return set()


def test_a_task_that_was_revoked_is_not_begun(crew: Fleet) -> None:
    task_id = str(uuid.uuid4())
    crew.celery.control.revoke(task_id, reply=True)
    gone = crew.submit([[do("ok")]])
    crew.finish([gone])
    crew.celery.send_task(ADVANCE, (gone.run_id,), task_id=task_id, queue="default")
    eventually(lambda: task_id in asked(crew, "revoked"))
    before = asked(crew, "stats")["total"].get(ADVANCE, 0)
    crew.celery.send_task(ADVANCE, (gone.run_id,), queue="default")
    eventually(lambda: asked(crew, "stats")["total"].get(ADVANCE, 0) == before + 1)


def test_what_is_no_ordinary_wake_up_goes_celerys_way(crew: Fleet, broker: EmbeddedServer) -> None:
    """A task that nobody knows, one with an ``eta``, one with a priority, a rate limit, and no message at all."""
    log = crew.members[0].log
    crew.celery.send_task("runyard.unheard_of", (), queue="default")
    eventually(lambda: "Received unregistered task of type 'runyard.unheard_of'" in log.read_text())
    with redis_py.Redis.from_url(broker.url) as client:
        client.lpush("default", b"no message", b'{"body": "", "headers": {}, "properties": {}}')
    eventually(lambda: log.read_text().count("worker.message_not_understood") == 2)

    crew.celery.send_task(ADVANCE, (str(uuid.uuid4()),), queue="default", countdown=300)
    [waits] = eventually(lambda: asked(crew, "scheduled"))
    assert waits["request"]["type"] == ADVANCE
    crew.celery.control.rate_limit(ADVANCE, "600/m", reply=True)
    crew.finish([crew.submit([[do("ok")]]) for _ in range(3)], timeout_s=SOON_S)
    crew.celery.control.rate_limit(ADVANCE, "0", reply=True)
    before = asked(crew, "stats")["total"].get(ADVANCE, 0)
    crew.celery.send_task(ADVANCE, (str(uuid.uuid4()),), queue="default", priority=9)
    eventually(lambda: asked(crew, "stats")["total"].get(ADVANCE, 0) == before + 1)


def test_a_broker_that_was_killed_or_cut_off_is_taken_from_again(crew: Fleet, broker: EmbeddedServer) -> None:
    crew.finish([crew.submit([[do("ok")]])])
    broker.restart()
    run = crew.submit([[do("ok")]])
    crew.finish([run], timeout_s=15)
    with redis_py.Redis.from_url(broker.url) as client:
        popping = [int(found["id"]) for found in client.client_list() if found["cmd"] == "brpop"]
        assert len(popping) == 1
        client.client_kill_filter(_id=popping[0])
    crew.finish([crew.submit([[do("ok")]])], timeout_s=SOON_S)
    said = crew.members[0].log.read_text().count("worker.broker_away")
    broker.pause()
    try:
        eventually(lambda: crew.members[0].log.read_text().count("worker.broker_away") > said)
    finally:
        broker.resume()
    crew.finish([crew.submit([[do("ok")]])], timeout_s=15)
    assert len(crew.members) == 1
    assert crew.members[0].is_running()
