"""Checkpoints made by hand, and a look at everything a store holds."""

from __future__ import annotations

import operator
from typing import Annotated, Any

import redis as redis_py
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"


def at(thread_id: str, checkpoint_id: str | None = None, namespace: str = "") -> Any:
    """The config that names a thread, a namespace and perhaps a checkpoint."""
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, **named}}


def checkpoint(values: dict[str, Any], versions: dict[str, Any] | None = None, id_: str | None = None) -> Checkpoint:
    return Checkpoint(
        v=4,
        id=id_ or str(uuid6(clock_seq=0)),
        ts="2026-01-01T00:00:00+00:00",
        channel_values=values,
        channel_versions=dict.fromkeys(values, "1") if versions is None else versions,
        versions_seen={},
        updated_channels=None,
    )


def put(
    saver: BaseCheckpointSaver[str],
    config: Any,
    values: dict[str, Any],
    versions: dict[str, Any] | None = None,
    *,
    new: dict[str, Any] | None = None,
    **metadata: Any,
) -> Any:
    """Put a checkpoint whose parent is the one ``config`` names; all its versions are new unless ``new`` says which."""
    made = checkpoint(values, versions)
    full: Any = {"source": "loop", "step": 0, "parents": {}, **metadata}
    return saver.put(config, made, full, made["channel_versions"] if new is None else new)


def ids(saver: BaseCheckpointSaver[str], config: Any, **wanted: Any) -> list[str]:
    return [found.checkpoint["id"] for found in saver.list(config, **wanted)]


def keyspace(client: redis_py.Redis) -> dict[bytes, Any]:
    """Every key and its whole content."""
    read = {
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"string": client.get,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: read[client.type(key)](key) for key in sorted(client.keys())}


class Counted(TypedDict):
    n: int
    log: Annotated[list[int], operator.add]


def chain(saver: BaseCheckpointSaver[Any], length: int = 10) -> Any:
    """A chain of nodes, each of which counts and logs."""

    async def node(state: Counted) -> dict[str, Any]:
        return {"n": state["n"] + 1, "log": [state["n"]]}

    builder = StateGraph(Counted)
    names = [f"n{i}" for i in range(length)]
    for name in names:
        builder.add_node(name, node)
    for one, next_ in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(one, next_)
    return builder.compile(checkpointer=saver)
