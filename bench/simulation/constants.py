"""What the simulation is told: the cost of one run, as it was measured, and where each figure comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a run of ``n`` nodes costs each process in ms of CPU, and how often it asks the store.

    ``fixed`` is paid once for a run, ``step`` for each superstep, in a crowd: whoever has much to do shares turns of
    its loop, system calls and wake-ups. ``wake`` is what being woken costs a process besides, and ``turn`` what a turn
    costs the store: a run that is alone pays them at each step of its way. ``source``: where the figures come from.
    """

    web_ms: float
    worker_fixed_ms: float
    worker_step_ms: float
    store_fixed_ms: float
    store_step_ms: float
    client_ms: float
    #: Round trips to the store that one run waits for besides those of its supersteps, which wait for one each.
    trips_fixed: float
    #: One write of the store to the disk, which all that it answers in one turn of its event loop share.
    fsync_ms: float
    #: From a process that sends to one that reads, on one machine.
    hop_ms: float
    source: str
    web_wake_ms: float = 0.0
    worker_wake_ms: float = 0.0
    store_turn_ms: float = 0.0

    def worker_ms(self, nodes: int) -> float:
        return self.worker_fixed_ms + self.worker_step_ms * nodes

    def store_ms(self, nodes: int) -> float:
        return self.store_fixed_ms + self.store_step_ms * nodes

    def all_ms(self, nodes: int) -> float:
        """CPU of everything, the client too, for one run."""
        return self.web_ms + self.worker_ms(nodes) + self.store_ms(nodes) + self.client_ms

    def trips(self, nodes: int) -> int:
        return round(self.trips_fixed) + nodes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


#: The web takes a question, and gives an answer.
WEB_PIECES = 2
#: What was known before the curves were measured: docs/performance.md, "What the limit is" and "What one run costs".
WRITTEN_DOWN = Costs(
    web_ms=2.3, worker_fixed_ms=2.5, worker_step_ms=0.64, store_fixed_ms=0.6, store_step_ms=0.15, client_ms=0.3,
    trips_fixed=8, fsync_ms=0.16, hop_ms=0.05, source="docs/performance.md",
)  # fmt: skip


def fitted(points: Sequence[Mapping[str, float]], *, trips_fixed: float, fsync_ms: float, source: str) -> Costs:
    """Costs from the curve over the number of nodes: a straight line through each process's CPU.

    ``points``: ``x`` nodes, and ms of CPU of ``web``, ``workers``, ``store`` and ``client`` for one run. Raises
    ValueError for fewer than two.
    """
    worker = line([point["x"] for point in points], [point["workers"] for point in points])
    store = line([point["x"] for point in points], [point["store"] for point in points])
    return Costs(
        web_ms=_mean(points, "web"), client_ms=_mean(points, "client"),
        worker_fixed_ms=max(0.0, worker[0]), worker_step_ms=worker[1],
        store_fixed_ms=max(0.0, store[0]), store_step_ms=store[1],
        trips_fixed=trips_fixed, fsync_ms=fsync_ms, hop_ms=WRITTEN_DOWN.hop_ms, source=source,
    )  # fmt: skip


def shared(costs: Costs, alone: Mapping[str, float], crowd: Mapping[str, float], *, nodes: int) -> Costs:
    """``costs`` parted into what a run costs in a crowd and what a crowd shares, by the CPU of a run of ``nodes`` nodes
    that is ``alone`` and of one of many (``crowd``).

    Alone each piece of work wakes its process, and each command has a turn of the store for itself.
    """
    trips = costs.trips(nodes)

    def share(name: str, known_ms: float) -> float:
        return crowd[name] / known_ms if known_ms else 1.0

    def wake(name: str, times: int) -> float:
        return max(0.0, alone[name] - crowd[name]) / times

    worker, store = share("workers", costs.worker_ms(nodes)), share("store", costs.store_ms(nodes))
    return replace(
        costs, web_ms=costs.web_ms * share("web", costs.web_ms),
        worker_fixed_ms=costs.worker_fixed_ms * worker, worker_step_ms=costs.worker_step_ms * worker,
        store_fixed_ms=costs.store_fixed_ms * store, store_step_ms=costs.store_step_ms * store,
        web_wake_ms=wake("web", WEB_PIECES), worker_wake_ms=wake("workers", trips - 1),
        store_turn_ms=wake("store", trips),
    )  # fmt: skip


def line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Where the straight line of least squares begins, and how it rises."""
    if len(set(xs)) < 2:
        raise ValueError("a line needs two points")
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    rise = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / sum((x - x_mean) ** 2 for x in xs)
    return y_mean - rise * x_mean, rise


def _mean(points: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(point[name] for point in points) / len(points)
