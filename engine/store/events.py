"""What a run tells its readers: a Redis stream for each run.

Entries have a name ``e`` and JSON ``d`` that is ready to be sent. The last entry of a run is always ``end``; it is
written by the script that ends the run, so whoever has seen it finds the final status in the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runyard.engine.store.client import Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

END = "end"
START = "0-0"


@dataclass(frozen=True, slots=True)
class Event:
    """``name`` is what SSE calls the event, ``data`` its JSON text, ``id`` its place in the stream."""

    id: str
    name: str
    data: bytes


def append(
    keys: Keys, run_id: str, fence: Fence, already: int, events: Sequence[tuple[str, bytes]], *, keep: int
) -> Call[int]:
    """Append events; ``already`` is how many this fence appended before. Answers how many that makes. Raises LeaseLost.

    About ``keep`` entries stay in the stream: a reader that falls further behind misses the oldest.
    """
    words: list[str | bytes | int] = [fence.field, fence.value, already, keep]
    for name, data in events:
        words += [name, data]
    return Call(script("append_events"), (fence.key, keys.of_run(run_id).events(run_id)), tuple(words), int)


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


def result_in(event: Event) -> bytes:
    """The result that an ``end`` event carries, as the JSON it is."""
    return event.data.partition(b'"result":')[2][:-1] or b"{}"


def last(keys: Keys, run_id: str) -> Call[Event | None]:
    """The newest event, or None when there is none (yet, or any more)."""
    key = keys.of_run(run_id).events(run_id)
    return Call.command("XREVRANGE", key, "+", "-", "COUNT", 1, parse=lambda reply: next(iter(_events(reply)), None))


def _events(reply: Sequence[Any]) -> list[Event]:
    events = []
    for entry_id, fields in reply:
        flat = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
        events.append(Event(entry_id.decode(), flat[b"e"].decode(), flat[b"d"]))
    return events
