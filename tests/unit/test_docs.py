"""Documents that can drift say what the code says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from runyard.app import mcp, protocol
from runyard.app.api import a2a
from runyard.engine.run import TRANSITIONS, Phase, status_of
from runyard.engine.settings import Settings
from runyard.engine.store import keys

ROOT = Path(__file__).parents[2]


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for item in fields(Settings):
        shown = f"{item.default:g}" if isinstance(item.default, float) else str(item.default)
        rows.append(f"| `{item.metadata['env']}` | {f'`{shown}`' if shown else ''} | {item.metadata['help']} |")
    return "\n".join(rows)


def between(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name}:[^\n]*-->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert found, f"there is no part {name!r}"
    return found[1]


def test_the_readme_lists_every_setting() -> None:
    assert between((ROOT / "README.md").read_text(), "settings") == settings_table()


def test_the_list_of_keys_is_the_one_in_the_code() -> None:
    assert keys.__doc__ is not None
    table = "\n".join(line for line in keys.__doc__.splitlines() if line.startswith("|"))
    assert between((ROOT / "docs/redis-keys.md").read_text(), "keys") == table


def test_the_protocols_are_those_that_are_spoken() -> None:
    text = (ROOT / "docs/protocols.md").read_text()
    assert f"`{' '.join(protocol.CHANNELS)}`" in text
    assert f"{', '.join(mcp.VERSIONS[:-1])} and {mcp.VERSIONS[-1]}" in text
    assert all(f"`{method}`" in text for method in a2a._METHODS)


def test_the_lifecycle_lists_every_phase_and_transition() -> None:
    text = (ROOT / "docs/lifecycle.md").read_text()
    rows = {
        row[0]: row
        for row in re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", between(text, "phases"), re.MULTILINE)
    }
    assert set(rows) == set(Phase)
    for phase in Phase:
        shown = {status_of(phase, started=False), status_of(phase, started=True)}
        assert set(re.findall(r"`(\w+)`", rows[phase][1])) == shown, phase
    told = {
        (verb, frozenset(re.findall(r"`(\w+)`", sources)), target)
        for verb, sources, target in re.findall(
            r"^\| `(\w+)` \| ([^|]+) \| `(\w+)` \|", between(text, "transitions"), re.MULTILINE
        )
    }
    assert told == {(str(verb), frozenset(map(str, sources)), str(to)) for verb, (sources, to) in TRANSITIONS.items()}


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))])
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text())) <= targets
