"""The supervisor, with real little children."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runyard.app.supervisor import Program, Supervisor, backoff_s, how_it_ended
from tests.support.eventually import eventually
from tests.support.processes import group_of, is_alive

#: Says that it is there, and when it is asked to end: its name and the moment. It may be asked while it still says that
#: it is there, and Python's streams take no second word then.
POLITE = """
import os, signal, sys, time
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def end(*_):
    say("asked", time.monotonic())
    time.sleep(float(sys.argv[1]))
    say("ended", time.monotonic())
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
say("there")
while True: time.sleep(1)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("there", flush=True)
while True: time.sleep(1)
"""
WITH_A_GRANDCHILD = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("grandchild", grandchild.pid, flush=True)
time.sleep(60)
"""


class Stage:
    """A supervisor on some programs, and what it showed and said."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.hurry = False
        self.supervisor: Supervisor

    def start(self, *programs: Program) -> Supervisor:
        self.supervisor = Supervisor(
            programs, show=lambda name, line: self.lines.append((name, line)), say=self.said.append
        )
        self.supervisor.start()
        return self.supervisor

    def turn_until(self, so: Callable[[], object], timeout_s: float = 10.0) -> None:
        def turned() -> object:
            self.supervisor.turn(0.02)
            return so()

        eventually(turned, timeout_s, 0.0)

    def of(self, name: str) -> list[str]:
        return [line for who, line in self.lines if who == name]

    def moment(self, name: str, word: str) -> float:
        return next(float(line.split()[1]) for line in self.of(name) if line.startswith(word))


@pytest.fixture
def stage() -> Iterator[Stage]:
    it = Stage()
    yield it
    it.supervisor.stop([], hurry=lambda: True)


def python(name: str, code: str, *args: str, drain_s: float = 5.0) -> Program:
    return Program(name, [sys.executable, "-c", code, *args], {"PATH": "/usr/bin:/bin"}, drain_s)


def test_every_line_is_shown_with_the_name_of_its_process(stage: Stage) -> None:
    stage.start(python("a", "print('one'); print('two', end='')"), python("b", "print('\\xff'); print()"))
    stage.turn_until(lambda: len(stage.said) == 2)
    assert stage.of("a") == ["one", "two"]
    assert stage.of("b")[1:] == [""]


def test_a_crashed_process_is_started_again_later_each_time(stage: Stage) -> None:
    stage.start(python("a", "print('there', flush=True); raise SystemExit(3)"))
    stage.turn_until(lambda: len(stage.said) == 2)
    assert stage.of("a") == ["there", "there"]
    assert stage.said == [
        "a ended with code 3; starting it again in 0.5 s",
        "a ended with code 3; starting it again in 1 s",
    ]


def test_a_killed_process_is_started_again_and_the_others_do_not_notice(stage: Stage) -> None:
    supervisor = stage.start(python("a", POLITE, "0"), python("b", POLITE, "0"))
    stage.turn_until(lambda: len(stage.lines) == 2)
    before = supervisor.children["b"].pid
    killed = supervisor.children["a"].pid
    assert killed
    subprocess.run(["kill", "-9", str(killed)], check=True)
    stage.turn_until(lambda: stage.of("a") == ["there", "there"])
    assert stage.said == ["a was killed by SIGKILL; starting it again in 0.5 s"]
    assert supervisor.children["b"].pid == before


def test_the_wait_before_a_new_start_has_an_upper_bound() -> None:
    assert [backoff_s(n) for n in (1, 2, 3, 4, 7, 1000)] == [0.5, 1, 2, 4, 30, 30]


def test_a_stage_is_asked_to_end_only_when_the_one_before_has_ended(stage: Stage) -> None:
    supervisor = stage.start(python("web", POLITE, "0.2"), python("w1", POLITE, "0.2"), python("w2", POLITE, "0.1"))
    stage.turn_until(lambda: len(stage.lines) == 3)
    supervisor.stop([["web"], ["w1", "w2"]], hurry=lambda: False)
    assert stage.moment("web", "ended") < stage.moment("w1", "asked")
    assert stage.moment("w2", "asked") < stage.moment("w1", "ended")
    assert not any(child.is_running() for child in supervisor.children.values())


def test_who_does_not_end_in_time_is_killed(stage: Stage) -> None:
    supervisor = stage.start(python("a", STUBBORN, drain_s=0.3))
    stage.turn_until(lambda: stage.lines)
    pid = supervisor.children["a"].pid
    assert pid
    supervisor.stop([["a"]], hurry=lambda: False)
    assert stage.said == ["a did not end within 0.3 s and is killed"]
    assert not is_alive(pid)


def test_a_second_request_to_stop_kills_at_once(stage: Stage) -> None:
    supervisor = stage.start(python("a", STUBBORN, drain_s=60), python("b", STUBBORN, drain_s=60))
    stage.turn_until(lambda: len(stage.lines) == 2)
    began = time.monotonic()
    supervisor.stop([["a"], ["b"]], hurry=lambda: time.monotonic() - began > 0.2)
    assert time.monotonic() - began < 5


def test_a_process_that_waits_for_its_new_start_is_not_started_by_a_stop(stage: Stage) -> None:
    supervisor = stage.start(python("a", "raise SystemExit(3)"))
    stage.turn_until(lambda: stage.said)
    supervisor.stop([["a"]], hurry=lambda: False)
    assert not supervisor.children["a"].is_running()


def test_what_a_crashed_process_had_started_does_not_stay(stage: Stage) -> None:
    supervisor = stage.start(python("a", WITH_A_GRANDCHILD))
    stage.turn_until(lambda: stage.lines)
    grandchild = int(stage.of("a")[0].split()[1])
    killed = supervisor.children["a"].pid
    assert killed
    assert grandchild in group_of(killed)
    subprocess.run(["kill", "-9", str(killed)], check=True)
    stage.turn_until(lambda: stage.said)
    eventually(lambda: not is_alive(grandchild))


def test_a_process_that_closes_its_output_goes_on_running(stage: Stage) -> None:
    supervisor = stage.start(python("a", "import os, time; os.close(1); os.close(2); time.sleep(60)"))
    for _ in range(20):
        supervisor.turn(0.02)
    assert supervisor.children["a"].is_running()
    assert stage.said == []


OWNER = """
import sys, time
from runyard.app.supervisor import Program, Supervisor
supervisor = Supervisor([Program("a", ["sleep", "60"], {"PATH": "/usr/bin:/bin"}, 1.0)], show=print, say=print)
supervisor.start()
print(supervisor.children["a"].pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to its parent")
def test_a_kill_of_the_supervisor_takes_the_children_along() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    with owner, owner.stdout:
        pid = int(owner.stdout.readline())
        assert is_alive(pid)
        owner.send_signal(signal.SIGKILL)
    eventually(lambda: not is_alive(pid))


def test_an_end_is_told_in_words() -> None:
    assert how_it_ended(-9) == "was killed by SIGKILL"
    assert how_it_ended(2) == "ended with code 2"


def test_a_program_that_is_not_there_is_a_crash_like_any_other(stage: Stage, tmp_path: Path) -> None:
    stage.start(Program("a", ["/bin/sh", "-c", f"exec {tmp_path}/nothing"], {}, 1.0))
    stage.turn_until(lambda: stage.said)
    assert "nothing" in stage.of("a")[0]
    assert stage.said == ["a ended with code 127; starting it again in 0.5 s"]
