"""Keeps a worker on one core of its machine, as ``RUNYARD_WORKER_CORE`` says.

One lock lets one of a Python process's threads run at a time, and every time it changes hands across cores, or the
kernel moves the process, what one core has near is fetched anew by the other. Not having that is worth something where
others compute on the machine, too. Threads for nodes that are plain functions are not kept there: code that lets go of
the lock may use what cores there are.
"""

from __future__ import annotations

import os

from runyard.engine.errors import ConfigError

_everywhere: set[int] | None = None


def keep_to(core: str) -> None:
    """Keep this thread, and those it starts, on a core; "": wherever the kernel puts them. Raises ConfigError."""
    global _everywhere  # noqa: PLW0603 - a process has one set of cores
    if not core:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError("RUNYARD_WORKER_CORE is not valid: this system does not let a process choose. Leave it out.")
    allowed = os.sched_getaffinity(0)
    if int(core) not in allowed:
        known = ", ".join(map(str, sorted(allowed)))
        raise ConfigError(f"RUNYARD_WORKER_CORE is not valid: {core}; it must be a core this process may use: {known}.")
    _everywhere = allowed
    os.sched_setaffinity(0, {int(core)})


def spread() -> None:
    """Let this thread run on all cores that the process had at first."""
    if _everywhere is not None:
        os.sched_setaffinity(0, _everywhere)
