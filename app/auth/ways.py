"""Whether an installation asks clients who they are, told before anything of it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from runyard.engine.settings import Settings


def asks_who(settings: Settings, config: Path | None) -> bool:
    """By a setting, or by the Auth object of its project."""
    return bool(settings.auth_ways) or (config is not None and _names_auth(config))


def _names_auth(config: Path) -> bool:
    try:
        section = json.loads(config.read_text(encoding="utf-8-sig")).get("auth") or {}
        return bool(section.get("path"))
    except (OSError, ValueError, AttributeError):
        return False  # whoever serves the project says what is wrong with its file
