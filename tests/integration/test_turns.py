"""Whose turn it is: tenants take turns, and of a tenant's runs those of a higher priority go first."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from runyard.engine.run import Phase, Run
from runyard.engine.store import runs
from tests.support.store import Bench


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    yield made
    made.close()


def taken(bench: Bench, run: Run) -> str | None:
    """The run that this one's wake-up leads to."""
    claim = bench.claim(run)
    return claim.run.run_id if claim else None


def queued(bench: Bench, count: int, **fields: Any) -> list[Run]:
    return [bench.create(**fields) for _ in range(count)]


@pytest.mark.parametrize(("many", "one"), [("acme", "zoo"), ("zoo", "acme"), ("", "acme"), ("acme", "")])
def test_one_tenant_with_ten_thousand_runs_does_not_hold_up_anothers_first(bench: Bench, many: str, one: str) -> None:
    crowd = queued(bench, 1000, tenant=many)  # ten thousand take as long, and the thousandth wake-up is not looked at
    [first] = queued(bench, 1, tenant=one)
    order = [taken(bench, run) for run in crowd[:10]]
    assert first.run_id in order[:2]
    made_at = {run.run_id: run.created_at for run in crowd}
    theirs = [made_at[run_id or ""] for run_id in order if run_id != first.run_id]
    assert theirs == sorted(theirs), "theirs keep their order"
    assert len(theirs) == 9
    made_way = taken(bench, first)  # runs of the same ms have no order among them
    assert made_at[made_way or ""] <= crowd[9].created_at, "its own wake-up is spent on the one that made way"


def test_two_busy_tenants_take_turns(bench: Bench) -> None:
    acme, zoo = queued(bench, 20, tenant="acme"), queued(bench, 20, tenant="zoo")
    whose = {run.run_id: run.tenant for run in [*acme, *zoo]}
    order = [whose[taken(bench, run) or ""] for run in acme[:20]]
    assert abs(order.count("acme") - order.count("zoo")) <= 1
    assert all(order[i : i + 4].count("zoo") >= 1 for i in range(16))


def test_a_higher_priority_goes_first_and_a_lower_one_last(bench: Bench) -> None:
    low, *plain = [bench.create(priority=-5), *queued(bench, 3)]
    high = bench.create(priority=5)
    order = [taken(bench, run) for run in (plain[0], plain[1], plain[2], high, low)]
    assert (order[0], order[-1]) == (high.run_id, low.run_id)
    assert set(order[1:-1]) == {run.run_id for run in plain}  # those of one millisecond go in any order


def test_a_priority_is_nothing_to_other_tenants(bench: Bench) -> None:
    urgent = queued(bench, 10, tenant="acme", priority=100)
    [plain] = queued(bench, 1, tenant="zoo")
    assert plain.run_id in [taken(bench, run) for run in urgent[:2]]


def test_without_tenants_and_priorities_a_wake_up_is_for_its_own_run_and_nothing_is_kept(bench: Bench) -> None:
    crowd = queued(bench, 5)
    assert [taken(bench, run) for run in reversed(crowd)] == [run.run_id for run in reversed(crowd)]
    assert not bench.client.keys("*line*")


def test_a_claim_that_is_asked_for_again_gives_the_same_run(bench: Bench) -> None:
    crowd = queued(bench, 3, tenant="acme")
    [first] = queued(bench, 1, tenant="zoo")
    taken(bench, crowd[0])
    nonce = secrets.token_hex(4)
    claims = [bench.claim(crowd[1], nonce=nonce) for _ in range(2)]
    assert [claim.run.run_id for claim in claims if claim] == [first.run_id] * 2
    assert claims[0] is not None
    assert claims[1] is not None
    assert claims[0].fence == claims[1].fence


def test_a_run_that_there_is_room_for_now_goes_before_the_backlog(bench: Bench) -> None:
    [parked, *crowd] = queued(bench, 5)
    claim = bench.claimed(parked)
    bench.do(runs.park(bench.keys, parked.run_id, claim.fence, 60_000, []))
    _, queue = bench.do(runs.unpark(bench.keys, parked.run_id))
    assert queue == "default"
    order = [taken(bench, run) for run in crowd[:3]]
    assert order[0] == parked.run_id
    made_at = {run.run_id: run.created_at for run in crowd}
    others = [*order[1:], taken(bench, parked)]
    assert len(set(others)) == 3
    times = [made_at[run_id or ""] for run_id in others]
    assert times == sorted(made_at.values())[:3], "theirs keep their order; those of one millisecond have none"


def test_what_left_the_line_by_another_way_is_passed_over(bench: Bench) -> None:
    crowd = queued(bench, 3, tenant="acme")
    gone, stays = queued(bench, 2, tenant="zoo")
    bench.cancel(gone)
    order = [taken(bench, run) for run in crowd[:2]]
    assert stays.run_id in order
    assert gone.run_id not in order


STORY = st.lists(
    st.tuples(
        st.sampled_from(["create", "create", "wake", "wake", "yield", "cancel", "again"]),
        st.sampled_from(["", "acme", "zoo"]),
        st.sampled_from([0, 0, 0, 3, -3]),
        st.integers(0, 50),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STORY)
def test_in_every_story_each_run_is_taken_once_and_the_wake_ups_suffice(  # noqa: C901 - one deed each
    bench: Bench, story: list[Any]
) -> None:
    bench.client.flushall()
    wakes: list[Run] = []
    in_hand: dict[str, Any] = {}
    over: set[str] = set()

    def wake(run: Run) -> None:
        claim = bench.claim(run)
        if claim:
            assert claim.run.run_id not in in_hand, "taken twice"
            assert claim.run.run_id not in over
            in_hand[claim.run.run_id] = claim

    for what, tenant, priority, which in story:
        if what == "create":
            wakes.append(bench.create(tenant=tenant, priority=priority))
        elif what == "wake" and wakes:
            wake(wakes.pop(0))
        elif what == "again" and wakes:  # a message that came twice
            wake(wakes[which % len(wakes)])
        elif what == "yield" and in_hand:
            claim = in_hand.pop(sorted(in_hand)[which % len(in_hand)])
            bench.do(runs.give_back(bench.keys, claim.run.run_id, claim.fence))
            wakes.append(claim.run)
        elif what == "cancel" and wakes:
            run = wakes[which % len(wakes)]
            if bench.phase(run) is Phase.WAITING:
                bench.cancel(run)
                over.add(run.run_id)
    for run in wakes:
        wake(run)
    left = {member.decode() for member in bench.client.zrange(bench.at.waiting, 0, -1)}
    lost = [run_id for run_id in left if not over]
    assert not lost, "a cancelled run may take a wake-up with it, and recovery finds who needs one; else all suffice"
