"""Limits over real worker processes: exactly so many at once, whoever dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runyard.app.processes import WORKER
from runyard.engine.run import Phase
from tests.support.eventually import eventually
from tests.support.fleet import PATIENCE_S, Fleet, do, fleet, measured

pytestmark = pytest.mark.timeout(180)

#: Of the scripted graph, the node `io` needs one of five shares.
FIVE = {"limits": {"five": {"concurrency": 5}}, "policies": {"scripted": {"io": {"limit": "five"}}}}


def most_at_once(log: list[dict[str, Any]]) -> int:
    """How many executions of `io` were under way at the same moment, by the log they wrote."""
    begun: dict[tuple[str, int], float] = {}
    moments = []
    for line in log:
        key = (line["name"], line["pid"])
        if line["what"] == "start":
            begun[key] = line["at"]
        elif key in begun:
            moments += [(begun.pop(key), 1), (line["at"], -1)]
    inside = most = 0
    for _, change in sorted(moments):
        inside += change
        most = max(most, inside)
    return most


def lines(of: Fleet) -> list[dict[str, Any]]:
    return sorted([*of.log(what="start"), *of.log(what="end")], key=lambda line: line["at"])


def test_a_hundred_runs_on_three_workers_share_five_and_a_dead_worker_gives_back(tmp_path: Path) -> None:
    with fleet(tmp_path, WORKER, WORKER, WORKER, runyard=FIVE, RUNYARD_LEASE_S=2) as (workers, _):
        runs = [workers.submit([[do("wait", s=0.2)]]) for _ in range(100)]
        eventually(lambda: len(lines(workers)) > 10, timeout_s=PATIENCE_S, what="the first have begun")
        workers.members[0].kill()
        assert {run.phase for run in workers.finish(runs)} == {Phase.SUCCEEDED}
        log = lines(workers)
        assert most_at_once(log) == 5
        ends = [line["at"] for line in log if line["what"] == "end"]
        began = min(line["at"] for line in log if line["what"] == "start")
        measured("100 waits of 0.2 s, five at a time (4 s at best, and a dead worker)", max(ends) - began)
