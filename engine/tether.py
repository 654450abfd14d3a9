"""A child process that does not outlive the process that started it, however that one dies."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

#: Runs in the child before the real program replaces it. Asking the kernel there, and not in a
#: ``preexec_fn``, keeps Python code out of the fork of a process that may have threads. The second look
#: at the parent closes the gap in which it died before the kernel was asked.
_SHIM = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tethered(argv: Sequence[str]) -> list[str]:
    """The command line that runs ``argv`` and is killed (SIGKILL) by the kernel when this process dies.

    Costs about 15 ms once; process id, open files and signals are those of ``argv`` itself.

    Not guaranteed: the kernel's word for "parent" is the *thread* that started the child, so a command
    line made outside the main thread is left as it is (the child would die with a worker thread). The
    same on systems other than Linux: there, what outlives a ``kill -9`` is found by its lock file.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *argv]
