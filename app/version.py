"""Which version runs."""

from __future__ import annotations

from importlib import metadata


def _of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # a checkout on the path that was never installed
        return "0+unknown"


VERSION = _of("runyard")
LANGGRAPH_VERSION = _of("langgraph")
