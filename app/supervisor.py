"""Keeps child processes running: starts them, prefixes what they print, restarts what crashes, drains in order.

Not honcho's manager: that one stops everything when one child ends, and a crashed worker should come back by
itself. One thread, no shared state: the kernel's word that a child's parent died is bound to the starting thread.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from runyard.engine.tether import tethered
from runyard.tasks import exporter

#: The wait before a crashed child is started again doubles from the first to the second of these.
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
#: A child that ran for this long had started well: its next crash counts as the first.
STABLE_AFTER_S = 30.0

#: Where lines go: the child's name and one line of its output, without the line's end.
Print = Callable[[str, str], None]


def backoff_s(crashes: int) -> float:
    """The wait after the nth crash in a row."""
    wait_s: float = min(FIRST_BACKOFF_S * 2 ** min(crashes - 1, 10), LONGEST_BACKOFF_S)
    return wait_s


@dataclass(frozen=True)
class Program:
    """A child to run. ``drain_s``: how long it may take to end after SIGTERM before it is killed with its group."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    drain_s: float


class Child:
    """One program and, most of the time, its process. Each has a process group of its own, so a Ctrl-C in the
    terminal reaches the supervisor alone, and a kill reaches the grandchildren too.

    Not a session: Linux shares the cores among sessions first, and a worker is to give way to the web beside it, not to
    whatever else the machine does.
    """

    def __init__(self, program: Program, show: Print) -> None:
        self.program = program
        self.crashes = 0
        self.start_at: float | None = None
        self._show = show
        self._started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes]
        self._unfinished = b""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def output_fd(self) -> int:
        return self._output.fileno()

    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        self.start_at = None
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(
            tethered(self.program.argv),
            env=dict(self.program.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            process_group=0,
        )
        if self._process.stdout is None:
            raise RuntimeError("a child was started without a pipe for its output")
        self._output = self._process.stdout
        os.set_blocking(self.output_fd, False)

    def pass_on_output(self) -> int | None:
        """Show the lines that have come. Gives their bytes: 0 when the output is closed, None when none wait."""
        try:
            chunk = os.read(self.output_fd, 65536)
        except BlockingIOError:
            return None
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        if not chunk and self._unfinished:
            lines, self._unfinished = [self._unfinished], b""
        for line in lines:
            self._show(self.program.name, line.decode(errors="replace").rstrip("\r"))
        return len(chunk)

    def ended(self) -> int | None:
        """The exit code, once, after the process has ended: what it left running is killed, its output shown."""
        code = self._process.poll() if self._process else None
        if self._process is None or code is None:
            return None
        self._kill_group()
        while self.pass_on_output():
            pass
        self._output.close()
        self._process = None
        return code

    def crashed(self) -> float:
        """Count a crash and plan the next start; gives the wait until then in seconds."""
        stable = time.monotonic() - self._started_at >= STABLE_AFTER_S
        self.crashes = 1 if stable else self.crashes + 1
        wait_s = backoff_s(self.crashes)
        self.start_at = time.monotonic() + wait_s
        return wait_s

    def terminate(self) -> None:
        if self._process:
            self._process.terminate()

    def kill(self) -> None:
        if self._process:
            self._kill_group()
            self._process.wait()

    def _kill_group(self) -> None:
        # The group may be empty, and macOS says "not permitted" for one that holds only the dead.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process:
                os.killpg(self._process.pid, signal.SIGKILL)


class Supervisor:
    """The children of one ``runyard up``. ``say`` gets the supervisor's own words."""

    def __init__(self, programs: Iterable[Program], *, show: Print, say: Callable[[str], None]) -> None:
        self.children = {program.name: Child(program, show) for program in programs}
        self._say = say
        self._selector = selectors.DefaultSelector()

    def start(self) -> None:
        for child in self.children.values():
            self._start(child)

    def turn(self, timeout_s: float = 0.1) -> None:
        """Look after everything once; comes back after output, or after ``timeout_s``."""
        self._pass_on_output(timeout_s)
        for child in self.children.values():
            self._restart_if_needed(child)

    def turn_for(self, duration_s: float) -> None:
        """Look after everything for this long, whatever comes in."""
        deadline = time.monotonic() + duration_s
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)

    def stop(self, stages: Iterable[Sequence[str]], *, hurry: Callable[[], bool]) -> None:
        """SIGTERM stage after stage, each waited for; who overstays its ``drain_s``, or ``hurry``, is killed.

        Children that no stage names are stopped last. Afterwards nothing is running.
        """
        stages = [list(stage) for stage in stages]
        named = {name for stage in stages for name in stage}
        for stage in [*stages, [name for name in self.children if name not in named]]:
            self._drain([self.children[name] for name in stage if name in self.children], hurry)
        self._selector.close()
        exporter.sweep()

    def _start(self, child: Child) -> None:
        child.start()
        self._selector.register(child.output_fd, selectors.EVENT_READ, child)

    def _pass_on_output(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            child: Child = key.data
            if child.pass_on_output() == 0:
                self._selector.unregister(key.fileobj)  # it closed its output; whether it ended is asked elsewhere

    def _reap(self, child: Child) -> int | None:
        fd = child.output_fd if child.is_running() else None
        code = child.ended()
        if code is not None and fd is not None and fd in self._selector.get_map():
            self._selector.unregister(fd)
        return code

    def _restart_if_needed(self, child: Child) -> None:
        code = self._reap(child)
        if code is not None:
            wait_s = child.crashed()
            self._say(f"{child.program.name} {how_it_ended(code)}; starting it again in {wait_s:g} s")
        elif child.start_at is not None and time.monotonic() >= child.start_at:
            self._start(child)

    def _drain(self, children: list[Child], hurry: Callable[[], bool]) -> None:
        for child in children:
            child.start_at = None
            child.terminate()
        began = time.monotonic()
        while left := [child for child in children if child.is_running()]:
            self._pass_on_output(0.05)
            for child in left:
                overstayed = time.monotonic() - began > child.program.drain_s
                if hurry() or overstayed:
                    if overstayed:
                        self._say(f"{child.program.name} did not end within {child.program.drain_s:g} s and is killed")
                    child.kill()
                self._reap(child)


def how_it_ended(code: int) -> str:
    """An exit code in words: ``subprocess`` gives signals as negative numbers."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
