"""Does a graph survive its worker's death? It is run once for every point at which a worker may die, and dies there.

A store of its own, and a process for every worker: forked, so that the graph is imported once, and killed with SIGKILL
at the k-th point. Another one goes on from what the store holds. k grows until a run comes to its end undisturbed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

from runyard.engine import wire
from runyard.engine.crash_points import Faults
from runyard.engine.crash_worker import Plan, converse
from runyard.engine.errors import EngineError
from runyard.engine.ids import new_thread_id
from runyard.engine.store.embedded import EmbeddedServer

__all__ = ["NoBaseline", "Plan", "Report", "Trial", "crash_test"]


class NoBaseline(EngineError):
    """The graph does not come to an end even when nothing disturbs it, so there is nothing to compare with."""

    code = "crash_test_no_baseline"


@dataclass(frozen=True, slots=True)
class Trial:
    """One death and what came of it. ``differences``: where the final state is not the undisturbed one."""

    point: int
    what: str
    node: str
    nodes_again: dict[str, int]
    effects_again: dict[str, int]
    differences: list[str]
    problem: str = ""

    @property
    def survived(self) -> bool:
        return not self.differences and not self.effects_again and not self.problem


@dataclass(frozen=True, slots=True)
class Report:
    graph_id: str
    status: str
    #: How often each node runs when nothing disturbs it.
    nodes: dict[str, int]
    trials: list[Trial]
    #: How many points one undisturbed run has; fewer trials than that: ``max_points`` was reached.
    points: int
    #: Where two undisturbed runs differ from each other, which is not compared.
    varies: list[str]

    @property
    def survived(self) -> bool:
        return all(trial.survived for trial in self.trials)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the log of one thread's workers says, and the story that the last one read from the store."""

    ran: Counter[str]
    effects: Counter[str]
    points: int
    killed: dict[str, Any] | None
    story: Any
    problem: str


def crash_test(plan: Plan, progress: Callable[[Trial, int], None] = lambda *_: None) -> Report:
    """Run the plan's graph again and again, each time with a death at another point. Blocks; forks; main thread only.

    ``progress`` is told of each trial and how many are expected. The nodes really run, about as often as there are
    points: what they do to the world outside happens as often. Raises NoBaseline.
    """
    with TemporaryDirectory(prefix="runyard-crash-") as folder, EmbeddedServer(appendfsync="everysec") as server:
        theatre = _Theatre(plan, server.url, Path(folder))
        first, second = _undisturbed(theatre), _undisturbed(theatre)
        varies = sorted(differences(first.story, second.story))
        trials = []
        for trial in _trials(theatre, first, varies):
            trials.append(trial)
            progress(trial, min(first.points, plan.max_points))
    return Report(plan.graph_id, first.story["status"], dict(first.ran), trials, first.points, varies)


def _undisturbed(theatre: _Theatre) -> _Told:
    told = theatre.play(0)
    if told.problem:
        raise NoBaseline(f"Nothing was killed, and yet the run did not come to an end: {told.problem}")
    return told


def _trials(theatre: _Theatre, undisturbed: _Told, varies: list[str]) -> Iterator[Trial]:
    for number in range(1, theatre.plan.max_points + 1):
        told = theatre.play(number)
        if told.killed is None and not told.problem:
            return
        found = set() if told.problem else differences(undisturbed.story, told.story)
        point = told.killed or {"what": "nothing was killed", "node": ""}
        yield Trial(
            number,
            point["what"],
            point["node"],
            dict(told.ran - undisturbed.ran),
            dict(told.effects - undisturbed.effects),
            sorted(path for path in found if not _is_below(path, varies)),
            told.problem,
        )
        if told.killed is None:
            return


class _Theatre:
    """Where workers live and die: a store, a folder for what they tell, and one thread for each play."""

    def __init__(self, plan: Plan, url: str, folder: Path) -> None:
        self.plan, self._url, self._folder = plan, url, folder
        self._plays = 0

    def play(self, kill_at: int) -> _Told:
        """A new thread: a worker that dies at the point, and after its death another that sees it through."""
        self._plays += 1
        thread_id, log = new_thread_id(), self._folder / f"{self._plays}.jsonl"
        log.touch()
        problem = self._worker(thread_id, log, kill_at)
        lines = _read(log)
        killed = next((line for line in lines if line.get("kill")), None)
        if killed:
            problem = self._worker(thread_id, log, 0)
            lines = _read(log)
        return _Told(
            ran=Counter(line["ran"] for line in lines if "ran" in line),
            effects=Counter(line["effect"] for line in lines if "effect" in line),
            points=sum("point" in line for line in lines),
            killed=killed,
            story=next((line["story"] for line in lines if "story" in line), None),
            problem=next((line["problem"] for line in lines if "problem" in line), problem),
        )

    def _worker(self, thread_id: str, log: Path, kill_at: int) -> str:
        """Fork a worker and wait for its end; answers what went wrong with it, if it was not a death we wanted."""
        sys.stdout.flush()
        sys.stderr.flush()
        if (pid := os.fork()) == 0:
            _live(self.plan, self._url, thread_id, log, kill_at)
        ends = time.monotonic() + self.plan.timeout_s
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > ends:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return f"it had not ended after {self.plan.timeout_s:g} s"
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(ended[1])
        return f"a worker ended with {code}" if code else ""


def _read(log: Path) -> list[dict[str, Any]]:
    return [wire.decode(line) for line in log.read_bytes().splitlines()]


def _live(plan: Plan, url: str, thread_id: str, log: Path, kill_at: int) -> NoReturn:
    """A worker's life, from the fork on: it never goes back to what its parent was doing."""
    os.dup2(2, 1)  # what nodes print must not be taken for the report
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    try:
        told = {"story": converse(plan, url, thread_id, Faults(written, kill_at))}
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must be told and this process must end
        told = {"problem": "".join(traceback.format_exception_only(error)).strip()}
    os.write(written, wire.encode(told) + b"\n")
    os._exit(0)


def differences(one: Any, other: Any, path: str = "") -> set[str]:
    """Where two JSON values differ: paths like ``values.messages.0.id``."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(str(key), one.get(key, _NOTHING), other.get(key, _NOTHING)) for key in {**one, **other}]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(str(number), a, b) for number, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return set() if one == other and type(one) is type(other) else {path}
    return {found for key, a, b in pairs for found in differences(a, b, f"{path}.{key}" if path else key)}


_NOTHING = object()


def _is_below(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}.") for place in places)
