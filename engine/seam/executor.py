"""What LangGraph saves, handed to the checkpointer at once instead of through a task for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any

from langgraph.pregel import _loop
from langgraph.pregel._executor import AsyncBackgroundExecutor


class Saving:
    """What was handed over, for LangGraph to wait for, as often as it likes. Whoever saves keeps what went wrong."""

    __slots__ = ("_saved",)

    def __init__(self, saved: Callable[[], Awaitable[None]] | None = None) -> None:
        """``saved``: waits until it is; None: there is nothing to wait for."""
        self._saved = saved

    def __await__(self) -> Generator[Any, None, None]:
        if self._saved is not None:
            yield from self._saved().__await__()


_HANDED_OVER = Saving()


class Executor(AsyncBackgroundExecutor):
    """As LangGraph's, which makes a task of all it is given; but a checkpointer that ``takes_at_once`` is handed saves.

    Its ``take_writes`` and ``take_checkpoint`` are given what ``aput_writes`` and ``aput`` are. They read that before
    they return, save in the order it was given, and raise later what could not be saved; ``take_checkpoint`` returns
    what waits until it is, or None. What cannot be read is left to a task, in which LangGraph expects it to be raised.
    """

    def submit(self, fn: Callable[..., Any], *args: Any, **how: Any) -> Any:
        saved = self._handed_over(fn, args)
        return super().submit(fn, *args, **how) if saved is None else saved

    def _handed_over(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Saving | None:
        name = getattr(fn, "__name__", "")
        try:
            if name == "aput_writes" and _takes(saver := fn.__self__):  # type: ignore[attr-defined]
                saver.take_writes(*args)
                return _HANDED_OVER
            if name == "_checkpointer_put_after_previous" and _takes(saver := fn.__self__.checkpointer):  # type: ignore[attr-defined]
                before, writes, *given = args
                if all(type(one) is Saving for one in (before or _HANDED_OVER, *writes)):
                    return Saving(saver.take_checkpoint(*given))
        except Exception:  # noqa: BLE001 - it is raised again, where LangGraph looks for it
            return None
        return None


def _takes(saver: Any) -> bool:
    return getattr(saver, "takes_at_once", False) is True


#: Each loop makes one by this name, and gives nobody a say in it.
_loop.AsyncBackgroundExecutor = Executor  # type: ignore[attr-defined]
