"""Putting and getting: what is stored, when it is refused, and how little is said on the way."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis as redis_py
from langgraph.checkpoint.memory import InMemorySaver

from runyard.engine.errors import InvalidInput, LeaseLost, Unserializable
from runyard.engine.saver import RedisSaver, SliceSession
from runyard.engine.store.client import AsyncStore, Call, SyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from tests.support.checkpoints import NULL_TASK_ID, at, chain, checkpoint, ids, keyspace, put

KEYS = Keys()
THREAD = "t"
RUN = KEYS.of_thread(THREAD).run("r")
#: Another thread in the same partition: the fence of a run cannot be checked in any other.
NEIGHBOUR = next(name for name in map(str, range(999)) if KEYS.of_thread(name) == KEYS.of_thread(THREAD))


@pytest.fixture
def saver(redis_url: str) -> Iterator[RedisSaver]:
    store = SyncStore.connect(redis_url)
    yield RedisSaver(KEYS, sync_store=store)
    store.close()


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[AsyncStore]:
    made = AsyncStore.connect(redis_url)
    yield made
    await made.close()


def leased(redis: redis_py.Redis) -> SliceSession:
    redis.hset(RUN, "lease", "1")
    return SliceSession(fence=Fence(RUN, "lease", "1"), run_key=RUN, run_id="r")


# --- what is stored


def test_what_a_task_raised_is_kept_without_what_looks_like_a_secret(saver: RedisSaver, redis: redis_py.Redis) -> None:
    config = put(saver, at(THREAD), {"n": 1}, {"n": "1"})
    saver.put_writes(config, [("__error__", ValueError("refused sk-abcdefghijklmnop, password=hunter2"))], "task")
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "__error__", "ValueError('refused [redacted], password=[redacted]')")]
    assert [key for key, held in keyspace(redis).items() if b"hunter2" in repr(held).encode()] == []


def test_a_channel_value_is_stored_once_for_all_checkpoints_that_need_it(
    saver: RedisSaver, redis: redis_py.Redis
) -> None:
    first = put(saver, at(THREAD), {"big": "x" * 100, "n": 1}, {"big": "1", "n": "1"})
    second = put(saver, first, {"big": "x" * 100, "n": 2}, {"big": "1", "n": "2"}, new={"n": "2"})
    channels = redis.hgetall(KEYS.of_thread(THREAD).channels(THREAD, ""))
    assert set(channels) == {b"big\x001", b"n\x001", b"n\x002"}
    found = saver.get_tuple(second)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"big": "x" * 100, "n": 2}
    assert found.parent_config == first


def test_a_channel_that_became_empty_is_empty_from_then_on(saver: RedisSaver) -> None:
    first = put(saver, at(THREAD), {"gone": 1})
    second = put(saver, first, {}, {"gone": "2"})
    third = put(saver, second, {"n": 1}, {"gone": "2", "n": "1"}, new={"n": "1"})
    found = saver.get_tuple(third)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"n": 1}
    assert found.checkpoint["channel_versions"] == {"gone": "2", "n": "1"}


def test_a_large_value_is_compressed(saver: RedisSaver, redis: redis_py.Redis) -> None:
    put(saver, at(THREAD), {"big": "x" * 100_000})
    assert redis.memory_usage(KEYS.of_thread(THREAD).channels(THREAD, "")) < 1000


def test_versions_that_are_not_text_keep_their_type(saver: RedisSaver) -> None:
    config = put(saver, at(THREAD), {"a": "int", "b": "float"}, {"a": 3, "b": 1.5})
    found = saver.get_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_versions"] == {"a": 3, "b": 1.5}
    assert found.checkpoint["channel_values"] == {"a": "int", "b": "float"}


def test_writes_come_back_in_the_order_of_their_tasks_paths(saver: RedisSaver) -> None:
    config = put(saver, at(THREAD), {})
    saver.put_writes(config, [("x", i) for i in range(11)], "task-b", "~1")
    saver.put_writes(config, [("x", "later")], "task-a", "~2")
    saver.put_writes(config, [("x", "pathless")], "task-c")
    found = saver.get_tuple(config)
    assert found is not None
    assert [value for _, _, value in found.pending_writes or ()] == ["pathless", *range(11), "later"]


def test_the_first_write_of_a_task_stays_and_the_last_error_does(saver: RedisSaver) -> None:
    config = put(saver, at(THREAD), {})
    for attempt in ("first", "second"):
        saver.put_writes(config, [("x", attempt), ("__error__", attempt)], "task")
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "__error__", "second"), ("task", "x", "first")]


def test_of_two_errors_that_a_task_leaves_at_once_the_last_stays(saver: RedisSaver) -> None:
    config = put(saver, at("t"), {})
    for errors in (["first"], ["another", "first"]):
        saver.put_writes(config, [("__error__", error) for error in errors], "task")
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "__error__", "first")]


def test_writes_that_come_before_their_checkpoint_are_invisible_until_it_is_put(
    saver: RedisSaver, redis: redis_py.Redis
) -> None:
    early = checkpoint({"n": 1})
    config = at(THREAD, early["id"])
    saver.put_writes(config, [("x", 1)], "task")
    assert saver.get_tuple(config) is None
    assert ids(saver, {"configurable": {"thread_id": THREAD}}) == []
    saver.put(at(THREAD), early, {"step": 0}, early["channel_versions"])
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "x", 1)]
    assert not redis.exists(KEYS.of_thread(THREAD).loose(THREAD))


def test_a_name_with_a_nul_is_refused_and_nothing_is_stored(saver: RedisSaver, redis: redis_py.Redis) -> None:
    with pytest.raises(InvalidInput):
        put(saver, at(THREAD), {"a\0b": 1})
    with pytest.raises(InvalidInput):
        put(saver, at("a\0b"), {"a": 1})
    with pytest.raises(InvalidInput):
        saver.put_writes(at(THREAD, "c"), [("a\0b", 1)], "task")
    assert keyspace(redis) == {}


def test_a_value_that_cannot_be_stored_is_named_and_nothing_is_stored(saver: RedisSaver, redis: redis_py.Redis) -> None:
    config = put(saver, at(THREAD), {"n": 1})
    before = keyspace(redis)
    with pytest.raises(Unserializable, match=r'State key "db" cannot be stored: the value at db\["conn"\] is a'):
        put(saver, config, {"n": 2, "db": {"conn": object()}})
    with pytest.raises(Unserializable, match='State key "db"'):
        saver.put_writes(config, [("n", 1), ("db", object())], "task")
    assert keyspace(redis) == before


async def test_two_hundred_supersteps_take_storage_in_proportion(store: AsyncStore, redis: redis_py.Redis) -> None:
    graph = chain(RedisSaver(KEYS, store=store), length=1)

    async def used_after(runs: int, thread_id: str) -> int:
        for _ in range(runs):
            await graph.ainvoke({"n": 0}, at(thread_id))
        return sum(redis.memory_usage(key, samples=0) for key in redis.keys(f"*:thread:{thread_id}:*"))

    hundred, two_hundred = await used_after(33, "short"), await used_after(66, "long")
    # the log grows too, so a little more than twice; a copy of all channels in each would be four times
    assert two_hundred < 2.6 * hundred


# --- the fence, and the run


@pytest.mark.parametrize("lease", ["2", None])
def test_a_holder_whose_lease_changed_writes_nothing(
    saver: RedisSaver, redis: redis_py.Redis, lease: str | None
) -> None:
    session = leased(redis)
    bound = saver.bound(session)
    config = put(bound, at(THREAD), {"n": 1}, run_id="r")
    redis.hset(RUN, "lease", lease) if lease else redis.hdel(RUN, "lease")
    before = keyspace(redis)
    head = dict(session.head)
    for write in (
        lambda: put(bound, config, {"n": 2}, {"n": "2"}),
        lambda: bound.put_writes(config, [("n", 2)], "task"),
        lambda: bound.delete_thread(THREAD),
        lambda: bound.delete_for_runs(["r"]),
        lambda: bound.prune([THREAD], strategy="delete"),
        lambda: bound.copy_thread(THREAD, NEIGHBOUR),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert keyspace(redis) == before
    assert session.head == head


def test_an_edit_is_refused_while_the_thread_has_an_active_run(saver: RedisSaver, redis: redis_py.Redis) -> None:
    thread = KEYS.of_thread(THREAD).thread(THREAD)
    editing = saver.bound(SliceSession(fence=Fence(thread, "active", "")))
    put(editing, at(THREAD), {"n": 1})
    redis.hset(thread, "active", "r")
    with pytest.raises(LeaseLost):
        put(editing, at(THREAD), {"n": 2})


def test_a_run_is_told_how_far_it_has_come(saver: RedisSaver, redis: redis_py.Redis) -> None:
    session = leased(redis)
    bound = saver.bound(session)
    first = put(bound, at(THREAD), {"n": 1}, step=-1)
    put(bound, first, {"n": 2}, {"n": "2"}, step=0)
    told = redis.hgetall(RUN)
    assert (told[b"entered"], told[b"step"], told[b"base_step"]) == (b"checkpoint", b"0", b"-1")
    assert abs(int(told[b"progress_at"]) - redis.time()[0] * 1000) < 5000
    assert session.head == {"": ids(saver, at(THREAD))[0]}


def test_the_saved_input_of_a_run_is_noted_unless_a_checkpoint_was(saver: RedisSaver, redis: redis_py.Redis) -> None:
    bound = saver.bound(leased(redis))
    config = put(saver, at(THREAD), {"n": 1})
    bound.put_writes(config, [("n", 1)], "task")
    assert redis.hget(RUN, "entered") is None
    assert redis.hget(RUN, "progress_at") is not None
    bound.put_writes(config, [("__resume__", 1)], NULL_TASK_ID)
    assert redis.hget(RUN, "entered") == b"writes"
    after = put(bound, config, {"n": 2}, {"n": "2"})
    bound.put_writes(after, [("__resume__", 1)], NULL_TASK_ID)
    assert redis.hget(RUN, "entered") == b"checkpoint"


def test_a_subgraph_does_not_move_the_steps_of_its_run(saver: RedisSaver, redis: redis_py.Redis) -> None:
    bound = saver.bound(leased(redis))
    config = put(bound, at(THREAD, namespace="child:1"), {"n": 1}, step=5)
    bound.put_writes(config, [("n", 1)], NULL_TASK_ID)
    assert redis.hmget(RUN, "step", "entered") == [None, None]
    assert redis.hget(RUN, "progress_at") is not None


def test_what_is_sent_again_because_its_reply_was_lost_changes_nothing(redis_url: str, redis: redis_py.Redis) -> None:
    class Twice(SyncStore):
        def do(self, call: Call[Any]) -> Any:
            super().do(call)
            before = keyspace(redis)
            again = super().do(call)
            assert keyspace(redis) == before
            return again

    store = Twice.connect(redis_url)
    bound = RedisSaver(KEYS, sync_store=store).bound(leased(redis))
    first = put(bound, at(THREAD), {"n": 1, "empty": 2}, run_id="r")
    second = put(bound, first, {"n": 2}, {"n": "2", "empty": "2"})
    bound.put_writes(second, [("n", 3), ("__error__", "e")], "task")
    bound.put_writes(second, [("__resume__", 3)], NULL_TASK_ID)
    bound.put_writes(at(THREAD, "early"), [("n", 3)], "task")
    store.close()


# --- priming


async def test_a_primed_answer_is_given_once(store: AsyncStore, saver: RedisSaver) -> None:
    put(saver, at(THREAD), {"n": 1})
    bound = RedisSaver(KEYS, store=store).bound(SliceSession())
    clone: Any = bound.with_allowlist([("some.module", "Type")])
    latest = await bound.aget_tuple(at(THREAD))
    bound.prime(latest)
    put(saver, at(THREAD), {"n": 2})
    assert await clone.aget_tuple(at("other")) is None
    assert await clone.aget_tuple(at(THREAD, namespace="child:1")) is None
    assert await clone.aget_tuple(at(THREAD)) is latest
    again = await clone.aget_tuple(at(THREAD))
    assert again.checkpoint["channel_values"] == {"n": 2}


def test_a_primed_nothing_is_given_too_and_a_write_makes_it_void(saver: RedisSaver) -> None:
    bound = saver.bound(SliceSession())
    config = put(saver, at(THREAD), {"n": 1})
    bound.prime(None)
    assert bound.get_tuple(at(THREAD)) is None
    bound.prime(None)
    bound.put_writes(config, [("n", 1)], "task")
    assert bound.get_tuple(at(THREAD)) is not None


def test_only_a_bound_saver_can_be_primed(saver: RedisSaver) -> None:
    with pytest.raises(RuntimeError, match="bound"):
        saver.prime(None)


# --- listing, versions, round trips


def test_a_small_limit_reads_little(saver: RedisSaver, redis: redis_py.Redis) -> None:
    config = at(THREAD)
    for i in range(60):
        config = put(saver, config, {"n": i}, {"n": str(i)}, step=i, half=i % 2)
    redis.config_resetstat()
    newest = list(itertools.islice(saver.list(at(THREAD), limit=3), 3))
    assert [found.metadata["step"] for found in newest] == [59, 58, 57]
    assert redis.info("commandstats")["cmdstat_hgetall"]["calls"] == 3
    odd = list(saver.list(at(THREAD), filter={"half": 1}, before=newest[-1].config, limit=2))
    assert [found.metadata["step"] for found in odd] == [55, 53]
    assert len(ids(saver, at(THREAD))) == 60
    assert len(ids(saver, None)) == 60


def test_versions_grow_and_two_branches_never_share_one(saver: RedisSaver) -> None:
    versions: list[Any] = [None]
    for _ in range(1200):
        versions.append(saver.get_next_version(versions[-1], None))
    assert versions[1:] == sorted(set(versions[1:]))
    assert saver.get_next_version(versions[5], None) != saver.get_next_version(versions[5], None)
    imported = InMemorySaver().get_next_version(versions[7], None)
    assert imported < saver.get_next_version(imported, None)


async def test_a_superstep_takes_two_round_trips_where_nothing_is_known_of_a_slice(
    store: AsyncStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = chain(RedisSaver(KEYS, store=store), length=10)
    sent: list[int] = []
    transmit = store._transmit

    def counting(batch: list[Any]) -> None:
        sent.append(len(batch))
        transmit(batch)

    await graph.ainvoke({"n": 0}, at("warm"), durability="sync")
    monkeypatch.setattr(store, "_transmit", counting)
    await graph.ainvoke({"n": 0}, at(THREAD), durability="sync")
    # the latest checkpoint, the input, and ten supersteps with the one that follows each
    assert len(sent) <= 2 + 2 * 11
