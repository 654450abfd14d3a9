"""The protocol of runs under workers that crash, stall, wake late and repeat themselves between any two calls.

Hypothesis makes up stories; the scripts are the real ones, on a real server. Time moves by backdating. After every step
the whole store is read and must make sense, and at the end of every story recovery alone must bring everything home.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from runyard.engine.errors import InvalidTransition, LeaseLost, RunNotFound, ThreadBusy, ThreadNotFound
from runyard.engine.recovery import Recovery
from runyard.engine.run import ACTIVE, LEASED, TERMINAL, Phase, Run, RunRequest, Wake
from runyard.engine.store import recovery as recovery_calls, runs
from runyard.engine.store.client import Call
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.fence import Fence
from runyard.engine.store.scripts import script
from tests.support.store import EVENTS_TTL_MS, Bench, branches

THREADS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(2)]
STRATEGIES = st.sampled_from(["enqueue", "enqueue", "enqueue", "reject", "interrupt", "rollback"])
ACTIONS = st.sampled_from(["interrupt", "rollback"])
SOME = st.integers(0, 1000)
#: What a worker does with what it has in hand; a branch takes some of the words differently.
DEEDS = st.sampled_from(
    ["write", "tell", "tell", "yield", "branches", "branches", "end", "pause", "fail", "branch", "park"]
)
MAX_HANDS = 8

MAX_EXAMPLES = int(os.environ.get("RUNYARD_TEST_STORIES", "50"))


@dataclass(eq=False)
class Hand:
    """A worker with a run, or a branch of one, in hand. It may have lost it long ago and not know."""

    run: Run
    fence: Fence
    branch: str | None
    told: int = 0
    last: Call[Any] | None = None


class Runs(RuleBasedStateMachine):
    """No rule has a precondition: what Hypothesis draws must follow from what it drew before, and the store's clock and
    the ids of runs have a say in who waits, leads and is alive. A rule that has nothing to do does nothing, or gets
    itself a run."""

    redis_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(self.redis_url, partitions=2, keep_runs_s=0)
        self.bench.client.flushall()
        self.service, self.wakes = self.bench.service, self.bench.wakes
        self.service.roll_back_s = 0  # its workers act when told to, and never while it waits
        self.depth: int | None = None
        self.leaders = [self.bench.recovery(name, depth=lambda _: self.depth) for name in ("one", "two")]
        self.hands: list[Hand] = []
        self.accepted: dict[str, Run] = {}
        self.may_go: set[str] = set()
        self.tokens: dict[str, int] = defaultdict(int)
        self.final: dict[str, Phase] = {}

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.bench.close()

    # --- clients

    @rule(thread=st.sampled_from(THREADS), strategy=STRATEGIES, delayed=st.booleans())
    def post(self, thread: str, strategy: Any, delayed: bool) -> None:
        if strategy == "rollback":
            self.may_go.update(run.run_id for run in self.accepted.values() if run.thread_id == thread)
        try:
            run = self.service.create_run(
                RunRequest(), graph_id="g", assistant_id="g", thread_id=thread, strategy=strategy, create_thread=True,
                after_s=60 if delayed else 0,
            )  # fmt: skip
        except ThreadBusy:
            assert strategy == "reject"
        else:
            self.accepted[run.run_id] = run

    @rule()
    def post_stateless(self) -> None:
        run = self.service.create_run(RunRequest(), graph_id="g", assistant_id="g")
        self.accepted[run.run_id] = run

    @rule(which=SOME, action=ACTIONS, cut_off=st.booleans())
    def cancel(self, which: int, action: Any, cut_off: bool) -> None:
        if not self.accepted:
            return
        run = self.some(list(self.accepted.values()), which)
        if action == "rollback":
            self.may_go.add(run.run_id)
        try:
            if cut_off:  # the web process dies after its first call
                self.bench.cancel(run, action)
            else:
                self.service.cancel_run(run, action)
        except (InvalidTransition, RunNotFound):
            pass

    def delete_run(self, run: Run) -> None:
        self.may_go.add(run.run_id)
        self.service.delete_run(run)
        assert self.bench.get(run) is None

    def delete_thread(self, thread: str) -> None:
        self.may_go.update(run.run_id for run in self.accepted.values() if run.thread_id == thread)
        try:
            self.service.delete_thread(thread)
        except ThreadNotFound:
            return
        assert not any(thread in key for key in self.bench.dump() if not key.endswith(":events"))

    # --- the broker, and workers

    @rule(which=SOME, doubled=st.booleans(), deeds=st.lists(DEEDS, max_size=3), lost_replies=st.booleans())
    def deliver(self, which: int, doubled: bool, deeds: list[str], lost_replies: bool) -> None:
        """A worker takes a message and gets some way with it; it is left there for later, or for ever."""
        if not self.wakes:
            self.post_stateless()
        wake = self.some(self.wakes, which)
        if not doubled:
            self.wakes.remove(wake)
        if hand := self.take(wake):
            self.hands = [*self.hands, hand][-MAX_HANDS:]
            for deed in deeds:
                self.work(hand, deed)
                if lost_replies:
                    self.repeat(hand)

    @rule(which=SOME, deed=DEEDS, lost_reply=st.booleans())
    def go_on(self, which: int, deed: str, lost_reply: bool) -> None:
        if not self.hands:
            return
        hand = self.some(self.hands, which)
        self.work(hand, deed)
        if lost_reply:
            self.repeat(hand)

    @rule(which=SOME, deeds=st.lists(DEEDS, min_size=1, max_size=2), taken_over=st.booleans())
    def wake_late(self, which: int, deeds: list[str], taken_over: bool) -> None:
        """A worker stalls past its lease, somebody else may have the run by then, and goes on as if nothing was."""
        if not (live := [hand for hand in self.hands if self.is_live(hand.fence)]):
            return
        hand = self.some(live, which)
        at = self.bench.keys.of_run(hand.run.run_id)
        member = runs.member_of(hand.run.run_id, hand.branch)
        self.bench.backdate(at.leases, member)
        woken = dict(self.bench.do(recovery_calls.reap(at, most=100)))  # perhaps others too, whose time was up before
        wake = Wake(run_id=hand.run.run_id, queue=woken.pop(member), branch=hand.branch)
        if taken_over and (other := self.take(wake)):
            self.hands = [*self.hands, other][-MAX_HANDS:]
        else:
            self.wakes.append(wake)
        for one, queue in woken.items():
            run_id, branch = runs.split_member(one)
            self.wakes.append(Wake(run_id=run_id, queue=queue, branch=branch))
        for deed in deeds:
            self.work(hand, deed)

    @rule(which=SOME)
    def repeat_late(self, which: int) -> None:
        """As a lost reply, but others came in between."""
        if self.hands:
            self.repeat(self.some(self.hands, which))

    @rule(which=SOME, kind=st.sampled_from(["drop", "crash", "delete_run", "delete_thread", "resign", "renew"]))
    def something_happens(self, which: int, kind: str) -> None:
        if kind == "drop" and self.wakes:
            self.wakes.remove(self.some(self.wakes, which))
        elif kind == "crash" and self.hands:
            self.hands.remove(self.some(self.hands, which))
        elif kind == "delete_run" and self.accepted:
            self.delete_run(self.some(list(self.accepted.values()), which))
        elif kind == "delete_thread":
            self.delete_thread(self.some(THREADS, which))
        elif kind == "resign":
            self.bench.do(recovery_calls.resign(self.bench.keys, self.some(["one", "two"], which)))
        elif kind == "renew" and self.hands:
            self.renew(self.some(self.hands, which))

    def work(self, hand: Hand, deed: str) -> None:
        if hand.branch:
            self.work_on_branch(hand, deed)
        else:
            self.work_on_run(hand, deed)

    def repeat(self, hand: Hand) -> None:
        """A reply was lost, and the driver sends the script again."""
        if hand.last is None:
            return
        before = self.dump()
        with contextlib.suppress(LeaseLost):
            self.bench.do(hand.last)
        assert self.dump() == before

    def renew(self, hand: Hand) -> None:
        live = self.is_live(hand.fence)
        member = runs.member_of(hand.run.run_id, hand.branch)
        number = self.bench.keys.of_run(hand.run.run_id).number
        [answer] = self.bench.do(runs.renew(self.bench.keys, number, [(member, hand.fence)], lease_ms=60_000))
        assert (answer != 0) == live

    # --- time

    @rule(
        index=st.sampled_from(["leases", "waiting", "due", "rollbacks"]),
        which=SOME,
        depth=st.sampled_from([None, 0, 5]),
    )
    def time_passes(self, index: str, which: int, depth: int | None) -> None:
        """For one member of an index; then recovery sweeps, if the one that is asked leads."""
        for at in self.bench.keys.all():
            if members := self.bench.client.zrange(getattr(at, index), 0, -1):
                self.bench.backdate(getattr(at, index), self.some(members, which).decode())
        self.sweep(which % 2, depth, prunes=index == "rollbacks")

    @rule(which=SOME, branch=st.sampled_from([None, None, "b0", "b1"]))
    def room_is_made(self, which: int, branch: str | None) -> None:
        """For any run, whether it waits for room or not: a waiter that is told too often does no harm."""
        if self.accepted:
            run_id = self.some(sorted(self.accepted), which)
            _, queue = self.bench.do(runs.unpark(self.bench.keys, runs.member_of(run_id, branch)))
            if queue:
                self.wakes.append(Wake(run_id=run_id, queue=queue, branch=branch))

    def sweep(self, leader: int, depth: int | None, *, prunes: bool) -> None:
        self.depth = depth
        recovery: Recovery = self.leaders[leader]
        recovery._prune_after_ms = 0 if prunes else 2**60
        recovery.sweep()

    # --- what workers do

    def take(self, wake: Wake) -> Hand | None:
        """Claim, and check that it was right to be given, or right to be refused."""
        before = self.bench.get(wake.run_id)
        claim: Any
        if wake.branch:
            claim = self.bench.claim_branch(wake.run_id, wake.branch)
        else:
            claim = self.bench.claim(wake.run_id)
            waited = before is not None and before.phase is Phase.WAITING
            assert claim is not None or not waited
            assert claim is None or waited or claim.run.run_id != wake.run_id, "taken though it did not wait"
        if claim is None:
            return None
        self.bench.do(Call(script("note_consumed"), (self.bench.keys.queues,), (wake.queue, claim.woken_ms)))
        token = int(claim.fence.value)
        assert token > self.tokens[claim.run.run_id]
        self.tokens[claim.run.run_id] = token
        return Hand(claim.run, claim.fence, wake.branch)

    def is_live(self, fence: Fence) -> bool:
        return self.bench.client.hget(fence.key, fence.field) == fence.value.encode()

    def fenced(self, hand: Hand, call: Call[Any]) -> Any:
        """Send a fenced call: it is applied if and only if the hand still holds its lease."""
        live, before = self.is_live(hand.fence), self.dump()
        try:
            answer = self.bench.do(call)
        except LeaseLost:
            assert not live
            assert self.dump() == before
            return None
        if not live:  # it did this before, and is told so again
            assert self.dump() == before
            return None
        hand.last = call
        return answer

    def work_on_run(self, hand: Hand, what: str) -> None:
        run, keys = hand.run, self.bench.keys
        if what == "write":
            self.fenced(hand, runs.set_fields(keys, run.run_id, hand.fence, {"marker": hand.fence.value}))
        elif what == "tell":
            self.tell(hand)
        elif what == "yield":
            self.give_up_lease(hand, runs.give_back(keys, run.run_id, hand.fence))
        elif what == "park":
            self.give_up_lease(hand, runs.park(keys, run.run_id, hand.fence, 60_000, [{"name": "api"}]))
        elif what in ("branch", "branches"):
            self.dispatch(hand, ["cpu", "gpu", "cpu"][: 1 if what == "branch" else 3])
        else:
            phase = {"end": Phase.SUCCEEDED, "pause": Phase.PAUSED, "fail": Phase.FAILED}[what]
            self.end(hand, phase)

    def give_up_lease(self, hand: Hand, call: Call[str]) -> None:
        if (state := self.fenced(hand, call)) == "waiting":
            self.wakes.append(Wake(run_id=hand.run.run_id, queue=hand.run.queue))
        elif state == "cancelling":
            self.end_cancelled(hand)

    def work_on_branch(self, hand: Hand, what: str) -> None:
        run, keys, name = hand.run, self.bench.keys, hand.branch or ""
        if what == "write":
            self.fenced(hand, runs.set_fields(keys, run.run_id, hand.fence, {"marker": hand.fence.value}))
        elif what == "tell":
            self.tell(hand)
        elif what == "yield":
            if queue := self.fenced(hand, runs.return_branch(keys, run.run_id, name, hand.fence)):
                self.wakes.append(Wake(run_id=run.run_id, queue=queue, branch=name))
        elif what == "park":
            if queue := self.fenced(
                hand, runs.park_branch(keys, run.run_id, name, hand.fence, 60_000, [{"name": "api"}])
            ):
                self.wakes.append(Wake(run_id=run.run_id, queue=queue, branch=name))
        else:
            ended = self.fenced(hand, runs.end_branch(keys, run.run_id, name, hand.fence, None))
            if ended is not None and ended[0] == 0:
                self.wakes.append(Wake(run_id=run.run_id, queue=ended[1]))

    def tell(self, hand: Hand) -> None:
        live = self.is_live(hand.fence)
        self.fenced(hand, self.bench.told(hand.run, hand.fence, hand.told, ("updates", b"{}"), ("values", b"{}")))
        hand.told += 1 if live else 0

    def dispatch(self, hand: Hand, queues: list[str]) -> None:
        parts = branches(*queues)
        state = self.fenced(hand, runs.dispatch(self.bench.keys, hand.run.run_id, hand.fence, parts))
        if state == "dispatched":
            self.wakes.extend(Wake(run_id=hand.run.run_id, queue=one.queue, branch=one.name) for one in parts)
        elif state == "cancelling":
            self.end_cancelled(hand)

    def end(self, hand: Hand, phase: Phase, **how: Any) -> None:
        call = runs.end(self.bench.keys, hand.run, hand.fence, phase, events_ttl_ms=EVENTS_TTL_MS, **how)
        for run_id, queue in self.fenced(hand, call) or []:
            self.wakes.append(Wake(run_id=run_id, queue=queue))

    def end_cancelled(self, hand: Hand) -> None:
        current = self.bench.get(hand.run)
        self.end(hand, Phase.CANCELLED, hold_thread=bool(current and current.cancel == "rollback"))
        # The roll-back itself is left to recovery: this worker dies here.

    # --- what must be so after every step

    def dump(self) -> dict[str, Any]:
        """All that lasts: not the leader's office, nor the last words of runs that are gone."""
        found = self.bench.dump()
        gone = {key for key in found if key.endswith(":events") and key.removesuffix(":events") not in found}
        return {key: value for key, value in found.items() if key not in {self.bench.keys.leader, *gone}}

    @invariant()
    def the_store_makes_sense(self) -> None:
        found = self.dump()
        stored: dict[str, dict[str, str]] = {}
        for at in self.bench.keys.all():
            stored |= Look(found, at.tag).check()
        for run_id in self.accepted:
            assert run_id in stored or run_id in self.may_go, f"{run_id} was accepted and is gone"
        for run_id, fields in stored.items():
            assert int(fields.get("token", 0)) >= self.tokens[run_id]
            assert self.final.get(run_id, fields["phase"]) == fields["phase"], "a final run moved"
            if fields["phase"] in TERMINAL:
                self.final[run_id] = Phase(fields["phase"])

    def everything_ends(self) -> None:
        """The last part of every story: all workers and messages are gone, and a fleet that works takes over."""
        self.hands.clear()
        self.wakes.clear()
        self.depth = 0
        for name in ("one", "two"):
            self.bench.do(recovery_calls.resign(self.bench.keys, name))
        for _ in range(60):
            for at in self.bench.keys.all():
                for index in (at.leases, at.waiting, at.due, at.rollbacks):
                    self.bench.age_all(index)
            self.sweep(0, 0, prunes=True)
            while self.wakes:
                if hand := self.take(self.wakes.pop()):
                    self.see_through(hand)
            self.the_store_makes_sense()
            if self.is_at_rest():
                return
        raise AssertionError(f"never came to rest: {self.dump()}")

    def see_through(self, hand: Hand) -> None:
        current = self.bench.get(hand.run)
        if current and current.cancel:
            self.end_cancelled(hand)
        else:
            self.work(hand, "end")

    def is_at_rest(self) -> bool:
        left = [key for key in self.dump() if key.split(":")[-1] in ("leases", "waiting", "due", "rollbacks", "queue")]
        return not left and all(
            run.phase in TERMINAL for run_id in self.accepted if (run := self.bench.get(run_id)) is not None
        )

    @staticmethod
    def some(items: list[Any], which: int) -> Any:
        return items[which % len(items)]


class Look:
    """One partition, read at one moment: the phase of each run says in which one index it must be."""

    def __init__(self, found: dict[str, Any], tag: str) -> None:
        self.tag = tag
        self.found = {key.removeprefix(f"{tag}:"): value for key, value in found.items() if key.startswith(f"{tag}:")}
        self.runs = {key.split(":")[1]: self.fields(key) for key in self.found if self.is_hash_of("run", key)}
        self.threads = {key.split(":")[1]: self.fields(key) for key in self.found if self.is_hash_of("thread", key)}
        self.places: dict[str, list[str]] = defaultdict(list)
        for index in ("leases", "waiting", "due"):
            for member in self.members(index):
                self.places[member].append(index)
        for thread in self.threads:
            for member in self.members(f"thread:{thread}:queue"):
                self.places[member].append("queue")

    @staticmethod
    def is_hash_of(kind: str, key: str) -> bool:
        return key.startswith(f"{kind}:") and key.count(":") == 1

    def fields(self, key: str) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.found.get(key, {}).items()}

    def members(self, index: str) -> list[str]:
        return [member.decode() for member, _ in self.found.get(index, [])]

    def check(self) -> dict[str, dict[str, str]]:
        wanted: dict[str, list[str]] = {}
        for run_id, fields in self.runs.items():
            wanted |= self.places_of(run_id, fields)
            self.check_run(run_id, fields)
        assert dict(self.places) == wanted, "the indexes and the runs do not agree"
        for thread_id, fields in self.threads.items():
            self.check_thread(thread_id, fields)
        over = [*self.members("ended"), *self.members("dead")]
        assert sorted(over) == sorted(r for r, f in self.runs.items() if f["phase"] in TERMINAL)
        return self.runs

    def places_of(self, run_id: str, fields: dict[str, str]) -> dict[str, list[str]]:
        phase = Phase(fields["phase"])
        if phase in LEASED:
            return {run_id: ["leases"]}
        if phase is Phase.DISPATCHED:
            names = self.unfinished_branches(run_id)
            parked = set(self.members("due"))
            rest = {name: "due" if f"{run_id}/{name}" in parked else "waiting" for name in names}
            return {f"{run_id}/{name}": ["leases" if token else rest[name]] for name, token in names.items()}
        place = {Phase.QUEUED: "queue", Phase.DUE: "due", Phase.PARKED: "due", Phase.WAITING: "waiting"}.get(phase)
        return {run_id: [place]} if place else {}

    def unfinished_branches(self, run_id: str) -> dict[str, str]:
        fields = self.fields(f"run:{run_id}:branches")
        names = {name: token for name, token in fields.items() if ":" not in name and name != "left"}
        left = {name: token for name, token in names.items() if token != "done"}
        assert int(fields["left"]) == len(left) > 0
        return left

    def check_run(self, run_id: str, fields: dict[str, str]) -> None:
        phase = Phase(fields["phase"])
        assert ("lease" in fields) == (phase in LEASED)
        assert fields["thread_id"] in self.threads, "a run without its thread"
        active = self.threads[fields["thread_id"]].get("active")
        if phase in ACTIVE - {Phase.QUEUED, Phase.DUE}:
            assert active == run_id, "two runs of one thread at work"
        if phase in (Phase.QUEUED, Phase.DUE):
            assert active != run_id
        if phase is Phase.QUEUED:
            assert active, "queued behind nobody"
        told = [entry[b"e"] for _, entry in self.found.get(f"run:{run_id}:events", [])]
        assert told.count(b"end") == (phase in TERMINAL)
        assert phase in ACTIVE or told[-1] == b"end"

    def check_thread(self, thread_id: str, fields: dict[str, str]) -> None:
        mine = {run_id: run for run_id, run in self.runs.items() if run["thread_id"] == thread_id}
        assert sorted(self.members(f"thread:{thread_id}:runs")) == sorted(mine)
        assert int(fields.get("delayed", 0)) == sum(run["phase"] == Phase.DUE for run in mine.values())
        if active := fields.get("active"):
            assert active in mine, "a thread held by a run that is gone"
            if mine[active]["phase"] in TERMINAL:
                assert active in self.members("rollbacks"), "a thread held by a run that is over"


@pytest.fixture
def quick_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """What a crash of the server itself would lose is not asked here."""
    with EmbeddedServer(tmp_path / "quick", appendfsync="everysec") as running:
        yield running


@pytest.mark.timeout(300)  # 15 s on a quiet machine
def test_no_story_of_crashes_delays_and_repetitions_breaks_the_protocol(quick_server: EmbeddedServer) -> None:
    machine: Callable[[], RuleBasedStateMachine] = type("Story", (Runs,), {"redis_url": quick_server.url})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=MAX_EXAMPLES, stateful_step_count=50, deadline=None, database=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
