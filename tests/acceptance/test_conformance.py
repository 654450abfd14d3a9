"""The tier-1 tests of LangGraph's API that are kept outside of this repository, against a running stack.

They drive it through the stock SDK and raw HTTP, and bring their own graphs and pytest settings.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import Stack, stack

#: Their folder, where it does not stand beside the checkout.
WHERE = "RUNYARD_TEST_CONFORMANCE"
FOLDER = Path(os.environ.get(WHERE) or Path(__file__).parents[3] / "shared" / "conformance")
#: How many there are: what is left out or passed over there does not count as passed here.
TESTS = 54

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not os.environ.get(WHERE) and not FOLDER.exists(), reason=f"{FOLDER} is not there, and {WHERE} names no other"
    ),
]


def test_tier_1_passes(tmp_path: Path) -> None:
    project = FOLDER / "langgraph.json"
    with stack(tmp_path, RUNYARD_CONFIG=project, PYTHONDONTWRITEBYTECODE="1") as (made, _):
        said = tier_1(made)
    assert f"\n{TESTS} passed" in said, said[-8000:]


def tier_1(server: Stack) -> str:
    """What pytest says of them. Their folder is read only, in effect: nothing is written into it."""
    options = ["-q", "-c", "pytest.ini", "-m", "tier1", "--timeout", "40", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", ".", *options],
        cwd=FOLDER,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "CONF_URL": server.url,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return f"{done.stdout}{done.stderr}\nended with {done.returncode}"
