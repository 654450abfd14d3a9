"""The graphs that are measured: deterministic, no model, nothing but LangGraph. ``langgraph.json`` serves them.

chain10, chain10a   ten no-op nodes in a row (sync, async); each appends its name
fanout100a          split, 100 Send branches, reduce
io3a                three nodes that wait 200 ms each
slow10a             ten nodes that wait 300 ms each: long enough to be killed in the middle
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


class Fan(TypedDict, total=False):
    n: int
    out: Annotated[list[int], operator.add]
    total: int


class Branch(TypedDict):
    i: int


Update = dict[str, Any]


def name_after(name: str) -> Callable[[Log], Update]:
    """A sync node that appends its name."""
    return lambda _: {"log": [name]}


def name_after_waiting(name: str, wait_s: float) -> Callable[[Log], Awaitable[Update]]:
    """An async node that waits, then appends its name."""

    async def node(_: Log) -> Update:
        if wait_s:
            await asyncio.sleep(wait_s)
        return {"log": [name]}

    return node


def double(branch: Branch) -> Update:
    return {"out": [branch["i"] * 2]}


async def _mapper(branch: Branch) -> Update:
    return double(branch)


async def _reducer(state: Fan) -> Update:
    return {"total": sum(state["out"])}


def _split(_: Fan) -> Update:
    return {}


def _spread(state: Fan) -> list[Send]:
    return [Send("mapper", {"i": i}) for i in range(state.get("n", 100))]


def chain(length: int, *, asynchronous: bool, wait_s: float = 0.0) -> Any:
    graph = StateGraph(Log)
    names = [f"n{index}" for index in range(length)]
    for name in names:
        graph.add_node(name, name_after_waiting(name, wait_s) if asynchronous else name_after(name))  # type: ignore[arg-type]
    for one, next_ in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(one, next_)
    return graph.compile()


def fanout() -> Any:
    graph = StateGraph(Fan)
    graph.add_node("split", _split)
    graph.add_node("mapper", _mapper)  # type: ignore[type-var]
    graph.add_node("reducer", _reducer)
    graph.add_edge(START, "split")
    graph.add_conditional_edges("split", _spread, ["mapper"])
    graph.add_edge("mapper", "reducer")
    graph.add_edge("reducer", END)
    return graph.compile()


chain10 = chain(10, asynchronous=False)
chain10a = chain(10, asynchronous=True)
fanout100a = fanout()
io3a = chain(3, asynchronous=True, wait_s=0.2)
slow10a = chain(10, asynchronous=True, wait_s=0.3)

GIVEN: dict[str, dict[str, Any]] = {
    "chain10": {"log": []},
    "chain10a": {"log": []},
    "fanout100a": {"n": 100},
    "io3a": {"log": []},
    "slow10a": {"log": []},
}
#: graph -> (key of the state, what it holds in the end)
EXPECTED: dict[str, tuple[str, Any]] = {
    "chain10": ("log", [f"n{i}" for i in range(10)]),
    "chain10a": ("log", [f"n{i}" for i in range(10)]),
    "fanout100a": ("total", 9900),
    "io3a": ("log", ["n0", "n1", "n2"]),
    "slow10a": ("log", [f"n{i}" for i in range(10)]),
}


class WrongResult(AssertionError):
    """A number of a run that computed the wrong thing is no number."""


def check(graph: str, values: Any) -> None:
    """Raise WrongResult unless ``values`` is what the graph must come to."""
    key, expected = EXPECTED[graph]
    found = values.get(key) if isinstance(values, dict) else None
    if found != expected:
        raise WrongResult(f"{graph} came to {str(values)[:300]!r} instead of {key}={expected!r}")
