"""What a waiting run depends on: a graph's shape, its fingerprint, and how two shapes differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from langgraph._internal._constants import TASKS
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.constants import START
from langgraph.pregel import Pregel

Shape = dict[str, dict[str, Any]]


def shape(graph: Pregel[Any, Any, Any, Any], overrides: Mapping[str, Any] | None = None) -> Shape:
    """What a waiting run depends on: each node's triggers and inputs, each channel's kind, where nodes lead, and each
    node's policies, LangGraph's and ours; ``overrides`` are what configuration says of nodes."""
    return {
        "nodes": {
            name: {"triggers": sorted(node.triggers), "reads": _channels(node.channels)}
            for name, node in sorted(graph.nodes.items())
        },
        "channels": {name: type(channel).__name__ for name, channel in sorted(graph.channels.items())},
        "edges": {"all": _edges(graph)},
        "policies": {
            name: said for name, node in sorted(graph.nodes.items()) if (said := _said(name, node, overrides))
        },
    }


def fingerprint(graph: Pregel[Any, Any, Any, Any], overrides: Mapping[str, Any] | None = None) -> str:
    """16 hex digits that change when nodes, edges, what nodes read, channels, or policies change; the same in every
    process."""
    return hashlib.sha256(json.dumps(shape(graph, overrides), sort_keys=True).encode()).hexdigest()[:16]


def _said(name: str, node: Any, overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """The policies of one node; what is not said is left out."""
    said = {
        "code": (node.metadata or {}).get("runyard"),
        "configuration": (overrides or {}).get(name),
        "retry": node.retry_policy,
        "timeout": node.timeout,
        "cache": node.cache_policy,
        "error_handler": node.error_handler_node,
    }
    return {key: _plain(value) for key, value in said.items() if value}


def _plain(value: Any) -> Any:
    """A policy as JSON that is the same in every process: code by its name, parts of it one by one."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if hasattr(value, "_asdict"):  # a NamedTuple
        return _plain(value._asdict())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _edges(graph: Pregel[Any, Any, Any, Any]) -> list[Any]:
    """Where each node leads. A compiled graph has that inside its writers only; its builder still knows."""
    builder: Any = getattr(graph, "builder", None)
    if builder is None:  # the functional API, or a Pregel made by hand
        return []
    waiting = [(sorted(starts), end) for starts, end in builder.waiting_edges]
    branches = [
        (start, name, sorted((str(key), end) for key, end in (branch.ends or {}).items()))
        for start, named in builder.branches.items()
        for name, branch in named.items()
    ]
    return [sorted(builder.edges), sorted(waiting), sorted(branches)]


def _channels(channels: str | list[str]) -> list[str]:
    return [channels] if isinstance(channels, str) else sorted(channels)


def waiting_nodes(old: Shape, saved: CheckpointTuple) -> set[str]:
    """Which nodes were next at a checkpoint, in the graph as it was then."""
    checkpoint = saved.checkpoint
    versions: Mapping[str, Any] = checkpoint["channel_versions"]
    triggered = {
        name
        for name, node in old["nodes"].items()
        for trigger in node["triggers"]
        if trigger in versions and _is_newer(versions[trigger], checkpoint["versions_seen"].get(name, {}).get(trigger))
    }
    sends = {send.node for send in checkpoint["channel_values"].get(TASKS, ())}
    return (triggered - {START}) | sends


def _is_newer(version: Any, seen: Any) -> bool:
    return seen is None or version > seen


def difference(old: Shape, new: Shape) -> str:
    """How a graph has changed, in a sentence a person can read."""
    parts = []
    for kind in ("nodes", "channels", "policies"):
        then, now = old.get(kind, {}), new.get(kind, {})
        gone, come = sorted(then.keys() - now.keys()), sorted(now.keys() - then.keys())
        changed = sorted(name for name in then.keys() & now.keys() if then[name] != now[name])
        words = (("removed", gone), ("added", come), ("changed", changed))
        parts += [f"{kind} {word}: {', '.join(names)}" for word, names in words if names]
    return "; ".join(parts) or "where its nodes lead"
