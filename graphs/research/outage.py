"""What an answer had to do without, and how to try it: sources and models that are dead on purpose.

The nodes know nothing of it. A source that fails is missing, a node whose model fails is replaced, because the policies
beside the nodes say so; a runtime that heeds them tells the following nodes in `configurable.degraded`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from runyard.graphs.inputs import BadInput
from runyard.graphs.research.sources import SOURCES

MODEL = "model"


def dead_on_purpose(config: RunnableConfig, known: Collection[str]) -> frozenset[str]:
    """What `configurable.dead` names: sources, or "model". It is for seeing what becomes of a run then."""
    named = config.get("configurable", {}).get("dead") or []
    if not isinstance(named, list) or not set(map(str, named)) <= {*known, MODEL}:
        raise BadInput("dead", f"must be a list of {', '.join(known)} or {MODEL}, not {named!r}")
    return frozenset(map(str, named))


def degraded(config: RunnableConfig) -> Sequence[Mapping[str, Any]]:
    """What this run did without so far, as the runtime tells it; nothing where there is no such runtime."""
    return config.get("configurable", {}).get("degraded") or ()


def lost_its_model(config: RunnableConfig) -> bool:
    """Whether the model has failed in this run: it is not asked again."""
    return any(part["node"] in ("plan", "answer") for part in degraded(config))


def without(parts: Sequence[Mapping[str, Any]]) -> str:
    """A paragraph for the end of an answer; empty when nothing was missing."""
    said = dict.fromkeys(_line(part) for part in parts)
    return "\n\nThis answer had to do without:\n" + "\n".join(said) if said else ""


def _line(part: Mapping[str, Any]) -> str:
    if part["node"] == "search":
        source = (part.get("input") or {}).get("source", "of one search")
        what = f"the source {source!r}" if source in (*SOURCES, "of one search") else f"what is in {source!r}"
    else:
        what = f"the model, to {part['node']}"
    return f"- {what}: {part['error']}: {part['message']}"
