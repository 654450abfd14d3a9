"""The stack of the demo: `runyard up`'s processes on free ports and a store that is gone afterwards."""

from __future__ import annotations

import http.client
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from runyard.app.place import Place, flower_port, free_port
from runyard.app.processes import FLOWER, WEB, WORKER, WORKER_CPU
from runyard.app.supervisor import Supervisor
from runyard.app.up import Stop, programs
from runyard.engine.errors import EngineError
from runyard.engine.settings import Settings
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.keys import Keys
from runyard.tasks.settings import CPU_QUEUE

HOST = "127.0.0.1"
STORE = "store"
NAMES = (STORE, WEB.name, WORKER.name, WORKER_CPU.name, FLOWER.name)
READY_TIMEOUT_S = 60.0
DRAIN_S = 1.0
TAIL = 15
#: The operator's own set-up, which the demo must not touch.
_NOT_OURS = ("REDIS_URL", "RUNYARD_CONFIG", "RUNYARD_BROKER_URL", "RUNYARD_DOCS_ROOT", "FLOWER_PORT", "FLOWER_ADDRESS")
#: One person, one question: fewer processes are up sooner.
_SMALL = {"RUNYARD_WEB_WORKERS": "1", "RUNYARD_CPU_CONCURRENCY": "1"}


class DidNotStart(EngineError):
    """A process of the demo did not come up; ``log`` is the end of what it printed."""

    code = "not_ready"

    def __init__(self, process: str, what: str, log: Iterable[str]) -> None:
        self.log = list(log) or ["(it printed nothing)"]
        super().__init__(f"{process} {what}; the end of what it printed:")


class StoppedByUser(EngineError):
    """Stopped by Ctrl-C."""

    code = "stopped"


@dataclass
class Stack:
    """What runs during the demo. ``up`` says after how many seconds each process was there."""

    place: Place
    supervisor: Supervisor
    stop: Stop
    logs: dict[str, deque[str]]
    up: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def turn(self) -> None:
        """Look after the processes for a moment. Raises StoppedByUser; DidNotStart when one crashed."""
        self.supervisor.turn_for(0.05)
        if self.stop.asked():
            raise StoppedByUser
        for name, child in self.supervisor.children.items():
            if child.crashes:
                raise DidNotStart(name, "stopped by itself", self.logs[name])

    def wait_until_up(self, each: Callable[[], None]) -> None:
        """Come back when everything answers; ``each`` is called whenever one more does, and now and then."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        with redis.Redis.from_url(self.place.redis_url) as store:
            while missing := [name for name in NAMES if name not in self.up]:
                self.turn()
                self._look(store, missing)
                each()
                if time.monotonic() > deadline and missing:
                    raise DidNotStart(
                        missing[0], f"did not come up within {READY_TIMEOUT_S:g} s", self.logs[missing[0]]
                    )

    def _look(self, store: redis.Redis, missing: list[str]) -> None:
        is_up = {
            STORE: lambda: True,
            WEB.name: lambda: _answers(self.place.port, "/ok"),
            WORKER.name: lambda: Settings().queue in _consumed(store),
            WORKER_CPU.name: lambda: CPU_QUEUE in _consumed(store),
            FLOWER.name: lambda: _answers(self.place.flower_port, "/healthcheck"),
        }
        for name in missing:
            if is_up[name]():
                self.up[name] = time.monotonic() - self._began


@contextmanager
def stack(docs: Path | None, stop: Stop) -> Iterator[Stack]:
    """Everything started, though not up yet; afterwards nothing is running and nothing is left on the disk."""
    with EmbeddedServer() as store:
        place = Place(host=HOST, port=free_port(HOST, 0), flower_port=flower_port(None), redis_url=store.url, data=None)
        logs: dict[str, deque[str]] = {name: deque(maxlen=TAIL) for name in NAMES}
        supervisor = Supervisor(
            programs(place, None, _environment(docs)),
            show=lambda name, line: logs[name].append(line),
            say=lambda _: None,
        )
        try:
            supervisor.start()
            yield Stack(place, supervisor, stop, logs)
        finally:
            # Nothing of it is kept, so nothing is worth a long drain, and all may go at once.
            killed_at = time.monotonic() + DRAIN_S
            supervisor.stop([], hurry=lambda: stop.hurry() or time.monotonic() > killed_at)


def _environment(docs: Path | None) -> Mapping[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    return {**env, **_SMALL, **({"RUNYARD_DOCS": str(docs.resolve())} if docs else {})}


def _consumed(store: redis.Redis) -> set[str]:
    """The queues that workers say they consume."""
    settings = Settings.from_env(os.environ)
    keys = Keys(settings.prefix, settings.partitions)
    workers = store.zrange(keys.workers, 0, -1)
    answers = [store.hget(keys.worker(worker.decode()), "queues") or b"" for worker in workers]
    return {queue for answer in answers for queue in answer.decode().split(",")}


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
