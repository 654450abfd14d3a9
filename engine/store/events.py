"""What a run tells its readers: a Redis stream for each run, and for each thread a log of its runs.

Entries have a name ``e`` and JSON ``d`` that is ready to be sent. The last entry of a run is always ``end``; it is
written by the script that ends the run, so whoever has seen it finds the final status in the record.

Events are numbered through the life of their thread. The thread's log names its runs in the order in which they began
to tell something, so a thread is read by reading its runs one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runyard.engine.store.client import Call
from runyard.engine.store.keys import Keys
from runyard.engine.store.save import Part

END = "end"
#: An ``end`` whose result the thread keeps.
_KEPT = re.compile(rb'\{"status":"\w+","kept":true,"asked":(.*)\}', re.DOTALL)
START = "0-0"
#: How long a thread's log outlives the beginning of its newest run.
LOG_TTL_MS = 86_400_000
#: How long whoever has seen it name a run takes it to do so, in seconds.
LISTED_FOR_S = 3_600


@dataclass(frozen=True, slots=True)
class Event:
    """``name`` is what SSE calls the event, ``data`` its JSON text, ``id`` its place in the stream."""

    id: str
    name: str
    data: bytes
    #: Its number in the thread; 0 for a run's last, which has the one after the event before it.
    seq: int = 0

    @property
    def at_ms(self) -> int:
        """When it was told, on the store's clock."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Begun:
    """A run in its thread's log; ``seq`` is the number of its beginning, before that of its first event."""

    id: str
    run_id: str
    seq: int

    @property
    def at_ms(self) -> int:
        return int(self.id.partition("-")[0])


def part(
    keys: Keys,
    run_id: str,
    events: Sequence[tuple[str, bytes]],
    *,
    keep: int | None,
    thread_id: str | None = None,
    listed: bool = False,
) -> Part:
    """Events to save. Without any, readers of the thread learn that the run has begun.

    About ``keep`` entries stay in the stream, or all, for this once, when it is None: a reader that falls further
    behind misses the oldest. Readers of the thread see the run only when ``thread_id`` is given; ``listed``: their log
    is sure to name it.
    """
    at = keys.of_run(run_id)
    wanted, words = [at.events(run_id)], list[str | bytes | int]([keep or ""])
    if thread_id:
        wanted.append(at.thread(thread_id))
        if not listed:
            wanted.append(at.thread_log(thread_id))
            words += (run_id, LOG_TTL_MS)
    for name, data in events:
        words += (name, keys.seal(data, run_id))
    return Part("events", tuple(wanted), tuple(words))


def read(keys: Keys, run_id: str, after: str, *, count: int = 500) -> Call[list[Event]]:
    """Events strictly after the id ``after``, oldest first, without waiting."""
    key = keys.of_run(run_id).events(run_id)
    return Call.command("XRANGE", key, f"({after}", "+", "COUNT", count, parse=_events)


def end(keys: Keys, run_id: str) -> Call[list[Event]]:
    """The last event of a run that has ended, alone; empty before, and when it was forgotten."""
    key = keys.of_run(run_id).events(run_id)
    return Call.command(
        "XREVRANGE", key, "+", "-", "COUNT", 1, parse=lambda r: [e for e in _events(r) if e.name == END]
    )


def ended(told: bytes) -> str:
    """Which run has ended, as the channel of ends tells it."""
    return told.partition(b" ")[0].decode()


def told_end(keys: Keys, told: bytes) -> Event | None:
    """The run's last event, if the channel of ends tells it, too. Raises Sealed for one that cannot be decrypted."""
    name, _, rest = told.partition(b" ")
    event_id, _, data = rest.partition(b" ")
    if not event_id:
        return None
    if keys.vault is not None:
        data = keys.vault.open(data, lambda owner: owner == name.decode())
    return Event(event_id.decode(), END, data)


def result_in(event: Event) -> bytes | None:
    """The result that an ``end`` event carries, as the JSON it is; None: the run was cancelled and left nothing new, or
    its thread keeps the result."""
    if asked_in(event) is not None:
        return None
    return event.data.partition(b'"result":')[2][:-1] or None


def asked_in(event: Event) -> bytes | None:
    """What a run asks whose ``end`` says that its thread keeps the result, as JSON; None: this one does not say so."""
    found = _KEPT.match(event.data)
    return found[1] if found else None


def last(keys: Keys, run_id: str) -> Call[Event | None]:
    """The newest event, or None when there is none (yet, or any more)."""
    key = keys.of_run(run_id).events(run_id)
    return Call.command("XREVRANGE", key, "+", "-", "COUNT", 1, parse=lambda reply: next(iter(_events(reply)), None))


def log(keys: Keys, thread_id: str, after: str = START) -> Call[list[Begun]]:
    """The runs of a thread that began to tell after the log's id ``after``, oldest first."""
    key = keys.of_thread(thread_id).thread_log(thread_id)
    return Call.command("XRANGE", key, f"({after}", "+", parse=_begun)


def last_seq(keys: Keys, thread_id: str) -> Call[int]:
    """The number of the newest event of a thread; 0 when there was none."""
    return Call.command("HGET", keys.of_thread(thread_id).thread(thread_id), "seq", parse=lambda reply: int(reply or 0))


def _begun(reply: Sequence[Any]) -> list[Begun]:
    return [Begun(entry_id.decode(), _flat(f)[b"r"].decode(), int(_flat(f)[b"s"])) for entry_id, f in reply]


def _flat(fields: Any) -> dict[bytes, bytes]:
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))


def _events(reply: Sequence[Any]) -> list[Event]:
    events = []
    for entry_id, fields in reply:
        flat = _flat(fields)
        events.append(Event(entry_id.decode(), flat[b"e"].decode(), flat[b"d"], int(flat.get(b"s", 0))))
    return events
