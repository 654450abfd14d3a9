"""DeltaChannels: what they are rebuilt from is the same as LangGraph's default walk finds, in far fewer round trips."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any

import pytest
import redis as redis_py
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from runyard.engine.recent import Recent
from runyard.engine.saver import RedisSaver
from runyard.engine.store.client import AsyncStore, SyncStore
from runyard.engine.store.keys import Keys
from tests.support.checkpoints import at, ids, put

KEYS = Keys()


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


def append(state: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    return [*state, *(item for write in writes for item in write)]


class Logged(TypedDict):
    n: int
    log: Annotated[list[Any], DeltaChannel(append, snapshot_frequency=7)]
    other: Annotated[list[Any], DeltaChannel(append, snapshot_frequency=1000)]


def looping(saver: BaseCheckpointSaver[Any], rounds: int) -> Any:
    def work(state: Logged) -> dict[str, Any]:
        n = state["n"] + 1
        return {"n": n, "log": [n], **({"other": [-n]} if n % 3 == 0 else {})}

    builder = StateGraph(Logged)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", lambda state: END if state["n"] % rounds == 0 else "work")
    return builder.compile(checkpointer=saver)


def default_walk(saver: RedisSaver, config: Any, channels: list[str]) -> Any:
    """The oracle: LangGraph's own, one checkpoint at a time."""
    return BaseCheckpointSaver.get_delta_channel_history(saver, config=config, channels=channels)


def test_history_equals_the_default_walk_on_every_checkpoint_of_forked_branches(saver: RedisSaver) -> None:
    graph = looping(saver, 20)
    graph.invoke({"n": 0, "log": ["start"]}, at("t"))
    middle = ids(saver, at("t"))[9]
    forked = graph.update_state(at("t", middle), {"log": ["fork"]}, as_node="work")
    graph.invoke(None, forked)
    graph.invoke({"n": 0, "log": ["again"]}, at("t"))
    channels = ["log", "other", "n", "branch:to:work", "missing"]
    configs = [found.config for found in saver.list(at("t"))]
    assert len(configs) > 40
    for config in [*configs, at("t"), at("t", "not-there"), at("nobody")]:
        native = saver.get_delta_channel_history(config=config, channels=channels)
        assert native == default_walk(saver, config, channels)


def test_what_is_kept_of_any_checkpoint_before_leads_to_the_same_history(saver: RedisSaver, redis_url: str) -> None:
    graph = looping(saver, 20)
    graph.invoke({"n": 0, "log": ["start"]}, at("t"))
    forked = graph.update_state(at("t", ids(saver, at("t"))[9]), {"log": ["fork"]}, as_node="work")
    graph.invoke(None, forked)
    channels = ["log", "other", "n", "missing"]
    configs = [found.config for found in saver.list(at("t"))]
    store = SyncStore.connect(redis_url)
    remembering = RedisSaver(KEYS, sync_store=store, recent=Recent(10**6))
    for config in [*configs[::-1], *random.Random(7).choices(configs, k=200), at("t"), at("t", "not-there")]:
        found = remembering.get_delta_channel_history(config=config, channels=channels)
        assert found == default_walk(saver, config, channels)
    store.close()


def test_a_turn_reads_what_came_since_the_turn_before_however_long_the_thread_is(
    saver: RedisSaver, redis_url: str, redis: redis_py.Redis
) -> None:
    store = SyncStore.connect(redis_url)
    remembering = RedisSaver(KEYS, sync_store=store, recent=Recent(10**6))
    config = put(saver, at("t"), {"log": ["x" * 1000]})
    sent = []
    for turn in range(150):
        redis.config_resetstat()
        found = remembering.get_delta_channel_history(config=config, channels=["log"])["log"]
        assert [value for _, _, value in found["writes"]] == list(range(turn))
        assert turn == 0 or found["seed"] == ["x" * 1000]
        found["writes"].clear()  # what is handed out is its reader's own
        found.get("seed", []).clear()
        sent.append(redis.info("stats")["total_net_output_bytes"])
        saver.put_writes(config, [("log", turn)], f"task{turn}", "~1")
        config = put(saver, config, {}, {"log": f"{turn}x"}, new={"log": f"{turn}x"})
    assert max(sent[100:]) <= max(sent[10:20]) + 100
    remembering.get_delta_channel_history(config=config, channels=["log"])
    redis.config_resetstat()
    remembering.get_delta_channel_history(config=config, channels=["log"])
    assert "cmdstat_evalsha" not in redis.info("commandstats")
    store.close()


def test_a_graph_of_delta_channels_has_the_states_that_the_memory_saver_gives(saver: RedisSaver) -> None:
    def story(chosen: BaseCheckpointSaver[Any]) -> list[Any]:
        graph = looping(chosen, 25)
        graph.invoke({"n": 0, "log": ["start"]}, at("t"))
        graph.update_state(at("t"), {"log": ["edit"]})
        graph.invoke({"n": 0}, at("t"))
        return [(state.values, state.next, state.metadata) for state in graph.get_state_history(at("t"))]

    assert story(saver) == story(InMemorySaver())


def test_a_long_history_takes_few_round_trips_and_reads_only_what_it_needs(
    saver: RedisSaver, redis: redis_py.Redis
) -> None:
    config = put(saver, at("t"), {"big": "x" * 1000, "log": []})
    for i in range(1, 451):
        saver.put_writes(config, [("log", i), ("big", "y" * 1000)], f"task{i}", "~1")
        config = put(saver, config, {}, {"big": "1", "log": f"{i}x"}, new={"log": f"{i}x"})
    redis.config_resetstat()
    history = saver.get_delta_channel_history(config=config, channels=["log"])["log"]
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == 3
    assert history["seed"] == []
    assert [value for _, _, value in history["writes"]] == list(range(1, 451))


async def test_the_async_face_gives_the_same(saver: RedisSaver, store: AsyncStore) -> None:
    both = RedisSaver(KEYS, store=store)
    looping(saver, 12).invoke({"n": 0, "log": ["start"]}, at("t"))
    channels = ["log", "other"]
    native = await both.aget_delta_channel_history(config=at("t"), channels=channels)
    assert native == default_walk(saver, at("t"), channels)
    assert await both.aget_delta_channel_history(config=at("t"), channels=[]) == {}


def test_pruning_keeps_what_delta_channels_are_rebuilt_from(saver: RedisSaver, redis: redis_py.Redis) -> None:
    graph = looping(saver, 20)
    graph.invoke({"n": 0, "log": ["start"]}, at("t"))
    before, count = graph.get_state(at("t")).values, len(ids(saver, at("t")))
    saver.prune(["t"])
    assert graph.get_state(at("t")).values == before
    # `other` has no snapshot: its whole chain is needed
    assert len(ids(saver, at("t"))) == count

    class Frequent(TypedDict):
        n: int
        log: Annotated[list[Any], DeltaChannel(append, snapshot_frequency=7)]

    def work(state: Frequent) -> dict[str, Any]:
        return {"n": state["n"] + 1, "log": [state["n"]]}

    builder = StateGraph(Frequent)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", lambda state: END if state["n"] >= 17 else "work")
    frequent = builder.compile(checkpointer=saver)
    frequent.invoke({"n": 0, "log": ["start"]}, at("f"))
    before = frequent.get_state(at("f")).values
    saver.prune(["f"])
    assert frequent.get_state(at("f")).values == before
    assert 1 < len(ids(saver, at("f"))) <= 8
    fields = redis.hkeys(KEYS.of_thread("f").channels("f", ""))
    assert sum(field.startswith(b"log\0") for field in fields) == 1
    frequent.invoke({"n": 0, "log": ["more"]}, at("f"))
    assert frequent.get_state(at("f")).values["log"] == [*before["log"], "more", *range(17)]
