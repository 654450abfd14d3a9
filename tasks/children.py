"""What the parent of prefork children knows of them, and they themselves cannot say: that they died, and of what."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
from billiard.exceptions import WorkerLostError
from celery.signals import task_failure
from celery.worker.state import active_requests

from runyard.engine.doom import death_of, keep, note_death
from runyard.engine.errors import StoreUnavailable
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys

log = structlog.get_logger(__name__)

#: How often a prefork worker's parent looks whether its busy children live, in seconds.
_LOOK_EVERY_S = 0.1
#: How Celery's pool says that the timer did it.
_KILLED_BY_TIMER = f"signal {signal.SIGALRM.value} "


class Watch:
    """In a prefork worker's parent: notes at once what a child died of, and renews what a child in C code cannot.

    Celery tells of a dead child too, but up to five seconds later when the child was not quite dead at its first look.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = SyncStore.connect(self._settings.redis_url, retry_s=1.0)
        self._keys = Keys(self._settings.prefix, self._settings.partitions)
        self._noted: set[str] = set()

    def start(self) -> None:
        threading.Thread(target=self._run, name="watch-over-children", daemon=True).start()

    def _run(self) -> None:
        renew_at = 0.0
        while True:
            time.sleep(_LOOK_EVERY_S)
            with suppress(StoreUnavailable, RuntimeError):  # a set that changed size: the next look is soon
                in_hand = [request for request in list(active_requests) if request.worker_pid and request.args]
                for request in in_hand:
                    self._note_if_dead(request)
                if time.monotonic() >= renew_at:
                    renew_at = time.monotonic() + self._settings.lease_s / 4
                    held = [(*_run_and_branch(request.args), request.worker_pid) for request in in_hand]
                    keep(self._store, self._keys, held, lease_ms=self._settings.lease_ms)

    def _note_if_dead(self, request: Any) -> None:
        signum = death_of(request.worker_pid)
        if signum is not None and request.id not in self._noted:
            self._noted = {request.id, *list(self._noted)[:100]}
            note_death(self._store, self._keys, *_run_and_branch(request.args), timed=signum == signal.SIGALRM)


def _run_and_branch(args: Sequence[str]) -> tuple[str, str | None]:
    return args[0], args[1] if len(args) > 1 else None


@task_failure.connect  # type: ignore[untyped-decorator]
def _a_child_is_dead(exception: BaseException, args: Sequence[str], **_: Any) -> None:
    """Called in the parent, which alone learns what a child died of."""
    if not isinstance(exception, WorkerLostError) or not args:
        return
    settings = Settings.from_env(os.environ)
    store = SyncStore.connect(settings.redis_url, retry_s=1.0)
    try:
        keys = Keys(settings.prefix, settings.partitions)
        note_death(store, keys, *_run_and_branch(args), timed=_KILLED_BY_TIMER in str(exception))
    except StoreUnavailable as error:
        log.warning("worker.death_not_noted", run_id=args[0], error=str(error))  # the lease's end brings it back
    finally:
        store.close()
