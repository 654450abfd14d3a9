"""A node that nobody listens to runs without LangChain's events of it, and nobody can tell."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from runyard.engine import seam
from tests.unit.test_seam import Spy, State, at


class Heard:
    """What a callback is told: (event, name, tags but for the number of a node's step, the node it is in)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, tuple[str, ...], str]] = []

    def on_chain_start(self, _: Any, __: Any, *, tags: Any = (), metadata: Any = None, **more: Any) -> None:
        self._note("chain", more.get("name"), tags, metadata)

    def on_tool_start(self, _: Any, __: Any, *, tags: Any = (), metadata: Any = None, **more: Any) -> None:
        self._note("tool", (more.get("name") or _["name"]), tags, metadata)

    def _note(self, event: str, name: Any, tags: Any, metadata: Any) -> None:
        kept = tuple(sorted(tag for tag in tags or () if not tag.startswith("seq:step:")))
        self.events.append((event, str(name), kept, str((metadata or {}).get("langgraph_node"))))


class InsideOnly(Heard, seam.InsideNodes):
    def __init__(self) -> None:
        Heard.__init__(self)
        self.run_inline = True


class Everything(Heard, BaseCallbackHandler):
    def __init__(self) -> None:
        Heard.__init__(self)
        self.run_inline = True


@tool
def lookup(word: str) -> str:
    """Look a word up."""
    return word.upper()


def calling_graph() -> Any:
    async def calls(state: State, config: RunnableConfig) -> dict[str, Any]:
        found = await lookup.ainvoke({"word": "a"}, config)
        return {"out": [found, config["metadata"]["asked_by"], sorted(config["configurable"])[:1]]}

    async def router(state: State) -> str:
        return "inner"

    inner = StateGraph(State)
    inner.add_node("deep", calls)
    inner.add_edge(START, "deep")
    graph = StateGraph(State)
    graph.add_node("calls", calls)
    graph.add_node("inner", inner.compile())
    graph.add_edge(START, "calls")
    graph.add_conditional_edges("calls", router, ["inner"])
    return graph.compile(checkpointer=InMemorySaver())


async def heard_by(*handlers: Any) -> list[Any]:
    async def execute(_: Any, once: seam.Once, __: Any) -> Any:
        return await once(1)

    spy = Spy(calling_graph(), execute=execute)
    await spy.run({"out": []}, callbacks=list(handlers), tags=["told"], metadata={"asked_by": "me"})
    return list((await spy.graph.aget_state(at())).values["out"])


async def test_who_cares_for_the_inside_of_nodes_only_is_not_told_of_the_nodes() -> None:
    alone, beside, everything = InsideOnly(), InsideOnly(), Everything()
    assert await heard_by(alone) == await heard_by(everything, beside) != []
    assert beside.events == everything.events, "one that wants to know everything, and all are told"
    assert alone.events == [
        ("chain", "LangGraph", ("told",), "None"),
        ("tool", "lookup", ("told",), "calls"),
        ("chain", "router", ("told",), "calls"),
        ("chain", "LangGraph", ("told",), "inner"),
        ("chain", "deep", ("graph:step:1", "told"), "deep"),
        ("tool", "lookup", ("told",), "deep"),
    ]
    nodes = [("chain", name, ("graph:step:" + step, "told"), name) for name, step in (("calls", "1"), ("inner", "2"))]
    assert [event for event in everything.events if event not in nodes] == alone.events
    assert all(event in everything.events for event in nodes)


async def test_callbacks_for_the_inside_are_made_when_a_node_asks_for_anything_of_them() -> None:
    seen: dict[str, Any] = {}

    async def asks(_: State, config: RunnableConfig) -> dict[str, Any]:
        callbacks: Any = config["callbacks"]
        seen["before"], seen["unknown"] = set(vars(callbacks)), getattr(callbacks, "nothing_like_it", None)
        seen["copy"] = callbacks.copy()
        return {"out": [isinstance(callbacks, AsyncCallbackManager)]}

    async def execute(_: Any, once: seam.Once, __: Any) -> Any:
        return await once(1)

    graph = StateGraph(State)
    graph.add_node("asks", asks)
    graph.add_edge(START, "asks")
    spy = Spy(graph.compile(checkpointer=InMemorySaver()), execute=execute)
    inside = InsideOnly()
    await spy.run({"out": []}, callbacks=[inside], tags=["told"], metadata={"asked_by": "me"})
    assert list((await spy.graph.aget_state(at())).values["out"]) == [True]
    assert "handlers" not in seen["before"]
    assert seen["unknown"] is None
    made = seen["copy"]
    assert made.handlers == made.inheritable_handlers == [inside]
    assert made.inheritable_tags == ["told"]
    assert made.metadata["asked_by"] == "me"
    assert made.metadata["langgraph_node"] == "asks"
