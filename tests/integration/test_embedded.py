"""The embedded store: what it promises to the processes that are started on it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from runyard.engine.errors import ConfigError, StoreUnavailable
from runyard.engine.store import embedded
from runyard.engine.store.data_dir import DataDirInUse
from runyard.engine.store.embedded import EmbeddedServer, find_binary
from tests.support.eventually import eventually
from tests.support.processes import is_alive


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., EmbeddedServer]]:
    started: list[EmbeddedServer] = []

    def start_one(data_dir: Path | None = None, **options: object) -> EmbeddedServer:
        started.append(EmbeddedServer(data_dir or tmp_path / "data", **options))  # type: ignore[arg-type]
        return started[-1].start()

    yield start_one
    for one in started:
        one.stop()


def client_of(server: EmbeddedServer, **options: object) -> redis_py.Redis:
    return redis_py.Redis.from_url(server.url, decode_responses=True, retry=Retry(NoBackoff(), 0), **options)


def test_a_write_outlives_a_kill_of_the_server(start: Callable[..., EmbeddedServer]) -> None:
    server = start()
    with client_of(server) as client:
        client.set("run", "accepted")
    server.kill()
    server.restart()
    with client_of(server) as client:
        assert client.get("run") == "accepted"


def test_data_is_kept_between_two_starts_on_the_same_directory(
    start: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    first = start()
    with client_of(first) as client:
        client.set("run", "accepted")
    first.stop()
    second = start()
    with client_of(second) as client:
        assert client.get("run") == "accepted"


def test_every_write_is_on_disk_before_the_answer_and_nothing_is_evicted(
    start: Callable[..., EmbeddedServer],
) -> None:
    with client_of(start()) as client:
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "hash-max-ziplist-value": "1024",
            "stream-node-max-bytes": "1024",
            "save": "",
            "port": "0",
        }
        assert client.config_get(*wanted) == wanted


def test_appendfsync_can_be_set(start: Callable[..., EmbeddedServer]) -> None:
    with client_of(start(appendfsync="everysec")) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}


def test_nobody_else_can_read_the_directory_the_socket_or_the_files(
    start: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    server = start()
    with client_of(server) as client:
        client.set("secret", "1")
    for path in [server.data_dir, *server.data_dir.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_second_server_on_the_same_directory_is_refused_and_told_who_has_it(
    start: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    first = start()
    with pytest.raises(DataDirInUse, match=f"process {os.getpid()}, whose store is process {first.pid}"):
        start(tmp_path / "data")
    with client_of(first) as client:
        assert client.ping()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/data cannot be used: Not a directory"):
        EmbeddedServer(tmp_path / "file" / "data").start()


def test_a_server_that_crashes_while_starting_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("not a manifest\n")
    server = EmbeddedServer(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"(?s)stopped while starting.*store\.log.*manifest"):
        server.start()
    assert not server.is_running()


def test_a_server_that_never_answers_is_given_up_and_not_left_behind(tmp_path: Path) -> None:
    mute = tmp_path / "mute-server"
    mute.write_text(f"#!{sys.executable}\nimport time\nprint('thinking', flush=True)\ntime.sleep(60)\n")
    mute.chmod(0o700)
    server = EmbeddedServer(tmp_path / "data", binary=mute, ready_timeout_s=0.5)
    with pytest.raises(StoreUnavailable, match=r"(?s)did not answer within 0\.5 s.*thinking"):
        server.start()
    assert not server.is_running()


def test_no_server_to_be_found_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="valkey-server or redis-server"):
        find_binary()


def test_without_the_package_a_server_on_path_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "valkey-server").symlink_to(find_binary())
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == tmp_path / "valkey-server"


def test_a_paused_server_hangs_its_clients_and_goes_on_when_resumed(start: Callable[..., EmbeddedServer]) -> None:
    server = start()
    with client_of(server, socket_timeout=0.2) as client:
        server.pause()
        with pytest.raises(redis_py.TimeoutError):
            client.ping()
        server.resume()
        assert eventually(client.ping)


def test_a_paused_server_can_be_stopped(start: Callable[..., EmbeddedServer]) -> None:
    server = start()
    pid = server.pid
    server.pause()
    server.stop()
    assert not is_alive(pid)


def test_stopping_leaves_neither_process_nor_socket_nor_private_directory() -> None:
    server = EmbeddedServer().start()
    pid, data_dir = server.pid, server.data_dir
    server.stop()
    server.stop()
    assert not is_alive(pid)
    assert not data_dir.exists()


def test_a_path_too_long_for_a_socket_works_all_the_same(start: Callable[..., EmbeddedServer], tmp_path: Path) -> None:
    server = start(tmp_path / ("deep" * 20) / "a folder")
    with client_of(server) as client:
        assert client.ping()
    place = Path(server.url.removeprefix("unix://")).parent
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    server.stop()
    assert not place.exists()


def test_a_path_with_spaces_and_signs_works(start: Callable[..., EmbeddedServer], tmp_path: Path) -> None:
    with client_of(start(tmp_path / "my data? 100%")) as client:
        assert client.ping()


def test_a_server_started_in_a_thread_outlives_the_thread(start: Callable[..., EmbeddedServer]) -> None:
    servers: list[EmbeddedServer] = []
    thread = threading.Thread(target=lambda: servers.append(start()))
    thread.start()
    thread.join()
    with client_of(servers[0]) as client:
        assert client.ping()


OWNER = """
import sys, pathlib, time
from runyard.engine.store.embedded import EmbeddedServer
server = EmbeddedServer(pathlib.Path(sys.argv[1])).start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a process to its parent")
def test_a_kill_of_the_owner_takes_the_server_along_and_frees_the_directory(
    start: Callable[..., EmbeddedServer], tmp_path: Path
) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    with owner, owner.stdout:
        pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
    eventually(lambda: not is_alive(pid))
    assert start().is_running()


@pytest.mark.external_redis
def test_a_redis_found_on_path_keeps_the_same_promises(start: Callable[..., EmbeddedServer]) -> None:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip("no redis-server on PATH")
    server = start(binary=Path(found))
    with client_of(server) as client:
        client.set("run", "accepted")
        assert client.config_get("save") == {"save": ""}
    server.kill()
    server.restart()
    with client_of(server) as client:
        assert client.get("run") == "accepted"


def test_the_store_of_a_test_is_empty(redis: redis_py.Redis) -> None:
    assert redis.dbsize() == 0
    redis.set("left", "behind")


def test_the_store_of_the_next_test_is_empty_again(redis: redis_py.Redis) -> None:
    assert redis.dbsize() == 0
