"""The example graphs, each killed at every point of a run: all of them must end as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runyard.app.exit_codes import ExitCode

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

MESSAGE = {"to": "ada@example.org", "subject": "Leases", "request": "Say that they hold.", "max_drafts": 3}
DOCUMENTS = [
    {"title": title, "text": f"{title} is about leases. A lease has a token. {title} ends here."}
    for title in ("One", "Two", "Three")
]
EXAMPLES: dict[str, tuple[str, Any, list[Any]]] = {
    "research": ("research", {"question": "What is a lease?"}, []),
    "approval": ("approval", MESSAGE, [{"decision": "approve"}]),
    "approval, second draft": ("approval", MESSAGE, [{"decision": "reject", "feedback": "Longer."}, "approve"]),
    "digest": ("digest", {"documents": DOCUMENTS}, []),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_graph_ends_as_if_nothing_had_happened(example: str, tmp_path: Path) -> None:
    graph, given, answers = EXAMPLES[example]
    (tmp_path / "notes.md").write_text(
        "# Leases\n\nA lease is a promise with an end. A token tells its holders apart.\n"
    )
    command = [sys.executable, "-m", "runyard.app.cli", "crash-test", graph, "--json", "--input", json.dumps(given)]
    for answer in answers:
        command += ["--resume", json.dumps(answer)]
    env = {**os.environ, "RUNYARD_OUTBOX": str(tmp_path / "outbox"), "RUNYARD_DOCS": str(tmp_path)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=env)
    assert ran.stdout, ran.stderr
    report = json.loads(ran.stdout)
    bad = [trial for trial in report["trials"] if not trial["survived"]]
    assert (bad, ran.returncode, report["status"]) == ([], ExitCode.OK, "success")
    again = sum(bool(trial["nodes_again"]) for trial in report["trials"])
    print(f"{example}: {len(report['trials'])} workers killed, 0 lost, 0 different, repeated after {again}")
