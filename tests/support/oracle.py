"""Plain LangGraph beside the engine: the same script, told to both, and what each made of it in comparable form.

What is normalised, and nothing else: ids (of checkpoints, tasks, interrupts, messages without one), timestamps, and the
order of what the parallel nodes of one superstep stream.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from difflib import unified_diff
from pprint import pformat
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Send
from redis.exceptions import ConnectionError as RedisConnectionError

from runyard.engine import seam, state, wire
from runyard.engine.branch import BranchSaver
from runyard.engine.errors import StoreUnavailable
from runyard.engine.run import TERMINAL, Run, Wake
from runyard.engine.saver import RedisSaver
from runyard.engine.store import recovery as recovery_calls
from runyard.engine.store.client import AsyncStore
from runyard.engine.worker import Worker
from tests.support.engine import Engine
from tests.support.graphs import Graph, Make, Scenario

_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
Part = tuple[tuple[str, ...], str, Any]


@dataclass
class Told:
    """What one run came to."""

    outcome: str
    error: dict[str, str] | None
    #: The values a client is answered; None after an error.
    values: Any
    #: What was streamed, cut after each of the root's values: (everything else as a multiset, the values).
    streamed: list[tuple[Counter[str], Any]]


@dataclass
class Account:
    """Everything a script left behind."""

    runs: list[Told] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)
    history: list[Any] = field(default_factory=list)


def differences(expected: Account, found: Account) -> str:
    """What differs, as a diff from the oracle's account (-) to the engine's (+); empty when they agree."""
    if found == expected:
        return ""
    lines = [pformat(asdict(account), width=110, sort_dicts=True).splitlines() for account in (expected, found)]
    return "\n".join(unified_diff(*lines, "LangGraph", "Runyard", lineterm="", n=4)) or f"{expected}\n{found}"


def differences_after_a_fault(expected: Account, found: Account) -> str:
    """As :func:`differences`, for a script that a worker died over.

    Nodes may have run twice and what was told at the moment of the crash may be told twice or not at all; so of the
    stream only this is left: nothing is told that LangGraph would not have told, except that a subgraph that is taken
    up again tells first where it stands. State, history, answers, interrupts and errors must be the same.
    """
    for number, (there, here) in enumerate(zip(expected.runs, found.runs, strict=False)):
        if invented := _told(here) - _told(there):
            return f"run {number} told what LangGraph would not have: {sorted(invented)}"
    silent = [
        replace(account, runs=[replace(run, streamed=[]) for run in account.runs]) for account in (expected, found)
    ]
    return differences(*silent)


def _told(run: Told) -> set[str]:
    said = {json.dumps(values, sort_keys=True) for _, values in run.streamed}
    for others, _ in run.streamed:
        for line in others:
            namespace, mode, data = json.loads(line)
            if mode == "values" and namespace:
                continue
            if isinstance(data, dict):
                data.pop("__metadata__", None)
            said.add(json.dumps([namespace, mode, data], sort_keys=True))
    return said


def plain(value: Any) -> Any:
    """As JSON, without ids."""
    return json.loads(_IDS.sub("<id>", wire.encode(value).decode()))


def cut(parts: list[Part]) -> list[tuple[Counter[str], Any]]:
    """Cut a stream at the end of every superstep: where the root's values come without what is being asked."""
    groups: list[tuple[Counter[str], Any]] = []
    others: Counter[str] = Counter()
    for namespace, mode, data in parts:
        if mode == "values" and not namespace and not (isinstance(data, dict) and "__interrupt__" in data):
            groups.append((others, plain(data)))
            others = Counter()
        else:
            others[json.dumps([plain(list(namespace)), mode, plain(data)], sort_keys=True)] += 1
    return [*groups, (others, None)] if others else groups


def shown(snapshot: Any) -> Any:
    """A StateSnapshot without what differs from thread to thread."""
    return {
        "values": _without_ids(snapshot.values),
        "next": snapshot.next,
        "step": snapshot.metadata and snapshot.metadata.get("step"),
        "source": snapshot.metadata and snapshot.metadata.get("source"),
        "interrupts": sorted(repr(item.value) for item in snapshot.interrupts),
        "tasks": [
            (
                task.name,
                [_IDS.sub("<id>", str(word)) for word in task.path],
                _without_ids(task.result),
                repr(task.error) if task.error else None,
                [item.value for item in task.interrupts],
            )
            for task in snapshot.tasks
        ],
    }


def _without_ids(value: Any) -> Any:
    """The same Python values; only ids inside messages and strings are blanked."""
    if isinstance(value, str):
        return _IDS.sub("<id>", value)
    if isinstance(value, BaseMessage):
        return value.model_copy(update={"id": _IDS.sub("<id>", value.id or "")})
    if isinstance(value, dict):
        return {key: _without_ids(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_ids(item) for item in value)
    return value


class Client:
    """What scripts are written against; subclasses say how a run is carried out."""

    make: Make
    account: Account

    async def run(self, given: Any = None, **how: Any) -> None:
        self.account.runs.append(await self._run(given, **how))
        await self._note_state()

    async def update(self, values: Any, *, as_node: str | None = None, checkpoint: Any = None) -> dict[str, Any]:
        """Edit the state; answers the checkpoint that made."""
        config = await self._update(values, as_node, checkpoint)
        await self._note_state()
        return config

    async def _note_state(self) -> None:
        try:
            self.account.states.append(shown(await self._state()))
        except Exception as error:  # noqa: BLE001 - LangGraph cannot show every state that a failed run leaves
            self.account.states.append(repr(error))

    async def snapshot(self) -> Any:
        return await self._state()

    async def interrupt(self, value: Any) -> str:
        """The id of the pending interrupt that asks ``value``."""
        (found,) = [item.id for item in (await self._state()).interrupts if item.value == value]
        return str(found)

    async def checkpoint_before(self, node: str) -> dict[str, Any]:
        """The newest checkpoint that ``node`` is next of."""
        async for snapshot in self._history():
            if node in snapshot.next:
                return {key: snapshot.config["configurable"][key] for key in ("checkpoint_id", "checkpoint_ns")}
        raise AssertionError(f"{node} was never next")

    async def finish(self) -> Account:
        try:
            async for snapshot in self._history():
                self.account.history.append(shown(snapshot))
        except Exception as error:  # noqa: BLE001 - as above
            self.account.history.append(repr(error))
        return self.account

    async def _run(self, given: Any, **how: Any) -> Told:
        raise NotImplementedError

    async def _update(self, values: Any, as_node: str | None, checkpoint: Any) -> dict[str, Any]:
        raise NotImplementedError

    async def _state(self) -> Any:
        raise NotImplementedError

    def _history(self) -> AsyncIterator[Any]:
        raise NotImplementedError


class Plain(Client):
    """LangGraph in this process with its memory saver: the oracle."""

    def __init__(self, told: Scenario) -> None:
        self.make, self.account = Make(checkpointer=InMemorySaver()), Account()
        self.graph, self._sync = told.build(self.make), bool(told.sync_oracle)
        self._at = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

    async def _run(
        self, given: Any, *, command: Any = None, config: Any = None, checkpoint: Any = None, subgraphs: bool = False,
        context: Any = None, **how: Any,
    ) -> Told:  # fmt: skip
        asked = {"recursion_limit": 100, **(config or {})}
        asked["configurable"] = {**asked.get("configurable", {}), **self._at["configurable"], **(checkpoint or {})}
        parts: list[Part] = []
        error = None
        how = {**how, "stream_mode": ["values", "updates", "custom"], "durability": "sync", "context": context,
               "subgraphs": subgraphs}  # fmt: skip
        try:
            given = _command(command) if command else given
            if self._sync:
                for part in self.graph.stream(given, asked, **how):
                    parts.append(_part(part))  # noqa: PERF401 - what came before an error counts
            else:
                async for part in self.graph.astream(given, asked, **how):
                    parts.append(_part(part))  # noqa: PERF401
        except Exception as raised:  # noqa: BLE001 - whatever a graph raises is what is compared
            error = {"error": type(raised).__name__, "message": str(raised)}
        if error:
            return Told("error", error, None, cut(parts))
        outcome = "interrupted" if (await self._state()).next else "finished"
        return Told(outcome, None, _result(parts), cut(parts))

    async def _update(self, values: Any, as_node: str | None, checkpoint: Any) -> dict[str, Any]:
        at = {"configurable": {**self._at["configurable"], **(checkpoint or {})}}
        config = await self.graph.aupdate_state(at, values, as_node)
        return {key: config["configurable"][key] for key in ("checkpoint_id", "checkpoint_ns")}

    async def _state(self) -> Any:
        return await self.graph.aget_state(self._at)

    def _history(self) -> AsyncIterator[Any]:
        return self.graph.aget_state_history(self._at)


def _part(part: Any) -> Part:
    """A part of the stream as it is at this moment: LangGraph goes on to change messages that it has streamed."""
    namespace, mode, data = part if len(part) == 3 else ((), *part)
    return namespace, mode, wire.decode(wire.encode(data))


def _result(parts: list[Part]) -> Any:
    """What ``ainvoke`` gives: the last values, with all that was asked."""
    root = [(mode, data) for namespace, mode, data in parts if not namespace]
    values = [data for mode, data in root if mode == "values"]
    asked = [item for mode, data in root if mode == "updates" for item in data.get("__interrupt__", ())]
    return _sorted(plain({**values[-1], "__interrupt__": asked} if asked else values[-1] if values else {}))


def _sorted(values: Any) -> Any:
    """Parallel nodes ask in any order."""
    if isinstance(values, dict) and "__interrupt__" in values:
        return {**values, "__interrupt__": sorted(values["__interrupt__"], key=json.dumps)}
    return values


def _command(command: dict[str, Any]) -> Command[Any]:
    goto = command.get("goto", ())
    goto = [Send(item["node"], item["input"]) if isinstance(item, dict) else item for item in goto] \
        if isinstance(goto, list) else goto  # fmt: skip
    return Command(**{**command, "goto": goto})


@dataclass
class Fault:
    """What happens to the first worker that takes the run in hand, at its ``at``-th round trip to the store.

    - ``kill``: from then on nothing that it does reaches the store, and its leases run out.
    - ``kill after``: as ``kill``, but that one round trip has still been carried out; its reply is lost.
    - ``stall``: the lease runs out while the worker lives on: what it does from then on must be refused.
    """

    kind: str
    at: int
    happened: bool = False


class FaultyStore(AsyncStore):
    """An AsyncStore that counts its round trips and lets the fault happen."""

    engine: FaultyEngine
    fault: Fault | None = None
    dead = False
    trips = 0

    def _transmit(self, batch: list[Any]) -> None:
        if self.dead:
            super()._settle(batch, [RedisConnectionError("this worker is dead")] * len(batch))
            return
        self.trips += 1
        self.engine.trips += 1
        fault = self.fault
        if fault is not None and not fault.happened and self.trips >= fault.at:
            fault.happened = True
            if fault.kind == "stall":
                self.engine.expire()
            else:
                self.dead = True
            if fault.kind == "kill":
                super()._settle(batch, [RedisConnectionError("this worker dies here")] * len(batch))
                return
        super()._transmit(batch)

    def _settle(self, batch: list[Any], replies: list[Any]) -> None:
        """With a worker that has died its answers are lost."""
        lost = [RedisConnectionError("this worker died here")] * len(batch)
        super()._settle(batch, lost if self.dead else replies)


class FaultyEngine(Engine):
    """An engine whose first workers meet ``faults``, one each; recovery then takes their runs back."""

    def __init__(self, *args: Any, faults: list[Fault], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.faults = faults
        self.trips = 0
        self.crowd: set[asyncio.Task[list[Wake]]] = set()
        self._hand = self._hire()

    def _hire(self) -> Worker:
        worker = self.make_worker(secrets.token_hex(4))
        store = FaultyStore.connect(self.settings.redis_url)
        assert isinstance(store, FaultyStore)
        store.engine, store.fault = self, next((fault for fault in self.faults if not fault.happened), None)
        hired = replace(
            worker,
            store=store,
            saver=RedisSaver(self.keys, store=store, sync_store=self.sync_store),
            branch_saver=BranchSaver(self.keys, store=store, sync_store=self.sync_store),
        )
        self._workers.append(hired)
        return hired

    async def drive(self) -> None:
        for _ in range(10_000):
            self._set_out()
            if self.crowd:
                done, _ = await asyncio.wait(self.crowd, return_when=asyncio.FIRST_COMPLETED)
                self.crowd -= done
                for task in done:
                    self._follow(task)
            elif any(self._kept(kind) for kind in ("leases", "waiting")):
                self.expire()  # a worker died with it in hand, or its wake-up was lost
            else:
                return
        raise AssertionError("the run does not come to an end")

    def _set_out(self) -> None:
        while self.wakes:
            self.crowd.add(asyncio.create_task(self.carry_out(self.wakes.popleft(), self._hand)))

    def _follow(self, task: asyncio.Task[list[Wake]]) -> None:
        try:
            self.wakes.extend(task.result())
        except StoreUnavailable:
            store = self._hand.store
            if isinstance(store, FaultyStore) and store.dead:
                self._hand = self._hire()

    def expire(self) -> None:
        """Let all leases run out, and all wake-ups be old; then let recovery see it."""
        for kind in ("leases", "waiting"):
            for key, members in self._kept(kind).items():
                self.sync_store.client.zadd(key, dict.fromkeys(members, 1), xx=True)
        now_ms = self.sync_store.do(recovery_calls.lead(self.keys, "first", office_ms=3_000))[1]
        for queue in ("default", "cpu", "gpu"):  # so that recovery knows the queues; workers say so as they beat
            self.sync_store.do_all(recovery_calls.beat(self.keys, "first", {"host": "test"}, {queue: now_ms}, now_ms))
        self.recovery.sweep()
        self._set_out()

    def _kept(self, kind: str) -> dict[str, list[bytes]]:
        keys = {getattr(at, kind) for at in self.keys.all()}
        return {key: members for key in keys if (members := self.sync_store.client.zrange(key, 0, -1))}


class Ours(Client):
    """The engine."""

    def __init__(self, engine: Engine, graph: Graph, make: Make) -> None:
        self.engine, self.make, self.account = engine, make, Account()
        self.graph = graph
        self.bound = seam.bind(graph, RedisSaver(engine.keys, store=engine.worker.store, sync_store=engine.sync_store))
        self.thread_id = engine.service.create_thread().thread_id
        self._at = {"configurable": {"thread_id": self.thread_id, "checkpoint_ns": ""}}

    async def _run(self, given: Any, *, subgraphs: bool = False, config: Any = None, **how: Any) -> Told:
        run = await self.engine.run(
            "graph", given, thread_id=self.thread_id, config=config or {}, stream_mode=["values", "updates", "custom"],
            stream_subgraphs=subgraphs, **how,
        )  # fmt: skip
        outcome = run.status
        if outcome == "success":
            outcome = "interrupted" if (await self._state()).next else "finished"
        error = run.error and {key: run.error[key] for key in ("error", "message")}
        self._check_thread(run, outcome)
        told = [event for event in self.engine.told(run) if event.name != "end"]
        values = None if error else self._answer(run)
        return Told(outcome, error, values, cut([_from_event(event) for event in told]))

    def _answer(self, run: Run) -> Any:
        """What waiting clients are given; LangGraph's own last values hold ``__interrupt__`` as well."""
        for answer in self.engine.service.result(run):
            if answer is not None:
                return _sorted(plain(wire.decode(answer)))
        raise AssertionError("no result")

    def _check_thread(self, run: Run, outcome: str) -> None:
        """The thread's own record says the same as its latest checkpoint."""
        thread = self.engine.service.get_thread(self.thread_id)
        assert run.phase in TERMINAL
        assert thread.status == {"finished": "idle"}.get(outcome, outcome), (thread.status, outcome)

    async def _update(self, values: Any, as_node: str | None, checkpoint: Any) -> dict[str, Any]:
        config = state.update(self.graph, self.engine.service.saver, self.engine.keys, self.thread_id, values,
                              as_node=as_node, checkpoint=checkpoint)  # fmt: skip
        return {key: config[key] for key in ("checkpoint_id", "checkpoint_ns")}

    async def _state(self) -> Any:
        return await self.bound.aget_state(self._at)

    def _history(self) -> AsyncIterator[Any]:
        return self.bound.aget_state_history(self._at)


def _from_event(event: Any) -> Part:
    name, *namespace = event.name.split("|")
    return tuple(namespace), name, wire.decode(event.data)


@dataclass(frozen=True)
class Mode:
    """How the engine is to carry a script out."""

    name: str
    quantum_s: float = 30.0
    elsewhere: str | None = None

    def settings(self) -> dict[str, Any]:
        return {"quantum_s": self.quantum_s}


async def ask_oracle(told: Scenario) -> Account:
    client = Plain(told)
    await told.script(client)
    return await client.finish()


@asynccontextmanager
async def ours(redis_url: str, told: Scenario, mode: Mode, faults: list[Fault] | None = None) -> AsyncIterator[Ours]:
    make = Make(elsewhere=mode.elsewhere)
    graph = told.build(make)
    engine = FaultyEngine(redis_url, {"graph": graph}, faults=faults or [], **mode.settings())
    try:
        yield Ours(engine, graph, make)
    finally:
        await engine.close()


async def ask_engine(redis_url: str, told: Scenario, mode: Mode, faults: list[Fault] | None = None) -> Account:
    async with ours(redis_url, told, mode, faults) as client:
        await told.script(client)
        return await client.finish()


async def count_trips(redis_url: str, told: Scenario, mode: Mode) -> int:
    """How many round trips to the store workers make when nothing goes wrong."""
    async with ours(redis_url, told, mode) as client:
        await told.script(client)
        assert isinstance(client.engine, FaultyEngine)
        return client.engine.trips
