"""Effects once: done in one execution of a node, remembered in the next."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy

from runyard.engine.effects import EffectInDoubt, aonce, effect_key, once
from runyard.engine.run import Phase
from tests.support.engine import engine


class State(TypedDict, total=False):
    receipt: str


def graph_of(node: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("send", node, retry_policy=RetryPolicy(max_attempts=3, initial_interval=0, jitter=False))
    graph.add_edge(START, "send")
    return graph.compile()


class Mailer:
    def __init__(self, *, failures: int = 0) -> None:
        self.sent: list[str | None] = []
        self.executions, self.failures = 0, failures

    def send(self) -> str:
        self.sent.append(effect_key("mail"))
        return f"receipt {len(self.sent)}"

    async def node(self, _: State) -> State:
        self.executions += 1
        receipt = await aonce("mail", self.send)
        if self.executions <= self.failures:
            raise ConnectionError("after the mail was sent")
        return {"receipt": receipt}

    def sync_node(self, _: State) -> State:
        self.executions += 1
        receipt = once("mail", self.send)
        if self.executions <= self.failures:
            raise ConnectionError("after the mail was sent")
        return {"receipt": receipt}


@pytest.mark.parametrize("sync", [False, True])
async def test_a_node_that_is_executed_again_does_not_act_again(redis_url: str, sync: bool) -> None:
    mailer = Mailer(failures=2)
    async with engine(redis_url, {"g": graph_of(mailer.sync_node if sync else mailer.node)}) as eng:
        run = await eng.run("g", {})
        assert run.phase is Phase.SUCCEEDED
        assert mailer.executions == 3
        assert len(mailer.sent) == 1
        assert str(mailer.sent[0]).startswith(run.run_id)


async def test_an_effect_that_raised_was_not_done(redis_url: str) -> None:
    tries: list[int] = []

    def fails_once() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("refused")
        return "sent"

    async def node(state: State) -> State:
        return {"receipt": await aonce("mail", fails_once, in_doubt="raise")}

    async with engine(redis_url, {"g": graph_of(node)}) as eng:
        run = await eng.run("g", {})
        assert run.phase is Phase.SUCCEEDED
        assert len(tries) == 2


@pytest.mark.parametrize(("in_doubt", "phase"), [("repeat", Phase.SUCCEEDED), ("raise", Phase.FAILED)])
async def test_an_effect_that_was_cut_off_is_in_doubt(redis_url: str, in_doubt: Any, phase: Phase) -> None:
    cut_off: list[int] = []

    async def node(state: State) -> State:
        def act() -> str:
            if not cut_off:
                cut_off.append(1)
                raise KeyboardInterrupt  # as a dying process: nothing is noted any more
            return "sent"

        try:
            receipt = await aonce("mail", act, in_doubt=in_doubt)
        except KeyboardInterrupt:
            raise ConnectionError("as if the worker had died here") from None
        return {"receipt": receipt}

    async with engine(redis_url, {"g": graph_of(node)}) as eng:
        run = await eng.run("g", {})
        assert run.phase is phase
        if phase is Phase.FAILED:
            assert (run.error or {})["error"] == EffectInDoubt.__name__


async def test_outside_a_run_the_function_is_simply_called() -> None:
    assert await aonce("k", lambda: 1) == 1
    assert once("k", lambda: 2) == 2
    assert effect_key("k") is None
