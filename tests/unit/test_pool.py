"""The pool that Celery's tasks run in: plain code that waits for coroutines, all on one thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runyard.tasks.pool import TaskPool, the_loop, wait_for
from tests.support.eventually import eventually

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


@pytest.fixture
def pool() -> Iterator[TaskPool]:
    made = TaskPool(limit=1000)
    made.start()
    yield made
    made.stop()


def started(pool: TaskPool, work: Callable[..., Any], *args: Any) -> list[Any]:
    results: list[Any] = []
    pool.apply_async(work, args, callback=results.append, accept_callback=lambda *_: results.append("accepted"))
    return results


def waiting(coroutine: Any) -> Any:
    return wait_for(coroutine, the_loop().loop)


def test_tasks_that_wait_take_no_thread(pool: TaskPool) -> None:
    release, names = asyncio.Event(), set()

    def task(number: int) -> int:
        names.add(threading.current_thread().name)
        waiting(release.wait())
        names.add(threading.current_thread().name)
        return number

    before = threading.active_count()
    results = [started(pool, task, number) for number in range(500)]
    eventually(lambda: pool.info["in-hand"] == 500 and all(r == ["accepted"] for r in results))
    assert threading.active_count() <= before + 1  # the loop's own
    the_loop().loop.call_soon_threadsafe(release.set)
    eventually(lambda: pool.info["in-hand"] == 0)
    assert [r[1] for r in results] == list(range(500))
    assert names == {"event-loop"}


def test_what_a_coroutine_raises_is_raised_in_the_task(pool: TaskPool) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("found nothing")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    def task() -> list[str]:
        caught = []
        for work in (fails, cancelled):
            try:
                waiting(work())
            except (KeyError, asyncio.CancelledError) as error:
                caught.append(type(error).__name__)
        return caught

    results = started(pool, task)
    eventually(lambda: len(results) == 2)
    assert results[1] == ["KeyError", "CancelledError"]


def test_a_task_has_a_context_of_its_own_and_its_coroutines_share_it(pool: TaskPool) -> None:
    async def read() -> str:
        await asyncio.sleep(0)
        return seen.get()

    def task(name: str) -> tuple[str, str]:
        seen.set(name)
        return waiting(read()), seen.get()

    results = [started(pool, task, name) for name in "abc"]
    eventually(lambda: all(len(r) == 2 for r in results))
    assert [r[1] for r in results] == [("a", "a"), ("b", "b"), ("c", "c")]
    assert seen.get() == "nothing"


def test_stopping_waits_for_what_is_in_hand(pool: TaskPool) -> None:
    release, stopped = asyncio.Event(), threading.Event()
    results = started(pool, lambda: waiting(release.wait()))
    eventually(lambda: pool.info["in-hand"] == 1)
    thread = threading.Thread(target=lambda: (pool.on_stop(), stopped.set()))
    thread.start()
    assert not stopped.wait(0.05)
    the_loop().loop.call_soon_threadsafe(release.set)
    assert stopped.wait(5)
    assert results == ["accepted", True]
    thread.join()


def test_celerys_own_failure_ends_the_task_and_nothing_else(pool: TaskPool) -> None:
    def broken() -> None:
        raise ValueError("not a task's error: the tracer would have caught that")

    started(pool, broken)
    eventually(lambda: pool.info["in-hand"] == 0)
    results = started(pool, lambda: "fine")
    eventually(lambda: results == ["accepted", "fine"])


def test_a_plain_thread_waits_itself() -> None:
    async def answer() -> int:
        return 42

    assert waiting(answer()) == 42
