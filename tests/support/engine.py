"""An engine without Celery: wake-ups go into a list and are carried out by the test, on its own loop.

What a worker process would do with a message, :meth:`Engine.drive` does, so a test can look between any two slices,
drop a wake-up, send one twice, or let two workers race.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from runyard.engine.advance import advance, advance_branch
from runyard.engine.branch import BranchSaver
from runyard.engine.breaker import circuits_of
from runyard.engine.budget import budgets_of
from runyard.engine.caps import caps_of
from runyard.engine.delivery import deliver
from runyard.engine.items import RedisItems
from runyard.engine.leases import LeaseKeeper
from runyard.engine.limits import limits_of
from runyard.engine.notices import notify_of
from runyard.engine.prices import Prices
from runyard.engine.recent import Recent
from runyard.engine.recovery import Recovery
from runyard.engine.run import TERMINAL, Run, RunRequest, Wake
from runyard.engine.saver import RedisSaver
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store import events
from runyard.engine.store.client import AsyncStore, SyncStore
from runyard.engine.store.meta import keys_of, open_store
from runyard.engine.store.serde import strict_serde
from runyard.engine.waiting import waiting_of
from runyard.engine.webhooks import WebhookPolicy, Webhooks
from runyard.engine.worker import Graph, Worker


class Engine:
    """One store, any number of workers on this loop, and the wake-ups that were sent and not yet carried out."""

    def __init__(
        self,
        redis_url: str,
        graphs: Mapping[str, Graph],
        *,
        project: Mapping[str, Any] | None = None,
        runyard: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """``project``: its sections, of which ``runyard`` is one."""
        self.project = {"runyard": runyard or {}, **(project or {})}
        self.settings = Settings.from_env({}, redis_url=redis_url, **{"queue": "default", **settings})
        self.graphs = dict(graphs)
        self.wakes: deque[Wake] = deque()
        self.keys = keys_of(self.settings)
        self.sync_store = SyncStore.connect(redis_url, vault=self.keys.vault)
        open_store(self.sync_store, self.keys)
        self.service = Service(self.sync_store, self.keys, self.settings, self.wakes.extend)
        self.notify = notify_of(self.project["runyard"].get("notify", {}), {})
        self.waiting = waiting_of(self.project["runyard"].get("waiting", {}))
        self._keepers: list[LeaseKeeper] = []
        self._workers: list[Worker] = []
        self.worker = self.make_worker("first")
        self.recovery = self.make_recovery("first")

    def make_worker(self, name: str) -> Worker:
        """A worker of its own: its connection, its leases. Its keeper is not started: renew by hand."""
        store = AsyncStore.connect(self.settings.redis_url, vault=self.keys.vault)
        recent = Recent(self.settings.worker_recent_bytes)
        parts: Any = {
            "store": store, "sync_store": self.sync_store, "serde": strict_serde(self.settings.max_state_bytes),
            "recent": recent,
        }  # fmt: skip
        keeper = LeaseKeeper(self.sync_store, self.keys, lease_ms=self.settings.lease_ms)
        self._keepers.append(keeper)
        worker = Worker(
            settings=self.settings,
            keys=self.keys,
            worker_id=name,
            store=store,
            sync_store=self.sync_store,
            saver=RedisSaver(self.keys, **parts),
            branch_saver=BranchSaver(self.keys, **parts),
            recent=recent,
            keeper=keeper,
            open_graph=self._open,
            items=RedisItems(self.keys, store=store, sync_store=self.sync_store),
            webhooks=Webhooks(WebhookPolicy.of(self.project.get("webhooks", {}), self.settings, {})),
            policies=self.project["runyard"].get("policies", {}),
            limits=limits_of(self.project["runyard"].get("limits", {})),
            thresholds=circuits_of(self.project["runyard"].get("circuits", {})),
            caps=caps_of(self.project["runyard"].get("concurrency", {})),
            prices=Prices(self.project["runyard"].get("prices")),
            budgets=budgets_of(self.project["runyard"].get("budgets", {})),
            notify=self.notify,
            waiting=self.waiting,
            wake=self.wakes.extend,
        )
        self._workers.append(worker)
        return worker

    def make_recovery(self, name: str, *, depth: int | None = 0) -> Recovery:
        """Recovery whose sweeps a test calls by hand; ``depth`` is what the broker would say of every queue."""
        saver = RedisSaver(self.keys, sync_store=self.sync_store)
        return Recovery(self.sync_store, self.keys, saver, self.settings, name, self.wakes.extend, lambda _: depth)

    @asynccontextmanager
    async def _open(self, graph_id: str, _: Any) -> AsyncIterator[Graph]:
        yield self.graphs[graph_id]

    async def carry_out(self, wake: Wake, worker: Worker | None = None) -> list[Wake]:
        """What a worker does with one message; answers the wake-ups that follow, without sending them."""
        nonce, worker = secrets.token_hex(8), worker or self.worker
        if wake.webhook:
            return await deliver(worker, wake.run_id)
        if wake.branch:
            return await advance_branch(worker, wake.run_id, wake.branch, nonce)
        return await advance(worker, wake.run_id, nonce)

    async def drive(self) -> None:
        """Carry out wake-ups, those of one moment side by side as a fleet would, until none is left."""
        await self._settle()
        while self.wakes:
            batch = [self.wakes.popleft() for _ in range(len(self.wakes))]
            for following in await asyncio.gather(*(self.carry_out(wake) for wake in batch)):
                self.wakes.extend(following)
            await self._settle()

    async def _settle(self) -> None:
        """Wait for what workers give back beside their slices: it may wake somebody."""
        for worker in self._workers:
            await worker.background.close()

    def start(self, graph_id: str, given: Any = None, *, thread_id: str | None = None, **request: Any) -> Run:
        """Record a run on a thread (made when missing)."""
        thread = thread_id or self.service.create_thread().thread_id
        wanted = RunRequest(input=given, **request)
        return self.service.create_run(
            wanted, graph_id=graph_id, assistant_id=graph_id, thread_id=thread, create_thread=True
        )

    async def run(self, graph_id: str, given: Any = None, **how: Any) -> Run:
        """Record a run and see it through to its end."""
        run = self.start(graph_id, given, **how)
        await self.drive()
        ended = self.service.get_run(run.run_id)
        assert ended.phase in TERMINAL, f"left in {ended.phase}"
        return ended

    def told(self, run: Run) -> list[events.Event]:
        """Every event of a run, oldest first."""
        return self.sync_store.do(events.read(self.keys, run.run_id, events.START, count=100_000))

    async def close(self) -> None:
        for worker in self._workers:
            await worker.close()
        self.service.watch.close()
        self.sync_store.close()


@asynccontextmanager
async def engine(redis_url: str, graphs: Mapping[str, Graph], **settings: Any) -> AsyncIterator[Engine]:
    made = Engine(redis_url, graphs, **settings)
    try:
        yield made
    finally:
        await made.close()
