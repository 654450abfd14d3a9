"""What stands in for a node that gave nothing itself, and what is told of the gap."""

from __future__ import annotations

import inspect
from typing import Any

from langgraph.types import Command, PregelExecutableTask

from runyard.engine import seam, wire
from runyard.engine.worker import Graph

#: What a missing task was sent is told up to this size, in bytes of JSON.
LARGEST_INPUT = 2000


def by_hand(supplied: dict[str, Any]) -> Any:
    """What an operator has supplied, as if the node had returned it."""
    if "goto" in supplied:
        return Command(goto=supplied["goto"], update=supplied.get("value"))
    return supplied.get("value")


async def fallback_of(graph: Graph, task: PregelExecutableTask, fallback: Any, error: Exception) -> Any:
    """What the fallback gives: a constant, another node of the graph, or a function of the input and the error. Raises
    whatever the author's code does."""
    if isinstance(fallback, dict):
        return fallback["value"]
    if isinstance(fallback, str):
        return await graph.nodes[fallback].bound.ainvoke(task.input, task.config)
    given = (task.input, error, task.config)[: len(inspect.signature(fallback).parameters)]
    made = fallback(*given)
    return await made if inspect.isawaitable(made) else made


def missing_of(task: PregelExecutableTask, record: dict[str, Any], how: dict[str, Any]) -> dict[str, Any]:
    """What a run does without, as nodes that follow and its answer tell it; ``record`` is of the last attempt."""
    missing = {key: record[key] for key in ("task_id", "node", "attempt", "error", "message")}
    return {**missing, **_sent(task), **how}


def _sent(task: PregelExecutableTask) -> dict[str, Any]:
    """Which of its node's tasks this one is: what it was sent, unless that is too much to carry along."""
    if not seam.is_sent(task):
        return {}
    known = wire.encode(task.input)
    return {"input": wire.decode(known)} if len(known) <= LARGEST_INPUT else {}
