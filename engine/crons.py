"""Crons: runs that are started again and again on a schedule.

Recovery fires them. A firing and the cron's next time are one script, so each time is fired once, with any number of
workers and whatever crashes. Times that passed while nobody swept are made up for by one firing, at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog

from runyard.engine import metrics
from runyard.engine.assistants import Assistants, under
from runyard.engine.errors import (
    Conflict,
    CronNotFound,
    InvalidInput,
    Refused,
    StoreUnavailable,
    ThreadBusy,
    ThreadNotFound,
)
from runyard.engine.ids import is_uuid, new_run_id, new_thread_id, new_thread_id_in
from runyard.engine.run import Run, RunRequest
from runyard.engine.schedule import Schedule
from runyard.engine.service import Service, Visible
from runyard.engine.store import crons as calls
from runyard.engine.store.assistants import Assistant
from runyard.engine.store.crons import Cron
from runyard.engine.store.recovery import clock
from runyard.engine.thread_search import SEARCH_DEPTH

log = structlog.get_logger(__name__)

#: Crons of a partition that one sweep fires.
_BATCH = 200

Json = dict[str, Any]
Firing = Callable[[Cron], AbstractContextManager[str]]


class Crons:
    """Synchronous and thread-safe. Knows the crons of the service's tenant, or, with ``visible``, those of them whose
    metadata it accepts."""

    def __init__(
        self, service: Service, visible: Visible | None = None, firing: Firing = lambda _: nullcontext("")
    ) -> None:
        """``firing`` is entered around each firing: gives the trace context of the run, "" for none."""
        self._firing = firing
        self._service, self._store, self._keys = service, service.store, service.keys
        self._visible = visible
        #: Crons that a full queue keeps from firing, by the time they were to.
        self._late: dict[str, int | None] = {}
        #: How many that a full queue keeps from firing were looked at already, by partition.
        self._skip: dict[int, int] = {}

    def create(self, cron: Cron) -> Cron:
        """Record a cron; its id is made here. Raises InvalidInput, and ThreadNotFound when it has a thread."""
        if cron.thread_id is not None:
            self._service.get_thread(cron.thread_id)
        cron = dataclasses.replace(cron, tenant=self._service.tenant or "")
        place = self._keys.of_thread(cron.thread_id or new_thread_id()).number
        made = dataclasses.replace(cron, cron_id=new_run_id(place), revision=0)
        stored = self._store.do(calls.put(self._keys, made, next_at=self._first(made)))
        if stored is None:
            raise Conflict(f"Cron {made.cron_id} exists.")
        return stored

    def get(self, cron_id: str) -> Cron:
        """Raises CronNotFound."""
        found = self._store.do(calls.get(self._keys, cron_id)) if is_uuid(cron_id) else None
        if found is None or not self._knows(found):
            raise CronNotFound(f"Cron {cron_id} not found.")
        return found

    def change(self, cron_id: str, change: Callable[[Cron], Cron]) -> Cron:
        """Put what ``change`` makes of a cron in its place; called again when somebody else was faster.

        The next time is counted anew from now when what it depends on has changed. Raises CronNotFound, InvalidInput;
        Conflict after losing twenty races.
        """
        for _ in range(20):
            read = self.get(cron_id)
            wanted = change(read)
            next_at = "unchanged" if _timing(read) == _timing(wanted) else self._first(wanted)
            if stored := self._store.do(calls.put(self._keys, wanted, next_at=next_at)):  # type: ignore[arg-type]
                return stored
        raise Conflict(f"Cron {cron_id} is being changed by many at once; try again.")

    def delete(self, cron_id: str) -> None:
        """Forget a cron; runs that it has started go on. Raises CronNotFound."""
        self._store.do(calls.delete(self._keys, cron_id, self.get(cron_id).thread_id))

    def all(self) -> list[Cron]:
        """Newest first; no more than the 10 000 newest of each partition."""
        ids = self._store.do_all([calls.newest(at, limit=SEARCH_DEPTH) for at in self._keys.all()])
        flat = [cron_id for batch in ids for cron_id in batch]
        found: list[Cron | None] = []
        for start in range(0, len(flat), 500):
            found += self._store.do_all([calls.get(self._keys, cron_id) for cron_id in flat[start : start + 500]])
        known = [cron for cron in found if cron is not None and self._knows(cron)]
        return sorted(known, key=lambda cron: cron.created_at, reverse=True)

    def _knows(self, cron: Cron) -> bool:
        if self._service.tenant not in (None, cron.tenant):
            return False
        return self._visible is None or self._visible(cron.metadata)

    def sweep(self, now_ms: int) -> None:
        """Fire what is due. Called by recovery, with the store's time."""
        places = self._keys.all()
        skips = [self._skip.get(at.number, 0) for at in places]
        due = self._store.do_all(
            [calls.due(at, now_ms, most=_BATCH, skip=skip) for at, skip in zip(places, skips, strict=True)]
        )
        for at, skip, ids in zip(places, skips, due, strict=True):
            stay = self._fire_all(ids, now_ms) if ids else 0
            # What is kept from firing must not hide the crons behind it: the next sweep goes on there, and begins anew
            # when it has come to the end.
            self._skip[at.number] = skip + stay if len(ids) == _BATCH else 0

    def _fire_all(self, ids: Sequence[str], now_ms: int) -> int:
        """Fire these; answers how many stay due."""
        found = self._store.do_all([calls.get(self._keys, cron_id) for cron_id in ids])
        due = [cron for cron in found if cron is not None and cron.next_at is not None and cron.next_at <= now_ms]
        return sum([self._fire(cron, now_ms) for cron in due])

    def _fire(self, cron: Cron, now_ms: int) -> bool:
        """Start a cron's run, or say why not; answers whether it stays due."""
        facts = {"cron_id": cron.cron_id, "graph_id": cron.graph_id, "due_at": cron.next_at}
        try:
            self._service.admission.check(self._keys, cron.tenant)
            with self._firing(cron) as trace:
                run = self._run_of(cron, trace)
                create_thread = cron.thread_id is None
                call = calls.fire(self._keys, cron, run, next_at=_next(cron, now_ms), create_thread=create_thread)
                started = self._store.do(call)
            if started is not None:
                self._service.begun(run, *started)
                log.info("cron.fired", run_id=run.run_id, late_ms=now_ms - (cron.next_at or now_ms), **facts)
        except Refused as refused:  # it stays due, and fires once when the queue has caught up
            self._put_off(cron, refused, now_ms, facts)
            return True
        except ThreadBusy as busy:  # it asked for that: multitask_strategy is "reject"
            log.info("cron.skipped", reason=str(busy), **facts)
        except ThreadNotFound:
            log.warning("cron.deleted", reason="its thread is gone", **facts)
            self._store.do(calls.delete(self._keys, cron.cron_id, cron.thread_id))
        except StoreUnavailable:
            raise
        except Exception as error:  # one cron that cannot be fired must not keep the others, or recovery, from going on
            log.exception("cron.disabled", **facts)
            problem = f"disabled: {type(error).__name__}: {error}"[:500]
            off = dataclasses.replace(cron, enabled=False, payload={**cron.payload, "enabled": False})
            self._store.do(calls.put(self._keys, off, next_at=None, problem=problem))
        return False

    def _put_off(self, cron: Cron, refused: Refused, now_ms: int, facts: Json) -> None:
        """Say once for each time why it does not fire."""
        if self._late.get(cron.cron_id) != cron.next_at:
            self._late[cron.cron_id] = cron.next_at
            metrics.inc("runyard_crons_put_off_total")
            log.warning("cron.put_off", reason=str(refused), late_ms=now_ms - (cron.next_at or now_ms), **facts)

    def _run_of(self, cron: Cron, trace: str = "") -> Run:
        """The run that a firing starts, with the assistant as it is now. Raises AssistantNotFound."""
        request, graph_id, labels = cron.request, cron.graph_id, {}
        if not cron.own:
            assistant = Assistants(self._store, self._keys.of_tenant(cron.tenant)).get(cron.assistant_id)
            request, graph_id, labels = _configured(request, assistant), assistant.graph_id, assistant.metadata
        at = self._keys.of_run(cron.cron_id)
        return self._service.to_run(
            _named(request, cron.cron_id),
            graph_id=graph_id,
            assistant_id=cron.assistant_id,
            thread_id=cron.thread_id or new_thread_id_in(at.number, self._keys.partitions),
            metadata={**labels, **cron.metadata, "cron_id": cron.cron_id},
            strategy=cron.strategy,
            temporary=cron.thread_id is None and cron.on_run_completed != "keep",
            tenant=cron.tenant,
            user=cron.user,
            priority=cron.priority,
            trace=trace,
        )

    def _first(self, cron: Cron) -> int | None:
        """When a new or changed cron fires first. Raises InvalidInput for one that would fire too often or never."""
        schedule, now_ms = Schedule.of(cron.schedule, cron.timezone), self._store.do(clock())
        least_s = self._service.settings.cron_min_interval_s
        if (gap_s := schedule.least_gap_s(now_ms)) < least_s:
            told = f"fires every {gap_s:g} s, and the least is {least_s:g} s (RUNYARD_CRON_MIN_INTERVAL_S)"
            raise InvalidInput(f"schedule: {cron.schedule[:60]!r} {told}")
        return _next(cron, now_ms)


def _named(request: RunRequest, cron_id: str) -> RunRequest:
    """The request of a run whose nodes find the cron that started it in ``config["configurable"]``."""
    configurable = {**(request.config.get("configurable") or {}), "cron_id": cron_id}
    return dataclasses.replace(request, config={**request.config, "configurable": configurable})


def _next(cron: Cron, now_ms: int) -> int | None:
    """When a cron fires after now: never when it is disabled, and not after its end."""
    if not cron.enabled:
        return None
    following = Schedule.of(cron.schedule, cron.timezone).next_after(now_ms)
    return None if following is None or (cron.end_at is not None and following > cron.end_at) else following


def _timing(cron: Cron) -> tuple[Any, ...]:
    return cron.schedule, cron.timezone, cron.end_at, cron.enabled


def _configured(request: RunRequest, assistant: Assistant) -> RunRequest:
    """A request with an assistant's configuration under it."""
    config, context = under(assistant, request.config, request.context)
    if context:
        config["configurable"] = dict(context)
    return dataclasses.replace(request, config=config, context=context)
