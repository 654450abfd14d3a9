"""The life of a worker process: wired once after it has forked, drained on SIGTERM, taken apart at the end.

A threads worker is one process. A prefork worker is a parent, which only Celery uses, and children, each of which is
wired for itself; the parent tells them of SIGTERM through a pipe they share.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
from celery.apps import worker as celery_worker
from celery.signals import (
    celeryd_init,
    setup_logging,
    task_failure,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

from runyard.engine import redact
from runyard.engine.branch import BranchSaver
from runyard.engine.breaker import circuits_of
from runyard.engine.budget import budgets_of
from runyard.engine.caps import caps_of
from runyard.engine.errors import ConfigError, StoreUnavailable
from runyard.engine.garbage import spare
from runyard.engine.item_index import index_of
from runyard.engine.items import RedisItems, ttl_of
from runyard.engine.leases import LeaseKeeper, Stop
from runyard.engine.limits import limits_of
from runyard.engine.lookout import Lookout
from runyard.engine.notifier import Notifier
from runyard.engine.pace import Pace
from runyard.engine.presence import Presence
from runyard.engine.prices import Prices
from runyard.engine.recent import Recent
from runyard.engine.recovery import Recovery
from runyard.engine.run import Wake
from runyard.engine.saver import RedisSaver
from runyard.engine.service import Service
from runyard.engine.settings import Settings, worker_id
from runyard.engine.store.client import AsyncStore, SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.meta import keys_of, open_store
from runyard.engine.store.serde import strict_serde
from runyard.engine.waiting import waiting_of
from runyard.engine.webhooks import WebhookPolicy, Webhooks
from runyard.engine.worker import Worker
from runyard.graphs.embedding import load_embeddings
from runyard.graphs.errors import GraphsError
from runyard.graphs.registry import Registry, load_project
from runyard.tasks import exporter, notify, tracing
from runyard.tasks.celery import app
from runyard.tasks.children import Watch
from runyard.tasks.cores import keep_to, spread
from runyard.tasks.giving_way import give_way
from runyard.tasks.loop import the_loop, wait_for
from runyard.tasks.observe import log_to_stdout, observe, on_death, report, say_at_once, sinks
from runyard.tasks.wake import RunFailed, Waker

log = structlog.get_logger(__name__)
T = TypeVar("T")

#: How long a process that has ended in order may take to go.
LEAVE_AFTER_S = 3.0
#: A process that is too large with nothing in hand for so many seconds will not get smaller.
_GIVE_UP_AFTER_BEATS = 5


class WorkerProcess:
    """Everything one worker process has: an event loop on a thread, the engine's worker, and its helpers' threads."""

    def __init__(self, settings: Settings, queues: str, *, expendable: bool) -> None:
        self.settings, self._expendable = settings, expendable
        self.wake = Waker(app)
        self._events = the_loop()
        self.loop = self._events.loop
        self.loop.set_default_executor(ThreadPoolExecutor(settings.sync_threads, "node", spread))
        #: Sending a wake-up blocks, for seconds when the broker is away.
        self._senders = ThreadPoolExecutor(4, thread_name_prefix="wake")
        self._tracing = tracing.begin(settings, "runyard-worker")
        self._wire(queues)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do ``work`` on the loop and wait for it, from another thread."""
        return wait_for(work, self.loop)

    async def send(self, wakes: list[Wake]) -> None:
        """Send wake-ups, which may take long."""
        if wakes:
            await self.loop.run_in_executor(self._senders, self.wake, wakes)

    def end_if_spent(self) -> None:
        """End this process at once if a node goes on in it that nobody waits for; Celery starts another child."""
        if self._expendable and self.worker.abandoned:
            log.warning("worker.spent", abandoned=self.worker.abandoned)
            os.kill(os.getpid(), signal.SIGKILL)

    def drain(self) -> None:
        """Take nothing new, end slices at their next superstep edge, and after a while give back what still runs."""
        log.info("worker.draining", in_hand=len(self._keeper.in_hand()))
        self.loop.call_soon_threadsafe(self.worker.drain)
        timer = threading.Timer(self.settings.drain_s, self._give_back)
        timer.daemon = True
        timer.start()

    def stop(self) -> None:
        """End in order; what is still in hand is given back first."""
        self._lookout.stop()
        self._recovery.stop()
        self._give_back()
        self._presence.stop()
        self._keeper.stop()
        self._close_store()
        if self._tracing:
            self._tracing.close()
        self._events.stop()
        self._senders.shutdown(wait=False)
        self._sync_store.close()
        self._leave()

    def _wire(self, queues: str) -> None:
        settings, name = self.settings, worker_id()
        keys = keys_of(settings)
        self._sync_store = SyncStore.connect(settings.redis_url, vault=keys.vault)
        open_store(self._sync_store, keys)
        self._keeper = LeaseKeeper(self._sync_store, keys, lease_ms=settings.lease_ms)
        self._presence = Presence(
            self._sync_store, keys, name, queues, lambda: len(self._keeper.in_hand()),
            memory_mb=settings.worker_memory_mb, capacity=1 if self._expendable else settings.concurrency,
            holds=lambda: self.worker.pace.waiting,
        )  # fmt: skip
        self.worker = self.run(self._make_worker(keys, name))
        traced = self._tracing
        self._recovery = Recovery(
            self._sync_store, keys, self.worker.saver, settings, name, self.wake, self.wake.queue_depth,
            on_death=(*self.worker.on_death, *([traced.timed_out] if traced else [])),
            **({"firing": traced.firing} if traced else {}),
        )  # fmt: skip
        self._lookout = self._make_lookout(keys)
        self._keeper.start()
        self._presence.start()
        self._recovery.start()
        self._lookout.start()
        spare()

    def _make_lookout(self, keys: Keys) -> Lookout:
        """Looks while this process leads; what it finds is sent from the loop."""
        worker, loop = self.worker, self.loop
        notifier = Notifier(worker.store, keys, worker.notify, worker.webhooks, worker.background, notify.sender())

        def send(delivery_ids: Sequence[str]) -> None:
            if not worker.draining:
                loop.call_soon_threadsafe(notifier.send, delivery_ids)

        return Lookout(
            Service(self._sync_store, keys, self.settings, self.wake), worker.notify, worker.waiting,
            leads=lambda: self._recovery.leads, send=send, link=self.settings.link,
        )  # fmt: skip

    async def _make_worker(self, keys: Keys, name: str) -> Worker:
        project = load_project(Path(self.settings.config) if self.settings.config else None)
        redact.learn(os.environ, self.settings.redact_names)
        registry, traced = Registry(project), self._tracing
        store = AsyncStore.connect(self.settings.redis_url, vault=keys.vault)
        recent = Recent(self.settings.worker_recent_bytes)
        parts: Any = {
            "store": store, "sync_store": self._sync_store, "serde": strict_serde(self.settings.max_state_bytes),
            "recent": recent,
        }  # fmt: skip
        return Worker(
            settings=self.settings,
            keys=keys,
            worker_id=name,
            store=store,
            sync_store=self._sync_store,
            saver=RedisSaver(keys, **parts),
            branch_saver=BranchSaver(keys, **parts),
            recent=recent,
            keeper=self._keeper,
            open_graph=registry.aopen,
            items=RedisItems(
                keys,
                store=store,
                sync_store=self._sync_store,
                ttl=ttl_of(project.store),
                index=index_of(project.store, load_embeddings(project)),
            ),
            sinks=(*sinks(self.settings), *([traced.record] if traced else [])),
            **(
                {"attempting": traced.attempting, "slicing": traced.slicing, "delivering": traced.delivering}
                if traced
                else {}
            ),
            on_death=on_death(self.settings),
            policies=project.runyard.get("policies", {}),
            prices=Prices(project.runyard.get("prices")),
            webhooks=Webhooks(WebhookPolicy.of(project.webhooks, self.settings, os.environ)),
            limits=limits_of(project.runyard.get("limits", {})),
            thresholds=circuits_of(project.runyard.get("circuits", {})),
            caps=caps_of(project.runyard.get("concurrency", {})),
            budgets=budgets_of(project.runyard.get("budgets", {})),
            notify=notify.notify_for(project, self.settings),
            waiting=waiting_of(project.runyard.get("waiting", {})),
            wake=self.wake,
            has_room=self._has_room,
            took=self._presence.took,
            pace=Pace(lambda: self._presence.store_s),
            expendable=self._expendable,
            killed_after=_Timer().killed_after if self._expendable else lambda _: nullcontext(),
            retire=_retire if not self._expendable else lambda: None,
        )

    def _has_room(self) -> bool:
        if self._presence.idle_and_full > _GIVE_UP_AFTER_BEATS and not self._expendable:
            _retire("it uses more memory than it may, with nothing in hand")
        return not self._presence.is_full

    def _leave(self) -> None:
        """Go, even when a node that is a plain function still runs: its run is given back, but Python would wait for
        its thread, which cannot be stopped."""
        timer = threading.Timer(LEAVE_AFTER_S, os._exit, args=(0,))
        timer.daemon = True
        timer.start()

    def _give_back(self) -> None:
        for held in self._keeper.in_hand():
            held.stop(Stop.SHUTDOWN)

    def _close_store(self) -> None:
        with suppress(StoreUnavailable):  # nothing of ours is left to send
            self.run(self.worker.close())


#: What a node that can be told gets on top of its deadline, before the process is killed with it, in seconds.
_KILL_AFTER_S = 0.5


class _Timer:
    """The kernel's timer, because code that never lets go of the interpreter cannot be ended from inside it.

    A process has one: it is set for the deadline that comes first. Used on the event loop only.
    """

    def __init__(self) -> None:
        self._ends: dict[object, float] = {}

    @contextmanager
    def killed_after(self, deadline_s: float) -> Iterator[None]:
        this = object()
        self._ends[this] = time.monotonic() + deadline_s + _KILL_AFTER_S
        self._set()
        try:
            yield
        finally:
            del self._ends[this]
            self._set()

    def _set(self) -> None:
        left_s = max(0.001, min(self._ends.values()) - time.monotonic()) if self._ends else 0.0
        signal.setitimer(signal.ITIMER_REAL, left_s)


def _retire(why: str = "too many plain functions outlived their deadlines in threads") -> None:
    """Ask this process to end in order; whoever supervises it starts another."""
    log.error("worker.retires", reason=why)
    os.kill(os.getpid(), signal.SIGTERM)


_current: WorkerProcess | None = None
_expendable = False
_lock = threading.Lock()
_queues = ""
#: Made by the parent: readable once it drains. Not an event of multiprocessing: setting one waits for its waiters,
#: and a child that was killed with SIGKILL never answers.
_drain_pipe: tuple[int, int] | None = None
#: Where prefork children count.
_metrics_folder: Path | None = None


async def current() -> WorkerProcess:
    """This process's worker, wired on first use. Wiring needs the loop, so a task that comes first leaves it free."""
    return _current or await asyncio.to_thread(_made)


def _made() -> WorkerProcess:
    global _current  # noqa: PLW0603 - one for each process is the point
    with _lock:
        if _current is None:
            settings = Settings.from_env(os.environ)
            observe(settings)
            _count(settings)
            _current = WorkerProcess(settings, _queues, expendable=_expendable)
        return _current


def _count(settings: Settings) -> None:
    """Count in this process: in files that the parent of prefork children adds up, else in its memory."""
    if settings.metrics == "off":
        return
    if _metrics_folder is not None:
        exporter.count_in_files(_metrics_folder)
    else:
        exporter.serve(settings, exporter.count_in_memory().registry)


@celeryd_init.connect  # type: ignore[untyped-decorator]
def _speak_our_way(instance: Any, **_: Any) -> None:
    """Celery prints a banner, and what it does when it is told to stop, past all loggers."""
    settings = Settings.from_env(os.environ)
    log_to_stdout(settings)
    instance.quiet = True
    celery_worker.safe_say = lambda words, *_: say_at_once(words, settings)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log_our_way(**_: Any) -> None:
    """Celery leaves the log alone when somebody answers this."""
    log_to_stdout(Settings.from_env(os.environ))


@task_failure.connect  # type: ignore[untyped-decorator]
def _a_task_failed(exception: BaseException, **_: Any) -> None:
    """A failed run was told of when it ended; all else is a mistake of ours, or the store's absence."""
    if not isinstance(exception, RunFailed):
        report(exception)


@worker_init.connect  # type: ignore[untyped-decorator]
def _in_the_first_process(sender: Any, **_: Any) -> None:
    global _queues, _drain_pipe, _metrics_folder  # noqa: PLW0603 - Celery tells it to the parent only; children inherit both
    _queues = ",".join(sender.app.amqp.queues.consume_from)
    pool = sender.pool_cls.__module__.rpartition(".")[2]
    settings = Settings.from_env(os.environ)
    give_way(settings.worker_nice)
    log.info("worker.starts", worker=sender.hostname, queues=_queues, pool=pool, concurrency=sender.concurrency)
    if "prefork" in sender.pool_cls.__module__:
        _drain_pipe = os.pipe()
        if settings.metrics == "on":
            _metrics_folder = exporter.shared_folder(os.getpid(), "worker")
    else:
        with _or_end():
            keep_to(settings.worker_core)
        threading.Thread(target=_wire_or_end, name="wiring", daemon=True).start()


def _wire_or_end() -> None:
    with _or_end():
        _wire_when_possible()


@contextmanager
def _or_end() -> Iterator[None]:
    """A worker that cannot be wired would take wake-ups and do nothing: it ends, and says why by name."""
    try:
        yield
    except (ConfigError, GraphsError) as error:
        log.error("worker.cannot_start", error=str(error))  # noqa: TRY400 - what is wrong is in a file, not in a stack
        sys.stdout.flush()
        os._exit(1)


def _wire_when_possible() -> WorkerProcess:
    """This process's worker, as soon as the store can be reached: one that starts before its store waits for it."""
    while True:
        try:
            return _made()
        except StoreUnavailable as error:
            log.warning("worker.waits_for_store", error=str(error))
            time.sleep(0.5)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _in_a_child(**_: Any) -> None:
    global _expendable  # noqa: PLW0603 - as above
    _expendable = True
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends the process, whatever its code does
    threading.Thread(target=_drain_when_told, name="drain-listener", daemon=True).start()


def _drain_when_told() -> None:
    process = _wire_when_possible()
    if _drain_pipe is not None:
        select.select([_drain_pipe[0]], [], [])  # nobody reads it: it stays readable for every child
        process.drain()


@worker_ready.connect  # type: ignore[untyped-decorator]
def _watch_over_children(**_: Any) -> None:
    if _drain_pipe is not None:
        settings = Settings.from_env(os.environ)
        Watch(settings).start()
        if _metrics_folder is not None:
            exporter.serve(settings, exporter.Folder(_metrics_folder))


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _asked_to_stop(**_: Any) -> None:
    if _drain_pipe is not None:
        os.write(_drain_pipe[1], b"x")
    if _current is not None:
        _current.drain()


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _at_the_end(**_: Any) -> None:
    if _current is not None:
        _current.stop()
