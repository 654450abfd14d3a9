"""Deleting, copying and pruning: nothing is left behind, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis as redis_py

from runyard.engine.errors import InvalidInput
from runyard.engine.ids import new_run_id
from runyard.engine.saver import RedisSaver, SliceSession
from runyard.engine.store import checkpoint_copy, checkpoint_sizes, checkpoint_upkeep
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import carry_out
from tests.support.checkpoints import at, ids, keyspace, put

KEYS = Keys()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every loop here takes several turns."""
    monkeypatch.setattr(checkpoint_upkeep, "BATCH", 3)
    monkeypatch.setattr(checkpoint_upkeep, "READ_BATCH", 4)
    monkeypatch.setattr(checkpoint_copy, "BATCH", 3)


@pytest.fixture
def saver(redis_url: str) -> Iterator[RedisSaver]:
    store = SyncStore.connect(redis_url)
    yield RedisSaver(KEYS, sync_store=store)
    store.close()


def a_run(saver: RedisSaver, config: Any, run_id: str, steps: int = 10) -> Any:
    """Checkpoints of one run: a channel that changes each time and one that only changes once."""
    for i in range(steps):
        values = {"n": i, "run": run_id}
        versions = {"n": f"{run_id}{i}", "run": run_id}
        config = put(saver, config, values, versions, new=versions if i == 0 else {"n": f"{run_id}{i}"}, run_id=run_id)
        saver.put_writes(config, [("n", i + 1)], f"task{i}")
    return config


def states(saver: RedisSaver, config: Any) -> list[Any]:
    return [(found.checkpoint, found.metadata, found.pending_writes) for found in saver.list(config)]


def test_deleting_a_run_leaves_the_thread_as_it_was_before_it(saver: RedisSaver, redis: redis_py.Redis) -> None:
    first = a_run(saver, at("t"), "run-1")
    a_run(saver, at("t", namespace="child:1"), "run-1", 2)
    before, states_before = keyspace(redis), states(saver, at("t"))
    a_run(saver, first, "run-2")
    a_run(saver, at("t", namespace="child:1"), "run-2", 3)
    a_run(saver, at("t", namespace="child:2"), "run-2", 3)
    saver.put_writes(at("t", "never-put", "child:2"), [("n", 1)], "task")
    saver.delete_for_runs(["run-2", "no-such-run"])
    assert keyspace(redis) == before
    assert states(saver, at("t")) == states_before
    latest = saver.get_tuple(at("t"))
    assert latest is not None
    assert latest.config == first


def test_a_run_of_two_slices_is_deleted_whole_through_where_each_began(
    saver: RedisSaver, redis: redis_py.Redis
) -> None:
    first = a_run(saver, at("t"), "run-1")
    before = keyspace(redis)
    config, made = first, []
    for _ in range(2):
        in_hand = saver.bound(SliceSession(run_id="run-2"))
        config = a_run(in_hand, config, "run-2")
        a_run(in_hand, at("t", namespace="child:1"), "run-2")
        made = ids(saver, at("t"))
    assert redis.smembers(KEYS.of_thread("t").run_checkpoints("run-2")) >= {f"t\0\0{made[i]}".encode() for i in (9, 19)}
    assert redis.scard(KEYS.of_thread("t").run_checkpoints("run-2")) == 4
    a_run(saver, config, "run-3")
    saver.delete_for_runs(["run-3", "run-2"])
    assert keyspace(redis) == before


def test_a_run_whose_first_checkpoints_were_pruned_is_deleted_all_the_same(
    saver: RedisSaver, redis: redis_py.Redis
) -> None:
    in_hand = saver.bound(SliceSession(run_id="run-1"))
    a_run(in_hand, at("t"), "run-1")
    saver.prune(["t"])
    [kept] = ids(saver, at("t"))
    assert redis.smembers(KEYS.of_thread("t").run_checkpoints("run-1")) == {f"t\0\0{kept}".encode()}
    saver.delete_for_runs(["run-1"])
    assert keyspace(redis) == {}


def test_deleting_all_runs_leaves_nothing(saver: RedisSaver, redis: redis_py.Redis) -> None:
    a_run(saver, at("t"), "run-1")
    a_run(saver, at("other", namespace="child:1"), "run-1")
    saver.put_writes(at("t", "never-put"), [("n", 1)], "task")
    saver.delete_for_runs(["run-1"])
    assert keyspace(redis) == {}


def test_a_run_of_ours_is_found_without_asking_other_partitions(redis_url: str, redis: redis_py.Redis) -> None:
    store = SyncStore.connect(redis_url)
    saver = RedisSaver(KEYS, sync_store=store)
    of = KEYS.of_thread("t")
    run_id = new_run_id(of.number)
    bound = saver.bound(SliceSession(run_id=run_id))
    put(bound, at("t"), {"n": 1})
    redis.config_resetstat()
    saver.delete_for_runs([run_id])
    assert redis.info("commandstats")["cmdstat_smembers"]["calls"] == 2  # its index, and loose writes
    assert keyspace(redis) == {}
    store.close()


def test_a_checkpoint_that_another_run_put_again_belongs_to_that_run(saver: RedisSaver) -> None:
    made: Any = {"v": 4, "id": "1", "ts": "", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}
    for run_id in ("run-1", "run-2"):
        saver.put(at("t"), made, {"run_id": run_id}, {})
    saver.delete_for_runs(["run-1"])
    assert ids(saver, at("t")) == ["1"]
    saver.delete_for_runs(["run-2"])
    assert ids(saver, at("t")) == []


def test_deleting_a_thread_leaves_nothing_of_it_and_all_of_others(saver: RedisSaver, redis: redis_py.Redis) -> None:
    a_run(saver, at("other"), "run-0")
    before = keyspace(redis)
    a_run(saver, at("t"), "run-1")
    a_run(saver, at("t", namespace="child:1"), str(uuid4()))
    saver.put_writes(at("t", "never-put", "child:9"), [("n", 1)], "task")
    saver.delete_thread("t")
    saver.delete_thread("no-such-thread")
    assert keyspace(redis) == before


def test_a_copy_is_complete_in_another_partition_and_lives_on_its_own(saver: RedisSaver, redis: redis_py.Redis) -> None:
    a_run(saver, at("t"), "run-1")
    a_run(saver, at("t", namespace="child:1"), "run-1", 4)
    target = next(name for name in map(str, range(99)) if KEYS.of_thread(name) != KEYS.of_thread("t"))
    before = keyspace(redis)
    saver.copy_thread("t", target)
    saver.copy_thread("t", "t")
    copied = keyspace(redis)
    assert {key: copied[key] for key in before} == before
    for namespace in ("", "child:1"):
        assert states(saver, at(target, namespace=namespace)) == states(saver, at("t", namespace=namespace))
    saver.copy_thread("t", target)
    assert keyspace(redis) == copied
    assert not any(b"r" in content for key, content in copied.items() if f"thread:{target}:checkpoint:".encode() in key)
    saver.delete_for_runs(["run-1"])
    assert len(ids(saver, at(target))) == 10
    assert ids(saver, at("t")) == []
    saver.delete_thread(target)
    assert keyspace(redis) == {}


def test_pruning_keeps_the_latest_of_each_namespace_and_only_its_values(
    saver: RedisSaver, redis: redis_py.Redis
) -> None:
    latest = a_run(saver, a_run(saver, at("t"), "run-1"), "run-2")
    child = a_run(saver, at("t", namespace="child:1"), "run-2", 4)
    kept = [saver.get_tuple(config) for config in (latest, child)]
    saver.put_writes(at("t", "never-put"), [("n", 1)], "task")
    saver.prune(["t", "no-such-thread"])
    assert [saver.get_tuple(config) for config in (latest, child)] == kept
    assert [len(ids(saver, at("t", namespace=name))) for name in ("", "child:1")] == [1, 1]
    of = KEYS.of_thread("t")
    assert set(redis.hkeys(of.channels("t", ""))) == {b"n\0run-29", b"run\0run-2"}
    assert not redis.exists(of.run_checkpoints("run-1"))
    assert redis.scard(of.run_checkpoints("run-2")) == 2
    saver.prune(["t"], strategy="delete")
    assert keyspace(redis) == {}


def test_an_unknown_strategy_is_refused(saver: RedisSaver) -> None:
    with pytest.raises(InvalidInput, match="keep_all"):
        saver.prune(["t"], strategy="keep_all")


class CrashError(Exception):
    pass


class Crashing(SyncStore):
    """Crashes after so many round trips of the plans it is given."""

    left = 10**6

    def do_all(self, calls: Any) -> list[Any]:
        if self.left == 0:
            raise CrashError
        self.left -= 1
        return super().do_all(calls)


UPKEEP: dict[str, Callable[[RedisSaver], None]] = {
    "delete_thread": lambda saver: saver.delete_thread("t"),
    "delete_for_runs": lambda saver: saver.delete_for_runs(["run-2"]),
    "prune": lambda saver: saver.prune(["t"]),
}


@pytest.mark.parametrize("upkeep", UPKEEP)
def test_a_crash_between_two_round_trips_leaves_whole_checkpoints_and_the_next_try_makes_it_good(
    saver: RedisSaver, redis_url: str, redis: redis_py.Redis, upkeep: str
) -> None:
    store = Crashing.connect(redis_url)
    finished, crash_at = False, 0
    while not finished:
        redis.flushall()
        a_run(saver, a_run(saver, at("t"), "run-1", 4), "run-2", 7)
        whole = {found.checkpoint["id"]: found for found in saver.list(at("t"))}
        store.left = crash_at
        try:
            UPKEEP[upkeep](RedisSaver(KEYS, sync_store=store))
            finished = True
        except CrashError:
            crash_at += 1
        assert all(found == whole[found.checkpoint["id"]] for found in saver.list(at("t")))
        UPKEEP[upkeep](saver)
        shape = _shape(keyspace(redis))
        assert shape == WANTED[upkeep]
    assert crash_at > 5
    store.close()


#: What is left of four supersteps of run-1 and seven of run-2: how many entries each kind of key has.
WANTED = {
    "delete_thread": [],
    "delete_for_runs": [
        ("channels", 5),
        *[("checkpoint", 6)] * 4,
        ("checkpoints", 4),
        ("namespaces", 1),
        ("run:run-1:checkpoints", 4),
    ],
    "prune": [
        ("channels", 2),
        ("checkpoint", 6),
        ("checkpoints", 1),
        ("namespaces", 1),
        ("run:run-2:checkpoints", 1),
    ],
}


def _shape(content: dict[bytes, Any]) -> list[tuple[str, int]]:
    names = {key: key.decode().split(":", 2)[2] for key in content}
    kinds = {key: name if name.startswith("run") else name.split(":")[2] for key, name in names.items()}
    return sorted((kinds[key], len(value)) for key, value in content.items())


def test_a_thread_is_measured_with_its_subgraphs_and_nothing_is_sent_for_it(saver: RedisSaver) -> None:
    a_run(saver, at("t"), "run-1", 9)
    a_run(saver, at("t", namespace="child:1"), "run-1", 2)
    saver.put_writes(at("t", "never-put"), [("n", 1)], "task")
    a_run(saver, at("other"), "run-2")
    found = carry_out(checkpoint_sizes.storage_of(KEYS, "t"), saver._sync_store)
    assert {name: share.count for name, share in found.channels.items()} == {"n": 11, "run": 2}
    assert (found.checkpoints.count, found.writes.count) == (11, 12)
    before = found.channels["n"].bytes
    config = put(saver, at("t"), {"n": "x" * 1000}, {"n": "last"}, new={"n": "last"}, run_id="run-1")
    saver.put_writes(config, [("n", "y" * 500)], "task")
    after = carry_out(checkpoint_sizes.storage_of(KEYS, "t"), saver._sync_store)
    assert before + 100 < after.channels["n"].bytes
    assert found.checkpoints.bytes < after.checkpoints.bytes
    assert found.writes.bytes < after.writes.bytes


def test_of_a_thread_without_checkpoints_there_is_nothing_to_measure(saver: RedisSaver) -> None:
    assert carry_out(checkpoint_sizes.storage_of(KEYS, "t"), saver._sync_store) == checkpoint_sizes.Storage()
