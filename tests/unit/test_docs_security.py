"""docs/security.md says what the code says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from runyard.app.auth.scopes import SCOPES
from runyard.engine.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
#: What the settings of this page begin with.
OURS = ("auth", "jwt", "rate", "max_body", "max_input", "max_state")


def part(name: str) -> str:
    found = re.search(rf"<!-- {name}:[^\n]*-->\n(.*?)\n<!-- /{name} -->", TEXT, re.DOTALL)
    assert found, f"there is no part {name!r}"
    return found[1]


def scopes_table() -> str:
    return "\n".join(["| scope | allows |", "|---|---|", *(f"| `{name}` | {said} |" for name, said in SCOPES.items())])


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for item in fields(Settings):
        if item.name.startswith(OURS):
            shown = f"{item.default:g}" if isinstance(item.default, float) else str(item.default)
            rows.append(f"| `{item.metadata['env']}` | {f'`{shown}`' if shown else ''} | {item.metadata['help']} |")
    return "\n".join(rows)


def test_the_page_lists_every_scope() -> None:
    assert part("scopes") == scopes_table()


def test_the_page_lists_every_setting_of_its_kind() -> None:
    assert part("auth settings") == settings_table()
