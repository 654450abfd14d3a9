"""Looking at processes from outside, as an operator does."""

from __future__ import annotations

import subprocess


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def group_of(pid: int) -> set[int]:
    """The living processes of the group that ``pid`` leads."""
    rows = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return {int(p) for p, group, stat in map(str.split, rows.splitlines()) if int(group) == pid and stat[0] != "Z"}


def descendants_of(pid: int) -> set[int]:
    """The living children of ``pid``, theirs, and so on."""
    rows = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    parents = {int(p): int(parent) for p, parent, stat in map(str.split, rows.splitlines()) if stat[0] != "Z"}
    found: set[int] = set()
    while more := {p for p, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found
