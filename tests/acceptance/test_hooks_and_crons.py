"""Webhooks and crons as a client of LangGraph's SDK meets them, with workers that die at the wrong moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from langgraph_sdk import get_sync_client

from runyard.app.processes import WORKER
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.eventually import eventually
from tests.support.receiver import Received, Receiver, receiver
from tests.support.stack import Stack, stack

#: The loopback receivers of this test are the inside that webhooks may reach.
ALLOWED = {"RUNYARD_WEBHOOK_ALLOW": "127.0.0.1", "RUNYARD_WEBHOOK_TIMEOUT_S": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, EmbeddedServer]]:
    with stack(tmp_path_factory.mktemp("hooks"), **ALLOWED) as made:
        yield made


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def told(hook: Receiver, count: int = 1) -> list[Received]:
    return eventually(
        lambda: hook.received if len(hook.received) >= count else [], timeout_s=30, what="the receiver was told"
    )


def test_every_way_of_starting_a_run_tells_its_end(place: tuple[Stack, EmbeddedServer], hook: Receiver) -> None:
    running, _ = place
    client: Any = get_sync_client(url=running.url)
    thread_id = client.threads.create()["thread_id"]
    how: Any = {"input": {"text": "a"}, "webhook": hook.url}
    expected = {
        client.runs.create(thread_id, "plain", **how)["run_id"],
        client.runs.create(None, "plain", **how)["run_id"],
    }
    client.runs.wait(thread_id, "plain", **how)
    client.runs.wait(None, "plain", **how)
    list(client.runs.stream(thread_id, "plain", **how))
    list(client.runs.stream(None, "plain", **how))
    batch = client.runs.create_batch([{"assistant_id": "plain", **how}, {"assistant_id": "plain", **how}])
    expected |= {run["run_id"] for run in batch}
    received = told(hook, 8)
    assert {each.body["status"] for each in received} == {"success"}
    assert expected <= {each.body["run_id"] for each in received}
    assert len({each.headers["webhook-id"] for each in received}) == len(received) == 8
    shown = running.http.get(f"/runs/{received[0].body['run_id']}").json()
    assert shown["webhook_delivery"]["state"] in ("pending", "delivered")


def test_a_worker_that_is_killed_while_it_sends_is_followed_by_another(
    place: tuple[Stack, EmbeddedServer], hook: Receiver
) -> None:
    running, _ = place
    hook.hold.clear()
    path = running.run(running.thread(), "plain", input={}, webhook=hook.url)
    (first,) = told(hook)
    assert running.http.get(path).json()["status"] == "success"  # committed before anything is told
    (worker,) = [member for member in running.members if member.kind is WORKER]
    worker.kill()
    running.members.remove(worker)
    hook.hold.set()
    running.start(WORKER)
    second = told(hook, 2)[1]
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (first.body["run_id"], first.body["values"]) == (second.body["run_id"], second.body["values"])
    delivery = eventually(
        lambda: found if (found := running.http.get(path).json()["webhook_delivery"])["state"] == "delivered" else None,
        timeout_s=30, what="the webhook is delivered",
    )  # fmt: skip
    assert delivery["status_code"] == 200


def test_a_cron_fires_and_its_run_tells_its_end(place: tuple[Stack, EmbeddedServer], hook: Receiver) -> None:
    running, server = place
    client: Any = get_sync_client(url=running.url)
    thread_id = client.threads.create()["thread_id"]
    made = client.crons.create_for_thread(
        thread_id, "plain", schedule="0 0 1 1 *", timezone="Europe/Berlin", input={"text": "x"}, webhook=hook.url,
        metadata={"k": 1},
    )  # fmt: skip
    own = client.crons.create("plain", schedule="0 0 1 1 *", input={"text": "y"}, webhook=hook.url)
    assert client.crons.count(thread_id=thread_id) == 1
    assert [each["cron_id"] for each in client.crons.search(metadata={"k": 1})] == [made["cron_id"]]
    _let_come(server, made["cron_id"], own["cron_id"])
    received = told(hook, 2)
    assert {each.body["metadata"]["cron_id"] for each in received} == {made["cron_id"], own["cron_id"]}
    assert {each.body["thread_id"] == thread_id for each in received} == {True, False}
    changed = client.crons.update(made["cron_id"], schedule="30 4 * * *", enabled=False)
    assert (changed["schedule"], changed["enabled"], changed["next_run_date"]) == ("30 4 * * *", False, None)
    for each in (made, own):
        client.crons.delete(each["cron_id"])
    assert client.crons.search() == []


def _let_come(server: EmbeddedServer, *cron_ids: str) -> None:
    """Let the next time of these crons have come."""
    with redis.Redis.from_url(server.url) as client:
        for cron_id in cron_ids:
            (key,) = client.scan_iter(match=f"*:cron:{cron_id}")
            client.hset(key, "next_at", 1)
            client.zadd(key.partition(b":cron:")[0] + b":crons_due", {cron_id: 1})
