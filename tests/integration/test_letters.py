"""Wake-ups that the store sends itself are what Celery would have sent."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest
import redis as redis_py
from celery import Celery

from runyard.engine.run import Phase, RunRequest, Wake
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from runyard.tasks.letters import Letters
from runyard.tasks.settings import celery_settings
from runyard.tasks.wake import Waker

RUN = str(uuid.uuid4())
#: What differs from one message to the next.
OWN = ("id", "root_id", "correlation_id", "delivery_tag", "reply_to", "origin")


@pytest.fixture
def broker(redis_url: str) -> Celery:
    settings = Settings.from_env({}, redis_url=redis_url)
    return Celery("test", config_source=celery_settings(settings), set_as_current=False)


def without_ids(packed: bytes) -> dict[str, Any]:
    message = json.loads(packed)
    message["body"] = json.loads(base64.b64decode(message["body"]))
    for part in (message["headers"], message["properties"]):
        for name in OWN:
            part.pop(name, None)
    return dict(message)


@pytest.mark.parametrize("label", ["research", ""])
def test_a_letter_is_the_message_that_celery_would_put_into_the_queue(
    broker: Celery, redis: redis_py.Redis, label: str
) -> None:
    wake = Wake(run_id=RUN, queue="some queue", graph_id="research", label=label)
    Waker(broker)([wake])
    (sent,) = redis.lrange("some queue", 0, -1)
    letters = Letters(broker)
    for key, letter in (letters(wake), letters(wake)):  # the second is made from the form of the first
        assert key == "some queue"
        assert without_ids(letter) == without_ids(sent)


def test_no_two_letters_have_the_same_ids(broker: Celery) -> None:
    letters = Letters(broker)
    made = [json.loads(letters(Wake(run_id=str(uuid.uuid4()), queue="q", label="g"))[1]) for _ in range(3)]
    assert len({letter["headers"]["id"] for letter in made}) == 3
    assert len({letter["properties"]["delivery_tag"] for letter in made}) == 3
    assert len({letter["body"] for letter in made}) == 3
    for letter in made:
        assert letter["headers"]["id"] == letter["headers"]["root_id"] == letter["properties"]["correlation_id"]


def test_a_run_that_can_start_is_recorded_with_its_wake_up_and_one_that_waits_is_not(
    broker: Celery, redis_url: str, redis: redis_py.Redis
) -> None:
    store, sent = SyncStore.connect(redis_url), list[Wake]()
    settings = Settings.from_env({}, redis_url=redis_url, partitions=1)
    service = Service(store, Keys(settings.prefix, 1), settings, sent.extend, Letters(broker))
    thread_id = service.create_thread().thread_id
    first, second = (
        service.create_run(RunRequest(input={}), graph_id="g", assistant_id="g", thread_id=thread_id) for _ in range(2)
    )
    assert (first.phase, second.phase) == (Phase.WAITING, Phase.QUEUED)
    (letter,) = redis.lrange("default", 0, -1)
    assert without_ids(letter)["body"][0] == [first.run_id]
    assert not sent
    store.close()
