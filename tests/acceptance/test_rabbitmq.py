"""The same fleet with RabbitMQ as its broker: wake-ups travel there, runs stay in the store."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator

import pytest

from runyard.app.processes import WORKER, WORKER_CPU
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, assert_as_langgraph, do, fleet

BROKER = os.environ.get("RUNYARD_TEST_AMQP_URL", "")
pytestmark = [
    pytest.mark.rabbitmq,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not BROKER, reason="RUNYARD_TEST_AMQP_URL names no RabbitMQ broker"),
]


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    queue = f"runyard-test-{uuid.uuid4().hex[:8]}"
    with fleet(tmp_path_factory.mktemp("fleet"), RUNYARD_BROKER_URL=BROKER, RUNYARD_QUEUE=queue) as (crew, _):
        crew.start(WORKER, WORKER, WORKER_CPU)
        yield crew
        for member in crew.members:
            member.close()
        with crew.celery.connection_for_write() as connection:
            connection.default_channel.queue_delete(queue)
            connection.default_channel.queue_purge("cpu")


def test_runs_and_branches_come_to_their_end(crew: Fleet) -> None:
    steps = [[do("ok"), do("spin", s=0.1, on="cpu"), do("spin", s=0.1, on="cpu")], [do("ok", on="sync")]]
    runs = [crew.submit(steps) for _ in range(10)]
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)
    for run in runs:
        assert set(crew.executions(run).values()) == {1}


def test_a_wake_up_that_was_lost_is_sent_again(crew: Fleet) -> None:
    for member in crew.members:
        os.killpg(member.pid, signal.SIGSTOP)
    runs = [crew.submit([[do("ok")]]) for _ in range(5)]
    with crew.celery.connection_for_write() as connection:
        connection.default_channel.queue_purge(crew.settings.queue)
    crew.resume_all()
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)


def test_a_worker_is_killed_and_another_drains(crew: Fleet) -> None:
    runs = [crew.submit([[do("wait", s=0.1)] for _ in range(20)]) for _ in range(20)]
    for run in runs:
        crew.started(run)
    killed, drained = [member for member in crew.members if member.kind is WORKER]
    killed.kill()
    crew.launch(WORKER)
    eventually(lambda: sum(crew.executions(run).total() for run in runs) > 100, timeout_s=60)
    drained.terminate()
    assert drained.exit_code() == 0
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)
