"""What the web and the CLI ask of the engine: create, read, wait for, cancel and delete runs; keep threads.

Synchronous and thread-safe; one per process. Every method is a few round trips and no graph is loaded, except where
one is handed in (:mod:`runyard.engine.state`).
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import structlog

from runyard.engine import metrics, records, thread_search, thread_service, webhooks, wire
from runyard.engine.admission import Admission
from runyard.engine.errors import (
    Conflict,
    InvalidTransition,
    LeaseLost,
    NotFound,
    RunNotFound,
    StoreUnavailable,
    ThreadNotFound,
)
from runyard.engine.idempotency import Idempotency
from runyard.engine.ids import is_uuid, new_run_id, new_thread_id
from runyard.engine.record import ids_of
from runyard.engine.run import TERMINAL, CancelAction, MultitaskStrategy, Phase, Run, RunRequest, ThreadStatus, Wake
from runyard.engine.settings import Settings
from runyard.engine.store import events, recovery, results, runs, threads
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.events import Event
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import carry_out
from runyard.engine.store.threads import Thread, TtlStrategy
from runyard.engine.thread_search import SEARCH_DEPTH
from runyard.engine.watch import Watch
from runyard.engine.why import Why, explain

if TYPE_CHECKING:  # what follows needs LangGraph
    from runyard.engine.saver import RedisSaver
    from runyard.engine.store.checkpoint_sizes import Storage

#: Whether somebody may see a thread, from its metadata.
Visible = Callable[[dict[str, Any]], bool]


log = structlog.get_logger(__name__)


def _saver(store: SyncStore, keys: Keys, settings: Settings) -> RedisSaver:
    # Loads LangGraph, a second of work that a command which only asks for a run need not wait for.
    from runyard.engine.saver import RedisSaver  # noqa: PLC0415
    from runyard.engine.store.serde import strict_serde  # noqa: PLC0415

    return RedisSaver(keys, sync_store=store, serde=strict_serde(settings.max_state_bytes))


class Service:
    def __init__(
        self,
        store: SyncStore,
        keys: Keys,
        settings: Settings,
        wake: Callable[[Sequence[Wake]], None],
        letter: Callable[[Wake], runs.Letter] | None = None,
    ) -> None:
        """``wake`` sends wake-ups. ``letter``, where the store is the broker, too, writes the one of a new run, and the
        script that records the run sends it."""
        self.store, self.keys, self.settings, self.wake, self._letter = store, keys, settings, wake, letter
        #: The one saver of this service and of those of its tenants; made by whoever needs it first.
        self._saver = cache(partial(_saver, store, keys, settings))
        self.watch = Watch(store, keys)
        self.admission = Admission(store, settings)
        #: Whose things this service knows; None: everybody's, for who works on the store itself.
        self.tenant: str | None = None
        self.visible: Visible | None = None
        #: How long a worker is given to end a run that is to be deleted.
        self.roll_back_s = 2.0
        #: Told of every run that is cancelled while no worker has it.
        self.on_cancelled: Callable[[Run], None] = lambda _: None

    @property
    def saver(self) -> RedisSaver:
        return self._saver()

    def of(self, tenant: str, visible: Visible | None = None) -> Service:
        """The same service for one tenant: what is another's does not exist for it.

        ``visible`` narrows that to threads whose metadata it accepts. It is asked before something is done, and not in
        one step with it: it keeps users of one tenant apart, while the tenant itself is checked inside the scripts.
        """
        twin = copy.copy(self)
        twin.tenant, twin.visible, twin.keys = tenant, visible, self.keys.of_tenant(tenant)
        return twin

    # --- runs

    def create_run(
        self,
        request: RunRequest,
        *,
        graph_id: str,
        assistant_id: str,
        thread_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        strategy: MultitaskStrategy = "enqueue",
        create_thread: bool = False,
        after_s: float = 0,
        user: dict[str, Any] | None = None,
        priority: int = 0,
        thread_metadata: dict[str, Any] | None = None,
        idempotency: Idempotency | None = None,
        trace: str = "",
        before: Callable[[Run], None] = lambda _: None,
    ) -> Run:
        """Record a run and wake a worker. Once this returns the run is accepted and will be carried out.

        Of a tenant's runs that wait for a worker those of a higher ``priority`` go first.
        Without a ``thread_id`` the run gets a hidden thread of its own, which goes when it ends. ``thread_metadata`` is
        for a thread that is made here, ``trace`` the ``traceparent`` of the request; ``user`` is whom nodes are to know
        as the one who asked. When the wake-up cannot be sent (the broker is away) the run is accepted all the same, and
        recovery starts it. With ``idempotency`` the answer is the run that the same request made before, if one has.
        ``before`` is shown the run right before it is recorded: who waits for its end then misses nothing of it.
        Raises Backlogged and TooManyWaiting when the queue is too old (see Admission), ThreadNotFound, ThreadBusy,
        IdempotencyConflict, StoreUnavailable (then nothing was recorded, or, if only the answer was lost, all of it
        was: ask for the run by listing the thread).
        """
        self.admission.check(self.keys, self.tenant or "")
        replaces = strategy in ("interrupt", "rollback")
        if thread_id is not None and (self.visible or replaces):
            self.reach(thread_id)
        if thread_id is not None and replaces and idempotency is None:
            self._cancel_unfinished(thread_id, _action(strategy))
        run = self.to_run(
            request, graph_id=graph_id, assistant_id=assistant_id,
            thread_id=thread_id or self.fresh_thread_id(idempotency), metadata=metadata or {}, strategy=strategy,
            temporary=thread_id is None, tenant=self.tenant or "", user=user, priority=priority,
            trace=trace,
        )  # fmt: skip
        letter = self._letter(_wake_of(run)) if self._letter else None
        before(run)
        call = runs.create(
            self.keys, run, delay_ms=round(after_s * 1000), create_thread=create_thread or run.temporary,
            thread_metadata=thread_metadata, idempotency=idempotency, letter=letter,
        )  # fmt: skip
        phase, at, made_id, labels = self.store.do(call)
        if made_id != run.run_id:
            return self.get_run(made_id)
        if replaces and idempotency is not None:  # only now: a duplicate must cancel nothing
            self._cancel_all([each for each in self._delayed(run.thread_id) if each != made_id], _action(strategy))
        return self.begun(run, phase, at, labels, woken=self._letter is not None)

    def to_run(self, request: RunRequest, **facts: Any) -> Run:
        """A run that is not recorded yet."""
        if request.timeout_s is None:
            request = dataclasses.replace(request, timeout_s=self.settings.run_deadline_s)
        return Run(
            run_id=new_run_id(self.keys.of_thread(facts["thread_id"]).number, self.watch.maker), phase=Phase.WAITING,
            queue=self.settings.queue, created_at=0, updated_at=0, request=request, **facts,
        )  # fmt: skip

    def begun(
        self, run: Run, phase: Phase, at: int, labels: dict[str, Any] | None = None, *, woken: bool = False
    ) -> Run:
        """What follows once a run is recorded: what is before it makes way, if that was asked for, and it is woken,
        unless the script has done that. The run as it is now; ``labels`` are those of its thread."""
        log.info("run.created", **ids_of(run), phase=str(phase))
        if run.strategy in ("interrupt", "rollback") and phase is Phase.QUEUED:  # behind one that came in between
            self._cancel_unfinished(run.thread_id, _action(run.strategy), before=run.run_id)
        if phase is Phase.WAITING and not woken:
            self.wake([_wake_of(run)])
        metadata = {**(labels or {}), **run.metadata}
        return dataclasses.replace(run, phase=phase, created_at=at, updated_at=at, metadata=metadata)

    def fresh_thread_id(self, idempotency: Idempotency | None = None) -> str:
        """An id for a thread that is made for a request of a client that named none."""
        return idempotency.new_thread_id(self.keys.partitions) if idempotency else new_thread_id()

    def get_run(self, run_id: str, thread_id: str | None = None) -> Run:
        """A run by its id, which must be of ``thread_id`` when that is given. Raises RunNotFound."""
        run = self.store.do(runs.get(self.keys, run_id)) if is_uuid(run_id) else None
        if run is None or (thread_id is not None and run.thread_id != thread_id) or not self.sees(run):
            raise RunNotFound(f"Run {run_id} not found.")
        return run

    def sees(self, run: Run) -> bool:
        """Whether a run is one of this service's tenant, on a thread that may be seen."""
        if not self._owns(run.tenant):
            return False
        if self.visible is None:
            return True
        thread = self._stored_thread(run.thread_id)
        return self.visible(thread.metadata if thread else run.metadata)

    def list_runs(self, thread_id: str, *, limit: int = 10, offset: int = 0, status: str | None = None) -> list[Run]:
        """Runs of a thread, newest first. Raises ThreadNotFound."""
        self.get_thread(thread_id)
        depth = (limit, offset) if status is None else (SEARCH_DEPTH, 0)
        ids = self.store.do(runs.of_thread(self.keys, thread_id, limit=depth[0], offset=depth[1]))
        found = [run for run in self.store.do_all([runs.get(self.keys, run_id) for run_id in ids]) if run is not None]
        if status is None:
            return found
        return [run for run in found if run.status == status][offset : offset + limit]

    def why(self, run: Run) -> Why:
        """Why a run is where it is, in words."""
        failed, now_ms = self.store.do_all([runs.attempts(self.keys, run.run_id), recovery.clock()])
        asked = [item["value"] for item in self.asked(run)]
        return explain(run, failed, list(records.read(self.store, self.keys, run)), asked, now_ms)

    def asked(self, run: Run) -> list[dict[str, Any]]:
        """What the thread of a run that waits for an answer asks (``id`` and ``value`` each); of any other nothing."""
        thread = self._any_thread(run.thread_id) if run.phase is Phase.PAUSED else None
        return [item for items in (thread.interrupts if thread else {}).values() for item in items]

    def cancel_run(self, run: Run, action: CancelAction = "interrupt") -> None:
        """Ask for the end of a run; returns at once. A worker that has it in hand ends it within about a second.

        ``rollback`` also deletes the run and its checkpoints, and no later request makes less of it. Raises
        RunNotFound, InvalidTransition when it is over.
        """
        call = runs.cancel(self.keys, run, action, events_ttl_ms=self.settings.keep_events_s * 1000)
        state, following = self.store.do(call)
        if state == "cancelled":
            metrics.inc("runyard_run_ends_total", run.graph_id, str(Phase.CANCELLED))
            self.on_cancelled(run)
        log.info("run.cancel", **ids_of(run), action=action, state=state)
        if state == "rolling back":
            self.saver.delete_for_runs([run.run_id])
            following = self.store.do(runs.delete(self.keys, run.run_id, run.thread_id))
        told = [webhooks.wake_of(run.run_id, run.queue)] if run.request.webhook and state == "cancelled" else []
        self.wake([*(Wake(run_id=run_id, queue=queue) for run_id, queue in following), *told])

    def delete_run(self, run: Run) -> None:
        """Forget a run, in hand or not, with its checkpoints; its thread goes on with its next run.

        One that has not ended is rolled back, for which a worker that has it in hand is given ``roll_back_s``; this
        waits so long. Checkpoints stay where another run of the thread is in hand, since that may be built on them, and
        where the worker does not answer. The record goes last, so what a crash leaves behind can be deleted again. What
        the thread shows of an ended run stays until the next one ends. As with every roll-back, a DeltaChannel of later
        runs loses what a deleted run has written.
        """
        if self._rolled_back(run):
            return
        with suppress(LeaseLost):
            self.saver.fenced(threads.idle_fence(self.keys, run.thread_id)).delete_for_runs([run.run_id])
        following = self.store.do(runs.delete(self.keys, run.run_id, run.thread_id))
        if run.temporary:
            self.saver.delete_thread(run.thread_id)
        self.wake([Wake(run_id=run_id, queue=queue) for run_id, queue in following])

    def _rolled_back(self, run: Run) -> bool:
        """Whether a run that had not ended is gone, with all it has done."""
        try:
            if run.phase not in TERMINAL:
                self.cancel_run(run, "rollback")
                self.wait(run, timeout_s=self.roll_back_s)
        except RunNotFound:
            return True
        except InvalidTransition:  # it ended in the meantime
            pass
        return False

    def abandon(self, run: Run) -> None:
        """End a run whose client has gone, as that client asked for; one that ended at the same moment is left alone.

        Fails open when the store is away: the run goes on, as it would for a client that asked for nothing.
        """
        with suppress(Conflict, NotFound, StoreUnavailable):
            self.cancel_run(run)

    def _cancel_unfinished(self, thread_id: str, action: CancelAction, *, before: str | None = None) -> None:
        """Cancel what the thread has not finished, or only what is to be done there ``before`` a queued run."""
        active, queued = self.store.do_all(runs.unfinished(self.keys, thread_id))
        if before is not None:
            ahead = queued[: queued.index(before)] if before in queued else []
            active, queued = (active if before in queued else []), ahead
        else:
            queued = [*queued, *self._delayed(thread_id)]
        self._cancel_all([*reversed(queued), *active], action)  # the queue first, so that nothing of it is admitted

    def _cancel_all(self, run_ids: Sequence[str], action: CancelAction) -> None:
        for run_id in run_ids:
            run = self.store.do(runs.get(self.keys, run_id))
            if run is not None and run.phase not in TERMINAL:
                with suppress(InvalidTransition, RunNotFound):  # it ended in the meantime
                    self.cancel_run(run, action)

    def _delayed(self, thread_id: str) -> list[str]:
        """Runs of a thread that wait for their time."""
        if not self.store.do(threads.delayed(self.keys, thread_id)):
            return []
        ids = self.store.do(runs.of_thread(self.keys, thread_id, limit=SEARCH_DEPTH, offset=0))
        found = self.store.do_all([runs.get(self.keys, run_id) for run_id in ids])
        return [run.run_id for run in found if run is not None and run.phase is Phase.DUE]

    # --- waiting

    def events(
        self, run_id: str, after: str = events.START, *, pause_s: float = 5.0, only_end: bool = False
    ) -> Iterator[Event | None]:
        """A run's events as they come; None every ``pause_s`` of silence, for heartbeats. See Watch.events."""
        return self.watch.events(run_id, after, pause_s=pause_s, only_end=only_end)

    def last_event_id(self, run_id: str) -> str:
        """Where a reader starts who wants only what comes from now on."""
        last = self.store.do(events.last(self.keys, run_id))
        return last.id if last else events.START

    def result(self, run: Run) -> Iterator[bytes | None]:
        """Wait for a run's end: None every 5 s, then the result as JSON, once.

        The result is the thread's values as the run left them, with ``__interrupt__`` when the graph asks something,
        or ``{"__error__": {"error", "message"}}``. When the run's events were forgotten long after its end, it is
        what the thread holds now.
        """
        if kept := self._forgotten(run):
            yield kept
            return
        for event in self.events(run.run_id, only_end=True):
            if event is None:
                if kept := self._forgotten(run):
                    yield kept
                    return
                yield None
            elif event.name == events.END:
                yield events.result_in(event) or self.kept_result(run, event)
                return

    def kept_result(self, run: Run, end: Event | None = None, *, joined: bool = True) -> bytes:
        """What the store still knows of the result of a run that is over, as JSON: what its last event, ``end``, says
        that its thread keeps, or else what it came to and what the thread holds.

        Of a run that was cancelled before it did anything, who joins it hears what its thread holds, and who has waited
        since its start hears nothing, as on LangGraph's server.
        """
        asked = events.asked_in(end) if end else None
        if asked is not None:
            values = self.store.do(results.left_by(self.keys, run.thread_id, run.run_id))
            if values is not None:
                return wire.with_asked(values, wire.decode(asked))
        current = self.store.do(runs.get(self.keys, run.run_id))
        if not joined and (current is None or current.phase is Phase.CANCELLED):
            return b"{}"
        return self._kept_result(current or run)

    def _forgotten(self, run: Run) -> bytes | None:
        """The result of a run that is over and whose events are gone; None when they will tell it."""
        current = self.store.do(runs.get(self.keys, run.run_id))
        if current is None or (current.phase in TERMINAL and not self.last_is_end(run.run_id)):
            return self._kept_result(current or run)
        return None

    def last_is_end(self, run_id: str) -> bool:
        last = self.store.do(events.last(self.keys, run_id))
        return last is not None and last.name == events.END

    def wait(self, run: Run, *, timeout_s: float) -> Run:
        """The run once it has ended, or as it is after ``timeout_s``. Raises RunNotFound when it was rolled back."""
        ends = time.monotonic() + timeout_s
        for event in self.events(run.run_id, pause_s=max(0.05, min(1.0, timeout_s)), only_end=True):
            if (event is not None and event.name == events.END) or time.monotonic() > ends:
                break
            if event is None and self.get_run(run.run_id).phase in TERMINAL:
                break
        return self.get_run(run.run_id)

    def _kept_result(self, run: Run) -> bytes:
        if run.error:
            return wire.encode({"__error__": {"error": run.error["error"], "message": run.error["message"]}})
        thread = self._any_thread(run.thread_id)
        return (thread.values if thread else b"") or b"{}"

    # --- threads

    def create_thread(
        self, thread_id: str | None = None, metadata: dict[str, Any] | None = None, *, exist_ok: bool = False
    ) -> Thread:
        """Make a thread. Raises ThreadExists unless ``exist_ok``."""
        if thread_id is not None and self.visible:
            exist_ok = exist_ok and (self._stored_thread(thread_id) is None or self._any_thread(thread_id) is not None)
        exist_ok = exist_ok or thread_id is None  # one with a new id exists only if the first answer was lost
        call = threads.create(
            self.keys, thread_id or new_thread_id(), metadata or {}, exist_ok=exist_ok, tenant=self.tenant or ""
        )
        return self.store.do(call)

    def get_thread(self, thread_id: str) -> Thread:
        """Raises ThreadNotFound, also for the thread of a stateless run that has ended."""
        found = self._any_thread(thread_id)
        if found is None or (found.hidden and found.status != "busy"):
            raise ThreadNotFound(f"Thread {thread_id} not found.")
        return found

    def storage(self, thread_id: str) -> Storage:
        """What a thread's checkpoints take in the store. Raises ThreadNotFound."""
        self.get_thread(thread_id)
        # needs LangGraph, as the savers do
        from runyard.engine.store.checkpoint_sizes import storage_of  # noqa: PLC0415

        return carry_out(storage_of(self.keys, thread_id), self.store)

    def reach(self, thread_id: str) -> None:
        """Raises ThreadNotFound when the thread exists and is another's; one that is still to be made is anybody's."""
        if self._stored_thread(thread_id) is not None and self._any_thread(thread_id) is None:
            raise ThreadNotFound(f"Thread {thread_id} not found.")

    def _owns(self, tenant: str) -> bool:
        return self.tenant is None or tenant == self.tenant

    def _may_see(self, thread: Thread) -> bool:
        return self._owns(thread.tenant) and (self.visible is None or self.visible(thread.metadata))

    def _any_thread(self, thread_id: str) -> Thread | None:
        found = self._stored_thread(thread_id)
        return found if found is not None and self._may_see(found) else None

    def _stored_thread(self, thread_id: str) -> Thread | None:
        return threads.from_replies(*self.store.do_all(threads.get(self.keys, thread_id)))

    def update_thread(self, thread_id: str, metadata: dict[str, Any]) -> Thread:
        """Merge metadata into a thread's, key by key. Raises ThreadNotFound; Conflict after losing ten races."""
        for _ in range(10):
            thread = self.get_thread(thread_id)
            merged = {**wire.decode(thread.raw_metadata), **metadata}
            if edited := self.store.do(threads.edit(self.keys, thread, merged)):
                return edited
        raise Conflict(f"Thread {thread_id} is being changed by many at once; try again.")

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread, its runs and its checkpoints. A run in hand loses its lease. Raises ThreadNotFound."""
        self.get_thread(thread_id)
        thread_service.delete(self.store, self.keys, self.saver, thread_id)

    def copy_thread(self, thread_id: str) -> Thread:
        """A new thread with the same labels, state and history. Raises ThreadNotFound."""
        return thread_service.copy(self.store, self.keys, self.saver, self.get_thread(thread_id))

    def prune_threads(self, thread_ids: Sequence[str], strategy: TtlStrategy) -> int:
        """Delete threads, or their history but for the latest state; answers how many. See thread_service.prune."""
        return thread_service.prune(self.store, self.keys, self.saver, thread_ids, strategy, self._may_see)

    def set_ttl(self, thread_id: str, minutes: float, strategy: TtlStrategy = "delete") -> Thread:
        """Have recovery delete a thread, or its history, so many minutes after its last change."""
        self.get_thread(thread_id)
        self.store.do(threads.set_ttl(self.keys, thread_id, minutes, strategy))
        return self.get_thread(thread_id)

    def note_state(self, thread_id: str, state: dict[str, Any], *, graph_id: str, assistant_id: str) -> None:
        """Show a state that a client has written on the thread's record; a thread with something left to do waits."""
        known = wire.encode(state["values"])
        rest: ThreadStatus = "interrupted" if state["next"] else "idle"
        asked = {task["id"]: task["interrupts"] for task in state["tasks"] if task["interrupts"]}
        call = threads.note_state(
            self.keys, thread_id, known, graph_id=graph_id, assistant_id=assistant_id, rest=rest,
            asked=wire.encode(asked), events_ttl_ms=self.settings.keep_events_s * 1000,
        )  # fmt: skip
        self.store.do(call)

    def search_threads(
        self,
        *,
        metadata: dict[str, Any] | None = None,
        values: dict[str, Any] | None = None,
        status: ThreadStatus | None = None,
        ids: Sequence[str] | None = None,
        limit: int = 10,
        offset: int = 0,
        sort_by: str = "updated_at",
        descending: bool = True,
    ) -> tuple[list[Thread], int]:
        """Threads that match all that is given, and how many do. Threads of stateless runs are left out.

        Without ``ids`` they are those of one tenant: this service's, or the default. In the usual order, last changed
        first, no more is read than fills the page: then of what comes after it only the next is counted.
        """
        wanted = thread_search.Wanted(metadata=metadata, values=values, status=status, sees=self._may_see)
        if ids is None and sort_by == "updated_at" and descending:
            return thread_search.newest(self.store, self.keys, wanted, limit=limit, offset=offset)
        matching = thread_search.all_of(self.store, self.keys, ids, wanted)
        matching.sort(key=lambda thread: getattr(thread, sort_by), reverse=descending)
        return matching[offset : offset + limit], len(matching)

    def count_threads(
        self,
        *,
        metadata: dict[str, Any] | None = None,
        values: dict[str, Any] | None = None,
        status: ThreadStatus | None = None,
        ids: Sequence[str] | None = None,
    ) -> int:
        """How many threads match all that is given, as :meth:`search_threads` finds them: each of them is read."""
        wanted = thread_search.Wanted(metadata=metadata, values=values, status=status, sees=self._may_see)
        return len(thread_search.all_of(self.store, self.keys, ids, wanted))

    # --- the fleet

    def workers(self, *, gone: bool = False) -> list[dict[str, str]]:
        """Workers that live, or with ``gone`` those that fell silent within the last minute: id, host, pid, queues,
        runs in hand, last claim, ms since their last sign of life."""
        now_ms, known = self.store.do_all([recovery.clock(), recovery.workers(self.keys)])
        quiet = {worker_id: max(0, now_ms - beat_ms) for worker_id, beat_ms in known.items()}
        ids = [worker_id for worker_id, ms in quiet.items() if (ms > recovery.WORKER_GONE_MS) == gone]
        facts = self.store.do_all([recovery.worker(self.keys, worker_id) for worker_id in ids])
        found = zip(ids, facts, strict=True)
        return [{"id": worker_id, "quiet_ms": str(quiet[worker_id]), **fact} for worker_id, fact in found if fact]

    def waits_ms(self, longer_than_ms: int = 0) -> dict[str, int]:
        """For each queue how long the run or branch that has waited longest there has been waiting, in ms.

        Told are queues where that is ``longer_than_ms``, as far as the oldest of each partition show them.
        """
        partitions = self.keys.all()
        now_ms, *oldest = self.store.do_all([recovery.clock(), *map(recovery.oldest, partitions)])
        woken = {member: woken_ms for members in oldest for member, woken_ms in members.items()}
        found = self.store.do_all([runs.waits_of(self.keys, member) for member in woken])
        waits: dict[str, int] = {}
        for (queue, since_ms), woken_ms in zip(found, woken.values(), strict=True):
            waited_ms = now_ms - (since_ms or woken_ms)
            if queue and waited_ms > longer_than_ms:
                waits[queue] = max(waited_ms, waits.get(queue, 0))
        return waits

    def store_counts(self) -> dict[str, tuple[int, int]]:
        """How many runs and branches stand where, and the ms of the oldest; 0: there is none, or it is not known."""
        known = {"waiting": "waiting", "due": "due", "leased": "leases", "dead": "dead"}
        calls: list[Call[Any]] = []
        for at in self.keys.all():
            for index in known.values():
                key = getattr(at, index)
                calls += [Call.command("ZCARD", key, parse=int), Call.command("ZRANGE", key, 0, 0, "WITHSCORES")]
        answers = iter(self.store.do_all(calls))
        counts, oldest = dict.fromkeys(known, 0), dict.fromkeys(known, 0)
        for _ in self.keys.all():
            for phase in known:
                counts[phase] += next(answers)
                if (first := next(answers)) and phase != "leased":  # whose score is the end of the lease
                    at_ms = int(float(first[0][1]))
                    oldest[phase] = min(oldest[phase] or at_ms, at_ms)
        if waits := self.waits_ms():
            oldest["waiting"] = time.time_ns() // 1_000_000 - max(waits.values())
        return {phase: (counts[phase], oldest[phase]) for phase in known}


def _action(strategy: MultitaskStrategy) -> CancelAction:
    """How a run that takes the place of others ends them."""
    return "rollback" if strategy == "rollback" else "interrupt"


def _wake_of(run: Run) -> Wake:
    return Wake(run_id=run.run_id, queue=run.queue, graph_id=run.graph_id, label=run.graph_id)
