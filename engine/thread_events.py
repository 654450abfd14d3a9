"""What a thread tells: the events of its runs one after the other, each with its number in the thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from runyard.engine.errors import RunNotFound
from runyard.engine.run import TERMINAL, Phase, Run
from runyard.engine.service import Service
from runyard.engine.store import events
from runyard.engine.store.events import Begun, Event

#: What a run's beginning is called; it stands in the thread's log and not among the run's events.
BEGIN = "begin"
#: A client starts a run and then listens: one that ended in between is told to it.
JUST_NOW_S = 3.0
#: An ended run has nothing more to say: a look this short tells that there are no events left.
GLANCE_S = 0.01


@dataclass(frozen=True, slots=True)
class ThreadEvent:
    """An event and the run that told it."""

    run: Run
    event: Event


Parts = Iterator[ThreadEvent | None]


def follow(service: Service, thread_id: str, since: int | None, *, pause_s: float) -> Parts:
    """Events with a number above ``since``, as they come, for ever; None every ``pause_s`` of silence.

    Without ``since`` it begins with the newest run, unless that ended well more than a moment ago: who listens first
    and then starts a run must not take the end of the one before for its own. Events that a run told longer ago than
    its stream is kept, or that were trimmed, are missing.
    """
    known = service.store.do(events.log(service.keys, thread_id))
    after, since = _start(service, known, since)
    with closing(service.runs_of(thread_id, after, pause_s=pause_s)) as runs:
        for begun in runs:
            if begun is None:
                yield None
                continue
            for found in _of_run(service, begun, pause_s):
                if found is None:
                    yield None
                elif found.event.seq > since:
                    since = found.event.seq
                    yield found


def _start(service: Service, known: list[Begun], since: int | None) -> tuple[str, int]:
    """After which entry of the log, and after which number, a reader begins."""
    if not known:
        return events.START, since or 0
    if since is None:
        wanted = len(known) - 1 if _is_news(service, known[-1]) else len(known)
        since = 0
    else:
        wanted = max([index for index, begun in enumerate(known) if begun.seq <= since], default=0)
    return (known[wanted - 1].id if wanted else events.START), since


def _is_news(service: Service, begun: Begun) -> bool:
    run = _run(service, begun.run_id)
    if run is None:
        return False
    ended_at = run.ended_at or 0
    return run.phase not in TERMINAL or run.phase is Phase.PAUSED or time.time() - ended_at / 1000 < JUST_NOW_S


def _run(service: Service, run_id: str) -> Run | None:
    try:
        return service.get_run(run_id)
    except RunNotFound:
        return None


def _of_run(service: Service, begun: Begun, pause_s: float) -> Parts:
    run = _run(service, begun.run_id)
    if run is None:  # forgotten, or rolled back
        return
    yield ThreadEvent(run, Event(begun.id, BEGIN, b"{}", begun.seq))
    last = begun.seq
    for event in until_over(service, run, events.START, pause_s):
        if event is None:
            yield None
            continue
        last = event.seq or last + 1
        if event.name == events.END:
            run = _run(service, begun.run_id) or replace(run, phase=Phase.CANCELLED)
        yield ThreadEvent(run, replace(event, seq=last))


def until_over(service: Service, run: Run, after: str, pause_s: float) -> Iterator[Event | None]:
    """A run's events until its last; until there are no more when they were forgotten after its end."""
    over = run.phase in TERMINAL
    for event in service.events(run.run_id, after, pause_s=GLANCE_S if over else pause_s):
        if event is None and over:
            return
        yield event
        if event is None:
            now = _run(service, run.run_id)
            # The last event is written together with the final status: one more look finds it, if it was kept.
            over = now is None or now.phase in TERMINAL
