"""A run's ledger in the store: a stream with one entry for each record, its JSON under ``r``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runyard.engine import wire
from runyard.engine.store.client import Call
from runyard.engine.store.events import _flat
from runyard.engine.store.keys import Keys
from runyard.engine.store.save import Part

#: An entry's id and what it says.
Entry = tuple[str, dict[str, Any]]
START = "0-0"


def part(keys: Keys, run_id: str, packed: Sequence[bytes], *, keep: int | None) -> Part:
    """Records to save, as JSON. About ``keep`` stay; all, for this once, when it is None."""
    kept = [keys.seal(record, run_id) for record in packed]
    return Part("records", (keys.of_run(run_id).records(run_id),), (keep or "", *kept))


def read(keys: Keys, run_id: str, after: str = START, *, count: int = 1000) -> Call[list[Entry]]:
    """Records strictly after an id, oldest first."""
    key = keys.of_run(run_id).records(run_id)
    return Call.command("XRANGE", key, f"({after}", "+", "COUNT", count, parse=_entries)


def length(keys: Keys, run_id: str) -> Call[int]:
    """How many records are kept."""
    return Call.command("XLEN", keys.of_run(run_id).records(run_id), parse=int)


def _entries(reply: Sequence[Any]) -> list[Entry]:
    return [(entry_id.decode(), wire.decode(_flat(fields)[b"r"])) for entry_id, fields in reply]
