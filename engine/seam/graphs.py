"""A compiled graph: bound to a run, and asked what it is like."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import CONFIG_KEY_SEND, TASKS
from langgraph._internal._serde import apply_checkpointer_allowlist
from langgraph._internal._typing import MISSING
from langgraph.channels import UntrackedValue
from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.constants import START
from langgraph.pregel import Pregel
from langgraph.pregel._write import ChannelWrite


class StepsLeft(int):
    """A recursion limit for the rest of a run: what is left of ``asked``, also when that is nothing.

    LangGraph counts the limit from the checkpoint it starts at and refuses one below 1. A slice may start at the very
    step where the whole run is to be stopped, and must be stopped there, with the words of the whole run.
    """

    asked: int

    def __new__(cls, left: int, *, asked: int) -> Self:
        made = super().__new__(cls, left)
        made.asked = asked
        return made

    def __lt__(self, other: int) -> bool:
        return False

    def __format__(self, spec: str) -> str:
        return format(self.asked, spec)


def bind(
    graph: Pregel[Any, Any, Any, Any], saver: BaseCheckpointSaver[Any], **parts: Any
) -> Pregel[Any, Any, Any, Any]:
    """A copy of a shared graph with a checkpointer of its own; ``parts`` are the copy's, too. Cheap (0.002 ms, where
    LangGraph's ``copy``, which makes the graph anew, takes 0.025): all that does not change is shared.
    """
    bound = copy.copy(graph)
    bound.checkpointer = apply_checkpointer_allowlist(saver, graph._serde_allowlist)  # noqa: SLF001 - this module is where that is allowed
    for name, part in parts.items():
        setattr(bound, name, part)
    return bound


def may_stop(graph: Pregel[Any, Any, Any, Any], before: Any, after: Any) -> bool:
    """Whether a run may stop at a breakpoint: its own (``before``, ``after``), or one of the graph's."""
    return bool(before or after or graph.interrupt_before_nodes or graph.interrupt_after_nodes)


def runs_nothing_next(graph: Pregel[Any, Any, Any, Any], checkpoint: Checkpoint, source: str) -> bool:
    """Whether no node is to run before the next checkpoint or the end: after an input that START takes, and after the
    last checkpoint. False when that cannot be told."""
    if source == "input":
        return START in graph.nodes
    changed = checkpoint.get("updated_channels")
    return bool(changed) and TASKS not in changed and graph.trigger_to_nodes.keys().isdisjoint(changed)  # type: ignore[operator, arg-type]


def tells_values(graph: Pregel[Any, Any, Any, Any], checkpoint: Checkpoint, source: str) -> bool:
    """Whether LangGraph tells the graph's values with a checkpoint: not with an input, nor with a superstep that wrote
    none of them. True where whoever goes on from it is told them first (a fork, an edit), and when that cannot be
    known."""
    changed = checkpoint.get("updated_channels")  # None in what old versions saved; [] where nothing was written
    if source != "loop" or changed is None:
        return source != "input"
    return not set(graph.stream_channels_list).isdisjoint(changed)


def forgets(graph: Pregel[Any, Any, Any, Any]) -> bool:
    """Whether the graph's state holds values that LangGraph never saves: they last as long as one stretch of it."""
    return any(isinstance(channel, UntrackedValue) for channel in graph.channels.values())


def node_metadata(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Mapping[str, Any] | None]:
    """The metadata each node was added with."""
    return {name: node.metadata for name, node in graph.nodes.items() if name != START}


@dataclass(frozen=True, slots=True)
class Routes:
    """How a node's successor is found: the routers of its conditional edges, and where its plain edges lead."""

    routers: tuple[str, ...]
    static: frozenset[str]


def routes(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Routes]:
    """The ways out of each node; of a graph that was not made with StateGraph, none."""
    builder = getattr(graph, "builder", None)
    if builder is None:
        return {}
    return {
        name: Routes(
            tuple(builder.branches.get(name, ())), frozenset(end for start, end in builder.edges if start == name)
        )
        for name in graph.nodes
    }


def writes_of(graph: Pregel[Any, Any, Any, Any], node: str, value: Any) -> list[tuple[str, Any]]:
    """What a node that returns ``value`` writes, its conditional edges left out. Raises what LangGraph would."""
    written: list[tuple[str, Any]] = []
    config: RunnableConfig = {"configurable": {CONFIG_KEY_SEND: written.extend}}
    for writer in graph.nodes[node].flat_writers:
        if isinstance(writer, ChannelWrite):
            writer.invoke(value, config)
    return written


def channel_at(channel: BaseChannel[Any, Any, Any], name: str, values: Mapping[str, Any]) -> BaseChannel[Any, Any, Any]:
    """A channel as it is at a checkpoint with these ``values``."""
    return channel.from_checkpoint(values.get(name, MISSING))


async def with_events(records: AsyncIterator[Any], *, nested: bool) -> AsyncIterator[Any]:
    """The parts of a stream out of ``astream_events``; records that carry none are parts of `events`."""
    root = ""
    async for record in records:
        root = root or record["run_id"]
        if record["event"] == "on_chain_stream" and record["run_id"] == root:
            yield record["data"]["chunk"]
        else:
            yield ((), "events", record) if nested else ("events", record)
