"""Searching the long-term store by meaning, with LangGraph's InMemoryStore as the oracle."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings, strategies as st
from langgraph.store.base import PutOp, SearchOp, ensure_embeddings
from langgraph.store.memory import InMemoryStore

from runyard.engine import item_index, item_ranking
from runyard.engine.errors import EmbeddingFailed, InvalidInput
from runyard.engine.item_index import Index
from runyard.engine.items import RedisItems
from runyard.engine.store.client import AsyncStore, SyncStore
from runyard.engine.store.keys import Keys
from runyard.graphs.embedding import LoopEmbeddings

KEYS = Keys("ry", 4)
WORDS = ("cat", "dog", "car", "tea", "sun")
DIMS = len(WORDS)


def embed(texts: Any) -> list[list[float]]:
    """As near as texts have the same of five words."""
    return [[float(text.count(word)) for word in WORDS] for text in texts]


@pytest.fixture
def store(redis_url: str) -> Iterator[SyncStore]:
    connected = SyncStore.connect(redis_url)
    yield connected
    connected.close()


def items_with(store: SyncStore, function: Any = embed, **options: Any) -> RedisItems:
    given = {"dims": DIMS, **options}
    return RedisItems(KEYS, sync_store=store, index=Index(ensure_embeddings(function), **given))


@pytest.fixture
def items(store: SyncStore) -> RedisItems:
    return items_with(store)


def told(found: list[Any]) -> list[tuple[Any, ...]]:
    return [(item.key, None if item.score is None else round(item.score, 5)) for item in found]


def test_the_nearest_come_first_and_what_has_no_vector_last_without_a_score(items: RedisItems) -> None:
    items.put(("a",), "none", {"text": "cat"}, index=False)
    items.put(("a",), "far", {"text": "dog"})
    items.put(("a", "b"), "half", {"text": "cat dog"})
    items.put(("a",), "near", {"text": "cat"})
    items.put(("z",), "elsewhere", {"text": "cat"})
    wanted = [("near", 1.0), ("half", 0.70711), ("far", 0.0), ("none", None)]
    assert told(items.search(("a",), query="cat")) == wanted
    assert told(items.search(("a",), query="cat", limit=2, offset=1)) == wanted[1:3]
    assert told(items.search(("a",), query="cat", limit=3, offset=3)) == wanted[3:]
    assert {score for _, score in told(items.search(("a",)))} == {None}


def test_only_what_is_asked_for_is_embedded_each_text_by_itself(store: SyncStore) -> None:
    items = items_with(store, fields=["title", "parts[*].text"])
    value = {"title": "cat", "secret": "tea", "parts": [{"text": "dog"}, {"text": "car"}]}
    items.put(("a",), "k", value)
    assert [told(items.search(("a",), query=word)) for word in ("cat", "car", "tea")] == [
        [("k", 1.0)], [("k", 1.0)], [("k", 0.0)],
    ]  # fmt: skip
    items.put(("a",), "k", value, index=["secret"])
    assert [told(items.search(("a",), query=word)) for word in ("cat", "tea")] == [[("k", 0.0)], [("k", 1.0)]]
    items.put(("a",), "k", {"other": "cat"})
    assert told(items.search(("a",), query="cat")) == [("k", None)]
    with pytest.raises(InvalidInput, match="index: at most 256 texts"):
        items.put(("a",), "k", {"parts": [{"text": "cat"}] * 257})


def test_filters_tenants_deletes_and_times_to_live_count(items: RedisItems, redis: redis_py.Redis) -> None:
    for number, key in enumerate("abc"):
        items.put(("a",), key, {"text": "cat", "n": number})
    items.of_tenant("acme").put(("a",), "theirs", {"text": "cat"})
    assert told(items.search(("a",), query="cat", filter={"n": {"$gte": 1}})) == [("b", 1.0), ("c", 1.0)]
    assert told(items.of_tenant("acme").search(("a",), query="cat")) == [("theirs", 1.0)]
    items.delete(("a",), "a")
    items.put(("a",), "b", {"text": "cat"}, ttl=5)
    name = next(key for key in redis.keys("ry:*:item:a\0\0b"))
    redis.pexpire(name, 60_000)
    items.search(("a",), query="cat", refresh_ttl=False)
    assert redis.pttl(name) <= 60_000
    items.search(("a",), query="cat")
    assert redis.pttl(name) > 60_000
    redis.pexpire(name, 0)
    assert told(items.search(("a",), query="cat")) == [("c", 1.0)]


def test_vectors_of_another_embedding_are_not_compared_with(store: SyncStore, items: RedisItems) -> None:
    items.put(("a",), "k", {"text": "cat"})
    assert told(items_with(store, name="another").search(("a",), query="cat")) == [("k", None)]
    assert told(items_with(store, lambda texts: [[1.0]] * len(texts), dims=1).search(("a",), query="cat")) == [
        ("k", None)
    ]
    assert told(RedisItems(KEYS, sync_store=store).search(("a",), query="cat")) == [("k", None)]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda texts: [[1.0] * 4 for _ in texts], "4 numbers; store.index.dims says 5"),
        (lambda texts: [["x"] * 5 for _ in texts], "list of numbers"),
        (lambda texts: [[float("nan")] * 5 for _ in texts], "not finite"),
        (lambda texts: [None for _ in texts], "list of numbers"),
        (lambda texts: [[1.0] * 5], "1 vectors for 2 texts"),
        (lambda texts: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda texts: time.sleep(5), "TimeoutError: no answer within 0.1 s"),
    ],
)
def test_an_embedding_that_fails_says_so_and_nothing_is_written(
    store: SyncStore, monkeypatch: pytest.MonkeyPatch, answer: Any, named: str
) -> None:
    monkeypatch.setattr(item_index, "EMBED_TIMEOUT_S", 0.1)
    plain, items = RedisItems(KEYS, sync_store=store), items_with(store, answer)
    plain.put(("a",), "old", {"text": "as it was"})
    with pytest.raises(EmbeddingFailed, match=named):
        items.batch([PutOp(("a",), "old", {"text": "cat"}), PutOp(("a",), "new", {"text": "dog"})])
    assert [(item.key, item.value) for item in plain.search(("a",))] == [("old", {"text": "as it was"})]
    items.put(("a",), "new", {"text": "dog"}, index=False)  # for this nobody is asked
    assert plain.get(("a",), "new")


def test_more_items_than_can_be_compared_are_refused_and_pages_are_put_together(
    items: RedisItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_ranking, "PAGE", 2)
    monkeypatch.setattr(item_ranking, "MAX_COMPARED", 5)
    texts = ["dog", "cat", "cat dog", "cat cat dog", "tea"]
    items.batch([PutOp(("a", str(number)), text, {"text": text}) for number, text in enumerate(texts)])
    assert [key for key, _ in told(items.search(("a",), query="cat", limit=3))] == ["cat", "cat cat dog", "cat dog"]
    items.put(("a",), "sixth", {})
    with pytest.raises(InvalidInput, match="namespace_prefix"):
        items.search(("a",), query="cat")
    assert len(items.search(("a",))) == 6


TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True).map(" ".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=6, unique=True), query=TEXTS, limit=st.integers(1, 7))
def test_scores_are_those_of_langgraph(
    items: RedisItems, redis: redis_py.Redis, texts: list[str], query: str, limit: int
) -> None:
    redis.flushdb()
    oracle = InMemoryStore(index={"dims": DIMS, "embed": embed, "fields": ["text"]})
    ops = [PutOp(("a",), text, {"text": text}, index=["text"]) for text in texts]
    for each in (items, oracle):
        each.batch(ops)
    search = [SearchOp(("a",), query=query, limit=limit)]
    assert told(items.batch(search)[0]) == told(oracle.batch(search)[0])


async def test_event_loops_and_threads_may_ask_an_async_function(redis_url: str, store: SyncStore) -> None:
    threads: set[str] = set()

    async def aembed(texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        threads.add(threading.current_thread().name)
        return embed(texts)

    connected = AsyncStore.connect(redis_url)
    index = Index(LoopEmbeddings(aembed), dims=DIMS)
    items = RedisItems(KEYS, sync_store=store, store=connected, index=index)
    await items.aput(("a",), "k", {"text": "cat"})
    assert told(await items.asearch(("a",), query="cat")) == [("k", 1.0)]
    assert told(await asyncio.to_thread(items.search, ("a",), query="cat")) == [("k", 1.0)]
    assert threads == {"embed"}
    await connected.close()


async def test_a_failure_on_an_event_loop_is_the_same(redis_url: str, store: SyncStore) -> None:
    connected = AsyncStore.connect(redis_url)
    index = Index(ensure_embeddings(lambda texts: 1 / 0), dims=DIMS)
    items = RedisItems(KEYS, sync_store=store, store=connected, index=index)
    with pytest.raises(EmbeddingFailed, match="division by zero"):
        await items.aput(("a",), "k", {"text": "cat"})
    assert await items.aget(("a",), "k") is None
    await connected.close()
