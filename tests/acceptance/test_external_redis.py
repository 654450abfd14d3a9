"""A Redis that somebody else runs, over TCP: the same promises as with the store that Runyard carries."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from runyard.app.processes import WORKER, WORKER_CPU
from runyard.engine.tether import tethered
from tests.support.eventually import eventually
from tests.support.fleet import Fleet, assert_as_langgraph, do, fleet_on

SERVER = shutil.which("redis-server")
pytestmark = [
    pytest.mark.external_redis,
    pytest.mark.timeout(180),
    pytest.mark.skipif(SERVER is None, reason="there is no redis-server on PATH"),
]


class Redis:
    """A redis-server on a port of its own that keeps its data between starts."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(tethered([str(SERVER), *settings, *durable]), stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with redis_py.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis_py.RedisError:
                return False


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def crew(redis_server: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_on(redis_server.url, tmp_path_factory.mktemp("fleet"), WORKER, WORKER_CPU) as crew:
        yield crew


def test_runs_and_branches_come_to_their_end(crew: Fleet) -> None:
    runs = [crew.submit([[do("ok"), do("spin", s=0.1, on="cpu")], [do("ok", on="sync")]]) for _ in range(5)]
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)


def test_it_is_killed_under_load_and_every_accepted_run_ends(crew: Fleet, redis_server: Redis) -> None:
    runs = [crew.submit([[do("wait", s=0.1)], [do("ok", on="cpu")]] * 4) for _ in range(15)]
    for run in runs[:5]:
        crew.started(run)
    redis_server.kill()
    redis_server.start()
    crew.finish(runs)
    assert_as_langgraph(crew, *runs)
    assert all(member.is_running() for member in crew.members)
