"""Lets a worker give way to the web and the store on its machine, as ``RUNYARD_WORKER_NICE`` says.

Where Linux groups processes by session (``sched_autogroup_enabled``, on most machines), niceness is compared inside a
session alone, and sessions share the cores evenly. ``runyard up`` has its processes in one session. Three of which each
has its own, as many supervisors start them, are as important as each other, however nice one is: so a worker that leads
its session makes that nicer, too, and half as far, since a session gives way to all that the machine does. In a
container there are no such groups: what its processes may take is said from outside.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_GROUP = Path("/proc/self/autogroup")
#: Of a whole machine only one group may be changed in a tenth of a second, without privileges.
_TRIES, _PAUSE_S = 20, 0.1


def give_way(nice: int) -> None:
    """Be ``nice`` to other processes, and to other sessions where this process leads its own.

    Fails open: where the system has no such groups, or does not let us, the process is as nice as it can be.
    """
    os.nice(nice)
    if nice > 1 and os.getsid(0) == os.getpid():
        with suppress(OSError):
            _make_group_nicer(nice // 2)


def _make_group_nicer(nice: int) -> None:
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            _GROUP.write_text(str(nice), encoding="ascii")
            return
        time.sleep(_PAUSE_S)
