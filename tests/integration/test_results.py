"""Large results: kept once by their thread, found for each run as long as its events are, whatever comes after it."""

from __future__ import annotations

import base64
import operator
import random
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from runyard.app import sse
from runyard.engine import wire
from runyard.engine.errors import Sealed
from runyard.engine.live import Live
from runyard.engine.run import Phase, Run
from runyard.engine.store import events, results, runs
from tests.support.engine import Engine, engine

KEYS = "one:" + base64.b64encode(b"1" * 32).decode()
#: So long that one message alone makes a result large.
LONG = 2 * results.LARGE


class Chat(TypedDict, total=False):
    turn: int
    said: Annotated[list[str], operator.add]
    last: str


def words(seed: int, length: int = LONG) -> str:
    return random.Random(seed).randbytes(length // 2).hex()


def answer(state: Chat) -> Chat:
    asked = state["said"][-1]
    if asked == "ask":
        asked = interrupt({"result": "really?"})
    if asked == "fail":
        raise ValueError("no")
    return {"turn": state.get("turn", 0) + 1, "said": [f"answer to {asked}"], "last": asked[:10]}


def graph() -> Any:
    return StateGraph(Chat).add_node("answer", answer).add_edge(START, "answer").compile()


@pytest.fixture(params=["", KEYS], ids=["plain", "encrypted"])
async def eng(redis_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    async with engine(redis_url, {"g": graph()}, encryption_keys=request.param) as made:
        yield made


async def turn(eng: Engine, said: str, thread_id: str | None = None, **how: Any) -> Run:
    return await eng.run("g", {"said": [said]}, thread_id=thread_id, **how)


def result(eng: Engine, run: Run) -> Any:
    (told,) = [part for part in eng.service.result(run) if part is not None]
    return wire.decode(told)


def end_of(eng: Engine, run: Run) -> events.Event:
    (event,) = eng.sync_store.do(events.end(eng.keys, run.run_id))
    return event


def events_bytes(eng: Engine, run: Run) -> int:
    return eng.sync_store.client.memory_usage(eng.keys.of_run(run.run_id).events(run.run_id)) or 0


# --- what is kept


async def test_a_large_result_is_not_in_the_event_and_is_what_who_waits_is_answered(eng: Engine) -> None:
    run = await turn(eng, words(1))
    assert len(end_of(eng, run).data) < 100
    assert result(eng, run)["said"] == [words(1), f"answer to {words(1)}"]


async def test_a_small_result_is_in_the_event(eng: Engine) -> None:
    run = await turn(eng, "hello")
    assert wire.decode(events.result_in(end_of(eng, run)) or b"")["said"] == ["hello", "answer to hello"]


async def test_the_result_of_a_thread_that_goes_with_its_run_is_in_the_event(eng: Engine) -> None:
    given = {"said": [words(1)]}
    run = eng.service.create_run(runs.RunRequest(input=given), graph_id="g", assistant_id="g")
    await eng.drive()
    assert result(eng, run)["turn"] == 1


async def test_each_turn_of_a_long_thread_keeps_what_it_adds_and_every_result_can_be_had(eng: Engine) -> None:
    first = await turn(eng, words(0), stream_mode=["updates"])
    how: Any = {"thread_id": first.thread_id, "stream_mode": ["updates"]}
    told = [first, *[await turn(eng, words(number), **how) for number in range(1, 12)]]
    key = eng.keys.of_thread(first.thread_id).thread_results(first.thread_id)
    assert (eng.sync_store.client.memory_usage(key, samples=0) or 0) < LONG  # eleven results of up to 22 times that
    assert all(events_bytes(eng, run) < 2 * LONG for run in told)
    for number, run in enumerate(told):
        said = [text for each in range(number + 1) for text in (words(each), f"answer to {words(each)}")]
        assert result(eng, run) == {"turn": number + 1, "said": said, "last": words(number)[:10]}


# --- whatever comes after


async def test_results_outlive_history_that_is_pruned_runs_that_are_deleted_and_edits(eng: Engine) -> None:
    first = await turn(eng, words(0))
    thread = first.thread_id
    runs_ = [first, *[await turn(eng, words(number), thread) for number in (1, 2)]]
    before = [result(eng, run) for run in runs_]
    assert eng.service.prune_threads([thread], "keep_latest") == 1
    eng.service.delete_run(runs_[1])
    edited = {"values": {"turn": 99, "said": [words(7)]}, "next": [], "tasks": []}
    eng.service.note_state(thread, edited, graph_id="g", assistant_id="g")
    await turn(eng, words(3), thread)
    assert [result(eng, run) for run in (runs_[0], runs_[2])] == [before[0], before[2]]


async def test_a_small_or_a_failed_turn_after_it_leaves_a_result_as_it_was(eng: Engine) -> None:
    first = await turn(eng, words(0))
    failed = await turn(eng, "fail", first.thread_id)
    assert eng.service.get_run(failed.run_id).phase is Phase.FAILED
    second = await turn(eng, words(1), first.thread_id)
    assert result(eng, first)["turn"] == 1
    assert result(eng, second)["turn"] == 2
    assert result(eng, failed) == {"__error__": {"error": "ValueError", "message": "no"}}


async def test_a_run_that_is_rolled_back_leaves_the_results_before_it(eng: Engine) -> None:
    first = await turn(eng, words(0))
    following = eng.start("g", {"said": [words(1)]}, thread_id=first.thread_id)
    call = runs.claim(eng.keys, following.run_id, owner="w", nonce="n", lease_ms=60_000)
    claim = eng.sync_store.do(call)
    assert claim is not None
    eng.service.cancel_run(following, "rollback")
    call_of_end = runs.end(
        eng.keys, following, claim.fence, Phase.CANCELLED, events_ttl_ms=60_000, values=wire.pack_json(b"{}"),
        hold_thread=True,
    )  # fmt: skip
    eng.sync_store.do(call_of_end)
    assert result(eng, first)["turn"] == 1


async def test_what_a_graph_asks_is_told_with_a_large_result(eng: Engine) -> None:
    first = await turn(eng, words(0))
    asking = await turn(eng, "ask", first.thread_id)
    told = result(eng, asking)
    assert [item["value"] for item in told.pop("__interrupt__")] == [{"result": "really?"}]
    assert told["turn"] == 1
    await turn(eng, words(1), first.thread_id)
    assert "__interrupt__" in result(eng, asking)


async def test_a_result_that_is_kept_no_more_is_what_the_thread_holds(eng: Engine) -> None:
    first = await turn(eng, words(0))
    second = await turn(eng, words(1), first.thread_id)
    eng.sync_store.client.delete(eng.keys.of_thread(first.thread_id).thread_results(first.thread_id))
    assert result(eng, first) == result(eng, second)


async def test_a_result_that_cannot_be_decrypted_costs_no_later_run_anything(redis_url: str) -> None:
    async with engine(redis_url, {"g": graph()}, encryption_keys=KEYS) as eng:
        first = await turn(eng, words(0))
        key, sealed = eng.keys.of_thread(first.thread_id).thread(first.thread_id), eng.keys.seal(b"zz", "another's")
        eng.sync_store.client.hset(key, "values", sealed)
        second = await turn(eng, words(1), first.thread_id)
        assert result(eng, second)["turn"] == 2
        with pytest.raises(Sealed):
            result(eng, first)


async def test_a_thread_takes_its_results_along(eng: Engine) -> None:
    first = await turn(eng, words(0))
    await turn(eng, words(1), first.thread_id)
    eng.service.delete_thread(first.thread_id)
    assert not list(eng.sync_store.client.scan_iter(f"*{first.thread_id}*"))


async def test_readers_of_the_loop_are_answered_the_same(eng: Engine) -> None:
    first = await turn(eng, words(0))
    await turn(eng, words(1), first.thread_id)
    live = Live(eng.worker.store, eng.keys, eng.service.watch)
    run = eng.service.get_run(first.run_id)

    def kept(end: events.Event | None) -> bytes:
        return eng.service.kept_result(run, end)

    told = b"".join([part async for part in sse.result(live, run, kept)])
    assert wire.decode(told) == result(eng, first)
    streamed = b"".join([part async for part in sse.stream(live, run, sse.View())])
    assert b"kept" not in streamed
    assert b"event: values" in streamed


# --- the way back from one value to another


@pytest.mark.parametrize("seed", range(60))
def test_the_way_back_leads_back(seed: int) -> None:
    chance = random.Random(seed)
    parts = [chance.randbytes(chance.choice([0, 1, 30, 3000])) for _ in range(chance.randrange(8))]
    old = b"".join(parts)
    for _ in range(chance.randrange(4)):
        what = chance.randbytes(chance.choice([0, 1, 50, 2000]))
        parts.insert(chance.randrange(len(parts) + 1), what)
    if parts and chance.random() < 0.5:
        parts.pop(chance.randrange(len(parts)))
    new = b"".join(parts)
    assert results.gone_back(new, results.way_back(new, old)) == old
    assert results.gone_back(old, results.way_back(old, new)) == new


def test_the_way_back_is_short_wherever_something_was_added() -> None:
    said = [words(number, 500) for number in range(200)]
    old = wire.encode({"a": 1, "said": said, "z": 1})
    appended = wire.encode({"a": 1, "said": [*said, words(999)], "z": 1})
    beside = wire.encode({"a": 2, "said": [*said, words(999)], "z": 2})
    assert len(results.way_back(appended, old)) < 40
    assert len(results.way_back(beside, old)) < 300
