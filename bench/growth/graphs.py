"""Graphs whose size is given with the input, for the curves; ``langgraph.json`` serves them.

bulky   a state of so many kB, and two nodes that leave it alone
call    one node that waits for so many seconds, as for a slow model
talk    a turn of a chat: the messages are a list that grows; talk_delta keeps them in a delta channel
stamp   says at once what time it is, then ends
home    a fan-out of so many branches that do nothing; away has them on workers of a queue of its own
block   the same, away, of plain functions that hold a thread for so many seconds each
"""

from __future__ import annotations

import asyncio
import base64
import operator
import random
import time
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from bench.workloads import chain

Message = dict[str, str]
#: The length of what a person says in a turn, and of what is answered.
SAID, ANSWERED = 80, 400

chain1a, chain3a, chain30a, chain100a = (chain(nodes, asynchronous=True) for nodes in (1, 3, 30, 100))


class Bulk(TypedDict, total=False):
    kb: int
    blob: str
    seen: int


class Called(TypedDict, total=False):
    wait_s: float
    began: float


class Talk(TypedDict, total=False):
    messages: Annotated[list[Message], operator.add]


def _append(state: list[Message] | None, writes: Sequence[list[Message]]) -> list[Message]:
    return [*(state or []), *(message for write in writes for message in write)]


class TalkDelta(TypedDict, total=False):
    messages: Annotated[list[Message], DeltaChannel(_append, snapshot_frequency=200)]


class Wide(TypedDict, total=False):
    branches: int
    wait_s: float
    done: Annotated[int, operator.add]


def text(length: int, seed: int) -> str:
    """Text that does not compress to nothing."""
    return base64.b64encode(random.Random(seed).randbytes(length)).decode()[:length]


async def _make(state: Bulk) -> dict[str, Any]:
    return {"blob": text(state.get("kb", 0) * 1000, 7)}


async def _look(state: Bulk) -> dict[str, Any]:
    return {"seen": len(state["blob"])}


async def _wait(state: Called) -> dict[str, Any]:
    began = time.time()
    await asyncio.sleep(state.get("wait_s", 0.0))
    return {"began": began}


async def _answer(state: Any) -> dict[str, Any]:  # a schema here would be the graph's, too
    turn = len(state["messages"])
    return {"messages": [{"by": "graph", "text": text(ANSWERED, turn), "turn": str(turn)}]}


async def _stamp(_: Called) -> dict[str, Any]:
    get_stream_writer()({"at": time.time()})
    await asyncio.sleep(0.02)  # a model goes on after its first token
    return {"began": time.time()}


def _line(schema: type, **nodes: Any) -> Any:
    graph = StateGraph(schema)  # type: ignore[type-var]
    for name, node in nodes.items():
        graph.add_node(name, node)
    for one, following in zip([START, *nodes], [*nodes, END], strict=True):
        graph.add_edge(one, following)
    return graph.compile()


bulky = _line(Bulk, make=_make, look=_look, again=_look)
call = _line(Called, wait=_wait)
talk = _line(Talk, answer=_answer)
talk_delta = _line(TalkDelta, answer=_answer)
stamp = _line(Called, stamp=_stamp)


async def _branch(_: Wide) -> dict[str, Any]:
    return {"done": 1}


def _hold_a_thread(sent: Wide) -> dict[str, Any]:
    time.sleep(sent["wait_s"])
    return {"done": 1}


def _branches(state: Wide) -> list[Send]:
    return [Send("branch", {"wait_s": state["wait_s"]}) for _ in range(state["branches"])]


def _fan(branch: Any, policy: dict[str, Any]) -> Any:
    graph = StateGraph(Wide)
    graph.add_node("branch", branch, metadata={"runyard": policy})
    graph.add_conditional_edges(START, _branches, ["branch"])
    return graph.compile()


#: The queue of the workers that have the branches of ``away`` and ``block``.
AWAY = "away"
home, away = _fan(_branch, {}), _fan(_branch, {"queue": AWAY})
block = _fan(_hold_a_thread, {"queue": AWAY})
