"""What a process may be killed for, noted beforehand, and how it died, noted by the process that started it.

A node that never lets go of the interpreter can only be ended with its process, by the kernel. Dead processes tell
nothing: so before each attempt the process notes it with the branch in hand (``foretell``), and its parent, which
alone learns what killed it, adds that (``note_death``). Whoever takes the branch next reads both.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from langgraph.errors import NodeTimeoutError

from runyard.engine import wire
from runyard.engine.ids import partition_of_run
from runyard.engine.store import runs
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

#: ``{"host": …, "pid": …, "token": …, "nodes": [{"task_id", "attempt", "deadline_s", "started_at"}]}``; once the
#: process is dead also ``died_at`` and ``timed``.
Doom = dict[str, Any]


def foretell(keys: Keys, run_id: str, fence: Fence, nodes: list[dict[str, Any]]) -> Call[int]:
    """Note the attempts that this process is to be killed for when they take too long."""
    doom = {"host": socket.gethostname(), "pid": os.getpid(), "token": fence.value, "nodes": nodes}
    return runs.foretell(keys, run_id, fence, doom)


def note_death(store: SyncStore, keys: Keys, run_id: str, branch: str | None, *, timed: bool) -> bool:
    """Note that a child process of this one died with this in hand; ``timed``: by the timer set for its deadline.

    Recovery takes the branch back in its next sweep instead of when the lease has run out. Answers False when the
    process that began last is not dead, or began nothing: then the lease decides.
    """
    at, field = keys.of_run(run_id), f"{branch or 'lease'}:doom"
    read: Call[bytes | None] = Call.command("HGET", at.branches(run_id), field)
    noted = store.do(read)
    if noted is None or "died_at" in (doom := wire.decode(noted)) or _is_alive(doom):
        return False
    known = wire.encode({**doom, "died_at": time.time(), "timed": timed})
    words = (runs.member_of(run_id, branch), field, noted, known, int(timed))
    keyed = (at.run(run_id), at.branches(run_id), at.leases)
    return bool(store.do(Call(script("note_death"), keyed, words)))


def killed_for(doom: Doom | None) -> dict[str, Any] | None:
    """The attempt whose deadline the last holder was killed for, if it was.

    Without its parent's word it was a crash: a parent that is alive misses only children that die at once.
    """
    if not doom or not doom.get("timed"):
        return None
    return min(doom["nodes"], key=lambda node: node["started_at"] + node["deadline_s"])  # type: ignore[no-any-return]


def timeout_of(doom: Doom | None, node: str, task_id: str, attempt: int) -> NodeTimeoutError | None:
    """The failure of this very attempt, if the last holder was killed for it."""
    guilty = killed_for(doom)
    if doom is None or guilty is None or (guilty["task_id"], guilty["attempt"]) != (task_id, attempt):
        return None
    return NodeTimeoutError(node, doom["died_at"] - guilty["started_at"], kind="run", run_timeout=guilty["deadline_s"])


def death_of(pid: int) -> int | None:
    """The signal that killed a child of this process, 0 when it ended otherwise; None while it lives.

    It looks without waiting for the child: that is its starter's to do, who may be seconds late. None also for a child
    that was waited for, and on macOS before Python 3.13, which cannot look.
    """
    if not hasattr(os, "waitid"):
        return None
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if found is None:
        return None
    return found.si_status if found.si_code in (os.CLD_KILLED, os.CLD_DUMPED) else 0


def _is_alive(doom: Doom) -> bool:
    if doom["host"] != socket.gethostname():
        return True  # it is not for us to say
    try:
        os.kill(doom["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return death_of(doom["pid"]) is None


def keep(store: SyncStore, keys: Keys, in_hand: Sequence[tuple[str, str | None, int]], *, lease_ms: int) -> None:
    """Renew the leases of children that may be in code which lets no other thread of theirs do it.

    ``in_hand``: run, branch and process of each. Only what that process noted itself, and not past its deadline.
    """
    noted: list[Call[bytes | None]] = [
        Call.command("HGET", keys.of_run(run_id).branches(run_id), f"{branch or 'lease'}:doom")
        for run_id, branch, _ in in_hand
    ]
    calls = []
    for (run_id, branch, pid), text in zip(in_hand, store.do_all(noted) if noted else [], strict=True):
        doom: Doom = wire.decode(text) if text else {}
        if doom.get("pid") == pid and doom["host"] == socket.gethostname() and time.time() < _ends_at(doom):
            at = keys.of_run(run_id)
            fence = Fence(at.branches(run_id) if branch else at.run(run_id), branch or "lease", doom["token"])
            member = runs.member_of(run_id, branch)
            calls.append(runs.renew(keys, partition_of_run(run_id), [(member, fence)], lease_ms=lease_ms))
    if calls:
        store.do_all(calls)


def _ends_at(doom: Doom) -> float:
    return 1.0 + max(float(node["started_at"] + node["deadline_s"]) for node in doom["nodes"])
