"""Every verb against every phase, with the real scripts: what the table allows moves, all else changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from runyard.engine.errors import EngineError
from runyard.engine.run import TERMINAL, TRANSITIONS, Phase, Verb
from runyard.engine.store import recovery, runs
from tests.support.store import Bench, Staged, branches


@pytest.fixture
def bench(redis_url: str) -> Iterator[Bench]:
    made = Bench(redis_url)
    yield made
    made.close()


def admit(bench: Bench, staged: Staged) -> None:
    """A queued run is admitted by the end of the one before it: here that one is deleted."""
    before = bench.service.get_thread(staged.run.thread_id).active
    if before and before != staged.run.run_id:
        bench.do(runs.delete(bench.keys, before, staged.run.thread_id))


def promote(bench: Bench, staged: Staged) -> None:
    bench.backdate(bench.at.due, staged.run.run_id)
    bench.do(recovery.promote(bench.at, most=100))


def claim(bench: Bench, staged: Staged) -> None:
    bench.claim(staged.run)


def give_back(bench: Bench, staged: Staged) -> None:
    bench.do(runs.give_back(bench.keys, staged.run.run_id, staged.fence))


def reclaim(bench: Bench, staged: Staged) -> None:
    bench.backdate(bench.at.leases, staged.run.run_id)
    bench.do(recovery.reap(bench.at, most=100))


def dispatch(bench: Bench, staged: Staged) -> None:
    bench.do(runs.dispatch(bench.keys, staged.run.run_id, staged.fence, branches("cpu")))


def gather(bench: Bench, staged: Staged) -> None:
    for name, fence in staged.branches.items():
        bench.do(runs.end_branch(bench.keys, staged.run.run_id, name, fence, None))


def cancel(bench: Bench, staged: Staged) -> None:
    bench.cancel(staged.run)


def end_as(phase: Phase) -> Callable[[Bench, Staged], None]:
    def end(bench: Bench, staged: Staged) -> None:
        bench.end(staged.run, staged.fence, phase)

    return end


def delay(bench: Bench, staged: Staged) -> None:
    bench.do(runs.delay(bench.keys, staged.run.run_id, staged.fence, 60_000))


def park(bench: Bench, staged: Staged) -> None:
    bench.do(runs.park(bench.keys, staged.run.run_id, staged.fence, 60_000, []))


def unpark(bench: Bench, staged: Staged) -> None:
    bench.do(runs.unpark(bench.keys, staged.run.run_id))


def expire(bench: Bench, staged: Staged) -> None:
    if bench.phase(staged.run) in TRANSITIONS[Verb.EXPIRE][0]:
        bench.client.hset(bench.at.run(staged.run.run_id), "deadline_at", 1)
    bench.do(runs.expire(bench.keys, staged.run, grace_ms=0, events_ttl_ms=60_000))


def revive(bench: Bench, staged: Staged) -> None:
    bench.do(runs.revive(bench.keys, staged.run, {}))


#: How each verb is said to the store. A verb that two scripts say has two entries.
SAID: list[tuple[Verb, str, Callable[[Bench, Staged], None], frozenset[Phase]]] = [
    (Verb.ADMIT, "the run before it is deleted", admit, TRANSITIONS[Verb.ADMIT][0]),
    (Verb.PROMOTE, "promote_due", promote, TRANSITIONS[Verb.PROMOTE][0]),
    (Verb.CLAIM, "claim_run", claim, TRANSITIONS[Verb.CLAIM][0]),
    (Verb.YIELD, "yield_run", give_back, TRANSITIONS[Verb.YIELD][0]),
    (Verb.RECLAIM, "reap_leases", reclaim, TRANSITIONS[Verb.RECLAIM][0]),
    (Verb.DISPATCH, "dispatch_run", dispatch, TRANSITIONS[Verb.DISPATCH][0]),
    (Verb.GATHER, "end_branch", gather, TRANSITIONS[Verb.GATHER][0]),
    (Verb.DELAY, "delay_run", delay, TRANSITIONS[Verb.DELAY][0]),
    (Verb.PARK, "park_run", park, TRANSITIONS[Verb.PARK][0]),
    (Verb.PROMOTE, "unpark", unpark, frozenset({Phase.PARKED})),
    (Verb.EXPIRE, "expire_run", expire, TRANSITIONS[Verb.EXPIRE][0]),
    (Verb.REVIVE, "revive_run", revive, TRANSITIONS[Verb.REVIVE][0]),
    (Verb.REQUEST_CANCEL, "cancel_run", cancel, TRANSITIONS[Verb.REQUEST_CANCEL][0]),
    *(
        (verb, "end_run", end_as(TRANSITIONS[verb][1]), TRANSITIONS[verb][0] & TRANSITIONS[Verb.RECLAIM][0])
        for verb in (Verb.COMPLETE, Verb.PAUSE, Verb.FAIL, Verb.EXPIRE, Verb.CANCEL)
    ),
    (Verb.CANCEL, "cancel_run", cancel, TRANSITIONS[Verb.CANCEL][0] - TRANSITIONS[Verb.RECLAIM][0]),
]
#: cancel_run says two verbs, and what it does depends on the phase.
_CANCEL_RUN = {verb: sources for verb, script, _, sources in SAID if script == "cancel_run"}

MOVES = [
    pytest.param(phase, verb, say, id=f"{phase}-{verb}-by-{script}")
    for verb, script, say, sources in SAID
    for phase in Phase
    if phase in sources
]
#: Telling a run that is at work not to park leaves a mark.
_LEAVES_A_MARK = {("unpark", Phase.LEASED)}
REFUSALS = [
    pytest.param(phase, say, id=f"{phase}-{verb}-by-{script}")
    for verb, script, say, sources in SAID
    for phase in Phase
    if phase not in sources
    and (script, phase) not in _LEAVES_A_MARK
    and not (script == "cancel_run" and phase in frozenset().union(*_CANCEL_RUN.values()))
]


@pytest.mark.parametrize(("phase", "verb", "say"), MOVES)
def test_an_allowed_verb_moves_the_run_as_the_table_says(
    bench: Bench, phase: Phase, verb: Verb, say: Callable[[Bench, Staged], None]
) -> None:
    staged = bench.stage(phase)
    assert bench.phase(staged.run) is phase
    say(bench, staged)
    assert bench.phase(staged.run) is TRANSITIONS[verb][1]


@pytest.mark.parametrize(("phase", "say"), REFUSALS)
def test_any_other_verb_changes_nothing_at_all(
    bench: Bench, phase: Phase, say: Callable[[Bench, Staged], None]
) -> None:
    staged = bench.stage(phase)
    before = bench.dump()
    with contextlib.suppress(EngineError):  # a refusal may say so
        say(bench, staged)
    assert bench.dump() == before


def test_every_verb_of_the_table_is_said_by_some_script() -> None:
    said = {verb: frozenset().union(*(s for v, _, _, s in SAID if v is verb)) for verb in Verb}
    missing = {verb: TRANSITIONS[verb][0] - said[verb] for verb in Verb if TRANSITIONS[verb][0] - said[verb]}
    assert not missing


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_a_final_run_is_final_whatever_is_said_to_it(bench: Bench, phase: Phase) -> None:
    staged = bench.stage(phase)
    for verb, _, say, _ in SAID:
        if verb is not Verb.REVIVE:  # an operator's hand
            with contextlib.suppress(EngineError):
                say(bench, staged)
    assert bench.phase(staged.run) is phase


def test_a_second_request_to_cancel_a_run_in_hand_only_changes_how(bench: Bench) -> None:
    staged = bench.stage(Phase.CANCELLING)
    before = bench.dump()
    assert bench.cancel(staged.run)[0] == "cancelling"
    assert bench.dump() == before
    bench.cancel(staged.run, "rollback")
    found = bench.get(staged.run)
    assert found is not None
    assert (found.phase, found.cancel) == (Phase.CANCELLING, "rollback")


@pytest.mark.parametrize("phase", [Phase.CANCELLING, Phase.WAITING])
def test_a_roll_back_that_was_asked_for_is_not_made_less_of(bench: Bench, phase: Phase) -> None:
    """WAITING: its worker died before it could end the run."""
    staged = bench.stage(Phase.LEASED)
    bench.cancel(staged.run, "rollback")
    if phase is Phase.WAITING:
        bench.age_all(bench.at.leases)
        bench.recovery().sweep()
    assert bench.phase(staged.run) is phase
    bench.service.cancel_run(staged.run, "interrupt")
    found = bench.get(staged.run)
    if phase is Phase.WAITING:
        assert found is None, "rolled back at once"
    else:
        assert found is not None
        assert (found.phase, found.cancel) == (phase, "rollback")


def test_a_roll_back_asked_for_as_the_worker_ends_the_run_is_held_for_recovery(bench: Bench) -> None:
    staged = bench.stage(Phase.CANCELLING)  # its worker has read that it is to be interrupted
    following = bench.create(staged.run.thread_id)
    bench.cancel(staged.run, "rollback")
    assert bench.end(staged.run, staged.fence, Phase.CANCELLED) == []
    bench.age_all(bench.at.rollbacks)
    bench.recovery().sweep()
    assert bench.get(staged.run) is None
    assert [wake.run_id for wake in bench.wakes] == [following.run_id]
