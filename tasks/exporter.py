"""Metrics on their way to Prometheus: a port on every worker, and the files through which processes share them.

A threads worker counts in its memory. Prefork children, and the processes of one web server, count in files of a
folder, which whoever is scraped adds up. What a dead process counted stays counted, its file does not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, start_http_server, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from runyard.engine import metrics
from runyard.engine.settings import Settings

log = structlog.get_logger(__name__)

#: So many processes of one machine find a port each.
PORTS = 32
#: What folders are made for: processes of one web server, children of one worker.
KINDS = ("web", "worker")
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
#: Stands for all processes that are dead.
_THE_DEAD = "0"


def count_in_memory() -> metrics.Metrics:
    """Begin to count in this process, which is alone."""
    made = metrics.Metrics()
    metrics.install(made)
    return made


def count_in_files(folder: Path) -> None:
    """Begin to count in files of ``folder``, which other processes use too. After the process has forked."""
    os.environ[_FOLDER] = str(folder)
    # The library chooses where values are kept as it is imported, which somebody has done long ago.
    values.ValueClass = values.MultiProcessValue()
    metrics.install(metrics.Metrics(most_held=1))


def shared_folder(of: int, kind: str) -> Path:
    """The folder of process ``of`` and its children, made if need be; those of dead processes are removed."""
    root, head = _place(kind)
    _remove_dead(kind)
    folder = root / f"{head}{of}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def sweep() -> None:
    """Remove the folders of dead processes: called by whoever has ended them, or else by the next that starts."""
    for kind in KINDS:
        _remove_dead(kind)


def _remove_dead(kind: str) -> None:
    root, head = _place(kind)
    for old in root.glob(f"{head}*"):
        if not _lives(old.name.removeprefix(head)) and _is_ours(old):
            shutil.rmtree(old, ignore_errors=True)


def _place(kind: str) -> tuple[Path, str]:
    return Path(tempfile.gettempdir()), f"runyard-{kind}-{os.getuid()}-"


def added_up(folder: Path) -> CollectorRegistry:
    """What all processes of a folder have counted until now; the files of the dead are merged first."""
    merge_the_dead(folder)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return registry


def merge_the_dead(folder: Path) -> None:
    """Add what dead processes counted to one file for each kind, and remove theirs.

    A crash between the two may count a process twice, once; nothing is ever counted down.
    """
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file in sorted(folder.glob("*.db")):
            kind, _, pid = file.stem.rpartition("_")
            if pid != _THE_DEAD and not _lives(pid):
                _merge(file, folder / f"{kind}_{_THE_DEAD}.db")
                file.unlink()


def _merge(dead: Path, into: Path) -> None:
    found: defaultdict[str, float] = defaultdict(float)
    for key, value, _, _ in MmapedDict.read_all_values_from_file(str(dead)):
        found[key] += value
    kept = MmapedDict(str(into))
    for key, value in found.items():
        kept.write_value(key, kept.read_value(key)[0] + value, 0.0)
    kept.close()


def serve(settings: Settings, registry: Any) -> int | None:
    """Answer scrapes on a port of this process's own: the first that is free from RUNYARD_METRICS_PORT on."""
    for port in range(settings.metrics_port, settings.metrics_port + PORTS):
        try:
            start_http_server(port, settings.metrics_host, registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            log.warning("metrics.not_served", host=settings.metrics_host, port=port, error=str(error))
            return None
        log.info("metrics.served", host=settings.metrics_host, port=port)
        return port
    log.warning("metrics.not_served", host=settings.metrics_host, error=f"no port of {PORTS} is free")
    return None


class Folder:
    """For :func:`serve`: a registry that is added up from a folder anew for each scrape."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Any:
        return added_up(self._folder).collect()

    def restricted_registry(self, names: Any) -> Any:
        return added_up(self._folder).restricted_registry(names)


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can write there: names in /tmp can be guessed."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
