"""What we use of LangGraph's private parts is still there and still means the same. When one of these fails after an
upgrade, LangGraph has moved something: the message says what, and engine/seam/ is the only place to follow it."""

from __future__ import annotations

import asyncio
import operator
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp, GraphDrained, GraphRecursionError, NodeError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import RunControl, Runtime
from langgraph.types import Send, interrupt

from runyard.engine import seam


class State(TypedDict, total=False):
    items: list[int]
    out: Annotated[list[Any], operator.add]


def at(thread: str = "t", **more: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread, **more}}


class Spy:
    """Runs a graph through a TaskRunner and notes every task that LangGraph handed to it."""

    def __init__(self, graph: Any, *, refuse: str | None = None, **runner: Any) -> None:
        self.graph, self.tasks, self.admitted = graph, [], []
        self.refuse = refuse
        self.made = runner

    def _admit(self, found: Any, siblings: list[Any]) -> None:
        self.admitted.append((found.name, [sibling.name for sibling in siblings]))
        if found.name == self.refuse:
            raise seam.NotHere(found.id)

    async def run(self, given: Any, **config: Any) -> seam.TaskRunner:
        handled = getattr(self.graph, "node_error_handler_map", {})
        seen = self.tasks

        class Seeing(seam.TaskRunner):
            def submit(self, fn: Any, found: Any, *args: Any, **kwargs: Any) -> Any:
                seen.append(found)
                return super().submit(fn, found, *args, **kwargs)

            async def alone(self, fn: Any, found: Any, *args: Any, **kwargs: Any) -> Any:
                seen.append(found)
                return await super().alone(fn, found, *args, **kwargs)

        self.runner = runner = Seeing(self._admit, handled=handled, **self.made)
        made = {**config, **at()}
        made["configurable"][seam.RUNNER_SUBMIT] = runner
        self.parts = []
        try:
            graph = seam.bind(self.graph, self.graph.checkpointer)
            async for part in graph.astream(given, made, stream_mode=["values", "updates"], durability="sync"):
                self.parts.append(part)
        finally:
            await runner.close()
        return runner

    def names(self) -> Counter[str]:
        return Counter(found.name for found in self.tasks)


def compiled(*nodes: tuple[str, Any], saver: Any = None, fan: bool = False) -> Any:
    graph = StateGraph(State)
    for name, function in nodes:
        graph.add_node(name, function)
    names = [name for name, _ in nodes]
    for name in names if fan else names[:1]:
        graph.add_edge(START, name)
    if not fan:
        for one, other in pairwise(names):
            graph.add_edge(one, other)
    return graph.compile(checkpointer=saver or InMemorySaver())


def out(value: Any) -> Any:
    return lambda state: {"out": [value]}


async def test_the_hook_sees_every_root_task_even_a_lone_one() -> None:
    spy = Spy(compiled(("a", out(1)), ("b", out(2))))
    await spy.run({"out": []})
    assert spy.names() == {"__start__": 1, "a": 1, "b": 1}, "the runner-submit hook no longer sees every root task"
    assert all(seam.is_root(found) for found in spy.tasks), "root tasks have another namespace or path now"


async def test_the_hook_sees_every_send_with_its_siblings() -> None:
    graph = StateGraph(State)
    graph.add_node("work", lambda state: {"out": [state["i"]]})
    graph.add_conditional_edges(START, lambda state: [Send("work", {"i": i}) for i in state["items"]], ["work"])
    spy = Spy(graph.compile(checkpointer=InMemorySaver()))
    await spy.run({"items": [1, 2, 3], "out": []})
    sends = [found for found in spy.tasks if found.name == "work"]
    assert [found.path[-1] for found in sends] == [False] * 3, "the path of a Send no longer ends in False"
    assert ("work", ["work"] * 3) in spy.admitted


async def test_a_subgraphs_parallel_tasks_are_not_root_tasks() -> None:
    inner = compiled(("x", out("x")), ("y", out("y")), fan=True, saver=False)
    spy = Spy(compiled(("sub", inner)))
    await spy.run({"out": []})
    below = [found for found in spy.tasks if found.name in ("x", "y")]
    assert len(below) == 2, "a subgraph's parallel tasks no longer pass through the hook"
    assert all("|" in found.config["configurable"]["checkpoint_ns"] for found in below), "namespaces are cut otherwise"
    assert not any(seam.is_root(found) for found in below)
    assert {name for name, _ in spy.admitted} == {"__start__", "sub"}


async def test_calls_of_tasks_in_the_functional_api_are_nobodys_siblings() -> None:
    @task
    async def double(i: int) -> int:
        return i * 2

    @entrypoint(checkpointer=InMemorySaver())
    async def workflow(given: list[int]) -> list[int]:
        return list(await asyncio.gather(*[double(i) for i in given]))

    spy = Spy(workflow)
    await spy.run([1, 2])
    calls = [found for found in spy.tasks if found.name == "double"]
    assert [found.path[-1] for found in calls] == [True, True], "the path of a @task call no longer ends in True"
    assert not any(seam.is_root(found) for found in calls)
    assert spy.admitted == [("workflow", ["workflow"])]


async def test_a_bubble_up_leaves_no_writes_and_stops_no_sibling() -> None:
    saver, done = InMemorySaver(), []

    async def slow(state: State) -> Any:
        await asyncio.sleep(0.02)
        done.append("slow")
        return {"out": ["slow"]}

    spy = Spy(compiled(("slow", slow), ("other", out("other")), fan=True, saver=saver), refuse="other")
    with pytest.raises(seam.NotHere):
        await spy.run({"out": []})
    assert done == ["slow"], "a bubble-up stops its siblings now"
    saved = seam.outputs_of(saver.get_tuple(at(checkpoint_ns="")))
    assert [dict(writes).get("out") for writes in saved.values()] == [["slow"]], "a bubble-up leaves writes now"


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_failure_waits_for_its_siblings(is_async: bool) -> None:
    done: list[str] = []
    failed = asyncio.Event()

    async def slow(state: State) -> Any:
        await failed.wait()
        await asyncio.sleep(0.02)
        done.append("slow")
        return {"out": ["slow"]}

    loop = asyncio.get_running_loop()

    def fails(state: State) -> Any:
        loop.call_soon_threadsafe(failed.set)
        raise ValueError("broken")

    async def fails_async(state: State) -> Any:
        return fails(state)

    spy = Spy(compiled(("slow", slow), ("fails", fails_async if is_async else fails), fan=True))
    with pytest.raises(ValueError, match="broken"):
        await spy.run({"out": []})
    assert done == ["slow"], "a failed node cancels its siblings again"
    assert [str(error) for error in spy.runner.failures] == ["broken"]


async def test_an_error_handler_sees_the_exception_itself_and_counts_as_the_failed_tasks() -> None:
    seen: list[BaseException] = []

    def fails(state: State) -> Any:
        raise KeyError("original")

    def handler(state: State, error: NodeError) -> Any:
        seen.append(error.error)
        return {"out": ["handled"]}

    graph = StateGraph(State)
    graph.add_node("fails", fails, error_handler=handler)
    graph.add_edge(START, "fails")
    spy = Spy(graph.compile(checkpointer=InMemorySaver()))
    runner = await spy.run({"out": []})
    assert isinstance(seen[0], KeyError), "the handler is given something else than the exception"
    assert runner.failures == []
    failed, handling = spy.tasks[-2:]
    assert seam.failed_of(handling) == failed.id, "the namespace or path of error handlers has changed"
    assert seam.failed_of(failed) is None


async def test_what_a_handler_saved_stands_in_for_it() -> None:
    ran: list[str] = []
    saver = InMemorySaver()
    hold = asyncio.Event()

    def fails(state: State) -> Any:
        raise ValueError("once")

    def handler(state: State) -> Any:
        ran.append("handler")
        return {"out": ["handled"]}

    graph = StateGraph(State)
    graph.add_node("fails", fails, error_handler=handler)
    graph.add_node("elsewhere", out("elsewhere"))
    graph.add_edge(START, "fails")
    graph.add_edge(START, "elsewhere")
    spy = Spy(graph.compile(checkpointer=saver), refuse="elsewhere")
    with pytest.raises(seam.NotHere):
        await spy.run({"out": []})
    hold.set()
    saved = seam.outputs_of(saver.get_tuple(at(checkpoint_ns="")))
    again = Spy(spy.graph, saved=saved)
    runner = await again.run(None)
    assert ran == ["handler"], "LangGraph asks for handlers in another way on a resume"
    assert runner.restored == ["__error_handler__fails"]
    assert sorted(again.parts[-1][1]["out"]) == ["elsewhere", "handled"]


async def test_max_concurrency_is_kept() -> None:
    running = most = 0

    async def work(state: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        return {"out": [1]}

    graph = StateGraph(State)
    graph.add_node("work", work)
    graph.add_conditional_edges(START, lambda state: [Send("work", {}) for _ in range(6)], ["work"])
    await Spy(graph.compile(checkpointer=InMemorySaver()), max_concurrency=2).run({"out": []})
    assert most == 2


async def test_a_sync_node_may_invoke_a_graph_with_parallel_nodes() -> None:
    inner = compiled(("x", out("x")), ("y", out("y")), fan=True, saver=False)
    spy = Spy(compiled(("calls", lambda state: {"out": inner.invoke({"out": []})["out"]})))
    await asyncio.wait_for(spy.run({"out": []}), 5)
    assert sorted(spy.parts[-1][1]["out"]) == ["x", "y"]
    assert spy.names()["x"] == 1, "graphs that sync nodes invoke no longer pass through the hook"


async def test_close_cancels_what_still_runs() -> None:
    started, ended = asyncio.Event(), []

    async def endless(state: State) -> Any:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    running = asyncio.create_task(Spy(compiled(("endless", endless))).run({"out": []}))
    await asyncio.wait_for(started.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["cancelled"]


async def test_interrupts_are_known_by_task() -> None:
    spy = Spy(compiled(("ask", lambda state: {"out": [interrupt("well?")]})))
    runner = await spy.run({"out": []})
    ((task_id, asked),) = runner.interrupts.items()
    assert task_id == spy.tasks[-1].id
    assert [item.value for item in asked] == ["well?"]


# --- what a node is given


async def test_a_drain_of_the_slice_is_nothing_to_a_nodes_subgraphs() -> None:
    control, for_nodes = RunControl(), RunControl()
    seen = []

    def look(state: State, runtime: Runtime) -> Any:
        control.request_drain("used up")
        seen.append(runtime.control)
        return {"out": ["looked"]}

    inner = compiled(("look", look), ("then", out("then")), saver=None)
    graph = StateGraph(State)
    graph.add_node("sub", inner)
    graph.add_node("after", out("after"))
    graph.add_edge(START, "sub")
    graph.add_edge("sub", "after")
    made = graph.compile(checkpointer=InMemorySaver())
    runner = seam.TaskRunner(lambda *_: None, handled={}, control=for_nodes)
    with pytest.raises(GraphDrained):
        async for _ in made.astream(
            {"out": []}, at(**{seam.RUNNER_SUBMIT: runner}), control=control, stream_mode=["custom"], durability="sync"
        ):
            pass
    assert seen == [for_nodes], "the runtime of a task is kept elsewhere now"
    state = made.get_state(at())
    assert (state.next, state.values["out"]) == (("after",), ["looked", "then"]), "the drain stopped the subgraph"


@pytest.mark.parametrize(("left", "says"), [(0, ["n", "n"]), (-1, ["n"]), (-2, [])])
async def test_a_slice_is_stopped_where_the_whole_run_would_be(left: int, says: list[str]) -> None:
    """LangGraph allows limit + 2 ticks after a resume, and stops in the tick that would be one too many."""
    graph = StateGraph(State)
    graph.add_node("n", out("n"))
    graph.add_edge(START, "n")
    graph.add_edge("n", "n")
    made = graph.compile(checkpointer=InMemorySaver(), interrupt_before=["n"])
    await made.ainvoke({"out": []}, at())
    config = {**at(), "recursion_limit": seam.StepsLeft(left, asked=40)}
    with pytest.raises(GraphRecursionError, match="Recursion limit of 40 reached"):
        await seam.bind(made, made.checkpointer, interrupt_before_nodes=[]).ainvoke(None, config)
    assert made.get_state(at()).values["out"] == says, "LangGraph counts its steps otherwise"


async def test_a_node_has_the_whole_recursion_limit() -> None:
    seen = []
    runner = seam.TaskRunner(lambda *_: None, handled={})
    graph = compiled(("look", lambda state, config: seen.append(config["recursion_limit"])))
    config = {**at(**{seam.RUNNER_SUBMIT: runner}), "recursion_limit": seam.StepsLeft(3, asked=40)}
    async for _ in graph.astream({"out": []}, config, stream_mode=["custom"]):
        pass
    assert seen == [40]


# --- reading a graph


PRINT = """
import operator
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph
from runyard.engine import seam
class State(TypedDict):
    a: Annotated[set, operator.or_]
    b: str
graph = StateGraph(State)
for name in "zyxwv":
    graph.add_node(name, lambda state: {})
    graph.add_edge(START, name)
graph.add_node("end", lambda state: {})
graph.add_edge(["z", "y", "x"], "end")
graph.add_conditional_edges("v", lambda state: "w", {"w": "w", "end": "end"})
print(seam.fingerprint(graph.compile()))
"""


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    prints = {
        subprocess.run(
            [sys.executable, "-c", PRINT], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout.strip()
        for seed in ("1", "2", "77")
    }  # fmt: skip
    assert len(prints) == 1
    assert len(prints.pop()) == 16


def test_a_fingerprint_changes_with_nodes_edges_and_channels() -> None:
    class Wider(State):
        more: str

    def made(
        schema: Any = State, *, extra: bool = False, to: str = "b", joined: bool = False, routed: Any = None
    ) -> str:
        graph = StateGraph(schema)
        for name in ("a", "b", "c", *(["d"] if extra else [])):
            graph.add_node(name, lambda state: {})
        graph.add_edge(START, "a")
        graph.add_edge("a", "b")
        graph.add_edge(to, "c")
        if extra:
            graph.add_edge("c", "d")
        if joined:
            graph.add_edge(["a", "b"], "c")
        if routed:
            graph.add_conditional_edges("b", lambda state: END, routed)
        return seam.fingerprint(graph.compile())

    first = made()
    assert made() == first
    others = [made(extra=True), made(to="a"), made(Wider), made(joined=True), made(routed=["c"]), made(routed=[END])]
    assert first not in others
    assert len(set(others)) == 6


def test_binding_keeps_the_list_of_types_that_state_may_hold() -> None:
    graph = compiled(("a", out(1)), saver=None)
    graph._serde_allowlist = {("somewhere", "Thing")}
    saver = InMemorySaver()
    bound = seam.bind(graph, saver)
    assert bound._serde_allowlist == {("somewhere", "Thing")}, "Pregel keeps the allow list of its types elsewhere"
    assert bound is not graph
    assert bound.nodes is graph.nodes or bound.nodes == graph.nodes


async def test_a_bound_graph_keeps_its_time_limit_for_supersteps_and_gets_none_that_ends_anything() -> None:
    async def slow(_: Any) -> Any:
        await asyncio.sleep(0.05)
        return {"out": [1]}

    free, limited = compiled(("a", slow)), compiled(("a", slow))
    limited.step_timeout = 0.01
    assert (await seam.bind(free, InMemorySaver()).ainvoke({"out": []}, at()))["out"] == [1]
    with pytest.raises(TimeoutError):
        await seam.bind(limited, InMemorySaver()).ainvoke({"out": []}, at())


def test_the_metadata_of_nodes_is_found() -> None:
    graph = StateGraph(State)
    graph.add_node("a", out(1), metadata={"runyard": {"queue": "cpu"}})
    graph.add_edge(START, "a")
    assert seam.node_metadata(graph.compile()) == {"a": {"runyard": {"queue": "cpu"}}}


# --- where LangGraph stops


@pytest.mark.parametrize("before", [[], ["a"], ["b"], ["c"], ["b", "x"], "*"], ids=str)
@pytest.mark.parametrize("after", [[], ["a"], ["b"], ["x"], "*"], ids=str)
async def test_breakpoints_are_seen_where_langgraph_stops(before: Any, after: Any) -> None:
    """Run with the breakpoints; then, without them, ask at each checkpoint whether LangGraph would have stopped."""

    def made() -> Any:
        graph = StateGraph(State)
        for name in ("a", "b", "x", "c"):
            graph.add_node(name, out(name))
        graph.add_edge(START, "a")
        graph.add_edge("a", "b")
        graph.add_edge("a", "x")
        graph.add_edge(["b", "x"], "c")
        graph.add_edge("c", END)
        return graph.compile(checkpointer=InMemorySaver())

    stopping, free = made(), made()
    stops = []
    given: Any = {"out": []}
    while True:
        await stopping.ainvoke(given, at(), interrupt_before=before, interrupt_after=after)
        state = stopping.get_state(at())
        if not state.next:
            break
        stops.append(state.metadata["step"])
        given = None
    await free.ainvoke({"out": []}, at())
    checkpoints = {found.metadata["step"]: found for found in free.checkpointer.list(at(checkpoint_ns=""))}
    upcoming = {found.metadata["step"]: found.next for found in free.get_state_history(at())}
    seen = [
        step
        for step, found in sorted(checkpoints.items())
        if step >= 0 and upcoming[step]
        and seam.stopped_at_breakpoint(found, checkpoints.get(step - 1), upcoming[step], before, after)
    ]  # fmt: skip
    assert seen == stops


def test_not_here_is_a_bubble_up() -> None:
    assert issubclass(seam.NotHere, GraphBubbleUp)


def _chain() -> Any:
    builder = StateGraph(State)
    builder.add_sequence([("a", lambda _: {"out": [1]}), ("b", lambda _: {"out": [2]})])
    return builder.add_edge(START, "a")


def _routed() -> Any:
    builder = StateGraph(State)
    builder.add_node("a", lambda _: {"out": [1]})
    builder.add_node("b", lambda _: {})
    builder.add_conditional_edges(START, lambda _: "a", ["a", "b"])
    return builder.add_conditional_edges("a", lambda state: END if len(state["out"]) > 2 else "a", ["a", END])


def _sent() -> Any:
    builder = StateGraph(State)
    builder.add_node("a", lambda _: {"out": [1]})
    builder.add_node("b", lambda _: {"out": [2]})
    builder.add_conditional_edges("a", lambda _: [Send("b", {}), Send("b", {})], ["b"])
    return builder.add_edge(START, "a")


def _deferred() -> Any:
    builder = StateGraph(State)
    builder.add_node("a", lambda _: {"out": [1]})
    builder.add_node("b", lambda _: {"out": [2]})
    builder.add_node("last", lambda _: {"out": [3]}, defer=True)
    builder.add_edge(START, "a")
    builder.add_edge(START, "last")
    return builder.add_edge("a", "b").add_edge("b", "last")


def _joined() -> Any:
    builder = StateGraph(State)
    for name in ("a", "b", "c"):
        builder.add_node(name, lambda _: {"out": [1]})
    builder.add_edge(START, "a").add_edge(START, "b")
    return builder.add_edge(["a", "b"], "c")


@entrypoint(checkpointer=InMemorySaver())
def _function(given: State) -> Any:
    return given


@pytest.mark.parametrize("make", [_chain, _routed, _sent, _deferred, _joined, lambda: _function])
def test_it_is_known_when_no_node_runs_between_two_checkpoints(make: Any) -> None:
    """Of every checkpoint LangGraph makes: what it says is next against what we foretell."""
    graph = make()
    graph = graph.compile(checkpointer=InMemorySaver()) if isinstance(graph, StateGraph) else graph
    graph.invoke({"out": []}, at())
    history = list(graph.get_state_history(at()))
    foretold = []
    for state in history:
        saved = graph.checkpointer.get_tuple(state.config)
        foretold.append(seam.runs_nothing_next(graph, saved.checkpoint, saved.metadata["source"]))
    nodes = [set(state.next) - {START} for state in history]
    assert not any(said and runs for said, runs in zip(foretold, nodes, strict=True)), (
        "a node would see an unsaved state"
    )
    assert foretold[0], "the last checkpoint goes with the end of the run"
    assert foretold[-1] == (START in graph.nodes)
