"""Two hundred runs of mixed shapes while workers and the store are killed at random. The seed is printed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from runyard.app.processes import WORKER, WORKER_CPU
from tests.support.fleet import fleet
from tests.support.storm import Storm

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]


def test_every_accepted_run_ends_and_nothing_is_committed_twice(tmp_path: Path) -> None:
    seed = int(os.environ.get("RUNYARD_TEST_SEED", "0")) or random.randrange(1, 10**6)
    print(f"seed: {seed} (RUNYARD_TEST_SEED repeats it)")
    with fleet(tmp_path, WORKER, WORKER, WORKER_CPU) as (crew, server):
        storm = Storm(crew, server, random.Random(seed), runs=200)
        storm.blow(40.0)
        assert not storm.come_to_an_end(timeout_s=240)
        assert storm.faults.total() >= 5
