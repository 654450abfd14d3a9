"""Recovery: what keeps a run from waiting for ever. It runs inside every worker; one process at a time leads.

A sweep promotes what is due, takes expired leases back, sends lost wake-ups again and prunes what is past keeping.
All of it may happen twice or be cut off at any point: each step is one script, and a wake-up too many does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace

import structlog

from runyard.engine import metrics, thread_service, webhooks
from runyard.engine.crons import Crons, Firing
from runyard.engine.errors import StoreUnavailable
from runyard.engine.record import ids_of
from runyard.engine.run import Phase, Wake
from runyard.engine.saver import RedisSaver
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store import limits, recovery as calls, runs, webhooks as webhook_calls
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys, Partition
from runyard.engine.store.plans import carry_out
from runyard.engine.worker import OnDeath

log = structlog.get_logger(__name__)

#: How long the leader may be silent before another process takes over.
OFFICE_S = 3.0
_BATCH = 500
#: How long a worker is given to end an overdue run itself; after that its loop is blocked, and it is fenced off.
_GRACE_MS = 5_000

SendWakes = Callable[[Sequence[Wake]], None]
#: How many messages wait in a queue of the broker; None when that cannot be known now.
Depth = Callable[[str], int | None]


class Recovery:
    """One per worker process. ``queue_depth`` asks the broker; ``wake`` sends wake-ups and may fail."""

    def __init__(
        self, store: SyncStore, keys: Keys, saver: RedisSaver, settings: Settings, worker_id: str,
        wake: SendWakes, queue_depth: Depth, on_death: tuple[OnDeath, ...] = (),
        firing: Firing = lambda _: nullcontext(""),
    ) -> None:  # fmt: skip
        """``on_death``: told of every run whose time is over, with what it ended with. ``firing``: see Crons."""
        self._store, self._keys, self._saver, self._settings = store, keys, saver, settings
        self._worker_id, self._wake, self._depth = worker_id, wake, queue_depth
        self._on_death = on_death
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
        self._prune_after_ms = 0
        self._slack_ms = round(settings.rewake_s * 1000)
        #: Queues that something waits for, whether or not anybody ever consumed them.
        self._queues = {settings.queue}
        self._crons = Crons(Service(store, keys, settings, wake), firing=firing)
        #: Whether this process led at the last sweep.
        self.leads = False
        #: How far each partition's waiting was looked through.
        self._skip: dict[int, int] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop and lay down the office, so that another process leads at once."""
        self._stopping.set()
        self._thread.join(timeout=5)
        with suppress(StoreUnavailable):  # then the office ends by itself
            self._store.do(calls.resign(self._keys, self._worker_id))

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.sweep_s):
            try:
                self.sweep()
            except StoreUnavailable as error:
                log.warning("recovery.store_away", error=str(error))
            except Exception:  # recovery must outlive whatever a single sweep met: nothing else brings runs back
                log.exception("recovery.sweep_failed")

    def sweep(self) -> list[Wake]:
        """Do one sweep if this process leads; answers the wake-ups it sent."""
        leads, now_ms = self._store.do(calls.lead(self._keys, self._worker_id, office_ms=round(OFFICE_S * 1000)))
        self.leads = leads
        if not leads:
            return []
        todo = self._look_around(now_ms)
        woken, limited = self._sweep(now_ms, todo)
        wakes = self._named([_wake(member, queue) for member, queue in woken if queue]) + self._tell(todo)
        if wakes:
            log.info("recovery.woke", runs=[wake.run_id for wake in wakes][:20], count=len(wakes))
            self._wake(wakes)
        self._serve(limited)
        self._expire(now_ms, [at for at, one in todo.items() if one.deadlines])
        self._crons.sweep(now_ms)
        self._prune(now_ms)
        return wakes

    def _expire(self, now_ms: int, among: Sequence[Partition]) -> None:
        """End runs whose deadline has passed: at once those that no worker has, after a grace those that one has."""
        for batch in self._store.do_all([calls.overdue(at, now_ms, most=_BATCH) for at in among]):
            for run_id in batch:
                if run := self._store.do(runs.get(self._keys, run_id)):
                    ttl_ms = self._settings.keep_events_s * 1000
                    ended, following = self._store.do(
                        runs.expire(self._keys, run, grace_ms=_GRACE_MS, events_ttl_ms=ttl_ms)
                    )
                    if ended:
                        metrics.inc("runyard_run_ends_total", run.graph_id, str(Phase.TIMED_OUT))
                        log.warning("run.timed_out", **ids_of(run))
                        for tell in self._on_death:
                            tell(run, runs.TIMED_OUT, None)
                    told = [webhooks.wake_of(run_id, run.queue)] if ended and run.request.webhook else []
                    self._wake([*(_wake(member, queue) for member, queue in following), *told])

    def _named(self, wakes: list[Wake]) -> list[Wake]:
        """The same, with their graphs' names for people."""
        found = self._store.do_all([runs.graph_id(self._keys, wake.run_id) for wake in wakes]) if wakes else []
        return [replace(wake, label=name) for wake, name in zip(wakes, found, strict=True)]

    def _tell(self, todo: Mapping[Partition, calls.ToDo]) -> list[Wake]:
        """Wake-ups for webhooks whose time has come."""
        among = [at for at, one in todo.items() if one.webhooks]
        found = self._store.do_all([webhook_calls.wake(at, most=_BATCH) for at in among])
        return [webhooks.wake_of(run_id, queue) for batch in found for run_id, queue in batch]

    def _look_around(self, now_ms: int) -> dict[Partition, calls.ToDo]:
        """What there is to do, by partition: one script for each, and most often none after it."""
        partitions = self._keys.all()
        before_ms = now_ms - self._slack_ms
        found = self._store.do_all([calls.look_around(at, before_ms=before_ms) for at in partitions])
        return dict(zip(partitions, found, strict=True))

    def _sweep(self, now_ms: int, todo: Mapping[Partition, calls.ToDo]) -> tuple[runs.Woken, list[str]]:
        due, cuts, leases, waiting = (
            [at for at, one in todo.items() if getattr(one, name)] for name in ("due", "cuts", "leases", "waiting")
        )
        lost_before, before_ms = self._lost_before(now_ms) if waiting else {}, now_ms - self._slack_ms
        self._skip = {at.number: self._skip.get(at.number, 0) for at in waiting}
        answers = self._store.do_all(
            [calls.promote(at, most=_BATCH) for at in due]
            + [calls.cut(self._keys, at, most=_BATCH) for at in cuts]
            + [calls.reap(at, most=_BATCH) for at in leases]
            + [
                calls.find_lost(at, lost_before, before_ms=before_ms, most=_BATCH, skip=self._skip[at.number])
                for at in waiting
            ]
            + [limits.known(self._keys)]
        )
        others = len(due) + len(cuts) + len(leases)
        reaped: list[runs.Woken] = answers[others - len(leases) : others]
        metrics.inc("runyard_leases_recovered_total", by=sum(map(len, reaped)))
        lost: list[calls.Lost] = answers[others:-1]
        for at, found in zip(waiting, lost, strict=True):
            self._skip[at.number] = found.skip
            self._queues.update(found.unknown)
        batches = answers[:others] + [found.woken for found in lost]
        return [pair for batch in batches for pair in batch], answers[-1]

    def _serve(self, names: Sequence[str]) -> None:
        """Give the room there is in limits to parked runs: a worker that died gives nothing back itself, and time
        alone makes room where there is a rate."""
        given = self._store.do_all([limits.give(self._keys, name) for name in names]) if names else []
        for name, some in zip(names, given, strict=True):
            if wakes := carry_out(limits.hand_on(self._keys, name, some), self._store):
                self._wake(wakes)

    def _lost_before(self, now_ms: int) -> dict[str, int]:
        """For each queue in use, the ms before which a wake-up that nobody has claimed is lost.

        Queues are first in, first out: what is clearly older than the newest that was consumed will not come any more.
        When a queue is empty, and no worker has taken more from it than it can act on, nothing is on its way at all. A
        long queue that nobody consumes is a backlog, not a loss.
        """
        consumed, holding = self._store.do_all([calls.consumed(self._keys), calls.holding(self._keys)])
        held = {queue for queue, until_ms in holding.items() if until_ms > now_ms}
        return {
            queue: (now_ms if queue not in held and self._depth(queue) == 0 else newest) - self._slack_ms
            for queue, newest in {**dict.fromkeys(self._queues, 0), **consumed}.items()
        }

    def _prune(self, now_ms: int) -> None:
        """Forget runs past their keeping, and finish roll-backs that were cut off."""
        if now_ms < self._prune_after_ms:
            return
        self._prune_after_ms = now_ms + 5_000
        partitions = self._keys.all()
        cut_off = self._store.do_all([calls.rollbacks(at, now_ms - 5_000) for at in partitions])
        for run_id in (run_id for batch in cut_off for run_id in batch):
            self._saver.delete_for_runs([run_id])
            self._delete(run_id)
        thread_service.sweep(self._store, self._keys, self._saver, now_ms)
        if keep_ms := self._settings.keep_runs_s * 1000:
            ended = self._store.do_all([calls.ended(at, now_ms - keep_ms, most=_BATCH) for at in partitions])
            for run_id in (run_id for batch in ended for run_id in batch):
                self._delete(run_id)
        if keep_ms := self._settings.keep_dead_s * 1000:
            dead = self._store.do_all([calls.dead(at, now_ms - keep_ms, most=_BATCH) for at in partitions])
            for run_id in (run_id for batch in dead for run_id in batch):
                log.warning("dead_letter.pruned", run_id=run_id, kept_s=self._settings.keep_dead_s)
                self._delete(run_id)

    def _delete(self, run_id: str) -> None:
        run = self._store.do(runs.get(self._keys, run_id))
        if run is not None and run.delivery is not None and run.delivery.state == "pending":
            self._store.do(calls.keep(self._keys, run_id))
            return
        thread_id = run.thread_id if run else ""
        if run is not None and run.temporary:  # its worker removes them too, unless it died in between
            self._saver.delete_thread(thread_id)
        following = self._store.do(runs.delete(self._keys, run_id, thread_id))
        self._wake([_wake(member, queue) for member, queue in following])


def _wake(member: str, queue: str) -> Wake:
    run_id, branch = runs.split_member(member)
    return Wake(run_id=run_id, queue=queue, branch=branch)
