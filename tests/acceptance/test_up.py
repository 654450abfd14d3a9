"""The whole stack, started by ``runyard up`` as a user does, and ended in every way a stack can end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis as redis_py

from runyard.app.exit_codes import ExitCode
from runyard.engine.tether import tethered
from tests.support.eventually import eventually
from tests.support.processes import descendants_of, is_alive

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(find_spec("runyard.app.factory") is None, reason="there is no web process to start"),
]

UP = [sys.executable, "-m", "runyard.app.up"]


class Stack:
    """One ``runyard up`` on ports of its own, seen from outside."""

    def __init__(self, data: Path, log: Path) -> None:
        self._data = data
        self._log = log.open("w+")
        options = ["--json", "--port", "0", "--flower-port", "0", "--data", str(data)]
        self.process = subprocess.Popen(
            tethered([*UP, *options]),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout
        self.ready = json.loads(self.process.stdout.readline() or "{}")
        assert self.ready.get("event") == "ready", log.read_text()
        self.pids = descendants_of(self.process.pid)

    def finds(self, *words: str) -> set[int]:
        """Its processes whose command lines have all these words."""
        listing = ["ps", "-A", "-ww", "-o", "pid=,args="]
        rows = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        pids = {int(row.split()[0]) for row in rows.splitlines() if all(word in row for word in words)}
        return pids & descendants_of(self.process.pid)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.ready['api']}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def store(self) -> redis_py.Redis:
        return redis_py.Redis.from_url(f"unix://{self._data}/store.sock", decode_responses=True)

    def signal(self, signum: signal.Signals) -> int:
        self.process.send_signal(signum)
        return self.process.wait(60)

    def left(self) -> set[int]:
        return {pid for pid in self.pids if is_alive(pid)}

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        self._log.close()


class Place:
    """Where one stack runs at a time: each is started on what the one before has left. Starting one takes seconds."""

    def __init__(self, folder: Path) -> None:
        self.data, self._folder = folder / "data", folder
        self._stacks: list[Stack] = []

    def stack(self) -> Stack:
        """The one that runs, or the next."""
        if not self._stacks or self._stacks[-1].process.poll() is not None:
            self._stacks.append(Stack(self.data, self._folder / f"up-{len(self._stacks)}.log"))
        return self._stacks[-1]

    def close(self) -> None:
        for stack in self._stacks:
            stack.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("up"))
    yield made
    made.close()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_zero_and_what_was_stored_is_there_after_the_next_start(
    place: Place, signum: signal.Signals
) -> None:
    stack = place.stack()
    assert len(stack.pids) >= 5
    with stack.store() as client:
        client.set("kept", f"over {signum.name}")
    assert stack.signal(signum) == ExitCode.OK
    assert stack.left() == set()
    with place.stack().store() as client:
        assert client.get("kept") == f"over {signum.name}"


def test_a_second_one_on_the_same_port_says_so_and_the_first_goes_on(place: Place, tmp_path: Path) -> None:
    stack = place.stack()
    port = stack.ready["api"].rsplit(":", 1)[1]
    second = subprocess.run(
        [*UP, "--port", port, "--data", str(tmp_path / "other")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == ExitCode.PORT_IN_USE
    assert f"Port {port} on 127.0.0.1 is in use" in second.stderr
    assert stack.is_ready()


def test_killed_workers_and_a_killed_store_come_back_by_themselves(place: Place) -> None:
    stack = place.stack()
    with stack.store() as client:
        client.set("answered", "kept")
    killed = stack.finds("valkey-server") | stack.finds("worker", "threads") | stack.finds("worker", "prefork")
    assert len(killed) >= 3
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, killed)))
    for words in (["valkey-server"], ["worker", "threads"], ["worker", "prefork"]):
        eventually(lambda words=words: stack.finds(*words), timeout_s=30, what=f"{words} is back")
    eventually(stack.is_ready, timeout_s=30)
    with stack.store() as client:
        assert client.get("answered") == "kept"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to its parent")
def test_a_kill_of_the_supervisor_leaves_nothing_and_the_next_start_works(place: Place) -> None:
    first = place.stack()
    first.signal(signal.SIGKILL)
    eventually(lambda: first.left() == set())
    assert place.stack().is_ready()
