"""Celery tasks that are coroutines: while one waits there is the coroutine, and next to nothing else.

Celery's tracer is plain code that calls a task and wants its result at once, so a task that waits would keep that
code's stack, and all that it came with. :class:`Trace` does what the tracer does in two halves, before a task and after
it. What the tracer has besides is for results, retries, chains and callbacks: a wake-up has none of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Task
from celery._state import _task_stack
from celery.app.task import Context
from celery.app.trace import LOG_SUCCESS, TraceInfo, get_task_name, info, logger, traceback_clear
from celery.signals import task_postrun, task_prerun, task_success
from celery.states import FAILURE, SUCCESS
from celery.utils.functional import noop
from celery.utils.saferepr import saferepr
from celery.worker.request import Request

from runyard.tasks.loop import the_loop, wait_for

#: How messages were delivered, by what that says: those of a queue alike, and one for all of them will do.
_deliveries: dict[tuple[Any, ...], dict[str, Any]] = {}
#: What became of a task, as Celery's pools say it: whether it failed, what it came to, and after how many seconds.
CameTo = tuple[int, Any, float | None]


class CoroutineTask(Task):  # type: ignore[misc]
    """A task whose function is a coroutine function. Our pool awaits it; whoever calls it, like Celery's tracer in a
    prefork child, waits."""

    abstract = True
    Request = "runyard.tasks.coroutine:LightRequest"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return wait_for(self.run(*args, **kwargs), the_loop().loop)


class LightRequest(Request):  # type: ignore[misc]
    """Celery's record of a task in hand, which keeps no more of the message than is asked for once it was accepted."""

    #: What it is known by, in Celery's words: receivers of signals may ask for it. What is empty they find empty.
    _KEPT = ("task", "id", "shadow", "root_id", "parent_id", "argsrepr", "kwargsrepr", "retries", "ignore_result",
             "headers", "hostname", "delivery_info")  # fmt: skip

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        if self.acknowledged:
            self._let_go()

    def _let_go(self) -> None:
        """Forget the message, and keep nothing twice: a worker has thousands of these."""
        known, info = self._request_dict, self._delivery_info
        same: dict[Any, Any] = {text: text for text in (self.id, self._task.name, self.name, *self._args)}
        known["delivery_info"] = self._delivery_info = _deliveries.setdefault(tuple(info.values()), info)
        kept = {name: known[name] for name in self._KEPT if known.get(name)}
        kept |= {name: same[text] for name, text in kept.items() if isinstance(text, str) and text in same}
        known.clear()  # the pool has the same one
        known.update(kept, args=self._args, kwargs=self._kwargs)
        self._type, self._root_id, self._argsrepr = (kept.get(name, "") for name in ("task", "root_id", "argsrepr"))
        self._message = self._body = None
        self._on_ack = self._on_reject = noop
        self._Request__payload = self._args, self._kwargs, None


class Trace:
    """One run of a task, told to Celery: begun, then failed or succeeded."""

    __slots__ = ("_began", "_id", "_request", "_task")

    def __init__(self, task: CoroutineTask, task_id: str, request: dict[str, Any]) -> None:
        self._task, self._id, self._request = task, task_id, request
        self._began = time.monotonic()

    def work(self) -> Coroutine[Any, Any, Any]:
        return self._task.run(*self._request["args"], **self._request["kwargs"])  # type: ignore[no-any-return]

    def begin(self) -> None:
        if task_prerun.receivers:
            with self._current():
                self._send(task_prerun)

    def succeeded(self, value: Any) -> CameTo:
        shown, took_s = saferepr(value, self._task.resultrepr_maxsize), time.monotonic() - self._began
        if task_success.receivers or task_postrun.receivers or logger.isEnabledFor(logging.INFO):
            self._tell_of_success(value, shown, took_s)
        return 0, shown, took_s

    def failed(self, error: BaseException) -> CameTo:
        """Called where ``error`` is handled."""
        with self._current() as context:
            told = TraceInfo(FAILURE, error).handle_error_state(self._task, context, call_errbacks=False)
            self._send(task_postrun, retval=error, state=FAILURE)
        traceback_clear(error)
        return 1, told, None

    def _tell_of_success(self, value: Any, shown: str, took_s: float) -> None:
        with self._current() as context:
            task_success.send(sender=self._task, result=value, runtime=took_s)
            said = {"id": self._id, "name": get_task_name(context, self._task.name), "return_value": shown}
            info(LOG_SUCCESS, {**said, "runtime": took_s, "args": context.get("argsrepr")})
            self._send(task_postrun, retval=value, state=SUCCESS)

    def _send(self, signal: Any, **what: Any) -> None:
        request = self._request
        signal.send(sender=self._task, task_id=self._id, task=self._task, args=request["args"],
                    kwargs=request["kwargs"], **what)  # fmt: skip

    @contextmanager
    def _current(self) -> Iterator[Context]:
        """The task is the current one, for whoever is told of it, as long as nothing is awaited."""
        context = Context(self._request, called_directly=False, is_eager=False)
        _task_stack.push(self._task)
        self._task.request_stack.push(context)
        try:
            yield context
        finally:
            self._task.request_stack.pop()
            _task_stack.pop()
