"""Scale on paper: the simulation beside what was measured, and what it says of deployments that are not at hand."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.growth.curves import CLIENTS, WORKERS
from bench.growth.found import Found, Size
from bench.measure import Tell
from bench.simulation.constants import WRITTEN_DOWN, Costs, fitted, line, shared
from bench.simulation.model import Deployment, Layout, Seen, most

NODES = 10
#: A part is not planned to be busier than this: behind it waits grow without bound.
BUSY = 0.7
TARGET = 10_000
#: What a round trip between machines of one place adds to each way.
NETWORK_MS = 0.1
#: Workers, each with a core of its own, of one store.
FLEET = (1, 2, 4, 8, 16, 32)
SHARDS = (1, 2, 4)
#: Clients for each worker core of a fleet: enough that a core has always something to do.
FOR_EACH = 24

Curves = Mapping[str, Sequence[Mapping[str, float]]]


def measure(size: Size, tell: Tell, measured: Mapping[str, Any]) -> Found:
    """``measured``: the measure ``curves`` as it is kept. Raises ValueError when there is none."""
    if not measured:
        raise ValueError("the curves were not measured: run the growth measure `curves` first")
    costs = costs_of(measured)
    found = Found(
        conditions=[
            (
                f"Costs: {costs.source}. Ten-node runs. Compared: two cores for everything, as measured. Fleets: "
                "each process has "
                f"a core of its own, {NETWORK_MS:g} ms more for each way, {FOR_EACH} clients for each worker, of "
                "12 workers for each store at most."
            ),
        ]
    )
    tell("the measured curves, simulated")
    _compare(found, costs, measured["curves"], size)
    tell("fleets")
    _fleets(found, costs, size)
    _target(found, costs, size)
    for name, value in costs.as_dict().items():
        if isinstance(value, float | int):
            found.add(f"cost_{name}", name, value, "", count=1)
    return found


def costs_of(measured: Mapping[str, Any]) -> Costs:
    """What the curve over the number of nodes says, up to 30 of them: larger runs cost a little less for each; and what
    is shared in a crowd, by the CPU of a run among the fewest and among the most clients."""
    points = [point for point in measured["curves"]["nodes"] if point["x"] <= 30]
    numbers = {number["name"]: number["value"] for number in measured["numbers"]}
    scripts, _ = line([point["x"] for point in points], [point["scripts"] for point in points])
    costs = fitted(
        points, trips_fixed=max(4.0, scripts), fsync_ms=numbers.get("fsync_ms", WRITTEN_DOWN.fsync_ms),
        source="CPU of a run over the number of nodes, and among the fewest and the most clients, as measured",
    )  # fmt: skip
    by_clients = sorted(measured["curves"]["clients"], key=lambda point: point["x"])
    return shared(costs, by_clients[0], by_clients[-1], nodes=NODES)


def _compare(found: Found, costs: Costs, curves: Curves, size: Size) -> None:
    """The curves over clients and workers; of neither any rate or latency went into the costs."""
    errors: dict[str, list[float]] = {"runs_s": [], "p50_ms": []}
    for name in ("clients", "workers"):
        for point in curves[name]:
            many = int(point["x"])
            layout = Layout(workers=many if name == "workers" else WORKERS)
            seen = _closed(costs, layout, clients=many if name == "clients" else CLIENTS, size=size)
            simulated = {"runs_s": seen.runs_s, "p50_ms": seen.p(50)}
            off = {key: value / point[key] - 1 for key, value in simulated.items()}
            for key, value in off.items():
                errors[key].append(abs(value))
            found.point(f"simulated_{name}", many, {
                **{f"measured_{key}": point[key] for key in simulated}, **simulated,
                **{f"{key}_off": value for key, value in off.items()},
            })  # fmt: skip
    for key, what in (("runs_s", "throughput"), ("p50_ms", "median latency")):
        count = len(errors[key])
        found.add(
            f"{key}_error", f"simulated {what}, off by (median)", 100 * statistics.median(errors[key]), "%", count=count
        )
        found.add(f"{key}_error_max", f"simulated {what}, off by at most", 100 * max(errors[key]), "%", count=count)


def _closed(costs: Costs, layout: Layout, *, clients: int, size: Size) -> Seen:
    """For at least some times as long as one run takes: what is under way at both ends must be little of it."""
    takes_s = clients / most(costs, layout, nodes=NODES)
    deployment = Deployment(costs, layout, nodes=NODES)
    return deployment.closed(clients=clients, seconds=size.simulated_s + 4 * takes_s, warm_s=0.5 + 2 * takes_s)


def _fleets(found: Found, costs: Costs, size: Size) -> None:
    shorter = replace(size, simulated_s=size.simulated_s / 8)
    for shards in SHARDS:
        for workers in FLEET:
            layout = _fleet(costs, workers, shards)
            # More than fill the store many times over would only wait there.
            clients = FOR_EACH * min(workers, 12 * shards)
            seen = _closed(costs, layout, clients=clients, size=shorter)
            found.point(f"fleet_{shards}", workers, {
                "runs_s": seen.runs_s, "most": most(costs, layout, nodes=NODES), "p50_ms": seen.p(50),
                "store_busy": seen.busy["store"], "workers_busy": seen.busy["workers"],
                "commands_per_turn": seen.commands_per_turn, "webs": layout.webs,
            })  # fmt: skip
    full = [point["runs_s"] for point in found.curves["fleet_1"] if point["store_busy"] > 0.9]
    # Of runs that go in step some fall just into the time that is looked at: the median, not the most.
    best = statistics.median(full) if full else max(point["runs_s"] for point in found.curves["fleet_1"])
    found.add("one_store_runs_s", "one store carries at most", best, "runs/s", count=len(FLEET), better="higher")
    found.add(
        "one_store_bound_runs_s", "by its CPU alone", 1000 / costs.store_ms(NODES), "runs/s", count=1, better="higher"
    )
    found.add("one_store_planned_runs_s", f"one store at {BUSY:.0%}", BUSY * best, "runs/s", count=1, better="higher")
    found.add(
        "one_store_workers",
        "worker cores that fill it so far",
        _cores(costs.worker_ms(NODES), BUSY * best),
        "cores",
        count=1,
    )


def _target(found: Found, costs: Costs, size: Size) -> None:
    """Shards do not know of each other, so one of them with its share of workers and web is simulated."""
    one = next(number.value for number in found.numbers if number.name == "one_store_planned_runs_s")
    shards = math.ceil(TARGET / one)
    share = TARGET / shards
    layout = Layout(
        workers=_cores(costs.worker_ms(NODES), share), webs=_cores(costs.web_ms, share), cores=0, network_ms=NETWORK_MS
    )
    seen = Deployment(costs, layout, nodes=NODES).open(runs_s=share, seconds=min(2.0, size.simulated_s), warm_s=0.5)
    of = f"{TARGET:,} runs/s"
    found.add("target_stores", f"{of}: stores (primaries)", shards, "stores", count=1)
    found.add("target_workers", f"{of}: worker cores", layout.workers * shards, "cores", count=1)
    found.add("target_webs", f"{of}: web cores", layout.webs * shards, "cores", count=1)
    found.add("target_shard_runs_s", "one shard of it, simulated", seen.runs_s, "runs/s", count=len(seen.latencies_ms))
    found.add("target_p50_ms", "from POST to result there, p50", seen.p(50), "ms", count=len(seen.latencies_ms))
    found.add("target_p99_ms", "from POST to result there, p99", seen.p(99), "ms", count=len(seen.latencies_ms))


def _fleet(costs: Costs, workers: int, shards: int) -> Layout:
    """As many web processes as keep pace with the workers."""
    webs = max(1, math.ceil(1.5 * workers * costs.web_ms / costs.worker_ms(NODES)))
    return Layout(workers=workers, webs=webs, stores=shards, cores=0, network_ms=NETWORK_MS)


def _cores(each_ms: float, runs_s: float) -> int:
    """Cores for so many runs/s, none busier than planned."""
    return max(1, math.ceil(runs_s * each_ms / 1000 / BUSY))
