"""What is counted, for Prometheus: one table of all metrics, and the functions that count.

Whoever wires a process installs a set of metrics; until then, and with ``RUNYARD_METRICS=off``, counting does nothing.
The one thing of a process that is kept in a module: stores, leases and streams count from places that nobody wires.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

#: In seconds: from what a worker can do at best to what a person gives up on.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: So many counts are added up together at most.
MOST_HELD = 1000
#: More values than this of one label become `other`: names may come from models and clients.
MOST_VALUES = 200
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Metric:
    """A line of the table. Histograms are in seconds."""

    name: str
    kind: type[Counter | Histogram]
    labels: tuple[str, ...]
    help: str


TABLE = (
    Metric("runyard_node_attempts_total", Counter, ("graph", "node", "status"), "Attempts of nodes, by their end."),
    Metric("runyard_node_retries_total", Counter, ("graph", "node"), "Attempts of nodes after their first."),
    Metric("runyard_node_attempt_seconds", Histogram, ("graph", "node"), "How long attempts of nodes took."),
    Metric("runyard_node_queue_seconds", Histogram, ("graph", "node"), "How long a slice's first nodes had waited."),
    Metric("runyard_node_sla_breaches_total", Counter, ("graph", "node"), "Attempts that took longer than `sla_ms`."),
    Metric("runyard_decisions_total", Counter, ("graph", "node"), "Choices of a way."),
    Metric("runyard_tool_calls_total", Counter, ("tool", "status"), "Calls of tools and retrievers."),
    Metric("runyard_tool_call_seconds", Histogram, ("tool",), "How long calls of tools took."),
    Metric("runyard_model_calls_total", Counter, ("model", "status"), "Calls of models."),
    Metric("runyard_model_call_seconds", Histogram, ("model",), "How long calls of models took."),
    Metric("runyard_tokens_total", Counter, ("graph", "model", "direction"), "Tokens `in` and `out`."),
    Metric("runyard_cost_total", Counter, ("graph", "model"), "What models cost, by `runyard.prices`."),
    Metric("runyard_run_ends_total", Counter, ("graph", "phase"), "Runs that ended, by how."),
    Metric("runyard_run_seconds", Histogram, ("graph",), "How long runs took, from their first slice to their end."),
    Metric("runyard_slices_total", Counter, ("graph", "outcome"), "Slices and branches, by what they came to."),
    Metric("runyard_wakeup_seconds", Histogram, ("queue",), "From a wake-up to a worker that takes it."),
    Metric("runyard_parks_total", Counter, ("graph", "why"), "Nodes that were parked for a limit, circuit or budget."),
    Metric("runyard_circuit_turns_total", Counter, ("circuit", "mode"), "Circuits that opened, half opened or closed."),
    Metric("runyard_leases_recovered_total", Counter, (), "Leases of workers that died or lost touch, taken back."),
    Metric("runyard_fenced_writes_total", Counter, (), "Writes refused because the lease belonged to another."),
    Metric("runyard_store_round_trips_total", Counter, (), "Round trips to the store."),
    Metric("runyard_store_calls_total", Counter, (), "Calls of the store; several ride in one round trip."),
    Metric("runyard_store_unavailable_total", Counter, (), "Calls that the store could not be reached for."),
    Metric("runyard_stream_lag_seconds", Histogram, (), "From an event to its being sent to who follows the run."),
    Metric("runyard_rate_limited_total", Counter, ("limit",), "Requests answered 429 by a rate limit."),
    Metric("runyard_rate_limits_skipped_total", Counter, (), "Requests let pass because limits could not be counted."),
    Metric("runyard_crons_put_off_total", Counter, (), "Firings of crons that had to wait because the queue was full."),
    Metric("runyard_notices_total", Counter, ("kind", "came_to"), "Notices: `put`, or not: `quiet`, `throttled`."),
    Metric("runyard_notices_sent_total", Counter, ("came_to",), "Deliveries: `delivered`, `tried` in vain, `failed`."),
    Metric("runyard_http_requests_total", Counter, ("method", "route", "status"), "Requests, by route and answer."),
    Metric("runyard_http_request_seconds", Histogram, ("route",), "From a request to the beginning of its answer."),
)  # fmt: skip
_OF = {metric.name: metric for metric in TABLE}


class _Registry(CollectorRegistry):
    """One that has everything added up before anybody looks."""

    def __init__(self, add_up: Callable[[], None]) -> None:
        super().__init__()
        self._add_up = add_up

    def collect(self) -> Any:
        self._add_up()
        return super().collect()

    def restricted_registry(self, names: Iterable[str]) -> Any:
        self._add_up()
        return super().restricted_registry(names)


class Metrics:
    """A process's metrics. Thread-safe; cheap: children are looked up once, and what is counted is held and added up
    when somebody looks, or a thousand counts at a time."""

    def __init__(self, *, most_held: int = MOST_HELD) -> None:
        """``most_held``: 1 where others read what this process counts without asking it."""
        self.registry, self._most_held = _Registry(self.add_up), most_held
        self._parents: dict[str, Any] = {metric.name: _made(metric, self.registry) for metric in TABLE}
        self._children: dict[tuple[str, ...], Any] = {}
        self._values: dict[tuple[str, str], set[str]] = {}
        self._held: deque[tuple[str, tuple[str, ...], float]] = deque()

    def take(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Count so many, or observe so many seconds."""
        self._held.append((name, labels, value))
        if len(self._held) >= self._most_held:
            self.add_up()

    def add_up(self) -> None:
        for _ in range(len(self._held)):
            try:
                name, labels, value = self._held.popleft()
            except IndexError:  # another thread adds up, too
                return
            child = self.child(name, labels)
            if _OF[name].kind is Histogram:
                child.observe(value)
            else:
                child.inc(value)

    def child(self, name: str, labels: tuple[str, ...]) -> Any:
        found = self._children.get((name, *labels))
        if found is None:
            wanted = zip(_OF[name].labels, labels, strict=True)
            bounded = [self._bounded(name, label, value) for label, value in wanted]
            parent = self._parents[name]
            found = parent.labels(*bounded) if bounded else parent
            if OTHER not in bounded:  # or a name for each call would fill the memory
                self._children[(name, *labels)] = found
        return found

    def _bounded(self, name: str, label: str, value: str) -> str:
        known = self._values.setdefault((name, label), set())
        if value not in known:
            if len(known) >= MOST_VALUES:
                return OTHER
            known.add(value)
        return value


def _made(metric: Metric, registry: CollectorRegistry) -> Any:
    if metric.kind is Histogram:
        return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=BUCKETS)
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


_active: Metrics | None = None


def install(metrics: Metrics | None) -> None:
    """Count into these from now on, in the whole process; None: count nothing."""
    global _active  # noqa: PLW0603 - see the module's docstring
    _active = metrics


def active() -> Metrics | None:
    return _active


def inc(name: str, *labels: str, by: float = 1.0) -> None:
    if _active is not None:
        _active.take(name, labels, by)


def observe(name: str, seconds: float, *labels: str) -> None:
    if _active is not None:
        _active.take(name, labels, max(0.0, seconds))
