"""What can go wrong, by who must act on it.

    EngineError
    ├── ConfigError            the operator: refuse to start; name the variable and the accepted form
    ├── Sealed                 the operator: a value in the store is encrypted; names the key that is missing or wrong
    ├── InvalidInput           the caller: the request is wrong, and says which field
    ├── NotFound               the caller: RunNotFound, ThreadNotFound, AssistantNotFound, ApiKeyNotFound, …
    ├── Conflict               the caller: InvalidTransition, ThreadBusy, ThreadExists, AssistantExists, RunInFlight,
    │                          IdempotencyConflict
    ├── Refused(retry_after_s) the caller, later: Backlogged, TooManyWaiting
    ├── StoreUnavailable       nobody: Redis is away; retried outside the attempt budget
    ├── EmbeddingFailed        the operator: what embeds texts for the long-term store does not; nothing was written
    ├── LeaseLost              nobody: someone else owns the run; stop, write nothing, never retry
    ├── Unserializable         the graph's author: names the state key whose value cannot be stored
    ├── BudgetExceeded         nobody: what may be spent is spent; never retried
    ├── CircuitOpen            nobody: a node was not called, because its circuit is open; never retried at once
    └── GraphUnavailable       the graph's author: it cannot be loaded; GraphChanged, it no longer fits its waiting run

    Recorded                   a node's own error that an earlier slice has met

A class docstring is the default message; ``code`` is stable and safe to match on. HTTP numbers live in the app.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class EngineError(Exception):
    """Something went wrong in Runyard."""

    code = "engine_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip().split("\n")[0])


class ConfigError(EngineError):
    """A setting is missing or wrong."""

    code = "config_error"


class Sealed(EngineError):
    """A value in the store is encrypted and cannot be opened."""

    code = "sealed"


class InvalidInput(EngineError):
    """The request is not valid."""

    code = "invalid_input"


class TooLarge(InvalidInput):
    """A part of the request is larger than is accepted."""

    code = "too_large"


class NotFound(EngineError):
    """There is no such thing."""

    code = "not_found"


class RunNotFound(NotFound):
    """Run not found."""

    code = "run_not_found"


class ThreadNotFound(NotFound):
    """Thread not found."""

    code = "thread_not_found"


class AssistantNotFound(NotFound):
    """Assistant not found."""

    code = "assistant_not_found"


class ApiKeyNotFound(NotFound):
    """API key not found."""

    code = "api_key_not_found"


class CronNotFound(NotFound):
    """There is no such cron."""

    code = "cron_not_found"


class CircuitNotFound(NotFound):
    """Circuit not found."""

    code = "circuit_not_found"


class Conflict(EngineError):
    """The thing is not in a state that allows this."""

    code = "conflict"


class InvalidTransition(Conflict):
    """The run is not in a state that allows this."""

    code = "invalid_transition"


class ThreadBusy(Conflict):
    """The thread already has a run, and the request asked to be rejected in that case."""

    code = "thread_busy"


class ThreadExists(Conflict):
    """A thread with this id exists already."""

    code = "thread_exists"


class AssistantExists(Conflict):
    """An assistant with this id exists already."""

    code = "assistant_exists"


class RunInFlight(Conflict):
    """A run is in flight on this thread; its state cannot be edited now."""

    code = "run_in_flight"


class IdempotencyConflict(Conflict):
    """The Idempotency-Key was used for another request before."""

    code = "idempotency_conflict"


class Refused(EngineError):
    """Not now."""

    code = "refused"

    def __init__(self, message: str | None = None, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        #: When it is worth trying again, in whole seconds.
        self.retry_after_s = retry_after_s


class Backlogged(Refused):
    """Work that was accepted earlier has been waiting for too long."""

    code = "backlogged"


class TooManyWaiting(Refused):
    """Too many runs of this tenant wait already."""

    code = "too_many_waiting"


class StoreUnavailable(EngineError):
    """The store (Redis) cannot be reached."""

    code = "store_unavailable"


class EmbeddingFailed(EngineError):
    """What embeds texts for the long-term store has failed."""

    code = "embedding_failed"


class LeaseLost(EngineError):
    """The lease of this run belongs to someone else now."""

    code = "lease_lost"


class Unserializable(EngineError):
    """A value in the graph's state cannot be stored."""

    code = "unserializable"


class CircuitOpen(EngineError):
    """The circuit of this node is open; it was not called."""

    code = "circuit_open"


class BudgetExceeded(EngineError):
    """What may be spent is spent."""

    code = "budget_exceeded"


class StateTooLarge(Unserializable):
    """A value in the graph's state is larger than is stored."""

    code = "state_too_large"


class GraphUnavailable(EngineError):
    """The graph cannot be loaded."""

    code = "graph_unavailable"


class GraphChanged(GraphUnavailable):
    """The graph was changed and no longer has the nodes that a waiting run was to go on with."""

    code = "graph_changed"


class Recorded(Exception):
    """A node's own error as its attempt was recorded: the exception itself has ended with its process."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__(str(record["message"]))
        self.name = str(record["error"])

    def __repr__(self) -> str:
        return f"{self.name}({str(self)!r})"
