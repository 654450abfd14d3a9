"""Dead letters are found as by reading all of them and sorting, and a page of many costs no more than one of few."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from runyard.engine import dead_search
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.letter import Filter
from runyard.engine.run import Phase, Run
from runyard.engine.store import recovery, runs
from tests.support.store import Bench

HOUR_MS = 3_600_000
LETTERS = st.lists(
    st.tuples(st.sampled_from(["g", "h"]), st.sampled_from(["", "acme"]), st.integers(0, 5), st.booleans()), max_size=12
)
FILTERS = st.builds(
    Filter,
    graph_id=st.none() | st.just("g"),
    node=st.none() | st.just("n"),
    older_than_s=st.none() | st.sampled_from([0, 2 * 3600 + 1800]),
    younger_than_s=st.none() | st.sampled_from([1800, 3 * 3600 + 1800]),
)


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    yield made
    made.close()


def dead(bench: Bench, *, graph_id: str = "g", tenant: str = "", node: str = "n", hours: int = 0) -> Run:
    """A dead letter that failed so many hours ago."""
    run = bench.create(graph_id=graph_id, tenant=tenant)
    bench.end(run, bench.claimed(run).fence, Phase.FAILED, error={"error": "E", "message": "m", "node": node})
    ended = bench.get(run)
    assert ended is not None
    assert ended.ended_at is not None
    at = ended.ended_at - hours * HOUR_MS
    bench.client.hset(bench.at.run(run.run_id), "ended_at", at)
    for key in (bench.at.dead, bench.at.dead_of(tenant)):
        bench.client.zadd(key, {run.run_id: at}, xx=True)
    return run


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LETTERS, FILTERS, st.sampled_from([None, "", "acme"]), st.integers(0, 4), st.integers(1, 5))
def test_every_page_is_that_of_all_letters_sorted(
    bench: Bench, letters: list[Any], wanted: Filter, tenant: str | None, offset: int, limit: int
) -> None:
    bench.client.flushdb()
    made = [
        dead(bench, graph_id=graph, tenant=whose, node="n" if fits else "m", hours=hours)
        for graph, whose, hours, fits in letters
    ]
    service = bench.service if tenant is None else bench.service.of(tenant)
    now_ms = max((run.created_at for run in made), default=0) + 1000
    known = [run for run in (bench.get(run) for run in made) if run is not None and service.sees(run)]
    expected = sorted(
        (run for run in known if wanted.takes(run, now_ms)), key=lambda run: (run.ended_at, run.run_id), reverse=True
    )
    found, total = DeadLetters(service).search(wanted, limit=limit, offset=offset)
    assert [run.run_id for run in found] == [run.run_id for run in expected[offset : offset + limit]]
    counted = DeadLetters(service).count(wanted)
    assert counted == len(expected)
    assert total in (counted, min(counted, offset + limit + 1))


def test_a_page_of_many_letters_reads_no_more_records_than_one_of_few(bench: Bench) -> None:
    letters, read = DeadLetters(bench.service), []
    for count in (30, 270):
        for _ in range(count):
            dead(bench)
        bench.client.config_resetstat()
        found, total = letters.search(limit=10)
        said: Any = bench.client.info("commandstats")
        read.append((said["cmdstat_hgetall"]["calls"], len(found)))
        assert total == bench.client.zcard(bench.at.dead)
    assert read[0] == read[1] == (11, 10)


def test_a_letter_that_fails_while_pages_are_read_makes_none_come_twice(bench: Bench) -> None:
    made = {dead(bench, hours=1).run_id for _ in range(60)}
    reading = dead_search.newest(bench.service, Filter(), first=5)
    found = [run.run_id for run in islice(reading, 5)]
    for _ in range(10):
        dead(bench)
    found += [run.run_id for run in reading]
    assert len(found) == len(set(found))
    assert made <= set(found)


def test_what_has_something_to_tell_yet_stays_in_its_place_for_its_tenant(bench: Bench) -> None:
    old, new = dead(bench, hours=5), dead(bench, hours=1)
    bench.do(recovery.keep(bench.keys, old.run_id))
    found, _ = DeadLetters(bench.service.of("")).search(Filter(older_than_s=4 * 3600))
    assert [run.run_id for run in found] == [old.run_id]
    found, total = DeadLetters(bench.service).search(Filter(older_than_s=4 * 3600))
    assert ([run.run_id for run in found], total) == ([old.run_id], 1)
    assert [run.run_id for run in DeadLetters(bench.service.of("")).search()[0]] == [new.run_id, old.run_id]
    assert bench.do(runs.is_dead(bench.keys, new.run_id))
