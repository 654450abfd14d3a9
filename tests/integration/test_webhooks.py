"""A run's end is told to its webhook: after the commit, at least once, and accounted for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from runyard.engine import delivery
from runyard.engine.errors import InvalidTransition
from runyard.engine.run import Phase, Run, Wake
from runyard.engine.store import runs, webhooks as calls
from runyard.engine.webhooks import Delivered
from tests.support.engine import Engine, engine
from tests.support.eventually import eventually_async
from tests.support.receiver import Receiver, receiver

SECRET = "a-secret-of-enough-letters"


class State(TypedDict, total=False):
    text: str


def work(state: Any) -> Any:
    if state.get("text") == "fail":
        raise ValueError("kaboom")
    if state.get("text") == "ask":
        return {"text": interrupt("go on?")}
    return {"text": "done"}


def graph() -> Any:
    built = StateGraph(State).add_sequence([("work", work), ("rest", lambda _: None)])
    return built.add_edge(START, "work").add_edge("rest", END).compile()


Make = Callable[..., AbstractAsyncContextManager[Engine]]


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def make(redis_url: str) -> Make:
    @asynccontextmanager
    async def open_engine(**settings: Any) -> AsyncIterator[Engine]:
        how = {"webhook_allow": "127.0.0.1", "partitions": 1, **settings}
        async with engine(redis_url, {"g": graph()}, **how) as made:
            yield made

    return open_engine


def hooked(eng: Engine, hook: Receiver, text: str = "", **how: Any) -> Run:
    return eng.start("g", {"text": text}, webhook=hook.url, **how)


async def ended(eng: Engine, run: Run) -> list[Wake]:
    """Carry the run to its end, and leave the wake-up for its webhook alone."""
    eng.wakes.clear()
    return await eng.carry_out(Wake(run_id=run.run_id, queue="default"))


def now_due(eng: Engine, run: Run) -> None:
    """Let the time of the next attempt, and of recovery's wake-up, have come."""
    at = eng.keys.of_run(run.run_id)
    eng.sync_store.client.hset(at.run(run.run_id), "webhook:at", 1)
    eng.sync_store.client.zadd(at.webhooks, {run.run_id: 1}, xx=True)


async def swept(eng: Engine) -> None:
    eng.recovery.sweep()
    await eng.drive()


def state(eng: Engine, run: Run) -> tuple[str, int]:
    known = eng.service.get_run(run.run_id).delivery
    assert known is not None
    return known.state, known.attempts


async def test_the_end_is_told_after_the_commit_with_everything_and_signed(make: Make, hook: Receiver) -> None:
    project = {"webhooks": {"headers": {"x-own": "1", "Webhook-Id": "mine"}}}
    async with make(webhook_secret=f"{SECRET} {SECRET[::-1]}", project=project) as eng:
        run = hooked(eng, hook)
        (wake,) = await ended(eng, run)
        assert wake.webhook
        assert (eng.service.get_run(run.run_id).phase, state(eng, run)) == (Phase.SUCCEEDED, ("pending", 0))
        assert await eng.carry_out(wake) == []
        assert await eng.carry_out(wake) == []  # one too many does nothing
        (told,) = hook.received
        assert told.body["run_id"] == run.run_id
        assert (told.body["thread_id"], told.body["status"]) == (run.thread_id, "success")
        assert (told.body["values"], told.body["error"]) == ({"text": "done"}, None)
        assert told.body["kwargs"]["webhook"] == hook.url
        assert told.body["run_started_at"] <= told.body["run_ended_at"] <= told.body["webhook_sent_at"]
        assert told.headers["content-type"] == "application/json"
        assert (told.headers["x-own"], told.headers["webhook-id"]) == ("1", f"{run.run_id}-1")
        assert told.headers["host"] == hook.url.split("/")[2]
        signed = f"{run.run_id}-1.{told.headers['webhook-timestamp']}.".encode() + told.raw
        signatures = [
            f"v1,{base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha256).digest()).decode()}"
            for key in (SECRET, SECRET[::-1])
        ]
        assert told.headers["webhook-signature"].split(" ") == signatures
        assert state(eng, run) == ("delivered", 1)
        at = eng.keys.of_run(run.run_id)
        assert not eng.sync_store.client.exists(at.webhooks, at.webhook(run.run_id))


@pytest.mark.parametrize(
    ("text", "status", "values", "error"),
    [
        ("fail", "error", {"text": "fail"}, {"error": "ValueError", "message": "kaboom"}),
        ("ask", "success", {"text": "ask", "__interrupt__": "go on?"}, None),
    ],
)
async def test_failures_and_questions_are_told_too(
    make: Make, hook: Receiver, text: str, status: str, values: Any, error: Any
) -> None:
    async with make() as eng:
        run = await eng.run("g", {"text": text}, webhook=hook.url)
        told = hook.received[0].body
        asked = told["values"].get("__interrupt__")
        if asked:
            told["values"]["__interrupt__"] = asked[0]["value"]
        assert (told["status"], told["values"], told["error"]) == (status, values, error)
        assert "webhook-signature" not in hook.received[0].headers
        assert state(eng, run) == ("delivered", 1)


async def test_runs_that_end_without_a_worker_are_told_and_rolled_back_ones_are_not(make: Make, hook: Receiver) -> None:
    async with make() as eng:
        run = hooked(eng, hook)
        eng.service.cancel_run(run)
        undone = hooked(eng, hook)
        eng.service.cancel_run(undone, "rollback")
        late = hooked(eng, hook, timeout_s=5)
        eng.sync_store.do(_claimed(eng, late))
        at = eng.keys.of_run(late.run_id)
        eng.sync_store.client.hset(at.run(late.run_id), "deadline_at", 1)
        eng.sync_store.client.zadd(at.deadlines, {late.run_id: 1})
        await swept(eng)
        await eng.drive()
        told = {each.body["run_id"]: each.body["status"] for each in hook.received}
        assert told == {run.run_id: "interrupted", late.run_id: "timeout"}


async def test_a_run_that_was_cut_off_says_so_and_one_that_never_began_does_not(make: Make, hook: Receiver) -> None:
    async with make(quantum_s=0) as eng:
        run, never = hooked(eng, hook, "long"), hooked(eng, hook)
        await ended(eng, run)  # its first superstep only
        for each in (run, never):
            eng.service.cancel_run(each)
        await eng.drive()
        error = {"error": "UserInterrupt", "message": "The run was cancelled while it was under way."}
        told = {each.body["run_id"]: (each.body["status"], each.body["error"]) for each in hook.received}
        assert told == {run.run_id: ("interrupted", error), never.run_id: ("interrupted", None)}
        threads = [eng.service.get_thread(each.thread_id) for each in (run, never)]
        assert [thread.error for thread in threads] == [error, None]


async def _as_is(value: Any) -> Any:
    return value


def _claimed(eng: Engine, run: Run) -> Any:
    return runs.claim(eng.keys, run.run_id, owner="gone", nonce="n", lease_ms=1)


async def test_a_wake_up_that_was_lost_is_sent_again(make: Make, hook: Receiver) -> None:
    async with make() as eng:
        run = hooked(eng, hook)
        await ended(eng, run)  # and the worker dies before it sends the wake-up
        await swept(eng)
        assert hook.received == []  # it is given a moment
        now_due(eng, run)
        woken = eng.recovery.sweep()
        assert [wake.run_id for wake in woken] == [run.run_id]
        assert eng.recovery.sweep() == []  # not over and over
        await eng.drive()
        assert [each.body["run_id"] for each in hook.received] == [run.run_id]


async def test_a_sender_that_dies_is_followed_by_another_with_the_same_id(make: Make, hook: Receiver) -> None:
    async with make() as eng:
        run = hooked(eng, hook)
        (wake,) = await ended(eng, run)
        hook.hold.clear()
        sending = asyncio.create_task(eng.carry_out(wake))
        await eventually_async(lambda: _as_is(hook.received))
        sending.cancel()  # the request is out, its outcome is not noted
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert await eng.carry_out(wake) == []
        assert len(hook.received) == 1  # its time is not over yet
        hook.hold.set()
        now_due(eng, run)
        await swept(eng)
        first, second = hook.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"{run.run_id}-1"
        assert state(eng, run) == ("delivered", 2)


async def test_refusals_are_tried_again_later_and_bounded(make: Make, hook: Receiver) -> None:
    hook.answers = [(500, {}), (429, {"Retry-After": "300"}), (302, {"Location": hook.url}), (503, {})]
    async with make(webhook_attempts=4) as eng:
        run = hooked(eng, hook)
        (wake,) = await ended(eng, run)
        waits = []
        for _ in range(4):
            before = eng.sync_store.client.time()[0] * 1000
            await eng.carry_out(wake)
            known = eng.service.get_run(run.run_id).delivery
            assert known is not None
            waits.append((known.at - before) / 1000)
            assert await eng.carry_out(wake) == []  # not before its time
            now_due(eng, run)
        assert (len(hook.received), {each.path for each in hook.received}) == (4, {"/told"})
        assert 5 <= waits[0] < 9
        assert 300 <= waits[1] < 310
        assert 20 <= waits[2] < 29
        known = eng.service.get_run(run.run_id).delivery
        assert known is not None
        assert (known.state, known.status, known.problem) == ("failed", 503, "the receiver answered 503")
        assert [each.run_id for each in delivery.search(eng.service, "failed", limit=5)] == [run.run_id]
        hook.answers = [(204, {})]
        delivery.resend(eng.service, run.run_id)
        assert [each.run_id for each in delivery.search(eng.service, "pending", limit=5)] == [run.run_id]
        await eng.drive()
        assert hook.received[-1].headers["webhook-id"] == f"{run.run_id}-2"
        assert hook.received[-1].body["values"] == {"text": "done"}
        assert state(eng, run) == ("delivered", 1)
        assert delivery.search(eng.service, "failed", limit=5) == []


async def test_a_receiver_that_is_gone_is_not_asked_again(make: Make, hook: Receiver) -> None:
    hook.answers = [(410, {})]
    async with make() as eng:
        run = hooked(eng, hook)
        await eng.drive()
        assert state(eng, run) == ("failed", 1)


async def test_a_receiver_that_hangs_or_is_not_there_costs_its_time_and_no_more(make: Make, hook: Receiver) -> None:
    async with make(webhook_timeout_s=0.3, webhook_concurrency=1) as eng:
        first, second = hooked(eng, hook), hooked(eng, hook)
        wakes = [*await ended(eng, first), *await ended(eng, second)]
        hook.hold.clear()
        await asyncio.gather(*(eng.carry_out(wake) for wake in wakes))
        assert len(hook.received) == 1  # as many at once as are allowed; the other stays owed
        assert sorted([state(eng, first), state(eng, second)]) == [("pending", 0), ("pending", 1)]
        hook.hold.set()
        nobody = eng.start("g", {}, webhook="http://127.0.0.1:1/")
        await eng.drive()
        known = eng.service.get_run(nobody.run_id).delivery
        assert known is not None
        assert known.state == "pending"
        assert "ConnectError" in (known.problem or "")


async def test_an_address_that_may_not_be_reached_any_more_is_not_connected_to(make: Make, hook: Receiver) -> None:
    async with make(webhook_allow="") as eng:
        run = hooked(eng, hook)
        await eng.drive()
        known = eng.service.get_run(run.run_id).delivery
        assert known is not None
        assert (known.state, known.attempts) == ("failed", 1)
        assert "refused: 127.0.0.1 is inside this network" in (known.problem or "")
        assert hook.received == []


async def test_a_run_that_is_taken_up_again_tells_its_last_end(make: Make, hook: Receiver) -> None:
    async with make() as eng:
        run = hooked(eng, hook, "fail")
        (wake,) = await ended(eng, run)
        eng.sync_store.do(runs.revive(eng.keys, eng.service.get_run(run.run_id), {}))
        await eng.carry_out(wake)
        assert hook.received == []  # the failure was not final
        eng.wakes.extend(await eng.carry_out(Wake(run_id=run.run_id, queue="default")))
        await eng.drive()
        assert [each.headers["webhook-id"] for each in hook.received] == [f"{run.run_id}-2"]


async def test_a_thread_that_goes_on_does_not_change_what_is_told(make: Make, hook: Receiver) -> None:
    async with make() as eng:
        run = hooked(eng, hook, "ask")
        (wake,) = await ended(eng, run)
        await eng.run("g", command={"resume": "yes"}, thread_id=run.thread_id)
        await eng.carry_out(wake)
        assert hook.received[0].body["values"]["text"] == "ask"


async def test_retention_waits_for_what_is_not_told_and_deletion_does_not(make: Make, hook: Receiver) -> None:
    async with make(keep_runs_s=60) as eng:
        run, gone = hooked(eng, hook), hooked(eng, hook)
        await ended(eng, run)
        await ended(eng, gone)
        at = eng.keys.of_run(run.run_id)
        eng.sync_store.client.zadd(at.ended, {run.run_id: 1})
        eng.service.delete_run(gone)
        eng.recovery.sweep()
        assert eng.service.get_run(run.run_id).phase is Phase.SUCCEEDED
        now_due(eng, run)
        await swept(eng)
        assert [each.body["run_id"] for each in hook.received] == [run.run_id]
        assert not eng.sync_store.client.exists(at.webhook(gone.run_id), at.webhooks)


async def test_resending_is_for_runs_that_ended_and_have_a_webhook(make: Make, hook: Receiver) -> None:
    async with make() as eng:
        with pytest.raises(InvalidTransition, match="has not ended"):
            delivery.resend(eng.service, hooked(eng, hook).run_id)
        with pytest.raises(InvalidTransition, match="no webhook"):
            delivery.resend(eng.service, eng.start("g", {}).run_id)


async def test_a_script_whose_reply_was_lost_is_sent_again_without_harm(make: Make, hook: Receiver) -> None:
    async with make() as eng:
        run = hooked(eng, hook)
        await ended(eng, run)
        do, keys = eng.sync_store.do, eng.keys
        first, again = (do(calls.claim(keys, run.run_id, nonce="mine", lease_ms=5_000)) for _ in range(2))
        assert first is not None
        assert again is not None
        assert (first.number, first.attempt) == (again.number, again.attempt) == (1, 1)
        assert do(calls.claim(keys, run.run_id, nonce="other", lease_ms=5_000)) is None
        assert not do(calls.settle(keys, run.run_id, "other", Delivered(200)))
        assert [do(calls.settle(keys, run.run_id, "mine", Delivered(200))) for _ in range(2)] == [True, True]
        assert state(eng, run) == ("delivered", 1)


async def test_of_many_senders_one_has_the_delivery(make: Make, hook: Receiver) -> None:
    async with make() as eng:
        run = hooked(eng, hook)
        (wake,) = await ended(eng, run)
        workers = [eng.make_worker(f"w{number}") for number in range(8)]
        await asyncio.gather(*(eng.carry_out(wake, worker) for worker in workers for _ in range(5)))
        assert len(hook.received) == 1
