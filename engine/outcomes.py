"""What a slice or a branch came to, as a person reads it beside the task that did it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runyard.engine import redact
from runyard.engine.run import (
    Advanced,
    Cancelled,
    Dispatched,
    Failed,
    Finished,
    Interrupted,
    Outcome,
    Parked,
    RetryLater,
    Run,
    TimedOut,
)

#: Told of a run and what its slice, or its branch, came to, once that is saved.
Tell = Callable[[Run, Any], None]
#: What a parked node waits for, by what it waits at.
ROOM = {
    "limit": "a share of limit {name!r}",
    "circuit": "circuit {name!r} to close",
    "tenant": "another run of tenant {name!r} to end",
    "graph": "another run of graph {name!r} to end",
    "exhausted": "an operator: its attempts are used up ({name})",
}


def in_words(outcome: Outcome) -> str:  # noqa: C901, PLR0911 - one sentence each
    """What a slice came to; see :func:`failure_in_words` for those that failed."""
    match outcome:
        case Finished():
            return "finished"
        case Interrupted(interrupts=interrupts):
            return "waits for a person" if interrupts else "stopped at a breakpoint"
        case Advanced():
            return "goes on in another slice"
        case Dispatched(branches):
            return f"spread over {len(branches)} branches: {_names(node for b in branches for node in b.nodes)}"
        case RetryLater(wait_s, nodes):
            what = _names(f"{node}, attempt {attempt}" for node, attempt in nodes)
            return f"tries again in {wait_s:.1f} s{': ' if what else ''}{what}"
        case Parked(_, parked):
            return (
                f"parked: {_names(entry['node'] for entry in parked)}, for {_names(entry['name'] for entry in parked)}"
            )
        case Cancelled():
            return "cancelled"
        case TimedOut() | Failed():
            return "failed"


def branch_in_words(result: Any) -> str:
    """What a branch came to."""
    match result:
        case None:
            return "done"
        case Parked():
            return in_words(result)
        case {"interrupted": _}:
            return "waits for a person"
        case {"edge": _}:
            return "stopped at the edge of a budget"
        case {"retry_at": _}:
            return "tries again later"
    return "given back"


def failure_in_words(outcome: Any) -> str | None:
    """Why a run, or a branch of it, has failed for good; None when it has not."""
    match outcome:
        case Failed(error) | {"error": error}:
            return _failed(error)
        case TimedOut():
            return "the run took longer than it was allowed to"
    return None


def _failed(error: Mapping[str, Any]) -> str:
    place = f"{error['node']}, attempt {error['attempt']}: " if error.get("node") and error.get("attempt") else ""
    return redact.text(f"{place}{error.get('error')}: {error.get('message')}", 300)


def _names(names: Any) -> str:
    return redact.text(", ".join(dict.fromkeys(map(str, names))), 200)
