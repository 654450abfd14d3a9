"""A fleet of real worker processes, started by the very command lines of the Procfile, over a store of its own.

The test drives it as the web process would, through :class:`Service`, and harms it as the world would: by signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis as redis_py
from celery import Celery

from runyard.app.processes import WORKER_CPU, Process
from runyard.engine import wire
from runyard.engine.run import TERMINAL, Run, RunRequest
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.meta import keys_of, open_store
from runyard.engine.tether import tethered
from runyard.tasks.settings import celery_settings
from runyard.tasks.wake import Waker
from tests.support import scripted
from tests.support.eventually import eventually
from tests.support.processes import descendants_of

#: Machines that run tests are loaded. What is measured is printed; what is asserted leaves room.
PATIENCE_S = 60.0
Steps = list[list[dict[str, Any]]]


def do(what: str, **how: Any) -> dict[str, Any]:
    """An action of the scripted graph."""
    return {"do": what, **how}


class Member:
    """One worker: the process that its command line became, and the log it writes."""

    def __init__(self, process: Process, env: dict[str, str], log: Path) -> None:
        self.kind, self.env, self.log = process, env, log
        self.told_to_stop = False
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered(["/bin/sh", "-c", f"exec {process.command}"]),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def pids(self) -> set[int]:
        """The processes that do the work: a prefork worker's children, else the process itself."""
        return descendants_of(self.pid) if self.kind is WORKER_CPU else {self.pid}

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> float:
        """kill -9 of this process alone; gives the moment."""
        self._process.kill()
        at = time.monotonic()
        self._process.wait()
        return at

    def terminate(self) -> None:
        self.told_to_stop = True
        self._process.send_signal(signal.SIGTERM)

    def exit_code(self, timeout_s: float = PATIENCE_S) -> int:
        return self._process.wait(timeout_s)

    def close(self) -> None:
        """End it with all it started, whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


class Fleet:
    """Workers, their store, and a client's view of both. Use :func:`fleet`."""

    def __init__(self, folder: Path, redis_url: str, *, runyard: dict[str, Any] | None = None, **settings: Any) -> None:
        """``runyard``: that section of the project file."""
        self.folder = folder
        self.members: list[Member] = []
        self._lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._read = 0
        self._numbers = itertools.count()
        shutil.copy(scripted.__file__, folder / "scripted.py")
        config = folder / "langgraph.json"
        project = {"dependencies": ["."], "graphs": {"scripted": "./scripted.py:scripted"}, "runyard": runyard or {}}
        config.write_text(json.dumps(project))
        self.variables = {
            "REDIS_URL": redis_url,
            "RUNYARD_CONFIG": str(config),
            "SCRIPTED_FOLDER": str(folder),
            "RUNYARD_WORKER_NICE": "0",  # the tests beside it wait for it
            **{name: str(value) for name, value in settings.items()},
        }
        self.settings = Settings.from_env(self.variables)
        self.keys = keys_of(self.settings)
        self.store = SyncStore.connect(redis_url, vault=self.keys.vault)
        open_store(self.store, self.keys)
        self.celery = Celery("client", set_as_current=False)
        self.celery.config_from_object(celery_settings(self.settings))
        self.waker = Waker(self.celery)
        self.service = Service(self.store, self.keys, self.settings, self.waker)
        self.redis = redis_py.Redis.from_url(redis_url)

    # --- workers

    def start(self, *kinds: Process, **variables: Any) -> list[Member]:
        """Start workers side by side; comes back when all of them take work."""
        members = [self.launch(kind, **variables) for kind in kinds]
        for member in members:
            self.await_ready(member)
        return members

    def launch(self, kind: Process, **variables: Any) -> Member:
        env = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONUNBUFFERED": "1",
            **self.variables,
            **{name: str(value) for name, value in variables.items()},
        }
        number = next(self._numbers)
        member = Member(kind, env, self.folder / f"{kind.name}-{number}.log")
        self.members.append(member)
        return member

    def await_ready(self, member: Member) -> None:
        def is_ready() -> bool:
            assert member.is_running(), member.log.read_text()[-4000:]
            return self.present() >= member.pids() != set()

        eventually(is_ready, timeout_s=PATIENCE_S, what=f"{member.kind.name} is ready")

    def present(self) -> set[int]:
        """Process ids of the workers that say they are there."""
        return {int(worker["pid"]) for worker in self.service.workers()}

    def depth(self, queue: str) -> int:
        """Messages that wait in a queue of the broker."""
        return self.waker.queue_depth(queue) or 0

    def forget_messages(self, queue: str) -> int:
        """Delete a queue of the broker (the store, here); gives how many messages went with it."""
        depth = self.depth(queue)
        self.redis.delete(queue)
        return depth

    def pause(self, kind: Process) -> None:
        """SIGSTOP to the workers of a kind, so that they take nothing."""
        for member in self.members:
            if member.kind is kind:
                os.killpg(member.pid, signal.SIGSTOP)

    def resume_all(self) -> None:
        for member in self.members:
            os.killpg(member.pid, signal.SIGCONT)

    def leader(self) -> int:
        """The process that runs recovery now, 0 when there is none."""
        name = self.redis.get(self.keys.leader)
        return int(name.decode().split(":")[1]) if name else 0

    def restore(self, *kinds: Process) -> None:
        """Bring the fleet to these workers: what ended is let go, what is missing is started."""
        self.stop(*[member for member in self.members if member.told_to_stop or not member.is_running()])
        missing = list(kinds)
        for member in list(self.members):
            if member.kind in missing:
                missing.remove(member.kind)
            else:
                self.stop(member)
        self.start(*missing)

    def stop(self, *members: Member) -> None:
        """End workers at once; they leave the fleet."""
        for member in members:
            member.close()
            self.members.remove(member)

    # --- runs

    def submit(self, steps: Steps, name: str | None = None, **how: Any) -> Run:
        """Record a run of the scripted graph on a thread of its own."""
        given = {"name": name or uuid.uuid4().hex, "steps": steps}
        thread_id = how.pop("thread_id", None) or str(uuid.uuid4())
        return self.service.create_run(
            RunRequest(input=given, **how.pop("request", {})), graph_id="scripted", assistant_id="scripted",
            thread_id=thread_id, create_thread=True, **how,
        )  # fmt: skip

    def resume(self, run: Run, answer: Any) -> Run:
        """Answer what the run's thread asks: a new run."""
        return self.service.create_run(
            RunRequest(command={"resume": answer}), graph_id="scripted", assistant_id="scripted",
            thread_id=run.thread_id,
        )  # fmt: skip

    def ended(self, runs: Sequence[Run]) -> int:
        """How many of these have ended."""
        return sum(self.run(run).phase in TERMINAL for run in runs)

    def run(self, run: Run) -> Run:
        return self.service.get_run(run.run_id)

    def finish(self, runs: Sequence[Run], timeout_s: float = PATIENCE_S) -> list[Run]:
        """Wait until all of these have ended; gives them as they ended."""
        left, ended = {run.run_id: run for run in runs}, {}

        def all_ended() -> bool:
            for run_id in list(left):
                now = self.service.get_run(run_id)
                if now.phase in TERMINAL:
                    ended[run_id] = now
                    del left[run_id]
            some = [(run_id, str(self.service.get_run(run_id).phase)) for run_id in list(left)[:5]]
            assert not left, f"{len(left)} of {len(runs)} have not ended: {some}; {self.tails()}"
            return True

        eventually(all_ended, timeout_s=timeout_s, interval_s=0.05, what="all runs have ended")
        return [ended[run.run_id] for run in runs]

    def values(self, run: Run) -> Any:
        """What the run's thread holds."""
        return wire.decode(self.service.get_thread(run.thread_id).values)

    def tails(self) -> str:
        return "\n".join(f"--- {m.log.name}\n{m.log.read_text()[-1500:]}" for m in self.members)

    # --- what was done

    def log(self, run: Run | None = None, what: str = "start") -> list[dict[str, Any]]:
        """Executions of nodes that began (or that reached their ``end``), of one run or all, in order of time."""
        self._read_log()
        lines = self._lines[run.request.input["name"]] if run else itertools.chain(*self._lines.values())
        return sorted((line for line in lines if line["what"] == what), key=lambda line: line["at"])

    def _read_log(self) -> None:
        """Take in what was written since the last look."""
        path = self.folder / "log.jsonl"
        if not path.exists():
            return
        with path.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in map(json.loads, whole.splitlines()):
            self._lines[line["name"]].append(line)

    def executions(self, run: Run, what: str = "start") -> Counter[tuple[int, int]]:
        """How often each action of a run was begun, or ended: (step, branch) to a number."""
        return Counter((line["step"], line["branch"]) for line in self.log(run, what))

    def started(self, run: Run, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a run has begun so many actions."""
        return eventually(
            lambda: found if len(found := self.log(run)) >= count else None,
            timeout_s=PATIENCE_S, what=f"{count} actions have begun",
        )  # fmt: skip

    def open(self, gate: str) -> None:
        """Let the actions go on that wait at this gate."""
        (self.folder / gate).touch()

    def member_of(self, pid: int) -> Member:
        return next(member for member in self.members if pid in member.pids() | {member.pid})

    def close(self) -> None:
        for member in self.members:
            member.close()
        self.celery.close()
        self.redis.close()
        self.store.close()


def expected(steps: Steps, name: str) -> Any:
    """What plain LangGraph, in this process, makes of it."""
    return asyncio.run(scripted.scripted.ainvoke({"name": name, "steps": steps}, {"recursion_limit": 1000}))


def assert_as_langgraph(of: Fleet, *runs: Run) -> None:
    """The runs succeeded, and their threads hold what plain LangGraph would have left."""
    for run in map(of.run, runs):
        given = run.request.input
        assert run.phase == "succeeded", run.error
        assert of.values(run) == expected(given["steps"], given["name"])


@contextmanager
def fleet_on(redis_url: str, folder: Path, *kinds: Process, **variables: Any) -> Iterator[Fleet]:
    """Workers over a store that is there already."""
    made = Fleet(folder, redis_url, **variables)
    try:
        made.start(*kinds)
        yield made
    finally:
        made.close()


@contextmanager
def fleet(folder: Path, *kinds: Process, **variables: Any) -> Iterator[tuple[Fleet, EmbeddedServer]]:
    """A store and workers over it, gone with the block."""
    with EmbeddedServer() as server, fleet_on(server.url, folder, *kinds, **variables) as made:
        yield made, server


def measured(what: str, seconds: float) -> None:
    """Say what was measured; shown with ``pytest -rP`` or ``-s``."""
    print(f"measured: {what}: {seconds:.2f} s")
