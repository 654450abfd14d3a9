"""Runs brought into any phase by the real scripts, time that passes by backdating, and a look at the whole store."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import redis as redis_py

from runyard.engine.ids import new_run_id, new_thread_id
from runyard.engine.recovery import Recovery
from runyard.engine.run import Branch, CancelAction, Phase, Run, RunRequest, Wake
from runyard.engine.saver import RedisSaver
from runyard.engine.service import Service
from runyard.engine.settings import Settings
from runyard.engine.store import events, runs
from runyard.engine.store.client import Call, SyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Partition
from runyard.engine.store.meta import keys_of
from runyard.engine.store.save import save

EVENTS_TTL_MS = 3_600_000
LEASE_MS = 60_000
#: No fence has this token.
NOBODY = "0"


@dataclass(frozen=True, slots=True)
class Staged:
    """A run in some phase, with the fence of whoever has it (or of nobody), and of its branches."""

    run: Run
    fence: Fence
    branches: dict[str, Fence]


class Bench:
    """One small store, its service and recovery; wake-ups go into a list. All calls are the engine's own."""

    def __init__(self, redis_url: str, *, partitions: int = 1, **settings: Any) -> None:
        self.settings = Settings.from_env({}, redis_url=redis_url, partitions=partitions, **settings)
        self.keys = keys_of(self.settings)
        self.store = SyncStore.connect(redis_url, vault=self.keys.vault)
        self.client: redis_py.Redis = self.store.client
        self.wakes: list[Wake] = []
        self.service = Service(self.store, self.keys, self.settings, self.wakes.extend)

    def close(self) -> None:
        self.store.close()

    @property
    def at(self) -> Partition:
        """The only partition, in a store of one."""
        return self.keys.all()[0]

    def do(self, call: Call[Any]) -> Any:
        return self.store.do(call)

    def told(
        self,
        run: Run,
        fence: Fence,
        already: int,
        *parts: tuple[str, bytes],
        keep: int = 10_000,
        numbered: bool = False,
    ) -> Call[None]:
        """Events that a run tells, after ``already`` saves under the same fence; ``numbered`` through its thread."""
        thread_id = run.thread_id if numbered else None
        part = events.part(self.keys, run.run_id, parts, keep=keep, thread_id=thread_id)
        return save(fence, [part], already + 1)

    def recovery(self, name: str = "me", *, depth: Callable[[str], int | None] = lambda _: None) -> Recovery:
        saver = RedisSaver(self.keys, sync_store=self.store)
        return Recovery(self.store, self.keys, saver, self.settings, name, self.wakes.extend, depth)

    # --- runs

    def record(self, thread_id: str | None = None, **fields: Any) -> Run:
        """A run that is not in the store yet."""
        thread = thread_id or new_thread_id()
        made = Run(
            run_id=new_run_id(self.keys.of_thread(thread).number), thread_id=thread, assistant_id="a", graph_id="g",
            phase=Phase.WAITING, queue="default", strategy="enqueue", created_at=0, updated_at=0, request=RunRequest(),
            metadata={},
        )  # fmt: skip
        return replace(made, **fields)

    def create(self, thread_id: str | None = None, *, delay_ms: int = 0, **fields: Any) -> Run:
        run = self.record(thread_id, **fields)
        phase, at, *_ = self.do(runs.create(self.keys, run, delay_ms=delay_ms, create_thread=True))
        return replace(run, phase=phase, created_at=at, updated_at=at)

    def get(self, run: Run | str) -> Run | None:
        return self.do(runs.get(self.keys, run if isinstance(run, str) else run.run_id))

    def phase(self, run: Run) -> Phase:
        found = self.get(run)
        assert found is not None
        return found.phase

    def claim(self, run: Run | str, *, owner: str = "worker", nonce: str | None = None) -> runs.Claim | None:
        run_id = run if isinstance(run, str) else run.run_id
        nonce = nonce or secrets.token_hex(4)
        return self.do(runs.claim(self.keys, run_id, owner=owner, nonce=nonce, lease_ms=LEASE_MS))

    def claimed(self, run: Run | str) -> runs.Claim:
        claim = self.claim(run)
        assert claim is not None
        return claim

    def claim_branch(self, run: Run | str, name: str, *, nonce: str | None = None) -> runs.BranchClaim | None:
        run_id = run if isinstance(run, str) else run.run_id
        nonce = nonce or secrets.token_hex(4)
        return self.do(runs.claim_branch(self.keys, run_id, name, nonce=nonce, lease_ms=LEASE_MS))

    def end(self, run: Run, fence: Fence, phase: Phase = Phase.SUCCEEDED, **how: Any) -> runs.Woken:
        return self.do(runs.end(self.keys, run, fence, phase, events_ttl_ms=EVENTS_TTL_MS, **how))

    def cancel(self, run: Run, action: CancelAction = "interrupt") -> tuple[str, runs.Woken]:
        return self.do(runs.cancel(self.keys, run, action, events_ttl_ms=EVENTS_TTL_MS))

    def delete(self, run: Run) -> runs.Woken:
        return self.do(runs.delete(self.keys, run.run_id, run.thread_id))

    def dispatch(self, run: Run, fence: Fence, *queues: str) -> str:
        return self.do(runs.dispatch(self.keys, run.run_id, fence, branches(*queues)))

    def stage(self, phase: Phase) -> Staged:
        """A run in ``phase``, brought there by the scripts; where nobody has a lease, the fences hold nothing."""
        thread = new_thread_id()
        if phase is Phase.QUEUED:
            self.create(thread)
        run = self.create(thread, delay_ms=60_000 if phase is Phase.DUE else 0)
        fence = Fence(self.keys.of_run(run.run_id).run(run.run_id), "lease", NOBODY)
        if phase in (Phase.QUEUED, Phase.DUE, Phase.WAITING):
            return Staged(run, fence, self._dead_branches(run))
        if phase is Phase.CANCELLED:
            self.cancel(run)
            return Staged(run, fence, self._dead_branches(run))
        claim = self.claimed(run)
        if phase is Phase.DISPATCHED:
            self.dispatch(run, claim.fence, "cpu", "cpu")
            held = {name: self.claim_branch(run, name) for name in ("b0", "b1")}
            return Staged(run, claim.fence, {name: one.fence for name, one in held.items() if one})
        if phase is Phase.CANCELLING:
            self.cancel(run)
        elif phase is Phase.PARKED:
            self.do(runs.park(self.keys, run.run_id, claim.fence, 60_000, []))
        elif phase is not Phase.LEASED:
            self.end(run, claim.fence, phase)
        return Staged(run, claim.fence, self._dead_branches(run))

    def _dead_branches(self, run: Run) -> dict[str, Fence]:
        return {"b0": Fence(self.keys.of_run(run.run_id).branches(run.run_id), "b0", NOBODY)}

    # --- time and space

    def backdate(self, key: str, member: str, *, by_ms: int = 3_600_000) -> None:
        """Let a member of an index be older; one that is not in it stays out of it."""
        score = self.client.zscore(key, member)
        if score is not None:
            self.client.zadd(key, {member: score - by_ms}, xx=True)

    def age_all(self, key: str, *, by_ms: int = 3_600_000) -> None:
        for member, score in self.client.zrange(key, 0, -1, withscores=True):
            self.client.zadd(key, {member: score - by_ms}, xx=True)

    def dump(self, *leave_out: str) -> dict[str, Any]:
        """Every key and its whole content."""
        return dump(self.client, *leave_out)


def branches(*queues: str) -> list[Branch]:
    return [Branch(f"b{n}", queue, (f"task{n}",), ("node",)) for n, queue in enumerate(queues)]


def dump(client: redis_py.Redis, *leave_out: str) -> dict[str, Any]:
    """Every key and its whole content, fields of hashes that are named in ``leave_out`` excepted."""
    keys = sorted(client.scan_iter(count=1000))
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.type(key)
    reading = {"hash": "hgetall", "set": "smembers", "string": "get", "stream": "xrange"}
    for key, kind in zip(keys, pipe.execute(), strict=True):
        if kind == b"zset":
            pipe.zrange(key, 0, -1, withscores=True)
        elif kind == b"list":
            pipe.lrange(key, 0, -1)
        else:
            getattr(pipe, reading.get(kind.decode(), "get"))(key)  # "none": it expired just now
    found = {key.decode(): value for key, value in zip(keys, pipe.execute(), strict=True)}
    return {key: _without(value, leave_out) for key, value in found.items() if value is not None}


def _without(value: Any, fields: tuple[str, ...]) -> Any:
    if fields and isinstance(value, dict):
        return {name: item for name, item in value.items() if name.decode() not in fields}
    return value
