"""A family of graphs, each with a script: what a client does with it. The oracle runs every script twice.

A graph is built anew for each run of its script, so what a node remembers in Python (how often it failed) starts over.
``make.node(name)`` is what the node is added with: nothing, or a queue of another worker.
"""

from __future__ import annotations

import asyncio
import operator
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.cache.memory import InMemoryCache
from langgraph.channels import DeltaChannel
from langgraph.channels.untracked_value import UntrackedValue
from langgraph.errors import NodeError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.managed import IsLastStep, RemainingSteps
from langgraph.pregel import Pregel
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import CachePolicy, Command, Overwrite, RetryPolicy, Send, StreamWriter, interrupt
from pydantic import BaseModel

Graph = Pregel[Any, Any, Any, Any]


@dataclass
class Make:
    """How a scenario's graph is to be made."""

    checkpointer: Any = None
    #: Queue of the nodes that a scenario lets run elsewhere; None: they stay.
    elsewhere: str | None = None
    tries: Counter[str] = field(default_factory=Counter)

    @property
    def is_oracle(self) -> bool:
        return self.checkpointer is not None

    def node(self, queue: str | None = None, **policy: Any) -> dict[str, Any]:
        placed = {"queue": queue or self.elsewhere} if self.elsewhere else {}
        return {"metadata": {"runyard": {**placed, **policy}}} if placed or policy else {}

    def compile(self, builder: StateGraph[Any, Any, Any, Any], **parts: Any) -> Graph:
        return builder.compile(checkpointer=self.checkpointer, **parts)


Build = Callable[[Make], Graph]
Script = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    name: str
    build: Build
    script: Script
    #: Whether it has nodes that can be placed on another queue.
    spreads: bool = False
    #: Why it cannot be compared when nodes run twice; "" when it can.
    no_faults: str = ""
    #: Why the undisturbed oracle is LangGraph's sync execution; "" when it is the async one.
    sync_oracle: str = ""


FAMILY: dict[str, Scenario] = {}


def scenario(
    build: Build, *, spreads: bool = False, no_faults: str = "", sync_oracle: str = ""
) -> Callable[[Script], Script]:
    def register(script: Script) -> Script:
        FAMILY[script.__name__] = Scenario(script.__name__, build, script, spreads, no_faults, sync_oracle)
        return script

    return register


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    n: int
    items: list[int]
    out: Annotated[list[int], operator.add]


def say(name: str, **more: Any) -> Callable[[State], Any]:
    """A node that appends its name and how much it has seen."""

    async def node(state: State) -> Any:
        await asyncio.sleep(0)
        return {"log": [f"{name}:{len(state.get('log', []))}"], **more}

    return node


def say_sync(name: str) -> Callable[[State], Any]:
    return lambda state: {"log": [f"{name}:{len(state.get('log', []))}"]}


# --- shapes without tricks


def chain(make: Make) -> Graph:
    graph = StateGraph(State)
    graph.add_sequence([("a", say("a")), ("b", say_sync("b")), ("c", say("c", n=3)), ("d", say_sync("d"))])
    graph.add_edge(START, "a")
    return make.compile(graph)


@scenario(chain)
async def chain_once(client: Any) -> None:
    await client.run({"log": ["in"]})


@scenario(chain)
async def chain_twice_on_a_thread(client: Any) -> None:
    await client.run({"log": ["first"]})
    await client.run({"log": ["second"], "n": 7})


@scenario(chain)
async def empty_input_on_a_finished_thread(client: Any) -> None:
    await client.run({"log": ["first"]})
    await client.run(None)


def silent(make: Make) -> Graph:
    graph = StateGraph(State)
    graph.add_node("nothing", lambda state: None)
    graph.add_node("empty", lambda state: {})
    graph.add_node("last", say("last"))
    graph.add_edge(START, "nothing")
    graph.add_edge(START, "empty")
    graph.add_edge(["nothing", "empty"], "last")
    return make.compile(graph)


@scenario(silent)
async def nodes_that_write_nothing(client: Any) -> None:
    await client.run({"log": ["in"]})


def loop(make: Make) -> Graph:
    graph = StateGraph(State)
    graph.add_node("count", lambda state: {"n": state.get("n", 0) + 1, "log": [str(state.get("n", 0))]})
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", lambda state: "count" if state["n"] < 5 else END, ["count", END])
    return make.compile(graph)


@scenario(loop)
async def loop_until_enough(client: Any) -> None:
    await client.run({"n": 0})


@scenario(loop)
async def loop_into_the_recursion_limit(client: Any) -> None:
    await client.run({"n": -20}, config={"recursion_limit": 6})


@scenario(loop)
async def loop_that_just_fits_the_limit(client: Any) -> None:
    await client.run({"n": 0}, config={"recursion_limit": 6})
    await client.run({"n": 0}, config={"recursion_limit": 5})


@scenario(loop)
async def going_on_after_the_recursion_limit(client: Any) -> None:
    await client.run({"n": -3}, config={"recursion_limit": 3})
    await client.run(None, config={"recursion_limit": 4})
    await client.run(None)


class Counted(State):
    left: RemainingSteps
    last: IsLastStep


def counted(make: Make) -> Graph:
    def count(state: Counted) -> Any:
        return {"n": state.get("n", 0) + 1, "log": [f"{state['left']}{'!' if state['last'] else ''}"]}

    def onward(state: Counted) -> str:
        return END if state["n"] >= 5 or state["left"] < 1 else "count"

    graph = StateGraph(Counted)
    graph.add_node("count", count)
    graph.add_edge(START, "count")
    graph.add_conditional_edges("count", onward, ["count", END])
    return make.compile(graph)


@scenario(counted)
async def nodes_know_how_many_steps_remain(client: Any) -> None:
    await client.run({"n": 0}, config={"recursion_limit": 7})


@scenario(counted)
async def nodes_know_their_last_step(client: Any) -> None:
    await client.run({"n": 0}, config={"recursion_limit": 4})


def loop_inside(make: Make) -> Graph:
    inner = StateGraph(State)
    inner.add_node("count", lambda state: {"n": state.get("n", 0) + 1})
    inner.add_edge(START, "count")
    inner.add_conditional_edges("count", lambda state: "count" if state["n"] < 4 else END, ["count", END])
    outer = StateGraph(State)
    outer.add_sequence([("a", say("a")), ("b", say("b")), ("c", say("c")), ("inner", inner.compile())])
    outer.add_edge(START, "a")
    return make.compile(outer)


@scenario(loop_inside)
async def a_subgraph_has_the_whole_recursion_limit(client: Any) -> None:
    await client.run({"n": 0, "log": []}, config={"recursion_limit": 5})


def routes(make: Make) -> Graph:
    graph = StateGraph(State)
    for name in ("left", "right", "join"):
        graph.add_node(name, say(name))
    graph.add_node("pick", lambda state: {"n": len(state["log"])})
    graph.add_edge(START, "pick")
    graph.add_conditional_edges("pick", lambda state: ["left", "right"] if state["n"] > 1 else ["right"])
    graph.add_edge("left", "join")
    graph.add_edge("right", "join")
    return make.compile(graph)


@scenario(routes)
async def conditional_edges(client: Any) -> None:
    await client.run({"log": ["x"]})
    await client.run({"log": ["y"]})


def joined(make: Make) -> Graph:
    """Branches of different length that meet, one of them deferred."""
    graph = StateGraph(State)
    for name in ("a", "b", "b2", "c"):
        graph.add_node(name, say(name), **make.node("gpu" if name == "c" else None))
    graph.add_node("late", say("late"), defer=True, **make.node())
    graph.add_node("join", say("join"))
    for name in ("a", "b", "c"):
        graph.add_edge(START, name)
    graph.add_edge("b", "b2")
    graph.add_edge(["a", "b2", "c"], "join")
    graph.add_edge("a", "late")
    return make.compile(graph)


@scenario(joined, spreads=True)
async def parallel_nodes_join_and_defer(client: Any) -> None:
    await client.run({"log": ["in"]})


def fan(make: Make) -> Graph:
    async def work(state: Any) -> Any:
        await asyncio.sleep(0.001 * (state["i"] % 3))
        return {"out": [state["i"] * 2]}

    graph = StateGraph(State)
    graph.add_node("plan", lambda state: {"n": len(state["items"])})
    graph.add_node("work", work, **make.node())
    graph.add_node("beside", say("beside"))
    graph.add_node("sync", lambda state: {"out": [-state["i"]]}, **make.node("gpu"))
    graph.add_node("total", lambda state: {"out": [sum(state["out"])]})
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "beside")
    graph.add_conditional_edges(
        "plan",
        lambda state: [Send("work" if i % 2 else "sync", {"i": i}) for i in state["items"]],
        ["work", "sync", "total"],
    )
    for name in ("work", "sync", "beside"):
        graph.add_edge(name, "total")
    return make.compile(graph)


@scenario(fan, spreads=True)
async def fan_out_with_a_reducer(client: Any) -> None:
    await client.run({"items": [1, 2, 3, 4, 5], "out": []})


@scenario(fan, spreads=True)
async def fan_out_over_nothing(client: Any) -> None:
    await client.run({"items": [], "out": []})


@scenario(fan, spreads=True)
async def fan_out_with_a_concurrency_limit(client: Any) -> None:
    await client.run({"items": [1, 2, 3, 4], "out": []}, config={"max_concurrency": 2})


# --- subgraphs


def inner_graph(**how: Any) -> Graph:
    graph = StateGraph(State)
    for name in ("x", "y"):
        graph.add_node(name, say(name))
    graph.add_node("z", say("z"))
    graph.add_edge(START, "x")
    graph.add_edge(START, "y")
    graph.add_edge(["x", "y"], "z")
    return graph.compile(**how)


class Separate(TypedDict):
    words: Annotated[list[str], operator.add]


def nested(make: Make) -> Graph:
    """A subgraph with parallel nodes as a node, one that a node invokes, and a subgraph in a subgraph."""

    async def invokes(state: State) -> Any:
        found = await inner_graph().ainvoke({"log": [f"n={state.get('n')}"]})
        return {"log": found["log"][-1:]}

    def invokes_sync(state: State) -> Any:
        return {"log": inner_sync.invoke({"log": ["s"]})["log"][-1:]}

    sync_builder = StateGraph(State)
    for name in ("p", "q"):
        sync_builder.add_node(name, say_sync(name))
        sync_builder.add_edge(START, name)
    inner_sync = sync_builder.compile()

    middle = StateGraph(State)
    middle.add_node("deep", inner_graph())
    middle.add_node("after", say("after"))
    middle.add_edge(START, "deep")
    middle.add_edge("deep", "after")
    graph = StateGraph(State)
    graph.add_node("sub", inner_graph(), **make.node())
    graph.add_node("middle", middle.compile(), **make.node("gpu"))
    graph.add_node("invokes", invokes)
    graph.add_node("invokes_sync", invokes_sync)
    graph.add_node("end", say("end"))
    graph.add_edge(START, "sub")
    graph.add_edge(START, "middle")
    graph.add_edge(["sub", "middle"], "invokes")
    graph.add_edge("invokes", "invokes_sync")
    graph.add_edge("invokes_sync", "end")
    return make.compile(graph)


@scenario(nested, spreads=True)
async def nested_subgraphs(client: Any) -> None:
    await client.run({"log": ["in"]})


@scenario(nested, spreads=True)
async def nested_subgraphs_streamed(client: Any) -> None:
    await client.run({"log": ["in"]}, subgraphs=True)


def stateful(make: Make) -> Graph:
    """A subgraph that remembers: ``checkpointer=True``."""
    inner = StateGraph(Separate)
    inner.add_node("remember", lambda state: {"words": [f"seen {len(state['words'])}"]})
    inner.add_edge(START, "remember")
    memory = inner.compile(checkpointer=True)

    async def ask(state: State) -> Any:
        found = await memory.ainvoke({"words": [state["log"][-1]]})
        return {"log": [" ".join(found["words"])]}

    graph = StateGraph(State)
    graph.add_node("ask", ask, **make.node())
    graph.add_sequence([("before", say("before")), ("again", ask), ("as_node", memory_node())])
    graph.add_node("end", say("end"))
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "before")
    graph.add_edge("as_node", "end")
    return make.compile(graph)


def memory_node() -> Graph:
    """Remembers what was said, in a state that its parent shares."""
    inner = StateGraph(State)
    inner.add_node("note", lambda state: {"log": [f"noted {len(state['log'])}"]})
    inner.add_node("more", lambda state: {"log": [f"more {len(state['log'])}"]})
    inner.add_edge(START, "note")
    inner.add_edge("note", "more")
    return inner.compile(checkpointer=True)


@scenario(stateful, spreads=True)
async def a_stateful_subgraph_remembers(client: Any) -> None:
    await client.run({"log": ["one"]})
    await client.run({"log": ["two"]})


def handed_up(make: Make) -> Graph:
    """A node of a subgraph that sends its parent on."""
    inner = StateGraph(State)
    inner.add_node("jump", lambda state: Command(graph=Command.PARENT, goto="end", update={"log": ["jumped"]}))
    inner.add_edge(START, "jump")
    graph = StateGraph(State)
    graph.add_node("sub", inner.compile(), destinations=("end",), **make.node())
    graph.add_node("end", say("end"))
    graph.add_edge(START, "sub")
    return make.compile(graph)


@scenario(handed_up, spreads=True)
async def a_subgraph_commands_its_parent(client: Any) -> None:
    await client.run({"log": ["in"]})


# --- people


def asks_once(make: Make) -> Graph:
    def ask(state: State) -> Any:
        first = interrupt({"question": "first?", "so far": state["log"]})
        second = interrupt("second?") if first == "more" else "-"
        return {"log": [f"{first}/{second}"]}

    graph = StateGraph(State)
    graph.add_sequence([("before", say("before")), ("ask", ask), ("after", say("after"))])
    graph.add_edge(START, "before")
    return make.compile(graph)


@scenario(asks_once)
async def interrupt_and_resume(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": "yes"})


@scenario(asks_once)
async def one_node_asks_twice(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": "more"})
    await client.run(command={"resume": "two"})


@scenario(asks_once)
async def resume_with_update_and_goto(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": "yes", "update": {"n": 5, "log": ["edited"]}})


@scenario(asks_once)
async def a_new_input_drops_what_was_asked(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run({"log": ["other"]})
    await client.run(command={"resume": "yes"})


@scenario(asks_once)
async def resume_with_none_asks_again(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(None)
    await client.run(command={"resume": "yes"})


@scenario(asks_once)
async def resume_with_a_value_that_is_a_dict(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": {"approved": True, "notes": ["a"]}})


def asks_in_parallel(make: Make) -> Graph:
    def ask(name: str) -> Callable[[State], Any]:
        return lambda state: {"log": [f"{name} got {interrupt(f'{name}?')}"]}

    graph = StateGraph(State)
    graph.add_node("left", ask("left"), **make.node())
    graph.add_node("right", ask("right"), **make.node("gpu"))
    graph.add_node("free", say("free"))
    graph.add_node("join", say("join"))
    for name in ("left", "right", "free"):
        graph.add_edge(START, name)
    graph.add_edge(["left", "right", "free"], "join")
    return make.compile(graph)


@scenario(asks_in_parallel, spreads=True)
async def two_interrupts_answered_together(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": {await client.interrupt("left?"): 1, await client.interrupt("right?"): 2}})


@scenario(asks_in_parallel, spreads=True)
async def two_interrupts_answered_one_by_one(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": {await client.interrupt("right?"): 2}})
    await client.run(command={"resume": {await client.interrupt("left?"): 1}})


@scenario(asks_in_parallel, spreads=True)
async def one_answer_for_two_questions_is_refused(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": "both"})


def asks_below(make: Make) -> Graph:
    inner = StateGraph(State)
    inner.add_sequence(
        [("first", say("first")), ("ask", lambda state: {"log": [interrupt("below?")]}), ("last", say("last"))]
    )
    inner.add_edge(START, "first")
    graph = StateGraph(State)
    graph.add_node("sub", inner.compile(), **make.node())
    graph.add_node("end", say("end"))
    graph.add_edge(START, "sub")
    graph.add_edge("sub", "end")
    return make.compile(graph)


@scenario(asks_below, spreads=True)
async def interrupt_in_a_subgraph(client: Any) -> None:
    await client.run({"log": ["in"]}, subgraphs=True)
    await client.run(command={"resume": "fine"}, subgraphs=True)


def asks_twice_below(make: Make) -> Graph:
    """Questions in a graph within a graph within a graph: two in one node, one more in the next."""

    def twice(state: State) -> Any:
        return {"log": [f"{interrupt('one?')}/{interrupt('two?')}"]}

    def compiled(*nodes: Any) -> Any:
        graph = StateGraph(State)
        graph.add_sequence(list(nodes))
        graph.add_edge(START, nodes[0][0])
        return graph.compile()

    lowest = compiled(("twice", twice), ("then", lambda state: {"log": [interrupt("three?")]}))
    graph = StateGraph(State)
    graph.add_node("sub", compiled(("low", lowest), ("last", say("last"))), **make.node())
    graph.add_edge(START, "sub")
    return make.compile(graph)


@scenario(asks_twice_below, spreads=True)
async def a_subgraph_asks_again_and_again(client: Any) -> None:
    await client.run({"log": ["in"]})
    for answer in (True, True, "c"):
        await client.run(command={"resume": answer})


def asks_in_a_fan(make: Make) -> Graph:
    def work(state: Any) -> Any:
        return {"out": [interrupt(f"{state['i']}?") if state["i"] % 2 else state["i"]]}

    graph = StateGraph(State)
    graph.add_node("work", work, **make.node())
    graph.add_node("total", lambda state: {"out": [sum(state["out"])]})
    graph.add_conditional_edges(START, lambda state: [Send("work", {"i": i}) for i in state["items"]], ["work"])
    graph.add_edge("work", "total")
    return make.compile(graph)


@scenario(asks_in_a_fan, spreads=True)
async def some_of_a_fan_out_ask(client: Any) -> None:
    await client.run({"items": [1, 2, 3, 4], "out": []})
    await client.run(command={"resume": {await client.interrupt("1?"): 10}})
    await client.run(command={"resume": 30})


def pauses(make: Make) -> Graph:
    graph = StateGraph(State)
    graph.add_sequence([(name, say(name)) for name in ("a", "b", "c", "d")])
    graph.add_edge(START, "a")
    return make.compile(graph, interrupt_before=["b"], interrupt_after=["c"])


@scenario(pauses)
async def breakpoints_of_the_graph(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(None)
    await client.run(None)


@scenario(chain)
async def breakpoints_of_the_run(client: Any) -> None:
    await client.run({"log": ["in"]}, interrupt_before=["b"])
    await client.run(None, interrupt_after=["c"])
    await client.run(None, interrupt_before=["d"])


@scenario(chain)
async def a_breakpoint_everywhere(client: Any) -> None:
    await client.run({"log": ["in"]}, interrupt_before="*")
    await client.run(None, interrupt_after="*")
    await client.run(None, interrupt_before="*")
    await client.run(None)


@scenario(fan, spreads=True)
async def a_breakpoint_before_and_after_a_fan_out(client: Any) -> None:
    await client.run({"items": [1, 2, 3], "out": []}, interrupt_before=["work"])
    await client.run(None, interrupt_after=["work"])
    await client.run(None)


# --- commands


def commands(make: Make) -> Graph:
    def start(state: State) -> Command[Literal["odd", "even", "work"]]:
        goto: Any = "odd" if state["n"] % 2 else ["even", Send("work", {"i": state["n"]})]
        return Command(goto=goto, update={"log": [f"n={state['n']}"]})

    graph = StateGraph(State)
    graph.add_node("start", start)
    graph.add_node("odd", say("odd"))
    graph.add_node("even", say("even"), **make.node())
    graph.add_node("work", lambda state: {"out": [state["i"]]}, **make.node())
    graph.add_edge(START, "start")
    return make.compile(graph)


@scenario(commands, spreads=True)
async def nodes_that_command(client: Any) -> None:
    await client.run({"n": 1, "log": []})
    await client.run({"n": 2})


@scenario(commands, spreads=True)
async def a_command_as_input(client: Any) -> None:
    await client.run({"n": 1, "log": []})
    await client.run(command={"goto": "even", "update": {"n": 8, "log": ["by hand"]}})
    await client.run(command={"goto": ["odd", {"node": "work", "input": {"i": 9}}]})
    await client.run(command={"update": {"log": ["only this"]}})


# --- what goes wrong


def handled(make: Make) -> Graph:
    def breaks(state: State) -> Any:
        raise ValueError(f"cannot do {state['n']}")

    def rescue(state: State, error: NodeError) -> Any:
        return Command(update={"log": [f"{error.node}: {error.error!r}"]}, goto="end")

    graph = StateGraph(State)
    graph.add_node("breaks", breaks, error_handler=rescue, **make.node())
    graph.add_node("beside", say("beside"), **make.node("gpu"))
    graph.add_node("end", say("end"))
    graph.add_edge(START, "breaks")
    graph.add_edge(START, "beside")
    graph.add_edge("breaks", "end")
    return make.compile(graph)


HANDLER_AGAIN = "LangGraph keeps the error as text: a handler that a crash makes run again is given the text (P3)"


@scenario(handled, spreads=True, no_faults=HANDLER_AGAIN)
async def an_error_handler_rescues_a_node(client: Any) -> None:
    await client.run({"n": 1, "log": ["in"]})


def handler_breaks(make: Make) -> Graph:
    def breaks(state: State) -> Any:
        raise ValueError("first")

    def rescue(state: State) -> Any:
        raise RuntimeError("second")

    graph = StateGraph(State)
    graph.add_node("breaks", breaks, error_handler=rescue, **make.node())
    graph.add_edge(START, "breaks")
    return make.compile(graph)


@scenario(handler_breaks, spreads=True)
async def an_error_handler_fails(client: Any) -> None:
    await client.run({"n": 1, "log": ["in"]})


def partial(make: Make) -> Graph:
    """Some tasks of a fan-out fail for good; to LangGraph they return nothing instead."""

    async def work(state: Any) -> Any:
        await asyncio.sleep(0.001 * (state["i"] % 3))
        if state["i"] < 0 and not make.is_oracle:
            raise ValueError("dead")
        return {"out": [state["i"]]} if state["i"] >= 0 else None

    def spare(state: State) -> Any:
        if not make.is_oracle:
            raise ValueError("dead")
        return {"log": ["spare"]}

    graph = StateGraph(State)
    graph.add_node("plan", say("plan"))
    graph.add_node("work", work, **make.node(quorum=2, rest_s=60))
    graph.add_node("source", spare, **make.node("gpu", required=False, fallback={"value": {"log": ["spare"]}}))
    graph.add_node("total", lambda state: {"n": sum(state["out"])})
    graph.add_edge(START, "plan")
    every = lambda state: ["source", *(Send("work", {"i": i}) for i in state["items"])]  # noqa: E731
    graph.add_conditional_edges("plan", every, ["work", "source"])
    graph.add_edge(["work", "source"], "total")
    return make.compile(graph)


@scenario(partial, spreads=True)
async def a_fan_out_that_need_not_be_complete(client: Any) -> None:
    await client.run({"items": [1, -2, 3, -4, 5]})
    await client.run({"items": [-1, 7, 8]})


def cached(make: Make) -> Graph:
    """The first run fills the cache, from which later ones are given what a node would return."""

    def looks_up(state: State) -> Any:
        make.tries[str(state["n"])] += 1
        return {"log": [f"looked up {state['n']}"]}

    graph = StateGraph(State)
    graph.add_node("look", looks_up, cache_policy=CachePolicy(key_func=lambda state: str(state["n"])), **make.node())
    graph.add_node("beside", say("beside"), **make.node("gpu"))
    graph.add_node("end", say("end"))
    graph.add_edge(START, "look")
    graph.add_edge(START, "beside")
    graph.add_edge(["look", "beside"], "end")
    return make.compile(graph, cache=InMemoryCache())


@scenario(cached, spreads=True)
async def a_cache_stands_in_for_a_node(client: Any) -> None:
    await client.run({"n": 1})
    await client.run({"n": 1})
    await client.run({"n": 2})


def flaky(make: Make) -> Graph:
    def fails_twice(state: State) -> Any:
        make.tries["flaky"] += 1
        if make.tries["flaky"] < 3:
            raise ConnectionError("try again")
        return {"log": ["third time"]}

    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3)
    graph = StateGraph(State)
    graph.add_node("flaky", fails_twice, retry_policy=policy, **make.node())
    graph.add_node("end", say("end"))
    graph.add_edge(START, "flaky")
    graph.add_edge("flaky", "end")
    return make.compile(graph)


@scenario(flaky, spreads=True)
async def a_retry_policy_carries_a_flaky_node(client: Any) -> None:
    await client.run({"log": []})


def breaks_once(make: Make) -> Graph:
    class NotToday(Exception):
        pass

    def breaks(state: State) -> Any:
        make.tries["breaks"] += 1
        if make.tries["breaks"] == 1:
            raise NotToday("come back tomorrow")
        return {"log": ["better"]}

    graph = StateGraph(State)
    graph.add_sequence([("before", say("before")), ("breaks", breaks), ("after", say("after"))])
    graph.add_edge(START, "before")
    return make.compile(graph)


@scenario(breaks_once, no_faults="a node that fails the first time succeeds when a crash makes it run again")
async def a_failed_run_is_taken_up_again(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(None)


def broken_branch(make: Make) -> Graph:
    def work(state: Any) -> Any:
        if state["i"] == 2 and make.tries["again"] == 0:
            time.sleep(0.1)  # so that LangGraph, too, has told what the others did
            raise ValueError("2 is broken")
        return {"out": [state["i"]]}

    def again(state: Any) -> Any:
        return [Send("work", {"i": i}) for i in state["items"]]

    graph = StateGraph(State)
    graph.add_node("work", work, **make.node())
    graph.add_node("total", lambda state: {"out": [sum(state["out"])]})
    graph.add_conditional_edges(START, again, ["work"])
    graph.add_edge("work", "total")
    return make.compile(graph)


@scenario(broken_branch, spreads=True, sync_oracle="async LangGraph cancels the siblings of a failed node (promise P3)")
async def a_branch_fails_and_its_siblings_are_kept(client: Any) -> None:
    await client.run({"items": [1, 2, 3], "out": []})
    client.make.tries["again"] = 1
    await client.run(None)


def not_an_update(make: Make) -> Graph:
    graph = StateGraph(State)
    graph.add_node("wrong", lambda state: "a string")
    graph.add_node("end", say("end"))
    graph.add_edge(START, "wrong")
    graph.add_edge("wrong", "end")
    return make.compile(graph)


@scenario(not_an_update)
async def a_node_returns_what_is_no_update(client: Any) -> None:
    await client.run({"log": ["in"]})


def clash(make: Make) -> Graph:
    graph = StateGraph(State)
    for name in ("a", "b"):
        graph.add_node(name, say(name, n=1), **make.node())
        graph.add_edge(START, name)
    return make.compile(graph)


@scenario(clash, spreads=True)
async def two_nodes_write_what_takes_one_value(client: Any) -> None:
    await client.run({"log": ["in"]})


@scenario(chain)
async def input_that_the_graph_refuses(client: Any) -> None:
    await client.run({"unknown": 1})
    await client.run({})


# --- state of all kinds


def chat(make: Make) -> Graph:
    def answer(state: Any) -> Any:
        return {"messages": [AIMessage(f"heard {len(state['messages'])}", id=f"ai-{len(state['messages'])}")]}

    def shorten(state: Any) -> Any:
        return {"messages": [RemoveMessage(id=message.id) for message in state["messages"][:-2]]}

    def anonymous(state: Any) -> Any:
        return {"messages": [AIMessage("without an id"), HumanMessage("nor this")]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_node("shorten", shorten)
    graph.add_node("anonymous", anonymous, **make.node())
    graph.add_edge(START, "answer")
    graph.add_edge("answer", "shorten")
    graph.add_edge("shorten", "anonymous")
    return make.compile(graph)


@scenario(chat, spreads=True)
async def messages(client: Any) -> None:
    await client.run({"messages": [{"role": "user", "content": "hello", "id": "h1"}]})
    await client.run({"messages": [["human", "and again"]]})


def extend(known: list[Any], writes: list[list[Any]]) -> list[Any]:
    return [*known, *(item for write in writes for item in write)]


class Deltas(TypedDict, total=False):
    words: Annotated[list[str], DeltaChannel(extend, list, snapshot_frequency=3)]
    n: int


def deltas(make: Make) -> Graph:
    graph = StateGraph(Deltas)
    graph.add_node("add", lambda state: {"words": [f"w{state.get('n', 0)}"], "n": state.get("n", 0) + 1})
    graph.add_node("also", lambda state: {"words": [f"v{state.get('n', 0)}"]}, **make.node())
    graph.add_edge(START, "add")
    graph.add_edge("add", "also")
    graph.add_conditional_edges("also", lambda state: "add" if state["n"] % 4 else END, ["add", END])
    return make.compile(graph)


@scenario(deltas, spreads=True)
async def a_delta_channel(client: Any) -> None:
    await client.run({"words": ["in"]})
    await client.run({"words": ["more"], "n": 1})
    await client.update({"words": ["edited"]})
    await client.run({"words": ["last"], "n": 6})


class Person(BaseModel):
    name: str
    age: int = 0


class Rich(BaseModel):
    person: Person
    log: Annotated[list[str], operator.add] = []
    extra: dict[str, Any] = {}


def rich(make: Make) -> Graph:
    def older(state: Rich) -> Any:
        return {"person": Person(name=state.person.name, age=state.person.age + 1), "log": ["older"]}

    graph = StateGraph(Rich)
    graph.add_node("older", older, **make.node())
    graph.add_node("wise", lambda state: {"extra": {"tuple": (1, 2), "bytes": b"\xff", "big": 2**40}})
    graph.add_edge(START, "older")
    graph.add_edge("older", "wise")
    return make.compile(graph)


@scenario(rich, spreads=True)
async def pydantic_state(client: Any) -> None:
    await client.run({"person": {"name": "Ada", "age": 36}})


@scenario(rich, spreads=True)
async def pydantic_state_refuses_bad_input(client: Any) -> None:
    await client.run({"person": {"name": "Ada", "age": "many"}})


class Given(TypedDict):
    question: str


class Answered(TypedDict):
    answer: str


class Whole(Given, Answered):
    secret: Annotated[list[str], operator.add]


def schemas(make: Make) -> Graph:
    graph = StateGraph(Whole, input_schema=Given, output_schema=Answered)
    graph.add_node("think", lambda state: {"secret": ["hmm"]})
    graph.add_node("reset", lambda state: {"secret": Overwrite(["anew"])}, **make.node())
    graph.add_node("say", lambda state: {"answer": f"{state['question']}: {state['secret']}"})
    graph.add_edge(START, "think")
    graph.add_edge("think", "reset")
    graph.add_edge("reset", "say")
    return make.compile(graph)


@scenario(schemas, spreads=True)
async def input_output_and_private_state(client: Any) -> None:
    await client.run({"question": "why", "secret": ["not let in"]})


class Passing(State):
    handle: Annotated[str, UntrackedValue]


def untracked(make: Make) -> Graph:
    graph = StateGraph(Passing)
    graph.add_node("open", lambda state: {"handle": "a connection"})
    graph.add_node("use", lambda state: {"log": [f"used {state.get('handle')}"]})
    graph.add_edge(START, "open")
    graph.add_edge("open", "use")
    return make.compile(graph)


@scenario(untracked, no_faults="LangGraph never saves an UntrackedValue: it is lost with the worker")
async def an_untracked_value(client: Any) -> None:
    await client.run({"log": []})


class Tenant(TypedDict):
    tenant: str


def tenants(make: Make) -> Graph:
    def greet(state: State, runtime: Runtime[Tenant], writer: StreamWriter) -> Any:
        writer({"progress": len(state["log"])})
        info = runtime.execution_info
        return {"log": [f"{runtime.context['tenant']} {info.node_attempt if info else ''}"]}

    async def deeper(state: State) -> Any:
        return {"log": [get_runtime(Tenant).context["tenant"]]}

    def configured(state: State, config: RunnableConfig) -> Any:
        return {"log": [str(config["configurable"].get("colour")), *sorted(config.get("tags", []))]}

    graph = StateGraph(State, context_schema=Tenant)
    graph.add_node("greet", greet, **make.node())
    graph.add_node("deeper", deeper)
    graph.add_node("configured", configured, **make.node())
    graph.add_edge(START, "greet")
    graph.add_edge("greet", "deeper")
    graph.add_edge("deeper", "configured")
    return make.compile(graph)


@scenario(tenants, spreads=True)
async def context_config_and_custom_events(client: Any) -> None:
    config = {"configurable": {"colour": "blue"}, "tags": ["t1"]}
    await client.run({"log": []}, context={"tenant": "acme"}, config=config)


# --- the functional API


def functional(make: Make) -> Graph:
    @task
    async def double(i: int) -> int:
        await asyncio.sleep(0)
        return i * 2

    @task
    def sync_double(i: int) -> int:
        return i * 2

    @task(retry_policy=RetryPolicy(initial_interval=0.001, max_attempts=2))
    async def flaky(i: int) -> int:
        make.tries["task"] += 1
        if make.tries["task"] == 1:
            raise ConnectionError
        return i

    @entrypoint(checkpointer=make.checkpointer)
    async def workflow(given: dict[str, Any], *, previous: Any = None) -> Any:
        doubled = await asyncio.gather(*[double(i) for i in given["items"]])
        more = await sync_double(len(doubled))
        await flaky(1)
        answer = interrupt("go on?") if given.get("ask") else "unasked"
        total = sum(doubled) + more + (previous or 0)
        return entrypoint.final(value={"total": total, "answer": answer}, save=total)

    return workflow


@scenario(functional)
async def functional_api_with_memory(client: Any) -> None:
    await client.run({"items": [1, 2, 3]})
    await client.run({"items": [4]})


@scenario(functional)
async def functional_api_with_an_interrupt(client: Any) -> None:
    await client.run({"items": [1, 2], "ask": True})
    await client.run(command={"resume": "yes"})


def functional_that_fails(make: Make) -> Graph:
    @task
    async def breaks(i: int) -> int:
        if i == 2:
            raise ValueError("task 2 is broken")
        return i

    @entrypoint(checkpointer=make.checkpointer)
    async def workflow(given: list[int]) -> Any:
        kept = [await breaks(given[0])]
        try:
            kept.append(await breaks(given[1]))
        except ValueError as error:
            kept.append(-1)
            if given[-1] < 0:
                raise RuntimeError("and so is the workflow") from error
        return kept

    return workflow


@scenario(functional_that_fails)
async def a_task_of_the_functional_api_fails(client: Any) -> None:
    await client.run([1, 2, 3])
    await client.run([1, 2, -1])


# --- time travel


@scenario(chain)
async def update_state_then_continue(client: Any) -> None:
    await client.run({"log": ["in"]}, interrupt_before=["c"])
    await client.update({"log": ["edited"], "n": 40})
    await client.run(None)


@scenario(routes)
async def update_state_as_another_node(client: Any) -> None:
    await client.run({"log": ["x"]}, interrupt_before=["right"])
    await client.update({"n": 9}, as_node="pick")
    await client.run(None)
    await client.update({"log": ["afterwards"]}, as_node="join")
    await client.run({"log": ["z"]})


@scenario(chain)
async def fork_from_an_earlier_checkpoint(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(None, checkpoint=await client.checkpoint_before("c"))


@scenario(fan, spreads=True)
async def fork_into_a_fan_out(client: Any) -> None:
    await client.run({"items": [1, 2, 3], "out": []})
    await client.run(None, checkpoint=await client.checkpoint_before("work"))


@scenario(chain)
async def edit_an_earlier_checkpoint_and_go_on_from_there(client: Any) -> None:
    await client.run({"log": ["in"]})
    edited = await client.update({"log": ["changed"]}, checkpoint=await client.checkpoint_before("c"))
    await client.run(None, checkpoint=edited)


@scenario(chain)
async def new_input_on_an_earlier_checkpoint(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run({"log": ["again"]}, checkpoint=await client.checkpoint_before("c"))


@scenario(asks_once)
async def fork_from_before_an_interrupt(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": "yes"})
    await client.run(None, checkpoint=await client.checkpoint_before("ask"))
    await client.run(command={"resume": "no"})


@scenario(asks_once)
async def resume_at_an_earlier_checkpoint(client: Any) -> None:
    await client.run({"log": ["in"]})
    await client.run(command={"resume": "yes"})
    await client.run(command={"resume": "other"}, checkpoint=await client.checkpoint_before("ask"))


# --- shapes that are generated


@dataclass(frozen=True)
class Stop:
    """A node of a generated graph: what it does, where it runs."""

    kind: Literal["plain", "sync", "fan", "ask", "silent", "sub"]
    queue: str | None = None


@dataclass(frozen=True)
class Shape:
    """Layers of nodes: every node of a layer leads to all of the next. ``routes`` says, per layer, that the number of
    words so far decides which of the next run; ``rounds``: how often the whole is gone through."""

    layers: tuple[tuple[Stop, ...], ...]
    routes: tuple[bool, ...]
    rounds: int = 1

    def build(self, make: Make) -> Graph:
        graph = StateGraph(State)
        graph.add_node("again", lambda state: {"n": state.get("n", 0) + 1})
        names = [[f"{stop.kind}{i}{j}" for j, stop in enumerate(layer)] for i, layer in enumerate(self.layers)]
        for layer, stops in zip(names, self.layers, strict=True):
            for name, stop in zip(layer, stops, strict=True):
                _add(graph, name, stop, make.node(stop.queue) if stop.queue else {})
        for name in names[0]:
            graph.add_edge(START, name)
        graph.add_conditional_edges("again", lambda s: names[0] if s["n"] < self.rounds else END, [*names[0], END])
        for layer, following, routed in zip(names, [*names[1:], ["again"]], self.routes, strict=True):
            for name in layer:
                if routed:
                    graph.add_conditional_edges(name, _route(following), following)
                for other in () if routed else following:
                    graph.add_edge(name, other)
        return make.compile(graph)

    async def script(self, client: Any) -> None:
        await client.run({"log": [], "n": 0}, config={"recursion_limit": 12})
        for _ in range(3):
            state = await client.snapshot()
            if not state.interrupts:
                return
            await client.run(
                command={"resume": {item.id: f"a-{item.value}" for item in state.interrupts}},
                config={"recursion_limit": 12},
            )


def _add(graph: StateGraph[Any, Any, Any, Any], name: str, stop: Stop, how: dict[str, Any]) -> None:
    graph.add_node(name, _node(name, stop.kind), **how)
    if stop.kind == "fan":
        graph.add_node(f"{name}-part", _part(name), **how)
        graph.add_conditional_edges(name, _sends(f"{name}-part"), [f"{name}-part"])


def _node(name: str, kind: str) -> Any:
    match kind:
        case "plain" | "fan":
            return say(name)
        case "sync":
            return say_sync(name)
        case "silent":
            return lambda state: None
        case "ask":
            return lambda state: {"log": [f"{name}:{interrupt(name)}"]}
        case _:
            return _below(name)


def _below(name: str) -> Any:
    """A node that hands the work to a graph with two parallel nodes."""
    inner = inner_graph()

    async def call(state: State) -> Any:
        found = await inner.ainvoke({"log": [name]})
        return {"log": [f"{name}:{len(found['log'])}"]}

    return call


def _part(name: str) -> Any:
    return lambda state: {"log": [f"{name}-{state['i']}"], "out": [state["i"]]}


def _sends(target: str) -> Any:
    def sends(state: State) -> list[Send]:
        return [Send(target, {"i": i}) for i in range(len(state.get("log", [])) % 4)]

    return sends


def _route(following: list[str]) -> Any:
    def route(state: State) -> list[str]:
        return [following[len(state.get("log", [])) % len(following)]]

    return route
