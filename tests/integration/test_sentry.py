"""Sentry is told once of a run that failed for good, and of nothing that is not a failure; no secret goes along."""

from __future__ import annotations

import gzip
import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import orjson
import pytest
import sentry_sdk
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy, interrupt

from runyard.engine.dead_letters import DeadLetters
from runyard.engine.letter import Repair
from runyard.engine.recovery import Recovery
from runyard.engine.run import Phase
from runyard.engine.saver import RedisSaver
from runyard.tasks import sentry
from tests.support.engine import Engine, engine
from tests.support.receiver import Receiver, receiver
from tests.support.store import Bench
from tests.support.web import Web

SECRET = "sk-planted1234567890abcd"


class State(TypedDict, total=False):
    out: Annotated[list[Any], operator.add]


@pytest.fixture
def told() -> Iterator[Receiver]:
    with receiver() as made:
        sentry.begin(made.url.replace("http://", "http://public@").replace("/told", "/1"))
        yield made
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)


def events(told: Receiver) -> list[dict[str, Any]]:
    """The events that have come, once all that was sent has."""
    sentry_sdk.flush(10)
    found = []
    for envelope in told.received:
        lines = gzip.decompress(envelope.raw).splitlines()
        items = zip(lines[1::2], lines[2::2], strict=False)
        found += [json.loads(payload) for head, payload in items if orjson.loads(head)["type"] == "event"]
    return found


def graph(node: Any, **how: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("search", node, **how)
    builder.add_edge(START, "search").add_edge("search", END)
    return builder.compile()


def refuse(_: State) -> State:
    raise ConnectionError(f"refused {SECRET}, request 12")


def twice() -> RetryPolicy:
    return RetryPolicy(max_attempts=2, initial_interval=0.0, jitter=False)


def watched(made: Engine) -> Engine:
    made.worker.on_death = (sentry.report_run,)
    return made


async def test_a_run_that_failed_for_good_is_one_event(redis_url: str, told: Receiver) -> None:
    async with engine(redis_url, {"research": graph(refuse, retry_policy=twice())}) as made:
        run = await watched(made).run("research", {"out": []})
        letter = DeadLetters(made.service).get(run.run_id)
    (event,) = events(told)
    assert event["fingerprint"] == [letter["fingerprint"]]
    assert event["release"] == f"research@{run.fingerprint}"
    assert event["transaction"] == "research.search"
    expected = {"run_id": run.run_id, "graph": "research", "node": "search", "attempt": "2"}
    assert {name: event["tags"][name] for name in expected} == expected
    error = event["exception"]["values"][-1]
    assert error["type"] == "ConnectionError"
    assert error["value"].startswith("refused [redacted], request 12")  # LangGraph adds which task it was
    last = error["stacktrace"]["frames"][-1]
    assert (last["function"], last["filename"].endswith("test_sentry.py")) == ("refuse", True)
    assert SECRET not in json.dumps(event)


async def test_what_failed_on_another_worker_has_its_stack_and_attempt(redis_url: str, told: Receiver) -> None:
    elsewhere = {"runyard": {"queue": "far"}}
    async with engine(redis_url, {"far": graph(refuse, retry_policy=twice(), metadata=elsewhere)}) as made:
        run = await watched(made).run("far", {"out": []})
    assert run.phase is Phase.FAILED
    (event,) = events(told)
    (error,) = event["exception"]["values"]
    assert error["type"] == "ConnectionError"
    assert error["stacktrace"]["frames"][-1]["function"] == "refuse"
    assert (event["tags"]["node"], event["tags"]["attempt"]) == ("search", "2")
    assert SECRET not in json.dumps(event)


async def test_the_same_failure_groups_and_a_replay_that_fails_is_another_event(redis_url: str, told: Receiver) -> None:
    async with engine(redis_url, {"research": graph(refuse)}) as made:
        first = await watched(made).run("research", {"out": []})
        await made.run("research", {"out": []})
        DeadLetters(made.service).replay(first.run_id, Repair())
        await made.drive()
    found = events(told)
    assert [event["tags"].get("replays") for event in found] == ["0", "0", "1"]
    assert len({event["fingerprint"][0] for event in found}) == 1


async def test_what_is_no_failure_is_no_event(redis_url: str, told: Receiver) -> None:
    tries: list[int] = []

    def flaky(_: State) -> State:
        tries.append(1)
        if len(tries) < 2:
            raise ConnectionError("reset")
        return {"out": [1]}

    graphs = {
        "retried": graph(flaky, retry_policy=twice()),
        "asking": graph(lambda _: {"out": [interrupt("go on?")]}),
        "parked": graph(refuse, metadata={"runyard": {"on_exhausted": "park"}}),
        "waiting": graph(refuse, retry_policy=RetryPolicy(max_attempts=2, initial_interval=60.0)),
    }
    async with engine(redis_url, graphs) as made:
        for name in graphs:
            made_run = watched(made).start(name, {"out": []})
            await made.drive()
            if name == "waiting":
                made.service.cancel_run(made_run)
                await made.drive()
    assert len(tries) == 2
    assert events(told) == []


def test_a_run_whose_time_is_over_is_one_event(redis_url: str, told: Receiver) -> None:
    bench = Bench(redis_url)
    saver = RedisSaver(bench.keys, sync_store=bench.store)
    recovery = Recovery(
        bench.store, bench.keys, saver, bench.settings, "me", bench.wakes.extend, lambda _: 0, (sentry.report_run,)
    )
    staged = bench.stage(Phase.DUE)
    bench.client.hset(bench.at.run(staged.run.run_id), "deadline_at", 1)
    bench.client.zadd(bench.at.deadlines, {staged.run.run_id: 1})
    recovery.sweep()
    recovery.sweep()
    bench.close()
    (event,) = events(told)
    assert event["exception"]["values"][0]["type"] == "RunTimedOut"
    assert event["tags"]["run_id"] == staged.run.run_id


def test_the_web_tells_of_its_own_failures_and_of_no_wrong_request(
    redis_url: str, tmp_path: Path, told: Receiver
) -> None:
    web = Web(redis_url, tmp_path)

    @web.app.get("/bug")
    def bug() -> None:
        raise RuntimeError(f"bug with {SECRET}")

    assert web.call("GET", "/nowhere").status_code == 404
    assert web.call("POST", "/threads", {"thread_id": 3}).status_code == 422
    headers = {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET, "Cookie": f"session={SECRET}"}
    answer = web.call("GET", f"/bug?token={SECRET}", headers=headers)
    assert answer.status_code == 500
    (event,) = events(told)
    assert event["exception"]["values"][-1]["type"] == "RuntimeError"
    assert event["request"]["url"].endswith("/bug")
    assert event["release"].startswith("runyard@")
    assert SECRET not in json.dumps(event)
