"""What people type at the command line."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click
import pytest

from runyard.app.commands.demo_client import Told, read_sse
from runyard.app.commands.values import EventId, Id, Json


def test_json_is_read_as_it_stands_from_a_file_and_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "input.json").write_text('{"a": 1}')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}')))
    read = Json()
    assert [read.convert(text, None, None) for text in ('{"a": 1}', f"@{tmp_path}/input.json", "-")] == [{"a": 1}] * 3


def test_json_that_is_wrong_in_a_file_is_told_with_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{\n "a": nul}')
    with pytest.raises(click.BadParameter, match=r"input\.json: not valid JSON at line 2 column \d+"):
        Json().convert(f"@{tmp_path}/input.json", None, None)


@pytest.mark.parametrize(
    ("given", "kind"),
    [("[]", "a list"), ("1", "a number"), ("true", "true or false"), ("null", "null"), ('""', "text")],
)
def test_where_an_object_is_wanted_anything_else_is_named(given: str, kind: str) -> None:
    with pytest.raises(click.BadParameter, match=f"must be a JSON object, not {kind}"):
        Json(only_object=True).convert(given, None, None)


def test_an_id_is_taken_in_any_form_a_uuid_has() -> None:
    wanted = "0198f3c2-5d1e-7003-9a41-6f0d2c7b8e55"
    assert Id().convert(wanted.upper(), None, None) == wanted
    assert Id().convert(wanted.replace("-", ""), None, None) == wanted


@pytest.mark.parametrize("given", ["", "run-1", "0198f3c2-5d1e-7003-9a41"])
def test_an_id_that_is_no_uuid_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a UUID, like"):
        Id().convert(given, None, None)


@pytest.mark.parametrize("given", ["7", "-", "1-", "x-0", "1763791200000-0-0"])
def test_an_event_id_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match="is not an event's id"):
        EventId().convert(given, None, None)


def test_a_stream_is_read_with_ids_names_and_data_and_without_heartbeats() -> None:
    lines = [
        "id: 17-0",
        "event: custom",
        'data: {"a":1}',
        "",
        ": heartbeat",
        "",
        "event: end",
        "data: null",
        "id: 18-1",
        "",
    ]
    assert list(read_sse(lines)) == [Told("custom", {"a": 1}, 17), Told("end", None, 18)]
