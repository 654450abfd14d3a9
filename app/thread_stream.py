"""A thread's stream in the words of the classic API: it outlives runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from runyard.app.sse import frame
from runyard.engine import wire
from runyard.engine.protocol import PREFIX
from runyard.engine.store.events import END
from runyard.engine.thread_events import BEGIN, ThreadEvent

MODES = ("run_modes", "lifecycle", "state_update")


def shower(modes: Collection[str]) -> Callable[[ThreadEvent], bytes]:
    """Makes the frame of an event that is part of one of the modes, and nothing of the others."""

    def shown(found: ThreadEvent) -> bytes:
        name, event_id = found.event.name, str(found.event.seq)
        if name == BEGIN:
            return frame("metadata", _metadata(found, attempt=1, status="run_started"), event_id)
        if name == END:
            return _error(found) + frame("metadata", _metadata(found, status="run_done"), event_id)
        if "run_modes" in modes and not name.startswith(PREFIX):
            return frame(name, found.event.data, event_id)
        if "state_update" in modes and name == "values":
            return frame("state_update", found.event.data, event_id)
        return b""

    return shown


def _metadata(found: ThreadEvent, **more: Any) -> bytes:
    return wire.encode({"run_id": found.run.run_id, **more})


def _error(found: ThreadEvent) -> bytes:
    error = found.run.error
    return frame("error", wire.encode({key: error.get(key) for key in ("error", "message")})) if error else b""
