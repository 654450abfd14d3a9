"""Cancelling many runs at once: those of a thread that are named, or all that wait or run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from runyard.engine.errors import InvalidTransition, RunNotFound
from runyard.engine.ids import is_uuid
from runyard.engine.run import TERMINAL, CancelAction, Phase, Run
from runyard.engine.service import Service
from runyard.engine.store import runs
from runyard.engine.store.client import Call

Wanted = Literal["pending", "running", "all"]


def cancel_named(service: Service, thread_id: str, run_ids: Sequence[str], action: CancelAction) -> int:
    """Ask for the end of runs of one thread; answers how many had not ended."""
    found = _read(service, (run_id for run_id in run_ids if is_uuid(run_id)))
    return _cancel(service, [run for run in found if run.thread_id == thread_id and service.sees(run)], action)


def cancel_all(service: Service, wanted: Wanted, action: CancelAction) -> int:
    """Ask for the end of every run of the tenant with this status; answers how many.

    What is accepted meanwhile may be left out.
    """
    found = _read(service, _unfinished(service))
    return _cancel(service, [run for run in found if wanted in ("all", run.status) and service.sees(run)], action)


def _cancel(service: Service, found: Iterable[Run], action: CancelAction) -> int:
    cancelled = 0
    # those in a queue first, so that nothing of it is admitted in between
    for run in sorted(found, key=lambda run: run.phase is not Phase.QUEUED):
        if run.phase in TERMINAL:
            continue
        try:
            service.cancel_run(run, action)
        except (InvalidTransition, RunNotFound):  # it ended in the meantime
            continue
        cancelled += 1
    return cancelled


def _unfinished(service: Service) -> list[str]:
    """Ids of all runs that wait or run: those in the indexes of their partitions, and those queued behind them."""
    at_work = _indexed(service)
    threads = list(dict.fromkeys(run.thread_id for run in _read(service, at_work)))
    pairs = [call for thread_id in threads for call in runs.unfinished(service.keys, thread_id)]
    return [*at_work, *(run_id for batch in service.store.do_all(pairs) for run_id in batch)]


def _indexed(service: Service) -> list[str]:
    calls = [
        Call.command("ZRANGE", index, 0, -1, parse=lambda reply: [member.decode() for member in reply])
        for at in service.keys.all()
        for index in (at.waiting, at.leases, at.due)
    ]
    return [runs.split_member(member)[0] for batch in service.store.do_all(calls) for member in batch]


def _read(service: Service, run_ids: Iterable[str]) -> list[Run]:
    calls = [runs.get(service.keys, run_id) for run_id in dict.fromkeys(run_ids)]
    return [run for run in service.store.do_all(calls) if run is not None]
