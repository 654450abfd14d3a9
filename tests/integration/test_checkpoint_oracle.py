"""Random stories told to RedisSaver and to LangGraph's memory saver: they must never tell them apart.

What the memory saver cannot do (deleting runs, pruning, copying) is done to it here, by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from langgraph.checkpoint.memory import InMemorySaver

from runyard.engine.saver import RedisSaver
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from tests.support.checkpoints import at

KEYS = Keys(partitions=2)
THREADS = st.sampled_from(["a", "b"])
NAMESPACES = st.sampled_from(["", "child:1"])
RUNS = st.sampled_from([None, "run-1", "run-2"])
TASKS = st.sampled_from(["task-1", "task-2", "00000000-0000-0000-0000-000000000000"])
CHANNELS = st.sampled_from(["n", "log", "ü", "__error__", "__interrupt__", "__resume__"])
VALUES = st.one_of(st.none(), st.integers(-9, 9), st.binary(max_size=3), st.lists(st.text(max_size=3), max_size=3))


def shown(found: Any) -> Any:
    return found and (found.config["configurable"], *found[1:])


class Story(RuleBasedStateMachine):
    client: redis_py.Redis
    store: SyncStore

    @initialize()
    def begin(self) -> None:
        self.client.flushall()
        self.ours = RedisSaver(KEYS, sync_store=self.store)
        self.memory = InMemorySaver()
        self.clock = 0
        #: (thread, namespace, id) -> the values the checkpoint has, their versions, its run
        self.made: dict[tuple[str, str, str], tuple[dict[str, Any], dict[str, str], str | None]] = {}

    def both(self, method: str, *args: Any, **kwargs: Any) -> None:
        for saver in (self.ours, self.memory):
            getattr(saver, method)(*args, **kwargs)

    @rule(
        thread=THREADS,
        namespace=NAMESPACES,
        run=RUNS,
        changed=st.dictionaries(st.sampled_from(["n", "log", "ü"]), VALUES, max_size=3),
        emptied=st.booleans(),
        data=st.data(),
    )
    def put(
        self, thread: str, namespace: str, run: str | None, changed: dict[str, Any], emptied: bool, data: Any
    ) -> None:
        parents = [id_ for found, name, id_ in self.made if (found, name) == (thread, namespace)]
        parent = data.draw(st.sampled_from([*parents[-1:] * 3, *parents, None]))
        values, versions, _ = self.made.get((thread, namespace, parent or ""), ({}, {}, None))
        self.clock += 1
        new = {name: f"{self.clock:04d}.{name}" for name in [*changed, *(["gone"] if emptied else [])]}
        checkpoint: Any = {
            "v": 4,
            "id": f"{self.clock:06d}",
            "ts": "",
            "channel_values": {**values, **changed},
            "channel_versions": {**versions, **new},
            "versions_seen": {},
            "updated_channels": None,
        }
        metadata: Any = {"step": self.clock % 3, **({"run_id": run} if run else {})}
        self.both("put", at(thread, parent, namespace), checkpoint, metadata, new)
        place = (thread, namespace, checkpoint["id"])
        self.made[place] = (checkpoint["channel_values"], checkpoint["channel_versions"], run)

    @rule(
        writes=st.lists(st.tuples(CHANNELS, VALUES), max_size=4),
        task=TASKS,
        path=st.sampled_from(["", "~1", "~2"]),
        data=st.data(),
    )
    def put_writes(self, writes: list[tuple[str, Any]], task: str, path: str, data: Any) -> None:
        if self.made:
            thread, namespace, id_ = data.draw(st.sampled_from(sorted(self.made)))
            self.both("put_writes", at(thread, id_, namespace), writes, task, path)

    @rule(thread=THREADS, how=st.sampled_from(["delete_thread", "delete_run-1", "delete_run-2", "prune"]))
    def remove(self, thread: str, how: str) -> None:
        getattr(self, how.partition("_")[0] + "_")(thread, how.partition("_")[2])

    def delete_(self, thread: str, what: str) -> None:
        if what == "thread":
            self.both("delete_thread", thread)
            self.forget([place for place in self.made if place[0] == thread])
        else:
            self.ours.delete_for_runs([what])
            self.forget([place for place, (_, _, run) in self.made.items() if run == what])

    def prune_(self, thread: str, _: str) -> None:
        self.ours.prune([thread])
        own = [place for place in self.made if place[0] == thread]
        latest = {namespace: max(id_ for _, name, id_ in own if name == namespace) for _, namespace, _ in own}
        self.forget([place for place in own if place[2] != latest[place[1]]])

    @rule()
    def copy_thread(self) -> None:
        """From ``a`` to a ``b`` without a past."""
        self.delete_("b", "thread")
        self.ours.copy_thread("a", "b")
        for (thread, namespace, id_), (values, versions, _) in list(self.made.items()):
            if thread == "a":
                self.memory.storage["b"][namespace][id_] = self.memory.storage["a"][namespace][id_]
                self.memory.writes["b", namespace, id_] = dict(self.memory.writes["a", namespace, id_])
                for channel, version in versions.items():
                    if blob := self.memory.blobs.get(("a", namespace, channel, version)):
                        self.memory.blobs["b", namespace, channel, version] = blob
                self.made["b", namespace, id_] = (values, versions, None)

    def forget(self, places: list[tuple[str, str, str]]) -> None:
        for thread, namespace, id_ in places:
            self.memory.storage[thread].get(namespace, {}).pop(id_, None)
            self.memory.writes.pop((thread, namespace, id_), None)
            del self.made[thread, namespace, id_]

    @rule(
        thread=THREADS,
        namespace=st.none() | NAMESPACES,
        limit=st.none() | st.integers(0, 3),
        wanted=st.none() | st.fixed_dictionaries({"step": st.integers(0, 2)}),
        data=st.data(),
    )
    def look_through(
        self, thread: str, namespace: str | None, limit: int | None, wanted: dict[str, Any] | None, data: Any
    ) -> None:
        known = [id_ for found, _, id_ in self.made if found == thread]
        before = data.draw(st.none() | st.sampled_from(known)) if known else None
        config: Any = {"configurable": {"thread_id": thread}}
        if namespace is not None:
            config["configurable"]["checkpoint_ns"] = namespace
        elif limit:
            limit = None  # which namespace comes first is not the memory saver's to say
        asked: dict[str, Any] = {"filter": wanted, "limit": limit, "before": at(thread, before) if before else None}
        ours = [shown(found) for found in self.ours.list(config, **asked)]
        memory = [shown(found) for found in self.memory.list(config, **asked)]
        if namespace is None:
            memory.sort(key=lambda one: (one[0]["checkpoint_ns"], [-ord(digit) for digit in one[0]["checkpoint_id"]]))
        assert ours == memory

    @invariant()
    def the_latest_and_any_named_checkpoint_are_the_same(self) -> None:
        for thread, namespace in {place[:2] for place in self.made}:
            config = at(thread, namespace=namespace)
            assert shown(self.ours.get_tuple(config)) == shown(self.memory.get_tuple(config))
        for thread, namespace, id_ in self.made:
            config = at(thread, id_, namespace)
            assert shown(self.ours.get_tuple(config)) == shown(self.memory.get_tuple(config))
            assert self.ours.get_delta_channel_history(
                config=config, channels=["log", "n"]
            ) == self.memory.get_delta_channel_history(config=config, channels=["log", "n"])

    @invariant()
    def nothing_is_left_of_what_is_gone(self) -> None:
        if not self.made:
            assert self.client.keys() == []
        for thread, namespace in {place[:2] for place in self.made}:
            own = [versions for place, (_, versions, _) in self.made.items() if place[:2] == (thread, namespace)]
            needed = {f"{channel}\0{version}".encode() for versions in own for channel, version in versions.items()}
            assert set(self.client.hkeys(KEYS.of_thread(thread).channels(thread, namespace))) <= needed


@pytest.fixture
def story(redis_url: str, redis: redis_py.Redis) -> Iterator[type[Story]]:
    store = SyncStore.connect(redis_url)
    yield type("BoundStory", (Story,), {"client": redis, "store": store})
    store.close()


def test_the_saver_cannot_be_told_from_the_memory_saver(story: type[Story]) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        story,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        ),
    )
