"""A worker that keeps to a core, and its threads that do not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from runyard.engine.errors import ConfigError
from runyard.tasks.cores import keep_to

PRINT = """
import os
from concurrent.futures import ThreadPoolExecutor
from runyard.tasks.cores import keep_to, spread
keep_to(os.environ["CORE"])
with ThreadPoolExecutor(1) as ours, ThreadPoolExecutor(1, "node", spread) as nodes:
    print(*(sorted(pool.submit(os.sched_getaffinity, 0).result()) for pool in (ours, nodes)), sep=";")
"""
linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system lets no process choose its core")


def told(core: str) -> str:
    env = {**os.environ, "CORE": core}
    return subprocess.run(
        [sys.executable, "-c", PRINT], env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


@linux
def test_the_threads_of_a_worker_keep_to_its_core_but_not_those_of_plain_functions() -> None:
    every = sorted(os.sched_getaffinity(0))
    assert told(str(every[-1])) == f"[{every[-1]}];{every}"
    assert told("") == f"{every};{every}"


@linux
def test_a_core_that_there_is_not_is_refused_by_name_and_nothing_is_changed() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ConfigError, match=r"RUNYARD_WORKER_CORE is not valid: 4096; it must be a core .*: .*0"):
        keep_to("4096")
    assert os.sched_getaffinity(threading.get_native_id()) == before
