"""What a thread tells: the events of its runs one after the other, each with its number in the thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from runyard.engine.live import Live
from runyard.engine.protocol import PROTOCOL
from runyard.engine.run import TERMINAL, Phase, Run
from runyard.engine.store import events, runs
from runyard.engine.store.events import Begun, Event
from runyard.engine.watch import Awaited

#: What a run's beginning is called; it stands in the thread's log and not among the run's events.
BEGIN = "begin"
#: A client starts a run and then listens: one that ended in between is told to it.
JUST_NOW_S = 3.0


@dataclass(frozen=True, slots=True)
class ThreadEvent:
    """An event and the run that told it."""

    run: Run
    event: Event


Parts = AsyncGenerator[Sequence[ThreadEvent], None]


async def follow(
    live: Live, thread_id: str, since: int | None, *, pause_s: float, sees: Callable[[Run], bool]
) -> Parts:
    """Events with a number above ``since``, as they come, for ever; none of them after ``pause_s`` of silence.

    Without ``since`` it begins with the newest run, unless that ended well more than a moment ago or was not started
    by this protocol: who listens first and then starts a run must not take the end of the one before for its own.
    Events that a run told longer ago than its stream is kept, or that were trimmed, are missing. Runs that the reader
    may not see, which ``sees`` says in a thread, are left out.
    """
    known = await live.store.do(events.log(live.keys, thread_id))
    after, since = await _start(live, thread_id, known, since, sees)
    async with aclosing(live.runs(thread_id, after, pause_s=pause_s)) as beginnings:
        async for some in beginnings:
            if not some:
                yield ()
            for begun in some:
                async with aclosing(_of_run(live, begun, pause_s, sees)) as parts:
                    async for told in parts:
                        fresh = [found for found in told if found.event.seq > since]
                        since = max(since, told[-1].event.seq if told else 0)
                        if fresh or not told:
                            yield fresh


async def _start(
    live: Live, thread_id: str, known: list[Begun], since: int | None, sees: Callable[[Run], bool]
) -> tuple[str, int]:
    """After which entry of the log, and after which number, a reader begins."""
    if not known:
        return events.START, since or 0
    if since is None:
        wanted = await _news(live, thread_id, known, sees)
        since = 0
    else:
        wanted = max([index for index, begun in enumerate(known) if begun.seq <= since], default=0)
    return (known[wanted - 1].id if wanted else events.START), since


async def _news(live: Live, thread_id: str, known: list[Begun], sees: Callable[[Run], bool]) -> int:
    """How many of the thread's runs a new reader leaves out."""
    [active], _ = [ids or [""] for ids in await live.store.do_all(runs.unfinished(live.keys, thread_id))]
    if active:  # perhaps it has told nothing yet; then nothing that was told before is news
        return next((index for index, begun in enumerate(known) if begun.run_id == active), len(known))
    return len(known) - 1 if await _is_news(live, known[-1], sees) else len(known)


async def _is_news(live: Live, begun: Begun, sees: Callable[[Run], bool]) -> bool:
    run = await _seen(live, begun, sees)
    if run is None:
        return False
    if run.phase not in TERMINAL or run.phase is Phase.PAUSED:
        return True
    just_now = time.time() - (run.ended_at or 0) / 1000 < JUST_NOW_S
    return just_now and PROTOCOL in run.request.stream_mode  # nobody waits here for a run of another door


async def _seen(live: Live, begun: Begun, sees: Callable[[Run], bool]) -> Run | None:
    run = await live.run(begun.run_id)
    return run if run is not None and await asyncio.to_thread(sees, run) else None


async def _of_run(live: Live, begun: Begun, pause_s: float, sees: Callable[[Run], bool]) -> Parts:
    run = await _seen(live, begun, sees)
    if run is None:  # forgotten, rolled back, or not to be seen
        return
    yield [ThreadEvent(run, Event(begun.id, BEGIN, b"{}", begun.seq))]
    last = begun.seq
    async with aclosing(until_over(live, run, events.START, pause_s)) as parts:
        async for some in parts:
            told = []
            for event in some:
                last = event.seq or last + 1
                if event.name == events.END:
                    run = await live.run(begun.run_id) or replace(run, phase=Phase.CANCELLED)
                told.append(ThreadEvent(run, replace(event, seq=last)))
            yield told


async def until_over(
    live: Live, run: Run, after: str, pause_s: float, *, only_end: bool = False, awaited: Awaited | None = None
) -> AsyncGenerator[Sequence[Event], None]:
    """A run's events until its last, some at a time; until there are no more when they were forgotten after its end.

    None of them after ``pause_s`` of silence. ``only_end`` and ``awaited`` as in :meth:`Live.events`.
    """
    over = run.phase in TERMINAL
    pause_s = 0 if over else pause_s
    async with aclosing(live.events(run.run_id, after, pause_s=pause_s, only_end=only_end, awaited=awaited)) as parts:
        async for some in parts:
            if not some and over:
                return
            told = _to_the_end(some)
            yield told
            if told and told[-1].name == events.END:
                return
            # The last event is written together with the final status: one more look finds it, if it was kept.
            over = over or (not some and await live.is_over(run.run_id))


def _to_the_end(some: Sequence[Event]) -> Sequence[Event]:
    """Events up to a run's last; a run that was revived tells more after it, to who comes back for it."""
    for index, event in enumerate(some):
        if event.name == events.END:
            return some[: index + 1]
    return some
