"""The long-term store: LangGraph's BaseStore on Redis, with InMemoryStore as the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings, strategies as st
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import GetOp, InvalidNamespaceError, Item, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from runyard.engine import item_steps
from runyard.engine.errors import InvalidInput, Unserializable
from runyard.engine.items import RedisItems, ttl_of
from runyard.engine.store.client import AsyncStore, SyncStore
from runyard.engine.store.keys import Keys
from tests.support.engine import engine
from tests.support.eventually import eventually

KEYS = Keys("ry", 4)


@pytest.fixture
def store(redis_url: str) -> Iterator[SyncStore]:
    connected = SyncStore.connect(redis_url)
    yield connected
    connected.close()


@pytest.fixture
def items(store: SyncStore) -> RedisItems:
    return RedisItems(KEYS, sync_store=store)


def told(found: list[Any]) -> list[tuple[Any, ...]]:
    return [(item.namespace, item.key, item.value) for item in found]


# --- one item


def test_an_item_comes_back_as_it_was_put(items: RedisItems) -> None:
    value = {"text": "ü\x00", "n": 1.5, "deep": [{"a": None}]}
    items.put(("users", "u1"), "k:{1}", value)
    item = items.get(("users", "u1"), "k:{1}")
    assert isinstance(item, Item)
    assert (item.namespace, item.key, item.value) == (("users", "u1"), "k:{1}", value)
    assert item.created_at == item.updated_at
    assert item.created_at.utcoffset() is not None


def test_what_is_missing_or_deleted_is_none(items: RedisItems) -> None:
    items.put(("a",), "k", {"n": 1})
    items.delete(("a",), "k")
    items.delete(("a",), "k")
    assert items.get(("a",), "k") is None
    assert items.get(("a", "b"), "k") is None
    assert items.list_namespaces() == []


def test_an_item_that_is_changed_keeps_its_making_and_its_place(items: RedisItems) -> None:
    for key in "bac":
        items.put(("a",), key, {"n": 1})
    made = items.get(("a",), "b")
    eventually(lambda: items.put(("a",), "b", {"n": 2}) or items.get(("a",), "b").updated_at > made.updated_at)
    assert items.get(("a",), "b").created_at == made.created_at
    assert [item.key for item in items.search(("a",))] == ["b", "a", "c"]


def test_names_that_look_alike_are_different_items(items: RedisItems) -> None:
    named = [(("a", "b"), "c"), (("a",), "b:c"), (("a:b",), "c"), (("a",), "b\x00\x00c"), (("ab",), "c"), (("a",), "")]
    for number, (namespace, key) in enumerate(named):
        items.put(namespace, key, {"n": number})
    assert [items.get(*name).value["n"] for name in named] == list(range(len(named)))
    assert [item.value["n"] for item in items.search(("a", "b"))] == [0]


@pytest.mark.parametrize("namespace", [(), ("a.b",), ("",), ("langgraph", "x"), ("a\x00b",), ("a",) * 33])
def test_a_namespace_that_langgraph_refuses_is_refused(items: RedisItems, namespace: tuple[str, ...]) -> None:
    with pytest.raises(InvalidNamespaceError):
        items.put(namespace, "k", {})


def test_what_is_too_large_or_not_json_is_refused(items: RedisItems) -> None:
    with pytest.raises(InvalidInput, match="namespace and key"):
        items.put(("a",), "k" * 5000, {})
    with pytest.raises(Unserializable, match="must be JSON"):
        items.put(("a",), "k", {"x": object()})
    with pytest.raises(InvalidInput, match="16777216 bytes"):
        items.put(("a",), "k", {"x": "a" * 17_000_000})
    with pytest.raises(ValueError, match=r"Unsupported operator: \$in"):
        items.search(("a",), filter={"n": {"$in": [1]}})


# --- searching


def test_a_filter_compares_and_what_cannot_be_compared_does_not_pass(items: RedisItems) -> None:
    values: list[dict[str, Any]] = [
        {"n": 1},
        {"n": 2},
        {"n": "3"},
        {"n": None},
        {},
        {"day": "2026-01-02"},
        {"n": {"m": [1]}},
    ]
    for number, value in enumerate(values):
        items.put(("a",), str(number), value)

    def found(wanted: dict[str, Any]) -> list[str]:
        return [item.key for item in items.search(("a",), filter=wanted)]

    assert found({"n": {"$gt": 1}}) == ["1", "2"]
    assert found({"n": {"$gte": 1, "$lt": 3}}) == ["0", "1"]
    assert found({"n": {"$ne": 1}}) == ["1", "2", "3", "4", "5", "6"]
    assert found({"n": {"$eq": 2}}) == found({"n": 2}) == ["1"]
    assert found({"day": {"$lte": "2026-01-31"}}) == ["5"]
    assert found({"n": {"m": [1]}}) == ["6"]


def test_a_search_over_many_small_and_one_large_namespace_finds_each_once(
    items: RedisItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, few in (("NAMES", 3), ("ITEMS", 2), ("SPACES", 2)):
        monkeypatch.setattr(item_steps, name, few)
    wanted = [(("r", f"s{space}"), str(key)) for space in range(5) for key in range(7 if space == 2 else 1)]
    items.batch([PutOp(namespace, key, {"odd": int(key) % 2}) for namespace, key in wanted])
    assert [name[:2] for name in told(items.search(("r",), limit=50))] == wanted
    assert [name[:2] for name in told(items.search((), limit=4, offset=3))] == wanted[3:7]
    odd = [name for name in wanted if int(name[1]) % 2]
    assert [name[:2] for name in told(items.search(("r",), filter={"odd": 1}, limit=50))] == odd
    assert items.list_namespaces(limit=50) == [("r", f"s{space}") for space in range(5)]


def test_namespaces_fit_prefixes_suffixes_and_wildcards(items: RedisItems) -> None:
    for space in (("a", "b", "c"), ("a", "x", "c"), ("a",), ("b", "b"), ("a-", "c")):
        items.put(space, "k", {})
    assert items.list_namespaces(prefix=("a",)) == [("a",), ("a", "b", "c"), ("a", "x", "c")]
    assert items.list_namespaces(prefix=("a", "*", "c")) == [("a", "b", "c"), ("a", "x", "c")]
    assert items.list_namespaces(prefix=("*", "b")) == [("a", "b", "c"), ("b", "b")]
    assert items.list_namespaces(suffix=("c",)) == [("a", "b", "c"), ("a", "x", "c"), ("a-", "c")]
    assert items.list_namespaces(suffix=("b", "*")) == [("a", "b", "c"), ("b", "b")]
    assert items.list_namespaces(max_depth=1) == [("a",), ("a-",), ("b",)]
    assert items.list_namespaces(limit=2, offset=1) == [("a", "b", "c"), ("a", "x", "c")]


# --- times to live


def test_an_item_lives_as_long_as_it_is_read(items: RedisItems, redis: redis_py.Redis) -> None:
    name = KEYS.of_namespace(("a",)).item("a\0\0k")
    items.put(("a",), "k", {"n": 1}, ttl=10)
    redis.pexpire(name, 1000)
    items.get(("a",), "k", refresh_ttl=False)
    items.search(("a",), refresh_ttl=False)
    assert redis.pttl(name) <= 1000
    items.get(("a",), "k")
    assert redis.pttl(name) > 500_000
    redis.pexpire(name, 1000)
    items.search(("a",))
    assert redis.pttl(name) > 500_000
    items.put(("a",), "k", {"n": 2})
    assert redis.pttl(name) == -1


def test_nothing_is_left_of_what_has_expired(items: RedisItems, redis: redis_py.Redis) -> None:
    items.put(("a", "old"), "k", {}, ttl=0.0005)
    items.put(("a", "new"), "k", {})
    eventually(lambda: items.get(("a", "old"), "k", refresh_ttl=False) is None)
    assert items.list_namespaces() == [("a", "new")]
    assert told(items.search(())) == [(("a", "new"), "k", {})]
    assert len([key for key in redis.keys("ry:*") if b"item" in key]) == 3
    items.put(("a", "old"), "k", {"n": 2})
    assert items.get(("a", "old"), "k").value == {"n": 2}


def test_the_project_file_may_give_every_item_a_time_to_live(store: SyncStore, redis: redis_py.Redis) -> None:
    assert ttl_of({}) is None
    items = RedisItems(KEYS, sync_store=store, ttl=ttl_of({"ttl": {"default_ttl": 1, "refresh_on_read": False}}))
    items.put(("a",), "k", {})
    items.put(("a",), "stays", {}, ttl=None)
    redis.pexpire(KEYS.of_namespace(("a",)).item("a\0\0k"), 1000)
    items.get(("a",), "k")
    assert 0 < redis.pttl(KEYS.of_namespace(("a",)).item("a\0\0k")) <= 1000
    assert redis.pttl(KEYS.of_namespace(("a",)).item("a\0\0stays")) == -1


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan"), 1e12])
def test_a_time_to_live_that_is_none_is_refused(items: RedisItems, ttl: float) -> None:
    with pytest.raises(InvalidInput, match="ttl"):
        items.put(("a",), "k", {}, ttl=ttl)


# --- the oracle

LABELS = st.sampled_from(["a", "b", "a-", "*x"])
SPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
VALUES = st.one_of(st.none(), st.fixed_dictionaries({"n": st.integers(0, 3)}, optional={"t": st.just("x")}))
PUTS = st.tuples(SPACES, st.sampled_from("klm"), VALUES).map(lambda parts: PutOp(*parts))
PATHS = st.lists(st.one_of(LABELS, st.just("*")), max_size=2).map(tuple)
CONDITIONS = st.lists(st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), PATHS), max_size=2).map(tuple)
FILTERS = st.one_of(st.none(), st.fixed_dictionaries({"n": st.one_of(
    st.integers(0, 3), st.fixed_dictionaries({}, optional={w: st.integers(0, 3) for w in ("$gt", "$lte", "$ne")})
)}))  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(PUTS, max_size=6), max_size=4),
    prefix=st.lists(LABELS, max_size=2).map(tuple),
    conditions=CONDITIONS,
    wanted=FILTERS,
    depth=st.one_of(st.none(), st.integers(1, 3)),
    window=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_it_answers_what_langgraphs_in_memory_store_answers(
    items: RedisItems, redis: redis_py.Redis, batches: Any, prefix: Any, conditions: Any, wanted: Any, depth: Any,
    window: Any,
) -> None:  # fmt: skip
    redis.flushall()
    oracle = InMemoryStore()
    for batch in batches:
        assert items.batch(batch) == oracle.batch(batch)
    for space in [space for space, held in oracle._data.items() if not held]:
        del oracle._data[space]  # it goes on listing namespaces that have nothing in them any more
    limit, offset = window
    theirs = sorted(oracle.search(prefix, filter=wanted, limit=1000), key=lambda item: item.namespace)
    assert told(items.search(prefix, filter=wanted, limit=1000)) == told(theirs)
    assert told(items.search(prefix, filter=wanted, limit=limit, offset=offset)) == told(theirs[offset:][:limit])
    op = ListNamespacesOp(conditions, depth, limit, offset)
    assert items.batch([op]) == oracle.batch([op])


def test_a_batch_reads_before_it_writes_and_the_last_write_counts(items: RedisItems) -> None:
    ops = [PutOp(("a",), "k", {"n": 1}), GetOp(("a",), "k"), PutOp(("a",), "k", {"n": 2}), SearchOp(("a",))]
    assert items.batch(ops) == InMemoryStore().batch(ops) == [None, None, None, []]
    assert items.get(("a",), "k").value == {"n": 2}


# --- in graphs


async def test_the_event_loop_and_threads_see_the_same_items(redis_url: str, store: SyncStore) -> None:
    connected = AsyncStore.connect(redis_url)
    items = RedisItems(KEYS, sync_store=store, store=connected)
    await items.aput(("a",), "k", {"n": 1}, ttl=5)
    assert (await items.aget(("a",), "k")).value == {"n": 1}
    assert items.get(("a",), "k").value == {"n": 1}
    assert told(await items.asearch(("a",))) == told(items.search(("a",)))
    assert await items.alist_namespaces() == [("a",)]
    elsewhere = await asyncio.to_thread(lambda: asyncio.run(items.aget(("a",), "k")))
    assert elsewhere.value == {"n": 1}
    await connected.close()


async def test_nodes_are_given_the_store(redis_url: str) -> None:
    from langgraph.runtime import Runtime

    def remember(state: dict, runtime: Runtime) -> dict:
        runtime.store.put(("memories", "u1"), "name", {"name": state["name"]})
        return {}

    async def recall(state: dict, runtime: Runtime) -> dict:
        item = await runtime.store.aget(("memories", "u1"), "name")
        return {"told": item.value["name"]}

    def graph(**parts: Any) -> Any:
        builder = StateGraph(dict).add_sequence([remember, recall])
        return builder.add_edge(START, "remember").add_edge("recall", END).compile(**parts)

    own = InMemoryStore()
    async with engine(redis_url, {"ours": graph(), "theirs": graph(store=own)}) as running:
        run = await running.run("ours", {"name": "Ada"})
        assert b'"told":"Ada"' in b"".join(part for part in running.service.result(run) if part)
        stored = RedisItems(running.keys, sync_store=running.sync_store)
        assert stored.get(("memories", "u1"), "name").value == {"name": "Ada"}
        await running.run("theirs", {"name": "Bob"})
        assert stored.get(("memories", "u1"), "name").value == {"name": "Ada"}
        assert own.get(("memories", "u1"), "name").value == {"name": "Bob"}
