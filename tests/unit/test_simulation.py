"""The simulation of bench/ against what is known in closed form."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

simpy = pytest.importorskip("simpy")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sim() -> Iterator[Any]:
    before = list(sys.path)
    sys.path.insert(0, str(ROOT))
    names = ("constants", "model", "parts")
    yield SimpleNamespace(**{name: importlib.import_module(f"bench.simulation.{name}") for name in names})
    sys.path[:] = before


@pytest.fixture
def costs(sim: Any) -> Any:
    return sim.constants.Costs(
        web_ms=2.0, worker_fixed_ms=2.0, worker_step_ms=0.5, store_fixed_ms=0.5, store_step_ms=0.1, client_ms=0.5,
        trips_fixed=5, fsync_ms=0.2, hop_ms=0.05, source="a test",
    )  # fmt: skip


def alone_ms(costs: Any, nodes: int) -> float:
    """A run that meets nobody: what everyone computes, one disk write and a hop for each trip, a hop for each piece."""
    trips = costs.trips(nodes)
    hops = trips + (trips - 1) + 2 + 1  # to the store, to the worker, to the web twice, and to the client
    woken = 2 * costs.web_wake_ms + (trips - 1) * costs.worker_wake_ms + trips * costs.store_turn_ms
    return float(costs.all_ms(nodes) + trips * costs.fsync_ms + hops * costs.hop_ms + woken)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_process_with_random_arrivals_makes_them_wait_as_long_as_m_d_1(sim: Any, load: float) -> None:
    env, chance, service_s = simpy.Environment(), random.Random(7), 0.01
    process = sim.parts.Process(sim.parts.Machine(env, 1))
    waited: list[float] = []

    def customer() -> Any:
        came = env.now
        yield from process.work(service_s)
        waited.append(env.now - came - service_s)

    def arrivals() -> Any:
        for _ in range(30_000):
            yield env.timeout(chance.expovariate(load / service_s))
            env.process(customer())

    env.process(arrivals())
    env.run()
    assert len(waited) == 30_000
    assert sum(waited) / len(waited) == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.06)


def test_a_store_writes_to_the_disk_once_for_all_that_are_in_a_turn(sim: Any) -> None:
    env = simpy.Environment()
    store = sim.parts.Store(sim.parts.Machine(env, 1), fsync_s=0.010)
    answered: dict[int, float] = {}

    def ask(number: int) -> Any:
        yield store.ask(0.001)
        answered[number] = env.now

    def later() -> Any:
        yield env.timeout(0.004)  # while the turn of the others is under way
        yield from ask(9)

    for number in range(3):
        env.process(ask(number))
    env.process(later())
    env.run()
    assert [answered[number] for number in range(3)] == pytest.approx([0.013] * 3)
    assert answered[9] == pytest.approx(0.013 + 0.011)
    assert (store.turns, store.answered) == (2, 4)


def test_processes_share_the_cores_there_are(sim: Any) -> None:
    env = simpy.Environment()
    machine = sim.parts.Machine(env, 2)
    for _ in range(4):
        env.process(sim.parts.Process(machine).work(1.0))
    env.run()
    assert env.now == pytest.approx(2.0)


def test_a_process_is_woken_once_for_what_comes_while_it_is_at_work(sim: Any) -> None:
    env = simpy.Environment()
    process = sim.parts.Process(sim.parts.Machine(env, 1), wake_s=0.5)

    def ask(at: float) -> Any:
        yield env.timeout(at)
        yield from process.work(1.0)

    for at in (0.0, 0.2, 1.4, 10.0):  # the last finds it asleep again
        env.process(ask(at))
    env.run()
    assert process.busy_s == pytest.approx(4 * 1.0 + 2 * 0.5)
    assert env.now == pytest.approx(11.5)


def test_a_turn_of_the_store_costs_the_same_for_one_and_for_many(sim: Any) -> None:
    env = simpy.Environment()
    store = sim.parts.Store(sim.parts.Machine(env, 1), fsync_s=0.0, turn_s=0.5)
    for _ in range(3):
        store.ask(1.0)
    env.run()
    assert (store.turns, store.busy_s) == (1, pytest.approx(3.5))
    store.ask(1.0)
    env.run()
    assert (store.turns, store.busy_s) == (2, pytest.approx(5.0))


def test_what_a_crowd_shares_is_found_from_a_run_alone_and_one_of_many(sim: Any, costs: Any) -> None:
    def spent(told: Any, runs: int) -> dict[str, float]:
        """ms of CPU of a run, as the bench would measure them."""
        deployment = sim.model.Deployment(told, sim.model.Layout())
        deployment.burst(runs=runs)
        parts = {"web": deployment.webs, "workers": deployment.workers, "store": deployment.stores}
        return {name: 1000 * sum(part.busy_s for part in kind) / runs for name, kind in parts.items()}

    true = replace(costs, web_wake_ms=0.3, worker_wake_ms=0.2, store_turn_ms=0.1)
    alone, crowd = spent(true, 1), spent(true, 400)
    assert all(crowd[name] < alone[name] for name in alone)
    between = replace(costs, web_ms=2.2, worker_fixed_ms=2.3, worker_step_ms=0.6, store_step_ms=0.15)  # of few clients
    found = sim.constants.shared(between, alone, crowd, nodes=10)
    assert spent(found, 1) == pytest.approx(alone)
    assert spent(found, 400) == pytest.approx(crowd, rel=0.2)
    assert found.worker_step_ms / found.worker_fixed_ms == pytest.approx(0.6 / 2.3)


@pytest.mark.parametrize("wakes", [False, True])
def test_more_workers_than_cores_cost_more_where_to_be_woken_costs_anything(sim: Any, costs: Any, wakes: bool) -> None:
    told = replace(costs, worker_wake_ms=0.2, store_turn_ms=0.1) if wakes else costs

    def reached(workers: int) -> float:
        layout = sim.model.Layout(workers=workers)
        return float(sim.model.Deployment(told, layout).closed(clients=32, seconds=2.0).runs_s)

    assert reached(6) == pytest.approx(reached(2), rel=0.03) if not wakes else reached(6) < reached(2)


@pytest.mark.parametrize("nodes", [1, 10])
@pytest.mark.parametrize("wakes", [0.0, 0.2])
def test_a_run_that_is_alone_takes_the_sum_of_its_parts(sim: Any, costs: Any, nodes: int, wakes: float) -> None:
    costs = replace(costs, web_wake_ms=wakes, worker_wake_ms=wakes / 2, store_turn_ms=wakes / 4)
    seen = sim.model.Deployment(costs, sim.model.Layout(), nodes=nodes).closed(clients=1, seconds=2.0)
    assert seen.p(50) == pytest.approx(alone_ms(costs, nodes), rel=1e-6)
    assert seen.runs_s == pytest.approx(1000 / alone_ms(costs, nodes), rel=0.02)


def test_nothing_is_lost_or_made_and_every_ms_of_cpu_is_spent(sim: Any, costs: Any) -> None:
    deployment = sim.model.Deployment(costs, sim.model.Layout(workers=3))
    seen = deployment.burst(runs=200)
    assert len(seen.latencies_ms) == len(seen.accepted_ms) == seen.asked == 200
    spent = {
        "web": sum(web.busy_s for web in deployment.webs), "workers": sum(one.busy_s for one in deployment.workers),
        "store": sum(store.busy_s for store in deployment.stores),
    }  # fmt: skip
    needed = {"web": costs.web_ms, "workers": costs.worker_ms(10), "store": costs.store_ms(10)}
    assert spent == pytest.approx({name: 0.2 * ms for name, ms in needed.items()})


@pytest.mark.parametrize("clients", [1, 4, 16, 64])
def test_as_many_are_under_way_as_there_are_clients(sim: Any, costs: Any, clients: int) -> None:
    """Little's law: runs/s times how long one takes."""
    seen = sim.model.Deployment(costs, sim.model.Layout()).closed(clients=clients, seconds=5.0)
    assert seen.runs_s * sum(seen.latencies_ms) / len(seen.latencies_ms) / 1000 == pytest.approx(clients, rel=0.03)


@pytest.mark.parametrize(
    ("layout", "limit"),
    [
        ({"cores": 2, "workers": 4}, "cores"),
        ({"cores": 0, "workers": 1}, "one worker"),
        ({"cores": 0, "workers": 32, "webs": 8}, "the store"),
    ],
)
def test_throughput_comes_near_what_the_bottleneck_allows_and_never_above(
    sim: Any, costs: Any, layout: dict[str, int], limit: str
) -> None:
    built = sim.model.Layout(**layout)
    expected = {
        "cores": 2000 / costs.all_ms(10), "one worker": 1000 / costs.worker_ms(10),
        # The store writes to the disk between its turns; with many in each turn that is a small part.
        "the store": 1000 / costs.store_ms(10),
    }[limit]  # fmt: skip
    assert sim.model.most(costs, built) == pytest.approx(expected)
    seen = sim.model.Deployment(costs, built).closed(clients=96, seconds=1500 / expected, warm_s=300 / expected)
    reached = seen.runs_s
    assert 0.85 * expected < reached <= 1.02 * expected


def test_workers_add_up_until_the_store_is_full_and_shards_move_that_limit(sim: Any, costs: Any) -> None:
    def reached(workers: int, stores: int) -> float:
        layout = sim.model.Layout(workers=workers, webs=8, stores=stores, cores=0)
        return float(sim.model.Deployment(costs, layout).closed(clients=24 * workers, seconds=1.0).runs_s)

    one, two, many = reached(1, 1), reached(2, 1), reached(16, 1)
    assert two == pytest.approx(2 * one, rel=0.05)
    assert many < 16 * one * 0.7
    assert reached(16, 2) > 1.6 * many


def test_the_more_run_at_once_the_more_share_a_write_of_the_disk(sim: Any, costs: Any) -> None:
    layout = sim.model.Layout(cores=0, workers=8, webs=4)
    few, many = (
        sim.model.Deployment(costs, layout).closed(clients=clients, seconds=1.0).commands_per_turn
        for clients in (1, 64)
    )
    assert few == pytest.approx(1.0)
    assert many > 3


def test_the_same_seed_gives_the_same_numbers(sim: Any, costs: Any) -> None:
    def seen(seed: int) -> list[float]:
        deployment = sim.model.Deployment(costs, sim.model.Layout(), seed=seed)
        return list(deployment.open(runs_s=50, seconds=1.0).latencies_ms)

    assert seen(3) == seen(3) != seen(4)


def test_costs_are_read_off_a_measured_curve(sim: Any, costs: Any) -> None:
    points = [
        {"x": nodes, "web": 2.0, "client": 0.5, "workers": costs.worker_ms(nodes), "store": costs.store_ms(nodes)}
        for nodes in (1, 5, 20)
    ]
    found = sim.constants.fitted(points, trips_fixed=5, fsync_ms=0.2, source="a test")
    assert found.as_dict() == pytest.approx(replace(costs, hop_ms=found.hop_ms).as_dict())
    with pytest.raises(ValueError, match="two points"):
        sim.constants.fitted(points[:1], trips_fixed=5, fsync_ms=0.2, source="a test")
