"""The leases a process holds: renewed in one batch, and let go of the moment they are lost or their run is cancelled.

Renewing runs on a thread of its own with a connection of its own, because a node that blocks the event loop for
seconds is a slow node, not a dead worker.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis
import structlog

from runyard.engine.errors import StoreUnavailable
from runyard.engine.ids import partition_of_run
from runyard.engine.store import runs
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys

log = structlog.get_logger(__name__)


class Stop(StrEnum):
    """Why a slice was stopped from outside."""

    #: The lease belongs to someone else: write nothing more.
    LOST = "lost"
    #: A client asked for the run's end.
    CANCELLED = "cancelled"
    #: The run's own deadline has passed.
    TIMED_OUT = "timed_out"
    #: This process is about to end and has waited long enough: give the run back as it is.
    SHUTDOWN = "shutdown"


@dataclass(eq=False, slots=True)
class Held:
    """One lease in hand. ``stopped`` says why the work under it was cancelled, if it was."""

    run_id: str
    member: str
    fence: Fence
    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[object] | None = None
    stopped: Stop | None = None

    def stop(self, why: Stop) -> None:
        """Cancel the work, from any thread. The first reason counts, but a lost lease overrules all others."""
        if self.stopped is None or (why is Stop.LOST and self.stopped is not Stop.LOST):
            self.stopped = why
            self.loop.call_soon_threadsafe(self.cancel)

    def cancel(self) -> None:
        """Cancel the work, on its loop."""
        if self.task is not None and not self.task.done():
            self.task.cancel()


class Holding:
    """A block in which a lease is renewed."""

    __slots__ = ("_held", "_keeper")

    def __init__(self, keeper: LeaseKeeper, held: Held) -> None:
        self._keeper, self._held = keeper, held

    def __enter__(self) -> Held:
        self._keeper.take(self._held)
        return self._held

    def __exit__(self, *_: object) -> None:
        self._keeper.leave(self._held)


class LeaseKeeper:
    """Holds the leases of one process. Start it once the process has forked; stop it last."""

    def __init__(self, store: SyncStore, keys: Keys, *, lease_ms: int) -> None:
        self._store, self._keys, self._lease_ms = store, keys, lease_ms
        self._held: dict[str, Held] = {}
        #: What else is renewed in the same batch, and heard of on channels of its own.
        self._riders: list[Callable[[], list[Call[Any]]]] = []
        self._heard: dict[str, Callable[[str], None]] = {keys.control: self._cancel}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._renew_for_ever, name="lease-keeper", daemon=True),
            threading.Thread(target=self._listen_for_ever, name="cancel-listener", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def add(
        self, channel: str, hear: Callable[[str], None], renewals: Callable[[], list[Call[Any]]] | None = None
    ) -> None:
        """Listen to another channel, and renew something else along with the leases. Before :meth:`start`; both
        are called on threads."""
        self._heard[channel] = hear
        if renewals is not None:
            self._riders.append(renewals)

    def in_hand(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    def holding(self, run_id: str, fence: Fence, *, branch: str | None = None) -> Holding:
        """Renew this lease as long as the block lasts. Called on the event loop that does the work."""
        return Holding(self, Held(run_id, runs.member_of(run_id, branch), fence, asyncio.get_running_loop()))

    def take(self, held: Held) -> None:
        with self._lock:
            self._held[held.member] = held

    def leave(self, held: Held) -> None:
        with self._lock:
            if self._held.get(held.member) is held:
                del self._held[held.member]

    def _renew_for_ever(self) -> None:
        pause_s = self._lease_ms / 1000 / 4
        while not self._stopping.wait(pause_s):
            try:
                self.renew()
            except StoreUnavailable as error:
                log.warning("lease.renewal_failed", error=str(error), leases=len(self._held))
            except Exception:  # without this thread every run in hand would be lost at the end of its lease
                log.exception("lease.renewal_failed", leases=len(self._held))

    def renew(self) -> None:
        """Renew everything in hand: one script for each partition, all in one round trip."""
        batches: dict[int, list[Held]] = defaultdict(list)
        for held in self.in_hand():
            batches[partition_of_run(held.run_id)].append(held)
        calls = [
            runs.renew(self._keys, number, [(held.member, held.fence) for held in batch], lease_ms=self._lease_ms)
            for number, batch in batches.items()
        ]
        riders = [call for renewals in self._riders for call in renewals()]
        replies = self._store.do_all([*calls, *riders]) if calls or riders else []
        for batch, answers in zip(batches.values(), replies[: len(calls)], strict=True):
            for held, answer in zip(batch, answers, strict=True):
                self._heed(held, answer)

    def _heed(self, held: Held, answer: int) -> None:
        if answer == 1 or self._held.get(held.member) is not held:  # it was let go of while the batch was on its way
            return
        held.stop(Stop.LOST if answer == 0 else Stop.CANCELLED)

    def _listen_for_ever(self) -> None:
        """Cancelling is told on a channel, so that it need not wait for the next renewal."""
        while not self._stopping.is_set():
            try:
                self._listen()
            except redis.RedisError:
                self._stopping.wait(0.5)
            except Exception:  # without this thread a cancel would be heard of only at the next renewal
                log.exception("cancel_listener.failed")
                self._stopping.wait(0.5)

    def _listen(self) -> None:
        with self._store.subscription() as channel:
            channel.subscribe(*self._heard)
            while not self._stopping.is_set():
                if message := channel.get_message(timeout=1.0):
                    self._heard[message["channel"].decode()](message["data"].decode())

    def _cancel(self, told: str) -> None:
        """A run's id: its end was asked for. A member and its token: that lease has ended, and no other."""
        member, _, token = told.partition(" ")
        for held in self.in_hand():
            if token and (held.member, held.fence.value) == (member, token):
                held.stop(Stop.LOST)
            elif not token and held.run_id == member:
                held.stop(Stop.CANCELLED)


def wait_until(condition: Callable[[], bool], *, timeout_s: float, pause_s: float = 0.02) -> bool:
    """Poll until ``condition`` holds; False when ``timeout_s`` passed first."""
    ends = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(pause_s)
    return True
