"""A short storm of known faults over a loaded fleet. `make chaos` has a long one of random faults."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from runyard.app.processes import WORKER, WORKER_CPU
from tests.support.fleet import fleet
from tests.support.storm import Storm


@pytest.mark.timeout(240)
def test_no_accepted_run_is_lost_or_committed_twice(tmp_path: Path) -> None:
    with fleet(tmp_path, WORKER, WORKER, WORKER_CPU) as (crew, server):
        storm = Storm(crew, server, random.Random(20), runs=60)
        storm.go_through(
            [storm.kill_worker, storm.forget, storm.kill_child, storm.restart_store, storm.kill_worker, storm.cut,
             storm.forget, storm.kill_worker],
            turns=15,
        )  # fmt: skip
        assert not storm.come_to_an_end(timeout_s=120)
        assert storm.forgotten >= 6
