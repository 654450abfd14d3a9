"""What ``runyard up`` writes: words for people, or JSON that says which process a line is of."""

from __future__ import annotations

import io
import json
from typing import Any

from runyard.app.terminal import Terminal


def written(*, as_json: bool) -> list[str]:
    stream = io.StringIO()
    terminal = Terminal(stream, ["web", "worker-cpu"], as_json=as_json)
    terminal.show("web", '{"event":"run.created","run_id":"r1"}')
    terminal.show("worker-cpu", "Segmentation fault")
    terminal.show("web", "")
    terminal.say("stopping")
    return stream.getvalue().splitlines()


def test_a_person_reads_lines_behind_the_names_of_processes() -> None:
    assert [line[9:] for line in written(as_json=False)] == [
        'web        | {"event":"run.created","run_id":"r1"}', "worker-cpu | Segmentation fault", "web        | ",
        "runyard    | stopping",
    ]  # fmt: skip


def test_a_log_of_json_stays_one_whatever_a_process_prints() -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in written(as_json=True)]
    assert lines[0] == {"process": "web", "event": "run.created", "run_id": "r1"}
    assert [(line["process"], line["event"]) for line in lines[1:]] == [
        ("worker-cpu", "Segmentation fault"), ("runyard", "stopping"),
    ]  # fmt: skip
