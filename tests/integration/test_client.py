"""How calls reach the store: in order, once, and with a clear word when it is away."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis as redis_py

from runyard.engine.errors import EngineError, LeaseLost, StoreUnavailable
from runyard.engine.store import recovery
from runyard.engine.store.client import ENOUGH, QUIET_TURNS, REPLIES, AsyncStore, Call, SyncStore
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.keys import Keys
from runyard.engine.store.pipe import Answered
from runyard.engine.store.scripts import Script, all_scripts
from tests.support.eventually import eventually

KEYS = Keys("ry", 2)


def push(*words: str) -> list[Call[int]]:
    return [Call.command("RPUSH", "list", word) for word in words]


def script_of(source: str) -> Script:
    return Script("made-up", source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@pytest.fixture
def store(redis_url: str) -> Iterator[SyncStore]:
    made = SyncStore.connect(redis_url)
    yield made
    made.close()


@pytest.fixture
async def astore(redis_url: str) -> AsyncIterator[AsyncStore]:
    made = AsyncStore.connect(redis_url)
    yield made
    await made.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "own") as running:
        yield running


# --- scripts the server does not know


def test_a_new_connection_teaches_the_server_every_script(redis_url: str, redis: redis_py.Redis) -> None:
    redis.script_flush()
    store = SyncStore.connect(redis_url)
    store.do(Call.command("PING"))
    assert redis.script_exists(*(script.sha for script in all_scripts())) == [True] * len(all_scripts())
    store.close()


async def test_a_new_connection_of_the_loop_teaches_the_server_every_script(
    redis_url: str, redis: redis_py.Redis
) -> None:
    redis.script_flush()
    store = AsyncStore.connect(redis_url)
    await store.do(Call.command("PING"))
    assert redis.script_exists(*(script.sha for script in all_scripts())) == [True] * len(all_scripts())
    await store.close()


def test_scripts_that_were_flushed_are_sent_again(store: SyncStore, redis: redis_py.Redis) -> None:
    assert store.do(recovery.lead(KEYS, "me", office_ms=1000))[0]
    redis.script_flush()
    assert store.do(recovery.lead(KEYS, "me", office_ms=1000))[0]


async def test_scripts_that_were_flushed_are_sent_again_by_the_loop(astore: AsyncStore, redis: redis_py.Redis) -> None:
    assert (await astore.do(recovery.lead(KEYS, "me", office_ms=1000)))[0]
    redis.script_flush()
    assert (await astore.do(recovery.lead(KEYS, "me", office_ms=1000)))[0]


def test_answers_of_a_batch_keep_their_order_when_its_scripts_were_flushed(
    store: SyncStore, redis: redis_py.Redis
) -> None:
    redis.script_flush()
    answers = store.do_all(
        [*push("a"), recovery.lead(KEYS, "me", office_ms=1000), *push("b"), recovery.resign(KEYS, "me"), *push("c")]
    )
    assert [answers[0], answers[1][0], *answers[2:]] == [1, True, 2, 1, 3]


async def test_answers_of_concurrent_calls_keep_their_order_when_scripts_were_flushed(
    astore: AsyncStore, redis: redis_py.Redis
) -> None:
    redis.script_flush()
    calls = [*push("a"), recovery.lead(KEYS, "me", office_ms=1000), *push("b"), recovery.resign(KEYS, "me"), *push("c")]
    answers = await asyncio.gather(*(astore.do(call) for call in calls))
    assert [answers[0], answers[1][0], *answers[2:]] == [1, True, 2, 1, 3]


async def test_a_script_in_the_middle_of_a_batch_is_applied_in_its_place_on_a_new_server(
    own_server: EmbeddedServer,
) -> None:
    store = AsyncStore.connect(own_server.url)
    await store.do(Call.command("PING"))
    own_server.restart()  # it forgot every script, and `store` does not know that yet
    leader = Call.command("GET", KEYS.leader)
    taken = recovery.lead(KEYS, "me", office_ms=60_000)
    _, seen, _ = await asyncio.gather(store.do(taken), store.do(leader), store.do(recovery.resign(KEYS, "me")))
    assert seen == b"me"
    await store.close()


# --- errors


@pytest.mark.parametrize(("word", "kind"), REPLIES.items())
def test_an_error_reply_of_a_script_becomes_the_error_it_stands_for(
    store: SyncStore, word: str, kind: type[EngineError]
) -> None:
    source = f"return redis.error_reply('{word} Said by a script.')"
    with pytest.raises(kind, match=r"^Said by a script\.$"):
        store.do(Call(script_of(source), (), ()))


def test_the_first_error_of_a_batch_is_raised_after_all_of_it_was_applied(
    store: SyncStore, redis: redis_py.Redis
) -> None:
    refused: Call[None] = Call(script_of("return redis.error_reply('LEASE_LOST Gone.')"), (), ())
    with pytest.raises(LeaseLost):
        store.do_all([*push("a"), refused, *push("b")])
    assert redis.lrange("list", 0, -1) == [b"a", b"b"]


async def test_an_error_in_a_shared_batch_reaches_only_its_own_caller(astore: AsyncStore) -> None:
    refused: Call[None] = Call(script_of("return redis.error_reply('LEASE_LOST Gone.')"), (), ())
    answers = await asyncio.gather(
        astore.do(push("a")[0]), astore.do(refused), astore.do(push("b")[0]), return_exceptions=True
    )
    assert [answers[0], type(answers[1]), answers[2]] == [1, LeaseLost, 2]


@pytest.mark.parametrize(
    ("name", "value", "normal"), [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0")], ids=["full", "alone"]
)
def test_a_store_that_cannot_take_writes_now_is_unavailable_and_nothing_is_half_written(
    own_server: EmbeddedServer, name: str, value: str, normal: str
) -> None:
    store = SyncStore.connect(own_server.url)
    store.client.config_set(name, value)
    with pytest.raises(StoreUnavailable):
        store.do(recovery.lead(KEYS, "me", office_ms=60_000))
    store.client.config_set(name, normal)
    assert store.client.dbsize() == 0
    assert store.do(recovery.lead(KEYS, "me", office_ms=60_000))[0]
    store.close()


# --- the loop's batches


async def test_concurrent_calls_go_out_together_and_are_applied_in_the_order_they_were_made(
    astore: AsyncStore, redis: redis_py.Redis
) -> None:
    sent = await batches_of(astore)
    answers = await asyncio.gather(*(astore.do(call) for call in push(*map(str, range(500)))))
    assert answers == list(range(1, 501))
    assert redis.lrange("list", 0, -1) == [str(n).encode() for n in range(500)]
    assert len(sent) <= 2
    assert sum(sent) == 500


async def test_calls_that_come_within_a_few_turns_of_the_loop_share_a_batch(astore: AsyncStore) -> None:
    sent = await batches_of(astore)

    async def after(turns: int, call: Call[int]) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await astore.do(call)

    calls = push(*map(str, range(ENOUGH - 1)))
    assert await asyncio.gather(*[after(3 * n, call) for n, call in enumerate(calls)]) == [1, 2, 3]
    assert sent == [ENOUGH - 1]


async def test_a_batch_goes_however_many_calls_go_on_coming(astore: AsyncStore) -> None:
    sent = await batches_of(astore)
    asked = []
    while not sent:
        asked.append(astore.send(Call.command("PING")))
        assert len(asked) < 2 * ENOUGH * QUIET_TURNS, "as long as calls came, none was sent"
        await asyncio.sleep(0)
    assert sent[0] == len(asked)
    await asyncio.gather(*asked)


async def test_a_batch_with_enough_calls_is_not_held_for_those_that_go_on_coming(astore: AsyncStore) -> None:
    sent = await batches_of(astore)
    asked = [astore.send(call) for call in push(*map(str, range(ENOUGH)))]
    for _ in range(2):
        await asyncio.sleep(0)
    assert sent == [ENOUGH]
    assert await asyncio.gather(*asked) == list(range(1, ENOUGH + 1))


async def test_calls_wait_for_the_answer_to_the_batch_before_however_many_they_are(
    astore: AsyncStore, redis: redis_py.Redis
) -> None:
    sent = await batches_of(astore)
    busy = astore.send(Call.command("BLPOP", "bell", 10))
    await turns_until(lambda: bool(sent))
    asked = [astore.send(call) for call in push(*map(str, range(3 * ENOUGH)))]
    for _ in range(4 * ENOUGH * QUIET_TURNS):
        await asyncio.sleep(0)
    assert sent == [1]
    await asyncio.to_thread(redis.rpush, "bell", "rings")
    await asyncio.gather(busy, *asked)
    assert sent == [1, 3 * ENOUGH]


async def turns_until(reached: Callable[[], bool]) -> None:
    """Let the loop turn until something is so: what gathers a batch counts turns, not time."""
    for _ in range(10_000):
        if reached():
            return
        await asyncio.sleep(0)
    pytest.fail("not within 10 000 turns of the loop")


async def batches_of(store: AsyncStore) -> list[int]:
    """How many calls each batch has that a store sends from now on."""
    await store.do(Call.command("PING"))
    sent: list[int] = []
    pipe = store._pipe
    assert pipe is not None
    send = pipe.send

    def counted(packed: bytes, count: int, answered: Answered) -> None:
        sent.append(count)
        send(packed, count, answered)

    pipe.send = counted  # type: ignore[method-assign]
    return sent


async def test_words_that_cannot_be_sent_fail_for_their_caller_and_the_next_call_goes_on(astore: AsyncStore) -> None:
    await astore.do(Call.command("PING"))
    with pytest.raises(TypeError):
        await asyncio.wait_for(astore.do(Call.command("SET", "key", object())), 5)  # type: ignore[arg-type]
    assert await asyncio.wait_for(astore.do(Call.command("SET", "key", "value")), 5) in (b"OK", "OK", True)


async def test_a_call_whose_caller_was_cancelled_is_applied_all_the_same(
    astore: AsyncStore, redis: redis_py.Redis
) -> None:
    tasks = [asyncio.create_task(astore.do(call)) for call in push("a", "b", "c")]
    await asyncio.sleep(0)
    tasks[1].cancel()
    assert await asyncio.gather(tasks[0], tasks[2]) == [1, 3]
    assert redis.lrange("list", 0, -1) == [b"a", b"b", b"c"]


async def test_what_nobody_waits_for_goes_with_the_next_batch_ahead_of_what_came_after_it(
    astore: AsyncStore, redis: redis_py.Redis
) -> None:
    await astore.do(Call.command("PING"))
    before = reads(redis)
    [first], [second], [third] = push("a"), push("b"), push("c")
    riding = asyncio.ensure_future(astore.ride(first))
    await asyncio.sleep(0)
    answers = await asyncio.gather(astore.do(second), astore.do(third))
    assert [await riding, *answers] == [1, 2, 3]
    assert reads(redis) - before == 2, "one batch, and the command that asks for the count"


async def test_what_nobody_waits_for_goes_alone_where_nothing_else_is_sent(astore: AsyncStore) -> None:
    [first], [second] = push("a"), push("b")
    assert await asyncio.gather(astore.ride(first), astore.ride(second)) == [1, 2]
    [third] = push("c")
    assert await astore.ride(third) == 3


async def test_closing_the_loop_store_waits_for_what_rides(redis_url: str, redis: redis_py.Redis) -> None:
    store = AsyncStore.connect(redis_url)
    [first] = push("a")
    riding = asyncio.ensure_future(store.ride(first))
    await asyncio.sleep(0)
    await store.close()
    assert await riding == 1


def reads(redis: redis_py.Redis) -> int:
    """How often the server has read something from anybody."""
    return int(redis.info("stats")["total_reads_processed"])


async def test_closing_the_loop_store_waits_for_what_was_already_asked(redis_url: str, redis: redis_py.Redis) -> None:
    store = AsyncStore.connect(redis_url)
    asked = [asyncio.ensure_future(store.do(call)) for call in push("a", "b")]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*asked) == [1, 2]


# --- connections that break, servers that go away


#: Counts how often it was applied and, as every script of ours, does nothing the second time it is told the same.
ONCE = script_of(
    "if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then redis.call('INCR', KEYS[2]) end return tonumber(ARGV[1])"
)


def once(number: int) -> Call[int]:
    return Call(ONCE, ("done", "count"), (number,))


def kill_all(client: redis_py.Redis) -> None:
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_calls_whose_connections_are_killed_are_tried_again_and_applied_once(
    store: SyncStore, redis: redis_py.Redis
) -> None:
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(store.do, once(number)) for number in range(400)]
        for part in range(20):  # as the work goes on, not so fast that nobody ever gets an answer
            eventually(lambda part=part: sum(one.done() for one in asked) >= 20 * part, interval_s=0.001)
            kill_all(redis)
        answers = [one.result() for one in asked]
    assert answers == list(range(400))
    assert redis.get("count") == b"400"


async def test_batches_whose_connection_is_killed_are_tried_again_and_applied_once(
    astore: AsyncStore, redis: redis_py.Redis
) -> None:
    for start in range(0, 300, 100):
        asked = [asyncio.ensure_future(astore.do(once(number))) for number in range(start, start + 100)]
        await asyncio.sleep(0)
        await asyncio.to_thread(kill_all, redis)
        assert await asyncio.gather(*asked) == list(range(start, start + 100))
    assert redis.get("count") == b"300"


def test_a_store_that_is_gone_is_unavailable_within_the_retry_time_and_works_again_once_it_is_back(
    own_server: EmbeddedServer,
) -> None:
    store = SyncStore.connect(own_server.url, retry_s=0.4)
    assert store.do(once(1)) == 1
    own_server.kill()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.do(once(2))
    assert time.monotonic() - began < 2
    own_server.restart()
    assert store.do(once(3)) == 3
    store.close()


async def test_a_store_that_is_gone_is_unavailable_to_every_caller_of_the_loop_and_works_again_once_it_is_back(
    own_server: EmbeddedServer,
) -> None:
    store = AsyncStore.connect(own_server.url, retry_s=0.4)
    assert await store.do(once(1)) == 1
    own_server.kill()
    began = time.monotonic()
    answers = await asyncio.gather(store.do(once(2)), store.do(once(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    assert time.monotonic() - began < 2
    await asyncio.to_thread(own_server.restart)
    assert await store.do(once(4)) == 4
    await store.close()


def test_a_store_that_comes_back_within_the_retry_time_is_not_missed(own_server: EmbeddedServer) -> None:
    store = SyncStore.connect(own_server.url, retry_s=10)
    store.do(once(1))
    own_server.kill()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(store.do, once(2))
        own_server.restart()
        assert asked.result(timeout=10) == 2
    assert store.client.get("count") == b"2"
    store.close()


def test_a_store_that_hangs_is_unavailable_after_one_timeout_not_after_one_for_each_try(
    own_server: EmbeddedServer,
) -> None:
    store = SyncStore.connect(own_server.url, retry_s=0.2, timeout_s=0.5)
    store.do(once(1))
    own_server.pause()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        store.do(once(2))
    assert time.monotonic() - began < 2
    own_server.resume()
    assert eventually(lambda: store.do(once(3))) == 3
    store.close()
