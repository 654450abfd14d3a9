"""Whether what an operator supplies for a failed node could be what the node has returned, asked before a replay.

What the graph's channels and the plain annotations of its state tell is refused here, with the node's name; what only
the node's own edges can tell comes out when the run goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from langgraph.channels import LastValue
from langgraph.channels.binop import BinaryOperatorAggregate
from langgraph.graph.state import CompiledStateGraph

from runyard.engine import seam
from runyard.engine.errors import InvalidInput
from runyard.engine.kinds import Kind, is_model, kinds_of, shown
from runyard.engine.worker import Graph

_ROOT = "__root__"
#: Channels of which it is known what they make of a value, without the history of their thread.
_PLAIN_CHANNELS = (LastValue, BinaryOperatorAggregate)


def check(graph: Graph, outputs: Iterable[tuple[str, Any]], values: Mapping[str, Any]) -> None:
    """Raise InvalidInput that names the first node whose output the graph cannot take.

    ``outputs``: node and output of each task that is stood in for; ``values``: the channels at the checkpoint. The
    reducers of the graph run.
    """
    written: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for node, output in outputs:
        _check_keys(graph, node, output)
        for channel, value in _writes(graph, node, output):
            written[channel].append((node, value))
    for channel, writes in written.items():
        _check_channel(graph, channel, writes, values)


def _writes(graph: Graph, node: str, output: Any) -> list[tuple[str, Any]]:
    try:
        return seam.writes_of(graph, node, output)
    except Exception as error:  # the node's own writers refuse it in any way they like
        raise InvalidInput(f"output.{node}: node {node!r} cannot have returned this: {error}") from error


def _check_keys(graph: Graph, node: str, output: Any) -> None:
    """LangGraph leaves out keys that the state has not: of an output that was typed by hand, nothing would be left."""
    if not isinstance(graph, CompiledStateGraph) or output is None:
        return
    keys = graph.builder.channels.keys() | graph.builder.managed.keys()
    if _ROOT in keys:
        return
    known = ", ".join(sorted(keys))
    if not isinstance(output, dict):
        raise InvalidInput(
            f"output.{node}: must be a JSON object with keys of the graph's state ({known}), not {shown(output)}"
        )
    if strange := sorted(output.keys() - keys):
        raise InvalidInput(f"output.{node}: the graph's state has no {strange[0]!r}, only {known}")
    for key, (fits, accepted) in _kinds(graph).items():
        if output.get(key) is not None and not fits(output[key]):
            raise InvalidInput(f"output.{node}.{key}: must be {accepted}, not {shown(output[key])}")


def _kinds(graph: CompiledStateGraph[Any, Any, Any, Any]) -> dict[str, Kind]:
    """What keys without a reducer plainly ask for."""
    stored = {name for name, channel in graph.builder.channels.items() if type(channel) is LastValue}
    schemas = [one for one in graph.builder.schemas if not is_model(one)]
    return {name: kind for schema in schemas for name, kind in kinds_of(schema, stored).items()}


def _check_channel(graph: Graph, channel: str, writes: list[tuple[str, Any]], values: Mapping[str, Any]) -> None:
    made = graph.channels.get(channel)
    if not isinstance(made, _PLAIN_CHANNELS):
        return
    channel_now = seam.channel_at(made, channel, values)
    try:
        channel_now.update([value for _, value in writes])
    except Exception as error:  # reducers are the author's, and refuse what they cannot take in any way they like
        node, value = writes[-1]
        raise InvalidInput(
            f"output.{node}.{channel}: the state does not take {shown(value)}: {type(error).__name__}: {error}"
        ) from error
