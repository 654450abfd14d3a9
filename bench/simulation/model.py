"""The way of a run through web, store and workers, and the clients that ask for runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import simpy

from bench.measure import percentile
from bench.simulation.constants import WEB_PIECES, Costs
from bench.simulation.parts import Machine, Process, Steps, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which processes there are, and where they run.

    ``cores``: all of them, and the clients, share one machine of so many; 0: each has a core of its own, on machines
    whose network takes ``network_ms`` more for each way. ``stores``: shards of a Cluster that threads are
    spread over.
    """

    workers: int = 2
    webs: int = 2
    stores: int = 1
    cores: int = 2
    network_ms: float = 0.0


@dataclass(slots=True)
class Seen:
    """What was seen of a simulated time. ``latencies_ms``: from asking to the result, of each run within it."""

    seconds: float
    latencies_ms: list[float] = field(default_factory=list)
    accepted_ms: list[float] = field(default_factory=list)
    asked: int = 0
    #: Share of the time that the busiest process of a kind computed.
    busy: dict[str, float] = field(default_factory=dict)
    #: Commands that shared one write of the disk.
    commands_per_turn: float = 0.0

    @property
    def runs_s(self) -> float:
        return len(self.latencies_ms) / self.seconds

    def p(self, percent: float) -> float:
        return percentile(self.latencies_ms, percent)


class Deployment:
    """One simulated Runyard, of which all runs have ``nodes`` nodes."""

    def __init__(self, costs: Costs, layout: Layout, *, nodes: int = 10, seed: int = 1) -> None:
        self.env = simpy.Environment()
        self._costs, self._layout, self._nodes = costs, layout, nodes
        self._random = random.Random(seed)
        shared = Machine(self.env, layout.cores) if layout.cores else None
        self._client = Process(shared) if shared else None
        web_s, worker_s = costs.web_wake_ms / 1000, costs.worker_wake_ms / 1000
        self.webs = [Process(shared or Machine(self.env, 1), wake_s=web_s) for _ in range(layout.webs)]
        # Workers are nicer than the web and the store: on one machine they wait for both.
        self.workers = [Process(shared or Machine(self.env, 1), nice=1, wake_s=worker_s) for _ in range(layout.workers)]
        fsync_s, turn_s = costs.fsync_ms / 1000, costs.store_turn_ms / 1000
        self.stores = [
            Store(shared or Machine(self.env, 1), fsync_s=fsync_s, turn_s=turn_s) for _ in range(layout.stores)
        ]
        self._hop_s = (costs.hop_ms + layout.network_ms) / 1000
        self._trips = costs.trips(nodes)
        self._trip_s = costs.store_ms(nodes) / 1000 / self._trips

    def closed(self, *, clients: int, seconds: float, warm_s: float = 0.5) -> Seen:
        """``clients`` that each ask again as soon as they were answered; only what begins after ``warm_s`` counts."""
        seen, since = Seen(seconds), warm_s
        for number in range(clients):
            # One after the other, so that they do not go in step for ever.
            self.env.process(self._client_loop(seen, since, since + seconds, begins=warm_s / 2 * number / clients))
        return self._see(seen, until=since + seconds, since=since)

    def open(self, *, runs_s: float, seconds: float, warm_s: float = 0.5) -> Seen:
        """Runs that arrive at random (Poisson), ``runs_s`` of them on average, whether or not others were answered."""
        seen, since = Seen(seconds), warm_s
        self.env.process(self._arrivals(seen, runs_s, since, since + seconds))
        return self._see(seen, until=since + seconds, since=since)

    def burst(self, *, runs: int) -> Seen:
        """All at once; the time is that until the last has its result."""
        seen = Seen(0.0)
        for _ in range(runs):
            self.env.process(self._run(seen, 0.0, float("inf")))
        self.env.run()
        seen.seconds = self.env.now
        self._note_busy(seen, {}, self.env.now)
        return seen

    def _client_loop(self, seen: Seen, since: float, until: float, *, begins: float) -> Steps:
        yield self.env.timeout(begins)
        while self.env.now < until:
            yield from self._run(seen, since, until)

    def _arrivals(self, seen: Seen, runs_s: float, since: float, until: float) -> Steps:
        while self.env.now < until:
            yield self.env.timeout(self._random.expovariate(runs_s))
            self.env.process(self._run(seen, since, until))

    def _run(self, seen: Seen, since: float, until: float) -> Steps:
        """One run from the client's question to its answer."""
        began, costs = self.env.now, self._costs
        seen.asked += 1
        web, store = self._random.choice(self.webs), self._random.choice(self.stores)
        if self._client:
            yield from self._client.work(costs.client_ms / 1000)
        yield from self._through(web, costs.web_ms / WEB_PIECES)
        yield from self._trip(store)
        accepted = self.env.now
        # Which worker takes it: a worker asks for the next wake-up when it comes to it, so the least busy is first.
        worker = min(self.workers, key=_load)
        yield from self._slice(worker, store)
        yield from self._through(web, costs.web_ms / WEB_PIECES)
        yield self.env.timeout(self._hop_s)
        if since <= self.env.now <= until:
            seen.latencies_ms.append((self.env.now - began) * 1000)
            seen.accepted_ms.append((accepted - began) * 1000)

    def _slice(self, worker: Process, store: Store) -> Steps:
        """What a worker does: half of what is fixed at the beginning and at the end, supersteps in between."""
        rest = self._trips - 1 - self._nodes
        each_ms = self._costs.worker_fixed_ms / max(1, rest)
        for trip in range(self._trips - 1):
            is_step = rest // 2 <= trip < rest // 2 + self._nodes
            yield from self._through(worker, self._costs.worker_step_ms if is_step else each_ms)
            yield from self._trip(store)

    def _through(self, process: Process, milliseconds: float) -> Steps:
        yield self.env.timeout(self._hop_s)
        yield from process.work(milliseconds / 1000)

    def _trip(self, store: Store) -> Steps:
        yield self.env.timeout(self._hop_s)
        yield store.ask(self._trip_s)

    def _see(self, seen: Seen, *, until: float, since: float) -> Seen:
        self.env.run(until=since)
        before = self._busy()
        self.env.run(until=until)
        self._note_busy(seen, before, until - since)
        return seen

    def _busy(self) -> dict[int, float]:
        return {id(part): part.busy_s for part in (*self.webs, *self.workers, *self.stores)}

    def _note_busy(self, seen: Seen, before: dict[int, float], seconds: float) -> None:
        kinds: dict[str, list[Process] | list[Store]] = {
            "web": self.webs, "workers": self.workers, "store": self.stores
        }  # fmt: skip
        now = self._busy()
        for name, parts in kinds.items():
            seen.busy[name] = max(now[id(part)] - before.get(id(part), 0.0) for part in parts) / seconds
        turns = sum(store.turns for store in self.stores)
        seen.commands_per_turn = sum(store.answered for store in self.stores) / turns if turns else 0.0


def _load(process: Process) -> int:
    return process.load


def most(costs: Costs, layout: Layout, *, nodes: int = 10) -> float:
    """Runs/s that no closed loop exceeds, by what the busiest part needs for a run in a crowd: the law of the
    bottleneck."""
    needs_ms = {
        "store": costs.store_ms(nodes) / layout.stores,
        "workers": costs.worker_ms(nodes) / layout.workers,
        "web": costs.web_ms / layout.webs,
    }
    if layout.cores:
        needs_ms["cores"] = costs.all_ms(nodes) / layout.cores
    return 1000 / max(needs_ms.values())
