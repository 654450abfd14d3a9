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
from runyard.engine.run import Phase, Run, RunRequest
from runyard.engine.store import events, results, runs, webhooks
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
    run = eng.service.create_run(RunRequest(input=given), graph_id="g", assistant_id="g")
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


async def chat(eng: Engine, turns: int) -> tuple[str, list[Run], list[Any]]:
    """A long thread and its small turns, the runs of these, and what each is to have come to."""
    told = [await turn(eng, words(0))]
    thread = told[0].thread_id
    told += [await turn(eng, words(number, 40), thread) for number in range(1, turns)]
    said = [words(0), *(words(number, 40) for number in range(1, turns))]
    lines = [line for each in said for line in (each, f"answer to {each}")]
    come_to = [
        {"turn": number + 1, "said": lines[: 2 * number + 2], "last": said[number][:10]} for number in range(turns)
    ]
    return thread, told, come_to


def edits(eng: Engine, thread: str) -> int:
    """How many edits follow the values that the store holds whole; they are all there is."""
    key = eng.keys.of_thread(thread).thread(thread)
    held = {name.decode() for name in eng.sync_store.client.hkeys(key) if name.startswith(b"values:")}
    count = int(eng.sync_store.client.hget(key, "edits") or 0)
    assert held == {f"values:{number}" for number in range(1, count + 1)}
    return count


def shown(eng: Engine, thread: str) -> Any:
    return wire.decode(eng.service.get_thread(thread).values)


async def test_a_turn_writes_what_it_adds_and_the_whole_every_so_often(eng: Engine) -> None:
    thread, told, come_to = await chat(eng, 5)
    assert edits(eng, thread) == 4
    assert [result(eng, run) for run in told] == come_to
    key = eng.keys.of_thread(thread).thread(thread)
    assert max(eng.sync_store.client.hstrlen(key, f"values:{number}") for number in range(1, 5)) < 500
    for number in range(5, results.MOST_EDITS + 3):
        last = await turn(eng, words(number, 40), thread)
        assert shown(eng, thread) == result(eng, last)
        assert shown(eng, thread)["turn"] == number + 1
    assert edits(eng, thread) == 1
    assert [result(eng, run) for run in told] == come_to


async def test_workers_that_take_turns_write_edits_of_what_the_other_left(eng: Engine) -> None:
    thread, _, _ = await chat(eng, 2)
    workers = [eng.worker, eng.make_worker("second")]
    for number in range(2, 8):
        eng.start("g", {"said": [words(number, 40)]}, thread_id=thread)
        await eng.carry_out(eng.wakes.popleft(), workers[number % 2])
        assert shown(eng, thread)["turn"] == number + 1
    assert edits(eng, thread) == 7


async def test_what_a_client_writes_is_whole_and_so_is_what_follows_it(eng: Engine) -> None:
    thread, told, come_to = await chat(eng, 4)
    state = {"values": {"turn": 99, "said": [words(7)]}, "next": [], "tasks": []}
    eng.service.note_state(thread, state, graph_id="g", assistant_id="g")
    assert edits(eng, thread) == 0
    assert shown(eng, thread) == state["values"]
    last = await turn(eng, words(3), thread)
    assert edits(eng, thread) == 0
    assert shown(eng, thread) == result(eng, last)
    assert [result(eng, run) for run in told] == come_to


async def test_a_copy_of_a_thread_has_what_edits_have_made_and_goes_on_by_itself(eng: Engine) -> None:
    thread, _, come_to = await chat(eng, 3)
    assert edits(eng, thread) == 2
    copied = eng.service.copy_thread(thread)
    assert wire.decode(eng.service.get_thread(copied.thread_id).values) == come_to[-1]
    assert edits(eng, copied.thread_id) == 0
    await turn(eng, words(3, 40), copied.thread_id)
    assert shown(eng, copied.thread_id)["turn"] == 4
    assert shown(eng, thread) == come_to[-1]


async def test_a_webhook_is_told_what_edits_have_made_though_the_thread_goes_on(eng: Engine) -> None:
    thread, _, come_to = await chat(eng, 3)
    run = eng.start("g", {"said": [words(3, 40)]}, thread_id=thread, webhook="http://127.0.0.1:9/none")
    await eng.carry_out(eng.wakes.popleft())
    eng.wakes.clear()
    left = shown(eng, thread)
    assert edits(eng, thread) == 3
    await turn(eng, words(4, 40), thread)
    owed = eng.sync_store.do(webhooks.claim(eng.keys, run.run_id, nonce="n", lease_ms=1000))
    assert owed is not None
    assert wire.decode(owed.values) == left
    assert left["said"][:-2] == come_to[-1]["said"]


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
        eng.keys, following, claim.fence, Phase.CANCELLED, events_ttl_ms=60_000, values=b"{}",
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
    async with engine(redis_url, {"g": graph()}, encryption_keys=KEYS, worker_recent_bytes=0) as eng:
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
