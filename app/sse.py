"""A run's events as server-sent events, and its result as JSON that is waited for.

A generator here lives as long as its client: when the client goes, the server closes the generator. The store may go
away and come back meanwhile; the client sees nothing of it but silence and heartbeats.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runyard.engine import wire
from runyard.engine.errors import Conflict, NotFound, RunNotFound, StoreUnavailable
from runyard.engine.protocol import PREFIX
from runyard.engine.run import TERMINAL, CancelAction, Run
from runyard.engine.service import Service
from runyard.engine.store import events
from runyard.engine.store.events import Event
from runyard.engine.thread_events import ThreadEvent, follow as follow_thread

#: Clients learn this interval and reconnect when it is exceeded: once begun, it must go on.
HEARTBEAT_S = 5.0
#: How soon a client is missed whose going cancels its run.
LOOK_S = 1.0
HEARTBEAT = b": heartbeat\n\n"
#: An ended run has nothing more to say: a look this short tells that there are no events left.
GLANCE_S = 0.01

#: The events that a client's word for a mode stands for, without their subgraph suffix.
EVENTS_OF: dict[str, tuple[str, ...]] = {
    "messages": ("messages/metadata", "messages/partial", "messages/complete"),
    "messages-tuple": ("messages",),
}

Gone = Callable[[], bool]


class ClientGone(Exception):
    """The client has closed its connection; nobody will read what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What one reader wants to see of a run."""

    after: str = events.START
    #: Names of events; None: all that the run tells.
    names: frozenset[str] | None = None
    ids: bool = False
    #: Whether to begin with the run's ids.
    greeting: bool = True

    def shows(self, event: Event) -> bool:
        if event.name.startswith(PREFIX):  # told to clients of the thread-centric protocol
            return False
        return self.names is None or event.name.partition("|")[0] in self.names


def names_of(modes: Collection[str]) -> frozenset[str] | None:
    """Event names for stream modes; None, which is everything, when no mode is given."""
    return frozenset(name for mode in modes for name in EVENTS_OF.get(mode, (mode,))) or None


def frame(name: str, data: bytes, event_id: str = "") -> bytes:
    last = b"id: %b\n" % event_id.encode() if event_id else b""
    return b"event: %b\ndata: %b\n%b\n" % (name.encode(), data, last)


def stream(service: Service, run: Run, view: View, gone: Gone) -> Iterator[bytes]:
    """The events of a run until it has ended; the status is final before this ends."""
    if view.greeting:
        yield frame("metadata", wire.encode({"run_id": run.run_id, "attempt": 1}))
    else:
        yield b""  # the headers go out now
    for event in follow(service, run, view.after, gone):
        if event is None:
            yield HEARTBEAT
        elif event.name == events.END:
            yield from _last(event, view)
        elif view.shows(event):
            yield frame(event.name, event.data, event.id if view.ids else "")


def _last(event: Event, view: View) -> Iterator[bytes]:
    """Nothing for a run that ended well: the stream just closes. A failure is told."""
    ended = wire.decode(event.data)
    result = ended.get("result")
    error = result.get("__error__") if isinstance(result, dict) else None
    if error and ended.get("status") in ("error", "timeout"):
        yield frame("error", wire.encode(error), event.id if view.ids else "")


def follow(service: Service, run: Run, after: str, gone: Gone, *, only_end: bool = False) -> Iterator[Event | None]:
    """Events after an id, until the last, or just that; None when a heartbeat is due. Survives the store's absence."""
    while True:
        try:
            for event in _look(service, run, after, gone, only_end=only_end):
                after = event.id if event is not None else after
                yield event
            return
        except StoreUnavailable:
            yield None


def _look(service: Service, run: Run, after: str, gone: Gone, *, only_end: bool) -> Iterator[Event | None]:
    over = run.phase in TERMINAL
    heard = time.monotonic()
    for event in service.events(run.run_id, after, pause_s=GLANCE_S if over else LOOK_S, only_end=only_end):
        if event is not None:
            heard = time.monotonic()
            yield event
        elif gone():
            raise ClientGone
        elif over:
            return
        elif time.monotonic() - heard >= HEARTBEAT_S:
            heard = time.monotonic()
            yield None
            # The last event is written together with the final status: one more look finds it, if it was kept.
            over = is_over(service, run)


def is_gone(service: Service, run: Run) -> bool:
    try:
        service.get_run(run.run_id)
    except RunNotFound:
        return True
    return False


def is_over(service: Service, run: Run) -> bool:
    try:
        return service.get_run(run.run_id).phase in TERMINAL
    except RunNotFound:
        return True


def thread(
    service: Service, thread_id: str, since: int | None, shown: Callable[[ThreadEvent], bytes], gone: Gone
) -> Iterator[bytes]:
    """What a thread tells, for as long as the client listens: ``shown`` makes a frame of an event, or nothing."""
    yield b""  # the headers go out now
    heard = time.monotonic()
    while True:
        try:
            for found in follow_thread(service, thread_id, since, pause_s=LOOK_S):
                if part := shown(found) if found is not None else b"":
                    yield part
                    heard = time.monotonic()
                elif gone():
                    return
                elif time.monotonic() - heard >= HEARTBEAT_S:
                    yield HEARTBEAT
                    heard = time.monotonic()
                since = found.event.seq if found is not None else since
        except StoreUnavailable:
            yield HEARTBEAT


def result(service: Service, run: Run, gone: Gone) -> Iterator[bytes]:
    """The run's result as JSON, after a newline every few seconds of waiting."""
    yield b""  # the headers go out now
    for event in follow(service, run, events.START, gone, only_end=True):
        if event is None:
            yield b"\n"
        elif event.name == events.END:
            yield events.result_in(event)
            return
    # It ended so long ago that its events were forgotten: what the store still knows.
    yield from (part or b"\n" for part in service.result(run))


def ending(service: Service, run: Run, action: CancelAction) -> Iterator[bytes]:
    """``{}`` once a run that is being cancelled is over; once it is gone, when it is rolled back."""
    yield b""
    after = events.START
    while True:
        for event in follow(service, run, after, lambda: False):
            after = event.id if event is not None else after
            if event is None:
                yield b"\n"
        if action != "rollback" or is_gone(service, run):
            break
    yield b"{}"


def attended(parts: Iterator[bytes], service: Service, run: Run, *, cancel: bool) -> Iterator[bytes]:
    """``parts``; when the client goes before they end and ``cancel`` is set, the run is cancelled."""
    complete = False
    try:
        yield from parts
        complete = True
    except ClientGone:
        pass
    finally:
        if cancel and not complete:
            _abandon(service, run)


def _abandon(service: Service, run: Run) -> None:
    try:
        service.cancel_run(run)
    except (NotFound, Conflict):
        pass  # it ended at the same moment
    except StoreUnavailable:
        pass  # fails open: the run goes on, as it would for a client that asked for nothing


def absence(environ: Mapping[str, Any]) -> Gone:
    """Tells whether the client has closed its connection, where the server lets us see the socket."""
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return lambda: False  # a TLS socket cannot be peeked into; its client is missed at the next heartbeat

    def gone() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except (OSError, ValueError):  # reset by the client, or closed on our side
            return True

    return gone
