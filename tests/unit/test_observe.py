"""A process's log: readable where a person sits, JSON elsewhere; nothing of a run's input in what Sentry gets."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runyard.engine.errors import ConfigError
from runyard.engine.settings import Settings

PROGRAM = """
import structlog
from runyard.engine.settings import Settings
from runyard.tasks.observe import observe
observe(Settings.from_env({"RUNYARD_LOG_LEVEL": "WARNING"}))
log = structlog.get_logger("t")
log.info("quiet")
try:
    raise ValueError("boom")
except ValueError:
    log.exception("loud", run_id="r1")
"""


def test_a_log_that_goes_to_a_file_is_one_json_object_a_line() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    (line,) = [json.loads(text) for text in ran.stderr.splitlines()]
    assert (line["event"], line["run_id"], line["level"]) == ("loud", "r1", "error")
    assert "ValueError: boom" in line["exception"]
    assert ran.stdout == ""


def test_a_level_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="RUNYARD_LOG_LEVEL='LOUD' is not valid: it must be one of DEBUG"):
        Settings.from_env({"RUNYARD_LOG_LEVEL": "LOUD"})
