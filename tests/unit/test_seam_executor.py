"""Saves are handed to a checkpointer that takes them, and what it cannot take is raised where LangGraph raises it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import _loop

from runyard.engine import seam
from runyard.engine.seam.executor import Saving
from tests.unit.test_seam import at, compiled, out


class Taking(InMemorySaver):
    """Takes at once, and notes in what order."""

    takes_at_once = True

    def __init__(self, *, refuses: str = "") -> None:
        super().__init__()
        self.taken: list[str] = []
        self.waited: list[int] = []
        self.refuses = refuses

    def _take(self, what: str) -> None:
        if what == self.refuses:
            raise ValueError(f"no {what}")
        self.taken.append(what)

    def take_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        self._take("writes")
        self.put_writes(config, writes, task_id, task_path)

    def take_checkpoint(self, *given: Any) -> Callable[[], Awaitable[None]] | None:
        self._take("checkpoint")
        self.put(*given)

        async def saved() -> None:
            self.waited.append(1)

        return saved

    async def aput(self, *given: Any) -> Any:
        self._take("checkpoint")
        return await super().aput(*given)

    async def aput_writes(self, *given: Any) -> None:
        self._take("writes")
        await super().aput_writes(*given)


def graph(saver: InMemorySaver) -> Any:
    return compiled(("a", out(1)), ("b", out(2)), saver=saver)


async def test_langgraph_hands_its_saves_over_in_order_and_waits_for_checkpoints() -> None:
    assert _loop.AsyncBackgroundExecutor is seam.Executor  # type: ignore[attr-defined, comparison-overlap]
    saver = Taking()
    made = graph(saver)
    assert await made.ainvoke({"out": []}, at(), durability="sync") == {"out": [1, 2]}
    assert saver.taken == ["checkpoint", *["writes", "checkpoint"] * 3], "a save goes another way"
    assert len(saver.waited) == 3
    history = [state.values async for state in made.aget_state_history(at())]
    assert history == [{"out": [1, 2]}, {"out": [1]}, {"out": []}, {"out": []}]


@pytest.mark.parametrize("refused", ["writes", "checkpoint"])
async def test_what_cannot_be_taken_ends_the_run_as_it_would_without(refused: str) -> None:
    with pytest.raises(ValueError, match=f"no {refused}"):
        await graph(Taking(refuses=refused)).ainvoke({"out": []}, at(), durability="sync")
    plain = Taking(refuses=refused)
    plain.takes_at_once = False
    with pytest.raises(ValueError, match=f"no {refused}"):
        await graph(plain).ainvoke({"out": []}, at(), durability="sync")


async def test_other_checkpointers_are_asked_as_ever() -> None:
    saver = InMemorySaver()
    made = graph(saver)
    assert await made.ainvoke({"out": []}, at(), durability="sync") == {"out": [1, 2]}
    assert len([state async for state in made.aget_state_history(at())]) == 4


async def test_what_was_handed_over_can_be_waited_for_as_often_as_one_likes() -> None:
    waited = []

    async def saved() -> None:
        waited.append(1)

    saving = Saving(saved)
    for _ in range(2):
        await saving
    await Saving()
    assert len(waited) == 2
