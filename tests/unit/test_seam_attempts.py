"""An attempt that we make ends as one that LangGraph makes, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeError
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, TimeoutPolicy, interrupt

from runyard.engine import seam
from tests.unit.test_seam import Spy, State, at, out


def alone(node: Any, **more: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("work", node, **more)
    graph.add_node("after", out("after"))
    graph.add_edge(START, "work")
    return graph


def returns() -> Any:
    async def node(state: State, runtime: Runtime[Any]) -> Command[Any]:
        assert runtime.execution_info is not None
        return Command(update={"out": [runtime.execution_info.node_attempt]}, goto="after")

    return alone(node)


def raises() -> Any:
    async def node(state: State) -> Any:
        raise ValueError("no")

    return alone(node)


def is_handled() -> Any:
    def node(state: State) -> Any:
        raise ValueError("no")

    def handler(state: State, error: NodeError) -> Any:
        return {"out": [repr(error.error)]}

    return alone(node, error_handler=handler)


def asks_twice() -> Any:
    async def node(state: State) -> Any:
        return {"out": [interrupt("first"), interrupt("second")]}

    return alone(node)


def asks_after_an_answer() -> Any:
    """What it was answered before is among its writes when it asks again."""

    async def node(state: State) -> Any:
        answers = [interrupt(number) for number in range(2)]
        return {"out": answers}

    return alone(node)


def cancels_itself() -> Any:
    async def node(state: State) -> Any:
        raise asyncio.CancelledError

    return alone(node)


def writes_and_fails() -> Any:
    def router(state: State) -> str:
        raise KeyError("nowhere")

    graph = alone(out("written"))
    graph.add_conditional_edges("work", router, ["after"])
    return graph


def leads_the_graph_around() -> Any:
    async def node(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, update={"out": ["from inside"]}, goto="after")

    inner = StateGraph(State)
    inner.add_node("inside", node)
    inner.add_edge(START, "inside")
    return alone(inner.compile())


def takes_too_long() -> Any:
    async def node(state: State) -> Any:
        await asyncio.Event().wait()

    return alone(node, timeout=TimeoutPolicy(run_timeout=timedelta(milliseconds=20)))


Ended = tuple[str, tuple[str, ...], Any, Any, Any]


async def ended(build: Callable[[], Any], execute: Any, given: Any) -> list[Ended]:
    """What each run of the graph came to: its error, the notes on it, its values, what is next, and who asks what."""
    spy, came_to = Spy(build().compile(checkpointer=InMemorySaver()), execute=execute), []
    for each in given:
        error: BaseException | None = None
        try:
            await spy.run(each)
        except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - it is what is compared
            error = raised
        state = await spy.graph.aget_state(at())
        notes = tuple(note.rpartition(" ")[0] for note in getattr(error, "__notes__", ()))  # without the task's id
        asked = [(task.name, [each.value for each in task.interrupts], timeless(task.error)) for task in state.tasks]
        came_to.append((timeless(error), notes, state.values, state.next, asked))
    return came_to


def timeless(error: object) -> str:
    """An error in words, without how long it took."""
    return repr(error).partition(" (elapsed")[0]


async def our_attempt(_: Any, once: seam.Once, __: Any) -> Any:
    return await once(1)


@pytest.mark.parametrize(
    ("build", "given"),
    [
        (returns, [{"out": []}]),
        (raises, [{"out": []}, None]),
        (is_handled, [{"out": []}]),
        (asks_twice, [{"out": []}, Command(resume="a"), Command(resume="b")]),
        (asks_after_an_answer, [{"out": []}, Command(resume=1), None, Command(resume=2)]),
        (cancels_itself, [{"out": []}]),
        (writes_and_fails, [{"out": []}]),
        (leads_the_graph_around, [{"out": []}]),
        (takes_too_long, [{"out": []}]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_it_ends_as_langgraphs_own(build: Callable[[], Any], given: list[Any]) -> None:
    assert await ended(build, our_attempt, given) == await ended(build, None, given)


async def test_a_later_attempt_knows_its_number_and_asks_from_the_first_question_again() -> None:
    seen: list[tuple[int, Any]] = []

    async def node(state: State, runtime: Runtime[Any]) -> Any:
        assert runtime.execution_info is not None
        seen.append((runtime.execution_info.node_attempt, interrupt("sure?")))
        if len(seen) == 1:
            raise ValueError("once more")
        return {"out": seen[-1:]}

    async def two_attempts(_: Any, once: seam.Once, __: Any) -> Any:
        try:
            return await once(1)
        except ValueError:
            return await once(2)

    spy = Spy(alone(node).compile(checkpointer=InMemorySaver()), execute=two_attempts)
    await spy.run({"out": []})
    await spy.run(Command(resume="yes"))
    assert seen == [(1, "yes"), (2, "yes")]


async def test_a_cancelled_attempt_is_cancelled() -> None:
    started = asyncio.Event()

    async def node(state: State) -> Any:
        started.set()
        await asyncio.Event().wait()

    spy = Spy(alone(node).compile(checkpointer=InMemorySaver()), execute=our_attempt)
    running = asyncio.create_task(spy.run({"out": []}))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
