"""A worker that gives way: by itself, and with the session that it leads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GROUP = Path("/proc/self/autogroup")
PRINT = """
import os, sys
from pathlib import Path
from runyard.tasks.giving_way import give_way
give_way(int(sys.argv[1]))
print(os.getpriority(os.PRIO_PROCESS, 0), Path("/proc/self/autogroup").read_text().split()[-1])
"""
grouped = pytest.mark.skipif(not GROUP.exists(), reason="this system does not group processes by session")


def told(nice: int, *, leads: bool) -> list[int]:
    """How nice a process is that is to give way, and how nice its session."""
    argv = [sys.executable, "-c", PRINT, str(nice)]
    if not leads:  # what leads the session starts it
        argv = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)", *argv]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, start_new_session=True).stdout
    return [int(word) for word in said.split()]


@grouped
def test_a_worker_that_leads_its_session_makes_that_give_way_half_as_far() -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert told(7, leads=True) == [min(19, here + 7), 3]


@grouped
def test_others_of_a_session_that_a_worker_does_not_lead_stay_as_they_are() -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert told(7, leads=False) == [min(19, here + 7), 0]


@grouped
def test_a_worker_that_is_not_to_give_way_changes_nothing() -> None:
    assert told(0, leads=True) == [os.getpriority(os.PRIO_PROCESS, 0), 0]
