"""The worker of a crash test: all that a fleet does, in one process that may die at any point.

It claims, takes slices and branches of every queue, sweeps, and creates the next run of the conversation when the last
one waits for an answer. What the worker before it had in hand it takes at once, since that one is dead.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runyard.engine import state, wire
from runyard.engine.advance import advance, advance_branch
from runyard.engine.branch import BranchSaver
from runyard.engine.crash_points import CountingStore, CountingSyncStore, Faults
from runyard.engine.items import RedisItems
from runyard.engine.leases import LeaseKeeper
from runyard.engine.recovery import Recovery
from runyard.engine.run import TERMINAL, Phase, Run, RunRequest, Wake
from runyard.engine.saver import RedisSaver
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store import runs
from runyard.engine.store.client import AsyncStore, Call, SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.meta import open_store
from runyard.engine.worker import OpenGraph, Worker

#: Nobody renews leases here, and nobody needs to: the next worker knows that its predecessor is dead.
_LEASE_S = 86_400.0
_HISTORY = 10_000
#: A node and its checkpoint are saved at one point, in every repetition of the test, however slow the machine.
_HOLD_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. ``requests``: the input first, then the answers to what the graph asks, in order."""

    graph_id: str
    requests: tuple[RunRequest, ...]
    open_graph: OpenGraph
    settings: Settings
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    max_points: int = 200
    #: For each run, from its start to its end, in seconds.
    timeout_s: float = 60.0


def converse(plan: Plan, url: str, thread_id: str, faults: Faults) -> Any:
    """Bring the plan's conversation on this thread to its end, from wherever it stands; answers what it came to."""
    return asyncio.run(_Process(plan, url, thread_id, faults).converse())


class _Process:
    def __init__(self, plan: Plan, url: str, thread_id: str, faults: Faults) -> None:
        self._plan, self._thread_id = plan, thread_id
        self._store = SyncStore.connect(url)
        self._settings = dataclasses.replace(
            plan.settings, redis_url=url, partitions=1, lease_s=_LEASE_S, max_crashes=max(2, plan.settings.max_crashes)
        )
        self._keys = open_store(self._store, Keys(self._settings.prefix, 1))
        self._at = self._keys.all()[0]
        self._service = Service(self._store, self._keys, self._settings, _send_nothing)
        saver = RedisSaver(self._keys, sync_store=self._store)
        self._recovery = Recovery(
            self._store, self._keys, saver, self._settings, "crash-test", _send_nothing, lambda _: None
        )
        self._worker = self._make_worker(
            CountingStore(AsyncStore.connect(url), faults), CountingSyncStore(self._store, faults), faults
        )

    def _make_worker(self, store: AsyncStore, sync_store: SyncStore, faults: Faults) -> Worker:
        return Worker(
            settings=self._settings,
            keys=self._keys,
            worker_id="crash-test",
            store=store,
            sync_store=sync_store,
            saver=RedisSaver(self._keys, store=store, sync_store=sync_store),
            branch_saver=BranchSaver(self._keys, store=store, sync_store=sync_store),
            items=RedisItems(self._keys, sync_store=sync_store),
            keeper=LeaseKeeper(self._store, self._keys, lease_ms=self._settings.lease_ms),
            open_graph=self._plan.open_graph,
            policies=self._plan.policies,
            attempting=faults.attempt,
            hold_s=_HOLD_S,
        )

    async def converse(self) -> Any:
        self._inherit()
        while True:
            ids = self._store.do(runs.of_thread(self._keys, self._thread_id, limit=1000, offset=0))
            last = self._service.get_run(ids[0]) if ids else None
            if last is not None and last.phase not in TERMINAL:
                await self._turn()
            elif (last is None or last.phase is Phase.PAUSED) and len(ids) < len(self._plan.requests):
                self._ask(len(ids))
            elif last is not None:
                return await self._story(last)

    def _inherit(self) -> None:
        """End the leases of the worker that is dead."""
        for member in self._members(self._at.leases):
            self._store.do(Call.command("ZADD", self._at.leases, 0, member))

    def _ask(self, number: int) -> None:
        graph_id = self._plan.graph_id
        self._service.create_run(
            self._plan.requests[number], graph_id=graph_id, assistant_id=graph_id,
            thread_id=self._thread_id, create_thread=number == 0,
        )  # fmt: skip

    async def _turn(self) -> None:
        """Carry out whatever waits, side by side as a fleet would."""
        await asyncio.to_thread(self._recovery.sweep)
        waiting = self._members(self._at.waiting)
        await asyncio.gather(*(self._carry_out(member) for member in waiting))
        if not waiting:
            await asyncio.sleep(0.005)

    async def _carry_out(self, member: str) -> None:
        (run_id, branch), nonce = runs.split_member(member), secrets.token_hex(8)
        if branch:
            await advance_branch(self._worker, run_id, branch, nonce)
        else:
            await advance(self._worker, run_id, nonce)

    def _members(self, key: str) -> list[str]:
        return self._store.do(Call.command("ZRANGE", key, 0, -1, parse=lambda found: [one.decode() for one in found]))

    async def _story(self, last: Run) -> Any:
        """What is left of it all, without what is new in every run: ids and times."""
        async with self._plan.open_graph(self._plan.graph_id, {}) as graph:
            saver = RedisSaver(self._keys, sync_store=self._store)
            found = await asyncio.to_thread(lambda: list(state.history(graph, saver, self._thread_id, limit=_HISTORY)))
        told = [_told(snapshot) for snapshot in found]
        error = {name: (last.error or {}).get(name) for name in ("error", "message", "node")}
        story = {
            "status": last.status,
            "error": error if last.error else None,
            "degraded": [item["node"] for item in last.degraded],
            "values": told[0]["values"] if told else None,
            "next": told[0]["next"] if told else [],
            "history": told[::-1],
        }
        return wire.decode(wire.encode(story))


def _told(snapshot: dict[str, Any]) -> dict[str, Any]:
    metadata = snapshot["metadata"] or {}
    return {
        "values": snapshot["values"],
        "next": snapshot["next"],
        "step": metadata.get("step"),
        "source": metadata.get("source"),
        "tasks": [
            {
                "name": task["name"],
                "error": task["error"],
                "result": task["result"],
                "asks": [item["value"] for item in task["interrupts"]],
            }
            for task in snapshot["tasks"]
        ],
    }


def _send_nothing(_: Sequence[Wake]) -> None:
    """The worker looks for itself what waits."""
