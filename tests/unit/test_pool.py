"""The pool that Celery's tasks run in: coroutines, all on one thread, and what Celery and others are told of them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, current_task
from celery.app.trace import trace_task_ret
from celery.signals import task_failure, task_postrun, task_prerun, task_success
from celery.worker import state
from kombu.message import Message

from runyard.tasks.coroutine import CoroutineTask, LightRequest
from runyard.tasks.loop import the_loop, wait_for
from runyard.tasks.pool import TaskPool
from tests.support.eventually import eventually

seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")
SIGNALS = {"prerun": task_prerun, "success": task_success, "failure": task_failure, "postrun": task_postrun}


class Expected(Exception):
    pass


class Crew:
    """A pool under an application of its own, and what became of each task that it was given."""

    def __init__(self) -> None:
        self.app = Celery("test", broker="memory://", set_as_current=False)
        self.app.conf.update(task_ignore_result=True, accept_content=["json"])
        self.pool = TaskPool(limit=1000, app=self.app)
        self.pool.start()
        self.said: list[tuple[Any, ...]] = []

    def task(self, work: Callable[..., Any], **options: Any) -> Any:
        name = f"test.{work.__name__}.{uuid.uuid4().hex}"
        return self.app.task(base=CoroutineTask, name=name, throws=(Expected,), **options)(work)

    def start(self, task: Any, *args: Any) -> list[Any]:
        """What Celery is told of it, in order: that it was accepted, and what it came to."""
        results: list[Any] = []
        task_id = str(uuid.uuid4())
        request = {"id": task_id, "task": task.name, "args": args, "kwargs": {}, "delivery_info": {}}
        self.pool.apply_async(
            trace_task_ret, (task.name, task_id, request, b"", "application/json", "utf-8"),
            callback=results.append, accept_callback=lambda *_: results.append("accepted"),
        )  # fmt: skip
        return results

    def listen(self, name: str) -> Callable[..., None]:
        def heard(sender: Any, task_id: Any = None, **_: Any) -> None:
            self.said.append((name, current_task.name == sender.name, current_task.request.id))

        return heard


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew()
    yield made
    made.pool.stop()


def in_hand(crew: Crew) -> int:
    return int(crew.pool.info["in-hand"])


def test_tasks_that_wait_take_no_thread(crew: Crew) -> None:
    release, names = asyncio.Event(), set()

    async def number(which: int) -> int:
        names.add(threading.current_thread().name)
        await release.wait()
        names.add(threading.current_thread().name)
        return which

    task = crew.task(number)
    before = threading.active_count()
    results = [crew.start(task, which) for which in range(500)]
    eventually(lambda: in_hand(crew) == 500 and all(r == ["accepted"] for r in results))
    assert threading.active_count() <= before + 1  # the loop's own
    gc.collect()  # of a task that waits for nothing else the loop itself keeps nothing
    the_loop().loop.call_soon_threadsafe(release.set)
    eventually(lambda: in_hand(crew) == 0)
    assert [r[1][:2] for r in results] == [(0, str(which)) for which in range(500)]
    assert names == {"event-loop"}


def test_celery_is_told_how_long_a_task_that_waited_took(crew: Crew) -> None:
    async def waits() -> None:
        await asyncio.sleep(0.05)

    results = crew.start(crew.task(waits))
    eventually(lambda: len(results) == 2)
    failed, shown, took_s = results[1]
    assert (failed, shown) == (0, "None")
    assert 0.05 <= took_s < 5


def test_what_a_task_raises_is_told_as_its_failure(crew: Crew) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise Expected("found nothing")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    results = [crew.start(crew.task(work)) for work in (fails, cancelled)]
    eventually(lambda: all(len(r) == 2 for r in results))
    assert [r[1][0] for r in results] == [1, 1]
    assert repr(results[0][1][1].exception) == "Expected('found nothing')"
    assert isinstance(results[1][1][1].exception, asyncio.CancelledError)


def test_signals_are_sent_as_by_celerys_own_tracer(crew: Crew) -> None:
    """Before a task and after it, each with the task as the current one, whatever else is under way."""
    release = asyncio.Event()

    async def fine() -> None:
        await release.wait()

    async def fails() -> None:
        await release.wait()
        raise Expected

    hooks = {name: crew.listen(name) for name in SIGNALS}
    for name, signal in SIGNALS.items():
        signal.connect(hooks[name], weak=False)
    try:
        tasks = [crew.task(fine), crew.task(fails), crew.task(fine)]
        results = [crew.start(task) for task in tasks]
        eventually(lambda: len(crew.said) == 3)
        assert {name for name, *_ in crew.said} == {"prerun"}
        the_loop().loop.call_soon_threadsafe(release.set)
        eventually(lambda: all(len(r) == 2 for r in results))
    finally:
        for name, signal in SIGNALS.items():
            signal.disconnect(hooks[name])
    assert all(is_current for _, is_current, _ in crew.said)
    by_id: dict[str, list[str]] = {}
    for name, _, task_id in crew.said:
        by_id.setdefault(task_id, []).append(name)
    assert sorted(by_id.values()) == [
        ["prerun", "failure", "postrun"], ["prerun", "success", "postrun"], ["prerun", "success", "postrun"],
    ]  # fmt: skip
    assert not current_task


def test_a_task_has_a_context_of_its_own_and_its_coroutines_share_it(crew: Crew) -> None:
    async def read() -> str:
        await asyncio.sleep(0)
        return seen.get()

    async def named(name: str) -> str:
        seen.set(name)
        return await read() + seen.get()

    task = crew.task(named)
    results = [crew.start(task, name) for name in "abc"]
    eventually(lambda: all(len(r) == 2 for r in results))
    assert [r[1][1] for r in results] == ["'aa'", "'bb'", "'cc'"]
    assert seen.get() == "nothing"


def test_stopping_waits_for_what_is_in_hand(crew: Crew) -> None:
    release, stopped = asyncio.Event(), threading.Event()

    async def waits() -> bool:
        return await release.wait()

    results = crew.start(crew.task(waits))
    eventually(lambda: in_hand(crew) == 1)
    thread = threading.Thread(target=lambda: (crew.pool.on_stop(), stopped.set()))
    thread.start()
    assert not stopped.wait(0.05)
    the_loop().loop.call_soon_threadsafe(release.set)
    assert stopped.wait(5)
    assert results[1][:2] == (0, "True")
    thread.join()


def test_celerys_own_failure_ends_the_task_and_nothing_else(crew: Crew) -> None:
    async def fine() -> str:
        return "fine"

    def broken(*_: Any) -> None:
        raise ValueError("not a task's error: those are told")

    task = crew.task(fine)
    request = {"id": "1", "task": task.name, "args": [], "kwargs": {}, "delivery_info": {}}
    told = {"callback": broken, "accept_callback": broken}
    crew.pool.apply_async(trace_task_ret, (task.name, "1", request, b"", "", ""), **told)
    crew.pool.apply_async(broken, (), callback=broken)
    eventually(lambda: in_hand(crew) == 0)
    results = crew.start(task)
    eventually(lambda: len(results) == 2 and results[1][1] == "'fine'")


def test_what_is_no_coroutine_has_a_thread_and_may_wait_for_one(crew: Crew) -> None:
    async def name() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    results: list[Any] = []
    crew.pool.apply_async(
        lambda: (threading.current_thread().name, wait_for(name(), the_loop().loop)), (), callback=results.append
    )
    eventually(lambda: results)
    assert results == [("task_0", "event-loop")]


def test_a_coroutine_is_waited_for_by_whoever_calls_it(crew: Crew) -> None:
    """As Celery's own tracer does in a prefork child."""

    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return number

    task = crew.task(answer)
    assert task(42) == 42
    request = {"id": "1", "delivery_info": {}}
    failed, shown, _ = trace_task_ret(task.name, "1", request, ([7], {}, {}), "", "", app=crew.app)
    assert (failed, shown) == (0, "7")


def test_a_request_lets_go_of_its_message_and_is_still_known_by_name(crew: Crew) -> None:
    async def waits(_: str) -> None: ...

    task = crew.task(waits)
    headers = {
        "id": "abc", "task": task.name, "shadow": "a graph", "root_id": "abc", "argsrepr": "run-1", "kwargsrepr": "",
        "lang": "py", "eta": None, "expires": None, "retries": 0, "timelimit": [None, None], "origin": "gen1@here",
    }  # fmt: skip
    acknowledged: list[str] = []
    message = Message(
        body=b'[["run-1"], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
        headers=headers, content_type="application/json", content_encoding="utf-8", accept={"application/json"},
        delivery_info={"exchange": "", "routing_key": "default"}, properties={"delivery_tag": "1", "delivery_info": {}},
    )  # fmt: skip
    noted = lambda *_: acknowledged.append("yes")  # noqa: E731
    request = LightRequest(message, app=crew.app, on_ack=noted, hostname="here", task=task)
    before = request.info()
    state.task_reserved(request)
    try:
        request.on_accepted(1, 0.0)
        assert acknowledged == ["yes"]
        assert request in state.active_requests
        after = request.info()
    finally:
        state.task_ready(request)
    told = ("id", "name", "args", "kwargs", "type", "hostname", "delivery_info")
    assert {key: after[key] for key in told} == {key: before[key] for key in told}
    assert (request.name, request.argsrepr, request.message) == ("a graph", "run-1", None)
    assert message not in gc.get_referents(request, vars(request))
    context = request._context
    assert (context.id, context.shadow, context.args, context.kwargs) == ("abc", "a graph", ["run-1"], {})
