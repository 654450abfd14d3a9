"""Threads are listed a page at a time, and a page reads no more than it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runyard.engine import thread_search, wire
from runyard.engine.ids import new_thread_id
from tests.support.eventually import eventually
from tests.support.store import Bench


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, partitions=4)
    yield made
    made.close()


def make(bench: Bench, count: int, **labels: Any) -> list[str]:
    """Threads, the last changed last; clocks may stand still between two of them."""
    return [bench.service.create_thread(metadata={"n": n, **labels}).thread_id for n in range(count)]


def records_read(bench: Bench, **asked: Any) -> int:
    bench.client.config_resetstat()
    bench.service.search_threads(**asked)
    return int(bench.client.info("commandstats")["cmdstat_hgetall"]["calls"])


def test_a_page_of_the_newest_reads_as_much_of_many_threads_as_of_few(bench: Bench) -> None:
    make(bench, 50)
    few = records_read(bench, limit=10)
    make(bench, 700)
    assert records_read(bench, limit=10) == few == 11


def test_a_page_of_what_most_threads_have_stops_when_it_is_full(bench: Bench) -> None:
    make(bench, 700, kind="usual")
    assert records_read(bench, limit=10, metadata={"kind": "usual"}) == 11


def test_of_what_few_threads_have_few_records_are_read(bench: Bench) -> None:
    make(bench, 300, kind="rare")
    make(bench, 700, kind="usual")
    [only] = make(bench, 1, kind="alone")
    found, _ = bench.service.search_threads(metadata={"kind": "alone"})
    assert [thread.thread_id for thread in found] == [only]
    assert records_read(bench, limit=10, metadata={"kind": "unknown"}) == 11, "the first ones, before it is known"
    assert records_read(bench, limit=10, metadata={"kind": "rare"}) < 11 + 501
    assert bench.service.count_threads(metadata={"kind": "rare"}) == 300


LABELS = ("word", "", "ü", 0, 1, -7, 2**53 - 1, 2**60, 1.5, True, False, None, [1], {"a": {"b": [1, 2]}})


@pytest.mark.parametrize("wanted", LABELS, ids=repr)
def test_labels_of_every_kind_are_compared_as_python_compares_them(bench: Bench, wanted: Any) -> None:
    for label in LABELS:
        bench.service.create_thread(metadata={"label": label})
    make(bench, 120)  # the first batch is not sifted
    found, _ = bench.service.search_threads(metadata={"label": wanted}, limit=100)
    sifted, counted = (
        {wire.encode(t.metadata["label"]) for t in found},
        bench.service.count_threads(metadata={"label": wanted}),
    )
    expected = {wire.encode(label) for label in LABELS if thread_search.contains(label, wanted)}
    assert (sifted, counted) == (expected, len(expected))


def test_threads_are_found_by_the_graph_of_their_last_run(bench: Bench) -> None:
    run = bench.create(new_thread_id(), graph_id="mine", assistant_id="helper")
    bench.end(run, bench.claimed(run).fence)
    bench.service.note_state(
        run.thread_id, {"values": {}, "next": [], "tasks": []}, graph_id="mine", assistant_id="helper"
    )
    make(bench, 200)
    for labels in ({"graph_id": "mine"}, {"assistant_id": "helper", "graph_id": "mine"}):
        found, _ = bench.service.search_threads(metadata=labels)
        assert [thread.thread_id for thread in found] == [run.thread_id]
    assert bench.service.count_threads(metadata={"graph_id": "other"}) == 0


def test_pages_show_every_thread_once_last_changed_first(bench: Bench) -> None:
    made = set(make(bench, 450))
    seen: list[Any] = []
    for offset in range(0, 500, 100):
        page, total = bench.service.search_threads(limit=100, offset=offset)
        assert total == min(offset + 101, 450)
        seen += page
    assert len(seen) == 450
    assert {thread.thread_id for thread in seen} == made
    changed = [thread.updated_at for thread in seen]
    assert changed == sorted(changed, reverse=True)


def test_a_thread_that_changed_comes_first(bench: Bench) -> None:
    made = make(bench, 60)

    def is_first() -> bool:  # once the clock has ticked
        bench.service.update_thread(made[7], {"new": True})
        return bench.service.search_threads(limit=1)[0][0].thread_id == made[7]

    eventually(is_first)


@pytest.mark.parametrize("asked", [{}, {"metadata": {"kind": "usual"}}])
def test_a_count_counts_all_of_them(bench: Bench, asked: dict[str, Any]) -> None:
    make(bench, 30, kind="usual")
    assert bench.service.count_threads(**asked) == 30
    assert bench.service.search_threads(limit=10, **asked)[1] == 11
    assert bench.service.search_threads(limit=30, **asked)[1] == 30
    assert bench.service.search_threads(limit=10, sort_by="created_at", **asked)[1] == 30
