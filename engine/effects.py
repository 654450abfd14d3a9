"""Effects that must not happen twice: ``once(key, fn)`` for nodes and tools.

A node may be executed more than once: its worker died after it had acted and before its result was saved. What it does
to the world outside can be put into ``once``: the journal in the store remembers that it was done and what it gave.

    from runyard.engine.effects import aonce
    receipt = await aonce("mail", lambda: send_mail(to, text))

What it cannot promise: between doing a thing and noting that it was done there is a moment, and a process may die in
it. Then nobody can know. ``in_doubt`` says what to do: ``"repeat"`` (the default: at least once) or ``"raise"``
(at most once: EffectInDoubt, for a person to look at). A service that takes an idempotency key closes the gap:
:func:`effect_key` gives one that is the same in every execution. Outside Runyard both simply call ``fn``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from runyard.engine import wire
from runyard.engine.errors import EngineError
from runyard.engine.store.client import AsyncStore, Call, SyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.scripts import script

T = TypeVar("T")
InDoubt = Literal["repeat", "raise"]
_BEGUN = b"begun"


class EffectInDoubt(EngineError):
    """An effect was begun and never noted as done: it may or may not have happened."""

    code = "effect_in_doubt"


@dataclass(slots=True)
class Journal:
    """Where the effects of the node that runs now are noted: by ``once`` in the block that is entered with it, and by
    whatever that starts."""

    keys: Keys
    run_id: str
    task_id: str
    fence: Fence
    store: AsyncStore
    sync_store: SyncStore | None
    _token: Token[Journal | None] | None = field(default=None, init=False)

    def __enter__(self) -> None:
        self._token = _journal.set(self)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _journal.reset(self._token)

    def field(self, key: str) -> str:
        return f"{self.task_id}:{key}"

    def begin(self, key: str) -> Call[bytes | None]:
        """Note that an effect begins; answers what was known of it before: nothing, begun, or its result."""
        hash_key = self.keys.of_run(self.run_id).effects(self.run_id)
        words = (self.fence.field, self.fence.value, self.field(key))
        return Call(script("begin_effect"), (self.fence.key, hash_key), words)

    def done(self, key: str, result: Any) -> Call[int]:
        """Note what an effect gave."""
        return self._note(key, b"done" + self.keys.seal(wire.encode(result), self.run_id))

    def undone(self, key: str) -> Call[int]:
        """Note that an effect that began did not happen after all."""
        return self._note(key, b"")

    def _note(self, key: str, word: bytes) -> Call[int]:
        hash_key = self.keys.of_run(self.run_id).effects(self.run_id)
        words = (self.fence.field, self.fence.value, self.field(key), word)
        return Call(script("set_fields"), (self.fence.key, hash_key), words)


_journal: ContextVar[Journal | None] = ContextVar("runyard_journal", default=None)


async def aonce(key: str, fn: Callable[[], T | Awaitable[T]], *, in_doubt: InDoubt = "repeat") -> T:
    """Do ``fn`` unless this task of this run has done it before under ``key``; then answer what it gave.

    The result must be JSON. An ``fn`` that raises was not done. Raises LeaseLost before doing anything when the run is
    someone else's now, EffectInDoubt as ``in_doubt`` says.
    """
    here = _journal.get()
    if here is None:
        return await _settle(fn())
    known = await here.store.do(here.begin(key))
    if known and known != _BEGUN:
        result: T = wire.decode(known[4:])
        return result
    _doubt(key, known, in_doubt)
    try:
        made = await _settle(fn())
    except Exception:
        await here.store.do(here.undone(key))
        raise
    await here.store.do(here.done(key, made))
    return made


def once(key: str, fn: Callable[[], T], *, in_doubt: InDoubt = "repeat") -> T:
    """As :func:`aonce`, for plain functions, which run in a thread."""
    here = _journal.get()
    if here is None:
        return fn()
    if here.sync_store is None:
        raise RuntimeError("once() was called where only aonce() works.")
    known = here.sync_store.do(here.begin(key))
    if known and known != _BEGUN:
        result: T = wire.decode(known[4:])
        return result
    _doubt(key, known, in_doubt)
    try:
        made = fn()
    except Exception:
        here.sync_store.do(here.undone(key))
        raise
    here.sync_store.do(here.done(key, made))
    return made


def effect_key(key: str) -> str | None:
    """An idempotency key for a service that takes one: the same in every execution of this task; None outside a run."""
    here = _journal.get()
    return f"{here.run_id}:{here.field(key)}" if here else None


def _doubt(key: str, known: bytes | None, in_doubt: InDoubt) -> None:
    if known == _BEGUN and in_doubt == "raise":
        raise EffectInDoubt(f"The effect {key!r} was begun by an earlier execution and never noted as done.")


async def _settle(made: T | Awaitable[T]) -> T:
    return await made if inspect.isawaitable(made) or asyncio.isfuture(made) else made
