"""Runyard as it is deployed: the store, web and workers as real processes, on private sockets and free ports."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from runyard.app.place import free_port
from runyard.app.processes import WEB, WORKER
from runyard.engine.store.embedded import AppendFsync, EmbeddedServer
from runyard.engine.tether import tethered

ROOT = Path(__file__).resolve().parents[1]
#: Names of variables that would change what is measured.
_SCRUBBED = ("REDIS_", "RUNYARD_", "SENTRY_", "LANGSMITH", "LANGCHAIN_", "CELERY_", "OTEL_", "FLOWER_")


class NotReady(RuntimeError):
    """A process did not come up; its log is in the message."""


class Child:
    """A process in a group of its own, as `runyard up` has them, with its output in a file. It does not outlive the
    bench."""

    def __init__(self, name: str, command: str, env: Mapping[str, str], folder: Path) -> None:
        self.name, self._log = name, folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                tethered(["/bin/sh", "-c", f"exec {command}"]), env=dict(env), cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, process_group=0,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def log_tail(self, lines: int = 15) -> str:
        return "\n  ".join(
            [f"The end of what {self.name} said:", *self._log.read_text(errors="replace").splitlines()[-lines:]]
        )

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout_s: float = 20.0) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.kill()


class Processes:
    """A store and some processes on it; all gone when the block ends."""

    def __init__(self, *, appendfsync: AppendFsync = "always") -> None:
        self._server = EmbeddedServer(appendfsync=appendfsync)
        self._folder = tempfile.TemporaryDirectory(prefix="runyard-bench-")
        self.children: dict[str, Child] = {}

    @property
    def redis_url(self) -> str:
        return self._server.url

    @property
    def store_pid(self) -> int:
        return self._server.pid

    def spawn(self, name: str, command: str, env: Mapping[str, str]) -> Child:
        self.children[name] = Child(name, command, {**clean_environment(), **env}, Path(self._folder.name))
        return self.children[name]

    def fail_if_ended(self) -> None:
        for child in self.children.values():
            if child.has_ended():
                raise NotReady(f"{child.name} ended. {child.log_tail()}")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # the logs go with the folder
            for child in self.children.values():
                error.add_note(child.log_tail())
        for child in self.children.values():
            child.stop()
        self._server.stop()
        self._folder.cleanup()


class Stack(Processes):
    """Web and ``workers`` workers, by the Procfile's command lines. ``web`` False: workers alone."""

    def __init__(
        self,
        *,
        workers: int,
        appendfsync: AppendFsync = "always",
        web: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(appendfsync=appendfsync)
        self.port = free_port("127.0.0.1", 0)
        self._workers, self._web, self._settings = workers, web, dict(settings or {})

    @property
    def environment(self) -> dict[str, str]:
        return {
            "REDIS_URL": self.redis_url,
            "RUNYARD_CONFIG": str(ROOT / "bench" / "langgraph.json"),
            "RUNYARD_HOST": "127.0.0.1",
            "RUNYARD_PORT": str(self.port),
            **self._settings,
        }

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            for number in range(self._workers):
                self.spawn(f"worker{number}", WORKER.command, self.environment)
            if self._web:
                self.spawn(WEB.name, WEB.command, self.environment)
                self._wait_for_web(60.0)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait_for_web(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (said := self._readiness()) is not None:
            self.fail_if_ended()
            if time.monotonic() > deadline:
                raise NotReady(f"Not ready after {timeout_s:g} s: {said}. {self.children['web'].log_tail()}")
            time.sleep(0.05)

    def _readiness(self) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2.0):
                return None
        except (urllib.error.URLError, OSError) as error:
            return str(error)


def clean_environment() -> dict[str, str]:
    """This process's environment without what would change the numbers; the interpreter's own programs come first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SCRUBBED)}
    here = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join([here, kept.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
    }
