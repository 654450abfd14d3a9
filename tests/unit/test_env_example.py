""".env.example is the list of settings an operator reads: it says what the code says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from runyard.engine.settings import Settings

TEXT = (Path(__file__).parents[2] / ".env.example").read_text()
#: Each setting with the comment line above it.
ENTRIES = {name: (comment, value) for comment, name, value in re.findall(r"^# (.+)\n#(\w+)=(.*)$", TEXT, re.MULTILINE)}


def test_every_setting_is_there_with_its_default_and_its_sentence() -> None:
    for item in fields(Settings):
        shown = f"{item.default:g}" if isinstance(item.default, float) else str(item.default)
        assert ENTRIES[item.metadata["env"]] == (item.metadata["help"], shown)


def test_the_file_as_it_is_changes_nothing() -> None:
    assert all(line.startswith("#") or not line for line in TEXT.splitlines())


def test_the_defaults_are_accepted_when_they_are_set() -> None:
    assert Settings.from_env({name: value for name, (_, value) in ENTRIES.items()}) == Settings()
