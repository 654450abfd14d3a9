"""A run's ledger in the store: a stream with one entry for each record, its JSON under ``r``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runyard.engine import wire
from runyard.engine.store.client import Arg, Call
from runyard.engine.store.events import _flat
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

#: An entry's id and what it says.
Entry = tuple[str, dict[str, Any]]
START = "0-0"


class Append(Call[int]):
    """Records on their way to the store. Until they are sent, more may join them.

    So what happens while a batch waits goes with it, in one script, and before what was saved after it.
    """

    __setattr__ = object.__setattr__  # unlike other calls, this one changes

    def __init__(self, head: Call[int]) -> None:
        super().__init__(head.script, head.keys, head.args, head.parse)
        self.records: list[bytes] = []
        #: Whether they are on their way; what comes now is too late.
        self.sent = False

    def words(self, *, source: bool = False) -> tuple[Arg, ...]:
        self.sent = True
        return (*super().words(source=source), *self.records)


def append(keys: Keys, run_id: str, fence: Fence, before: int, *, keep: int) -> Append:
    """A batch, empty yet; ``before``: how many records this fence appended before it. Raises LeaseLost when read."""
    wanted = (fence.key, keys.of_run(run_id).records(run_id))
    return Append(Call(script("append_records"), wanted, (fence.field, fence.value, before, keep), int))


def read(keys: Keys, run_id: str, after: str = START, *, count: int = 1000) -> Call[list[Entry]]:
    """Records strictly after an id, oldest first."""
    key = keys.of_run(run_id).records(run_id)
    return Call.command("XRANGE", key, f"({after}", "+", "COUNT", count, parse=_entries)


def length(keys: Keys, run_id: str) -> Call[int]:
    """How many records are kept."""
    return Call.command("XLEN", keys.of_run(run_id).records(run_id), parse=int)


def _entries(reply: Sequence[Any]) -> list[Entry]:
    return [(entry_id.decode(), wire.decode(_flat(fields)[b"r"])) for entry_id, fields in reply]
