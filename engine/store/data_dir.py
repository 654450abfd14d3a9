"""One data directory, one server: the lock that says whose it is."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from runyard.engine.errors import ConfigError

#: A server whose owner was killed a moment ago may need that moment to be gone.
_PATIENCE_S = 1.0


class DataDirInUse(ConfigError):
    """The data directory belongs to a store that is running."""

    code = "data_dir_in_use"


class DataDir:
    """A claim on a directory, held by this process and, through the file it passes on, by the server.

    The lock is the kernel's (``flock``), so a crash frees it by itself, and not before the last of the two is
    gone. What the lock file says is for people.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @property
    def lock_fd(self) -> int:
        if self._fd is None:
            raise ConfigError(f"The data directory {self._path} has not been claimed.")
        return self._fd

    def claim(self) -> None:
        """Make the directory when it is missing and take it; claiming twice is harmless.

        Raises ``DataDirInUse`` naming the process that has it, ``ConfigError`` when it cannot be written.
        """
        if self._fd is not None:
            return
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise ConfigError(f"The data directory {self._path} cannot be used: {exc.strerror}.") from exc
        if not _locked_within(fd, _PATIENCE_S):
            holder = os.read(fd, 100).decode(errors="replace").strip() or "another process"
            os.close(fd)
            raise DataDirInUse(f"The data directory {self._path} is in use by {holder}. Stop it, or name another.")
        self._fd = fd

    def note(self, server_pid: int) -> None:
        """Write down who has the directory, for the message to the next one who asks."""
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, f"process {os.getpid()}, whose store is process {server_pid}\n".encode(), 0)

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _locked_within(fd: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True
