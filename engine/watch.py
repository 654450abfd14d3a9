"""Waiting for what runs tell: one subscription for a whole process, however many clients wait.

The channel of a run only says "look"; what there is to see is read from its stream. The channels of ends also say what
a run came to, if that is small, so that who waits for that alone need not look. A process listens for the ends of runs
that it made, and of others only while somebody waits for one. A lost message costs a waiting client at most one pause
between looks, and a client that joins late looks first and misses nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Protocol, Self, TypeVar

import redis
import structlog

from runyard.engine.errors import Sealed
from runyard.engine.ids import maker_of_run, new_maker
from runyard.engine.run import TERMINAL, Run
from runyard.engine.store import events
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.events import Event
from runyard.engine.store.keys import Keys, tells_ends

log = structlog.get_logger(__name__)

#: A waiting client looks at least this often, whatever the channel says.
LOOK_S = 1.0
#: What is told before the store knows of a new subscription rings no bell: a reader looks again so soon after it came.
SETTLED_S = 0.25


class _Entry(Protocol):
    @property
    def id(self) -> str: ...


E = TypeVar("E", bound=_Entry)


class Bell(Protocol):
    """What wakes a reader; set from the thread that hears the store."""

    #: The end of the run, where that was told with the news of it.
    told: Event | None

    def set(self) -> None: ...


class ThreadBell(threading.Event):
    """Wakes a thread."""

    told: Event | None = None


class Awaited:
    """A wait for the end of a run; :meth:`begin` before the run is recorded, and nothing of it can be missed.

    A block with it listens until it is left, unless somebody else is to listen on.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._waking = ThreadBell()
        #: The one that is rung: that of the thread, unless another has taken its place.
        self._bell: Bell = self._waking
        self._run_id = ""
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self._kept:
            self.leave()

    def begin(self, run: Run) -> None:
        """Listen for the end of ``run``, which does not exist yet."""
        self.leave()
        self._run_id = run.run_id
        self._watch.enter_end(run.run_id, self._bell)

    def keep(self, run: Run) -> bool:
        """Listen on after the block's end, until :meth:`leave`, if nothing of ``run`` can have been missed so far."""
        self._kept = self._run_id == run.run_id
        return self._kept

    def ring(self, bell: Bell) -> None:
        """Ring another bell from now on; at once if the end has been told meanwhile."""
        if self._run_id:
            self._watch.replace(self._run_id, self._bell, bell)
            self._bell = bell

    def end(self, run: Run, *, within_s: float) -> Event | None:
        """The last event of ``run`` if it comes in time. Who has not begun before that run was recorded looks first.

        Raises StoreUnavailable.
        """
        ends, patience_s = time.monotonic() + within_s, LOOK_S
        look = self._run_id != run.run_id
        bell = self._waking
        if look:
            if run.phase in TERMINAL and (event := self._watch.end_now(run.run_id)):
                return event
            self.begin(run)
            patience_s = SETTLED_S
        while True:
            if look and (event := self._watch.end_now(run.run_id)):
                return event
            rest_s = ends - time.monotonic()
            if rest_s <= 0:
                return None
            bell.wait(min(patience_s, rest_s))
            if bell.told:
                return bell.told
            bell.clear()
            look, patience_s = True, LOOK_S

    def leave(self) -> None:
        """Listen no more."""
        if self._run_id:
            self._watch.leave_end(self._run_id, self._bell)
            self._run_id = ""


class Watch:
    """One per process; its thread starts with the first reader."""

    def __init__(self, store: SyncStore, keys: Keys) -> None:
        self._store, self._keys = store, keys
        #: Whose runs' ends it listens for: runs of this process are made in this name.
        self.maker = new_maker()
        #: For each channel who waits there, and who waits for the end of a run and nothing else.
        self._bells: dict[str, set[Bell]] = defaultdict(set)
        self._bells_of_ends: dict[str, set[Bell]] = defaultdict(set)
        self._lock = threading.Lock()
        self._channel: redis.client.PubSub | None = None
        #: Whether it listens for the ends of its own runs, and how many wait at each channel of others' ends.
        self._hears_its_own = False
        self._waiting: Counter[str] = Counter()
        self._closed = False

    def close(self) -> None:
        """Hear no more, and let the thread end. Readers that are left look every LOOK_S."""
        with self._lock:
            self._closed = True
            if self._channel is not None:
                # Its thread hears of that and closes it: closed under a read, it would connect and subscribe anew.
                with suppress(redis.RedisError, OSError):
                    self._channel.unsubscribe()  # type: ignore[no-untyped-call]

    def events(
        self, run_id: str, after: str = events.START, *, pause_s: float = 5.0, only_end: bool = False
    ) -> Iterator[Event | None]:
        """A run's events after an id, as they come, until its last (``end``). None every ``pause_s`` of silence.

        With ``only_end`` just the last one: who waits for a result is not woken for every token.
        The iterator never ends by itself while the run is active; an ended run whose events were forgotten yields
        nothing but None: the caller, who knows the run's status, decides.
        """

        def look(after: str) -> Call[list[Event]]:
            return events.end(self._keys, run_id) if only_end else events.read(self._keys, run_id, after)

        with closing(self._follow(run_id, look, after, pause_s, only_end=only_end)) as found:
            for event in found:
                yield event
                if event is not None and event.name == events.END:
                    return

    def awaited(self) -> Awaited:
        """A wait for one run's end. For who waits after the run was recorded, too."""
        return Awaited(self)

    def end_now(self, run_id: str) -> Event | None:
        """The last event of a run that has ended. Raises StoreUnavailable."""
        found = self._store.do(events.end(self._keys, run_id))
        return found[0] if found else None

    def _follow(
        self, run_id: str, read: Callable[[str], Call[list[E]]], after: str, pause_s: float, *, only_end: bool
    ) -> Generator[E | None, None, None]:
        with self._listening(run_id, only_end=only_end) as bell:
            heard = time.monotonic()
            while True:
                bell.clear()
                found = self._store.do(read(after))
                for entry in found:
                    after = entry.id
                    yield entry
                if found:
                    heard = time.monotonic()
                elif not bell.wait(min(LOOK_S, pause_s)) and time.monotonic() - heard >= pause_s:
                    heard = time.monotonic()
                    yield None

    @contextmanager
    def _listening(self, run_id: str, *, only_end: bool) -> Iterator[ThreadBell]:
        bell, name = ThreadBell(), run_id if only_end else self._keys.of_run(run_id).events(run_id)
        enter, leave = (self.enter_end, self.leave_end) if only_end else (self.enter, self.leave)
        enter(name, bell)
        try:
            yield bell
        finally:
            leave(name, bell)

    def enter(self, channel: str, bell: Bell) -> None:
        """Ring ``bell`` for what is told on a channel from now on, until it leaves."""
        with self._lock:
            first = not self._bells[channel]
            self._bells[channel].add(bell)
            if first:
                self._tell("subscribe", channel)

    def leave(self, channel: str, bell: Bell) -> None:
        """Ring ``bell`` no more."""
        with self._lock:
            self._bells[channel].discard(bell)
            if not self._bells[channel]:
                del self._bells[channel]
                self._tell("unsubscribe", channel)

    def hears_end(self, run_id: str) -> bool:
        """Whether the store need not be asked to tell of this run's end: it costs nothing more to wait for it."""
        return self._hears_its_own and self._made(run_id)

    def enter_end(self, run_id: str, bell: Bell) -> None:
        """Ring ``bell`` for a run's end, and nothing else of it, until it leaves."""
        with self._lock:
            self._bells_of_ends[run_id].add(bell)
            if self._made(run_id):
                self._hear_its_own()
                return
            channel = self._ends_of(run_id)
            self._waiting[channel] += 1
            if self._waiting[channel] == 1:
                self._tell("subscribe", channel)

    def leave_end(self, run_id: str, bell: Bell) -> None:
        """Ring ``bell``, which was entered for a run's end, no more. One that has left may leave again."""
        with self._lock:
            bells = self._bells_of_ends.get(run_id, set())
            if bell not in bells:
                return
            bells.remove(bell)
            if not bells:
                del self._bells_of_ends[run_id]
            if self._made(run_id):
                return
            channel = self._ends_of(run_id)
            self._waiting[channel] -= 1
            if not self._waiting[channel]:
                del self._waiting[channel]
                self._tell("unsubscribe", channel)

    def replace(self, run_id: str, old: Bell, new: Bell) -> None:
        """Ring ``new`` for a run's end in the place of ``old``, unless that has left; at once if it was rung."""
        with self._lock:
            bells = self._bells_of_ends.get(run_id, set())
            if old not in bells:
                return
            bells.remove(old)
            bells.add(new)
            if old.told:
                new.told = old.told
                new.set()

    def _made(self, run_id: str) -> bool:
        return maker_of_run(run_id) == self.maker

    def _ends_of(self, run_id: str) -> str:
        return self._keys.of_run(run_id).ends(maker_of_run(run_id))

    def _hear_its_own(self) -> None:
        """All its runs' ends come through a channel for each partition, from now on."""
        if not self._hears_its_own:
            self._tell("subscribe", *(at.ends(self.maker) for at in self._keys.all()))
            self._hears_its_own = True

    def _tell(self, verb: str, *channels: str) -> None:
        """Change the subscription. When the store is away, redis-py subscribes to everything anew once it is back."""
        if self._closed:
            return
        if self._channel is None:
            self._channel = self._store.subscription()
            threading.Thread(target=self._listen_for_ever, args=(self._channel,), name="watch", daemon=True).start()
        with suppress(redis.RedisError):
            getattr(self._channel, verb)(*channels)

    def _listen_for_ever(self, channel: redis.client.PubSub) -> None:
        while not self._closed:
            try:
                if not channel.subscribed:
                    time.sleep(0.01)
                    continue
                if message := channel.get_message(timeout=30.0):
                    self._hear(message["channel"].decode(), message["data"])
            except (redis.RedisError, OSError, ValueError, TypeError, AttributeError):
                # The last two: a subscription from another thread reconnects while this one reads. redis-py subscribes
                # anew by itself when the connection is back.
                time.sleep(0.2)
            except Exception:  # without this thread no bell would ever ring again
                log.exception("watch.failed")
                time.sleep(0.2)
        with suppress(redis.RedisError, OSError):
            channel.close()

    def _hear(self, channel: str, data: bytes) -> None:
        ended = events.ended(data) if tells_ends(channel) else None
        with self._lock:  # a bell that is replaced meanwhile is rung before, or not at all
            bells = self._bells.get(channel, ()) if ended is None else self._bells_of_ends.get(ended, ())
            told = self._told(data) if ended is not None and bells else None
            for bell in bells:
                bell.told = told
                bell.set()

    def _told(self, data: bytes) -> Event | None:
        try:
            return events.told_end(self._keys, data)
        except Sealed:  # who then reads it is told why
            return None
