"""Threads are found by their labels as by reading all of them, and no set of a label holds a thread that lacks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from runyard.engine import thread_search, wire
from runyard.engine.ids import new_thread_id
from runyard.engine.store import labels
from runyard.engine.store.meta import open_store
from tests.support.store import Bench


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    open_store(made.store, made.keys)
    yield made
    made.close()


def sets(bench: Bench) -> dict[str, set[bytes]]:
    return {key: held for key, held in bench.dump().items() if ":labels:" in key}


def commands(bench: Bench, **asked: Any) -> int:
    bench.client.config_resetstat()
    bench.service.search_threads(**asked)
    said: Any = bench.client.info("commandstats")
    return sum(int(stats["calls"]) for stats in said.values())


VALUES = st.sampled_from(["word", "", "ü", 0, 1, True, False, 5, 5.0, -7, 2**53, 1.5, None, [5], {"a": 5}])
METADATA = st.dictionaries(st.sampled_from(["a", "b", "c", "graph_id"]), VALUES, max_size=4)
DEEDS = st.lists(
    st.tuples(st.sampled_from(["make", "make", "run", "edit", "delete", "copy"]), st.integers(0, 9), METADATA),
    max_size=15,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DEEDS, METADATA, st.sampled_from(["", "acme"]))
def test_in_every_story_threads_are_found_as_by_reading_all(
    bench: Bench, deeds: list[Any], asked: dict[str, Any], tenant: str
) -> None:
    bench.client.flushdb()
    open_store(bench.store, bench.keys)
    service, ids = bench.service.of(tenant), list[str]()
    for deed, number, metadata in deeds:
        of = ids[number % len(ids)] if ids else None
        if deed == "make":
            ids.append(service.create_thread(metadata=metadata).thread_id)
        elif deed == "run":
            run = service.create_run(
                bench.record().request, graph_id="g", assistant_id="a", thread_id=new_thread_id(), create_thread=True,
                thread_metadata=metadata,
            )  # fmt: skip
            ids.append(run.thread_id)
        elif of is not None and deed == "edit":
            service.update_thread(of, metadata)
        elif of is not None and deed == "copy":
            ids.append(service.copy_thread(of).thread_id)
        elif of is not None:
            service.delete_thread(of)
            ids.remove(of)
    known = [service.get_thread(thread_id) for thread_id in ids]
    expected = {thread.thread_id for thread in known if thread_search.contains(thread.metadata, asked)}
    found, _ = service.search_threads(metadata=asked, limit=100)
    assert {thread.thread_id for thread in found} == expected
    assert [thread.updated_at for thread in found] == sorted((t.updated_at for t in found), reverse=True)
    assert service.count_threads(metadata=asked) == len(expected)
    assert bench.service.of("other").search_threads(metadata=asked)[1] == 0
    held = {key.rpartition(":")[2] for key in sets(bench)}
    assert held == {name for thread in known for name in labels.of(_own(thread)).split()}


def _own(thread: Any) -> dict[str, Any]:
    return wire.decode(thread.raw_metadata)


def test_a_label_of_one_thread_takes_as_much_among_many_as_among_few(bench: Bench) -> None:
    only = bench.service.create_thread(metadata={"kind": "alone"}).thread_id
    took = []
    for count in (20, 400):
        for number in range(count):
            bench.service.create_thread(metadata={"kind": "usual", "number": number + 2})
        took.append(commands(bench, metadata={"kind": "alone"}))
        assert [thread.thread_id for thread in bench.service.search_threads(metadata={"kind": "alone"})[0]] == [only]
    assert took[0] == took[1]


def test_of_labels_that_many_have_the_newest_are_read_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_search, "FEW", 50)
    for number in range(300):
        bench.service.create_thread(metadata={"kind": "usual", "of": "tens" if number % 10 == 0 else "others"})
    assert len(bench.service.search_threads(metadata={"kind": "usual", "of": "tens"}, limit=100)[0]) == 30
    bench.client.config_resetstat()
    bench.service.search_threads(metadata={"kind": "usual"}, limit=10)
    assert bench.client.info("commandstats")["cmdstat_hgetall"]["calls"] == 11


def test_a_thread_with_more_labels_than_are_kept_is_found_all_the_same(bench: Bench) -> None:
    many = {f"label{number}": "word" for number in range(labels.MOST + 1)}
    thread_id = bench.service.create_thread(metadata=many).thread_id
    assert [key.rpartition(":")[2] for key in sets(bench)] == [labels.MANY]
    found, _ = bench.service.search_threads(metadata={"label7": "word"})
    assert [thread.thread_id for thread in found] == [thread_id]
    bench.service.update_thread(thread_id, dict.fromkeys(many))
    assert not sets(bench)


def test_threads_that_were_made_before_there_were_sets_are_found_by_reading(bench: Bench) -> None:
    bench.client.hdel(bench.keys.meta, "labels")
    thread_id = bench.service.create_thread(metadata={"kind": "old"}).thread_id
    bench.client.delete(*sets(bench))
    open_store(bench.store, bench.keys)
    found, _ = bench.service.search_threads(metadata={"kind": "old"})
    assert [thread.thread_id for thread in found] == [thread_id]


def test_a_thread_of_one_run_alone_is_in_no_set(bench: Bench) -> None:
    bench.service.create_run(
        bench.record().request, graph_id="g", assistant_id="a", thread_id=None, thread_metadata={"kind": "w"}
    )
    assert not sets(bench)
