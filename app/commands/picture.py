"""A graph as a tree of lines, which any terminal can show. What was drawn before is named, not drawn again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from langchain_core.runnables.graph import Edge, Graph as Drawn

_NAMES = {"__start__": "start", "__end__": "end"}


def draw(drawn: Drawn) -> list[str]:
    """The lines of the tree, from the start on; nodes that nothing leads to are drawn after it."""
    ways: dict[str, list[Edge]] = defaultdict(list)
    for edge in drawn.edges:
        ways[edge.source].append(edge)
    known: set[str] = set()
    first = drawn.first_node()
    roots = ([first.id] if first else []) + [name for name in drawn.nodes if first is None or name != first.id]
    return [line for root in roots if root not in known for line in _tree(root, ways, known)]


def _tree(name: str, ways: dict[str, list[Edge]], known: set[str]) -> Iterator[str]:
    yield _NAMES.get(name, name)
    known.add(name)
    yield from _branches(name, ways, known, "")


def _branches(name: str, ways: dict[str, list[Edge]], known: set[str], indent: str) -> Iterator[str]:
    edges = ways[name]
    for position, edge in enumerate(edges):
        last = position == len(edges) - 1
        stem = ("└" if last else "├") + ("┄ " if edge.conditional else "─ ")
        seen = edge.target in known
        yield indent + stem + _NAMES.get(edge.target, edge.target) + _told(edge) + (" ↑" if seen else "")
        if not seen:
            known.add(edge.target)
            yield from _branches(edge.target, ways, known, indent + ("   " if last else "│  "))


def _told(edge: Edge) -> str:
    data: Any = edge.data
    return f"  ({data})" if data and str(data) != edge.target else ""
