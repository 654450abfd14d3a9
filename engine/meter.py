"""Counts what a run spends while it is in hand, and stops it at the edge of its budget.

Before every call of a model or a tool, and before every node, it is asked whether there is anything left. What a call
took is known when it has ended, so a budget of tokens or money is overshot by the call that reaches it, and by no
other: a call begins only when those under way, on whatever worker, cannot reach it. Else it waits for one to end.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import UUID

from langchain_core.outputs import LLMResult

from runyard.engine import seam
from runyard.engine.bounds import bound_of
from runyard.engine.budget import Budget, Reached, Scope, grant_of
from runyard.engine.callbacks import Either, model_of, usage
from runyard.engine.errors import BudgetExceeded, StoreUnavailable
from runyard.engine.gate import Parks
from runyard.engine.run import Run
from runyard.engine.store import spending
from runyard.engine.store.fence import Fence
from runyard.engine.store.spending import Begins, Verdict
from runyard.engine.worker import Worker

#: The task id under which a thread keeps a budget's question; no task has it.
ASKER = "budget"
#: Budgets that a model's call spends of.
_OF_MODELS = frozenset({"tokens", "cost", "model_calls"})
#: How often a call that waits asks again, when none has ended in this process; in seconds.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5


class Edge(Parks):
    """A budget is used up: the node stays without writes, its siblings end, the run pauses."""


class Meter(seam.InsideNodes):
    """One for each slice or branch of a run that has a budget. Its callbacks come from whatever thread a call is in."""

    raise_error = True
    #: Inline, what it raises would leave the coroutines of other handlers lying about that nobody awaits.
    run_inline = False
    ignore_retry = True
    ignore_custom_event = True

    def __init__(self, worker: Worker, run: Run, budget: Budget) -> None:
        self._worker, self._run, self._budget = worker, run, budget
        self._loop = asyncio.get_running_loop()
        self._day = datetime.now(UTC).strftime("%Y%m%d")
        self._spent: dict[Scope, dict[str, float]] = {"run": dict(run.spent)}
        self._granted: dict[Scope, dict[str, float]] = {"run": dict(run.granted)}
        #: Counted here and not yet in the store.
        self._unsaved: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._step: Any = None
        self._models: dict[UUID, str] = {}
        kinds = budget.kinds
        #: Whether the store is asked before each call of a model, and of a tool.
        self._models_ask, self._tools_ask = bool(kinds & _OF_MODELS), "tool_calls" in kinds
        self._has_day = bool(budget.limits.get("tenant_day"))
        #: Calls that the store knows to be under way here, and those it is to forget.
        self._under_way: dict[str, Begins] = {}
        self._ended: list[str] = []
        self._speaker: asyncio.Task[None] | None = None
        #: Done when a call has ended here.
        self._freed: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        #: The edge that was reached, if one was.
        self.edge: Reached | None = None
        #: What the thread asked about a budget when the run began.
        self.asked: dict[str, Any] | None = None

    async def open(self) -> None:
        """Read what was spent before. One round trip, which rides with others."""
        keys, tenant = self._worker.keys, self._run.tenant
        calls: list[Any] = [spending.of_thread(keys, self._run.thread_id)]
        if self._has_day:
            calls.append(spending.of_day(keys, tenant, self._day))
        (asked, thread), *day = await self._worker.store.do_all(calls)
        self._spent["thread"], self._granted["thread"] = thread
        if day:
            self._spent["tenant_day"], self._granted["tenant_day"] = day[0]
        questions = asked.get(ASKER) or []
        self.asked = next((item["value"] for item in questions if _is_ours(item)), None)

    async def answered(self, fence: Fence) -> Run:
        """The run, with the answer to a budget's question taken out and granted. Raises BudgetExceeded for a no."""
        run, command = self._run, self._run.request.command or {}
        if self.asked is None or run.entered or "resume" not in command:
            return run
        answer, left = command["resume"], None
        if isinstance(answer, dict) and (ours := [key for key in answer if key.startswith("budget:")]):
            left = {key: value for key, value in answer.items() if key not in ours} or None
            answer = answer[ours[0]]
        amounts = grant_of(answer, self.asked)
        if amounts is None:
            raise BudgetExceeded("More of the budget was asked for, and refused.")
        others = {key: value for key, value in command.items() if key != "resume" and value}
        command = {**others, **({"resume": left} if left else {})}
        request = dataclasses.replace(run.request, command=command or None)
        await self._grant(fence, request, amounts)
        self._run = dataclasses.replace(run, request=request)
        return self._run

    async def _grant(self, fence: Fence, request: Any, amounts: dict[str, float]) -> None:
        scope: Scope = (self.asked or {})["scope"]
        if scope == "run":  # a new run has the budget anew; what was granted is what it has of it
            limits = self._budget.limits.get("run", {})
            amounts = {kind: amount - limits[kind] for kind, amount in amounts.items() if kind in limits}
        keys, day = self._worker.keys, scope == "tenant_day"
        call = spending.grant(keys, self._run, fence, request, amounts, to_run=scope == "run", nobody=day)
        if await self._worker.store.do(call) and day:
            await self._worker.store.do_all(spending.grant_day(keys, self._run.tenant, self._day, amounts))
        granted = self._granted.setdefault(scope, {})
        for kind, amount in amounts.items():
            granted[kind] = granted.get(kind, 0.0) + amount

    # --- asked before something is spent

    def pass_(self, kind: str | None = None) -> None:
        """Raises Edge, or BudgetExceeded, when nothing is left as far as is known here; else counts one of ``kind``."""
        with self._lock:
            reached = self._budget.reached(self._by_now(), self._granted, kind)
            if reached is None and kind is not None:
                self._add(kind, 1.0)
        if reached is not None:
            self._stop(reached)

    def _stop(self, reached: Reached) -> NoReturn:
        self.edge = self.edge or reached
        if self._budget.pauses:
            raise Edge(str(reached))
        raise BudgetExceeded(f"{reached}.")

    def begin(self, step: Any) -> None:
        """A node is about to begin, in this superstep."""
        if self.edge is not None:  # a branch on another worker came to it
            self._stop(self.edge)
        if step != self._step:
            self._step = step
            self.pass_("supersteps")
        else:
            self.pass_()

    async def _begin_call(self, call: Begins) -> None:
        """Let a call begin, counted in the store; wait for one under way where all of them might be too much.

        Raises Edge, or BudgetExceeded. On the worker's loop.
        """
        self.pass_()
        pause_s = _FIRST_PAUSE_S
        while True:
            if self._closed:
                raise Edge("The slice is over.")
            freed = self._freed
            verdict = await self._ask(call)
            if verdict.reached is not None:
                self._stop(verdict.reached)
            if not verdict.waits:
                self._under_way[call.id] = call
                self._speak_for_calls()
                return
            await asyncio.wait({freed}, timeout=pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _ask(self, call: Begins) -> Verdict:
        """All accounts in one round trip; where one of them says no, the other takes it back."""
        keys, run, limits = self._worker.keys, self._run, self._budget.limits
        calls: list[Any] = [spending.begin(keys, run, call, limits)]
        if self._has_day:
            calls.append(spending.begin_on_day(keys, run.tenant, self._day, call, limits))
            calls.append(spending.keep_day(keys, run.tenant, self._day))
        verdicts: list[Verdict] = (await self._worker.store.do_all(calls))[:2]
        for verdict in verdicts:
            for scope, spent in verdict.spent.items():
                self._learn(scope, spent)
        refused = next((one for one in verdicts if one.reached), None) or next(
            (one for one in verdicts if one.waits), None
        )
        if refused is None:
            return verdicts[0]
        if len(verdicts) > 1 and any(one.may_begin for one in verdicts):
            await self._take_back(call, own=verdicts[0].may_begin)
        return refused

    async def _take_back(self, call: Begins, *, own: bool) -> None:
        keys, run, amounts = self._worker.keys, self._run, {call.kind: -1.0} if call.kind else {}
        if own:
            await self._worker.store.do(spending.note(keys, run, amounts, (call.id,)))
            return
        back = [spending.note_day(keys, run.tenant, self._day, kind, by) for kind, by in amounts.items()]
        await self._worker.store.do_all([*back, *spending.end_on_day(keys, run.tenant, self._day, (call.id,))])

    def _speak_for_calls(self) -> None:
        """Say now and then that calls under way are, for as long as there are any: a dead worker's are over soon."""
        if self._speaker is None or self._speaker.done():
            self._speaker = asyncio.get_running_loop().create_task(self._speak())

    async def _speak(self) -> None:
        while self._under_way:
            await asyncio.sleep(spending.CALL_MS / 3000)
            with suppress(StoreUnavailable):
                for call in list(self._under_way.values()):
                    await self._ask(call)

    def _asked(self, asked: Any, run_id: UUID, more: dict[str, Any]) -> Begins:
        params = more.get("invocation_params") or {}
        model = self._models[run_id] = model_of(None, more.get("metadata"), more)
        bound = bound_of(asked, params, self._budget.answer_tokens)
        cost = self._worker.prices.most(model, bound.into, bound.out)
        return Begins(run_id.hex, "model_calls", bound.tokens, cost)

    def _is_local(self, asks: bool, parent: UUID | None) -> bool:
        """Whether what this process knows decides. A model within a model's call waits for nothing: that one waits for
        it."""
        return not asks or (parent is not None and parent.hex in self._under_way)

    def _begin_from_thread(self, call: Begins) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run_coroutine_threadsafe(self._begin_call(call), self._loop).result()
        else:  # a plain call on an event loop holds up all of it: for another call there it would wait for ever
            self.pass_(call.kind)

    async def _begin_from_loop(self, call: Begins) -> None:
        if asyncio.get_running_loop() is self._loop:
            await self._begin_call(call)
        else:  # a loop of the node's own, in its thread
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._begin_call(call), self._loop))

    # --- what LangChain tells

    def _model_begins(
        self, _: Any, asked: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **more: Any
    ) -> None:
        call = self._asked(asked, run_id, more)
        if self._is_local(self._models_ask, parent_run_id):
            self.pass_("model_calls")
        else:
            self._begin_from_thread(call)

    async def _amodel_begins(
        self, _: Any, asked: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **more: Any
    ) -> None:
        call = self._asked(asked, run_id, more)
        if self._is_local(self._models_ask, parent_run_id):
            self.pass_("model_calls")
        else:
            await self._begin_from_loop(call)

    def _tool_begins(self, _: Any, __: str, *, run_id: UUID, **___: Any) -> None:
        if self._tools_ask:
            self._begin_from_thread(Begins(run_id.hex, "tool_calls"))
        else:
            self.pass_("tool_calls")
            self._save_soon()

    async def _atool_begins(self, _: Any, __: str, *, run_id: UUID, **___: Any) -> None:
        if self._tools_ask:
            await self._begin_from_loop(Begins(run_id.hex, "tool_calls"))
        else:
            self.pass_("tool_calls")
            self._save_soon()

    def _model_ends(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        model, tokens_in, tokens_out = usage(response, self._models.pop(run_id, ""))
        cost = self._worker.prices.cost(model, tokens_in, tokens_out) or 0.0
        with self._lock:
            self._add("tokens", float(tokens_in + tokens_out))
            self._add("cost", cost)
        self._ends(run_id)

    def _call_ends(self, _: Any, *, run_id: UUID, **__: Any) -> None:
        self._models.pop(run_id, None)
        self._ends(run_id)

    def _ends(self, run_id: UUID) -> None:
        with self._lock:
            if self._under_way.pop(run_id.hex, None):
                self._ended.append(run_id.hex)
        self._save_soon()

    async def _amodel_ends(self, response: LLMResult, **more: Any) -> None:
        self._model_ends(response, **more)

    async def _acall_ends(self, said: Any, **more: Any) -> None:
        self._call_ends(said, **more)

    def _nothing(self, *_: Any, **__: Any) -> None:
        """A token of an answer is counted with the answer."""

    async def _anothing(self, *_: Any, **__: Any) -> None:
        """As above."""

    on_chat_model_start: Any = Either(_model_begins, _amodel_begins)
    on_llm_start: Any = Either(_model_begins, _amodel_begins)
    on_llm_new_token: Any = Either(_nothing, _anothing)
    on_llm_end: Any = Either(_model_ends, _amodel_ends)
    on_llm_error: Any = Either(_call_ends, _acall_ends)
    on_tool_start: Any = Either(_tool_begins, _atool_begins)
    on_tool_end: Any = Either(_call_ends, _acall_ends)
    on_tool_error: Any = Either(_call_ends, _acall_ends)

    def _add(self, kind: str, amount: float) -> None:
        if not amount:
            return
        self._unsaved[kind] += amount
        for spent in self._spent.values():
            spent[kind] = spent.get(kind, 0.0) + amount

    def _by_now(self) -> dict[Scope, dict[str, float]]:
        elapsed = time.monotonic() - self._began
        return {
            scope: {**spent, "seconds": spent.get("seconds", 0.0) + elapsed} for scope, spent in self._spent.items()
        }

    # --- kept in the store

    def _save_soon(self) -> None:
        self._loop.call_soon_threadsafe(lambda: self._worker.background.add(self._save()))

    async def close(self) -> None:
        """Count the time, and save what is not saved yet. Calls that go on are over as far as anybody here knows."""
        self._closed = True
        with self._lock:
            self._ended += self._under_way
            self._under_way.clear()
            self._count_time()
        if self._speaker is not None:
            self._speaker.cancel()
        await self._save()

    def _count_time(self) -> None:
        now = time.monotonic()
        self._add("seconds", now - self._began)
        self._began = now

    async def _save(self) -> None:
        with self._lock:
            if "seconds" in self._budget.kinds:  # those who work beside this one are to know
                self._count_time()
            amounts, self._unsaved = dict(self._unsaved), defaultdict(float)
            ended, self._ended = self._ended, []
        if not amounts and not ended:
            return
        keys, tenant = self._worker.keys, self._run.tenant
        calls: list[Any] = [spending.note(keys, self._run, amounts, ended)]
        if self._has_day:
            calls += [spending.note_day(keys, tenant, self._day, kind, amount) for kind, amount in amounts.items()]
            calls += [spending.keep_day(keys, tenant, self._day), *spending.end_on_day(keys, tenant, self._day, ended)]
        try:
            (run, thread), *day = await self._worker.store.do_all(calls)
        except StoreUnavailable:
            with self._lock:
                self._ended += ended
                for kind, amount in amounts.items():
                    self._unsaved[kind] += amount
            return
        self._learn("run", run)
        self._learn("thread", thread)
        if self._has_day:
            self._learn("tenant_day", dict(zip(amounts, day, strict=False)))
        self._let_go_on()

    def _let_go_on(self) -> None:
        """Have calls that wait ask again."""
        freed, self._freed = self._freed, self._loop.create_future()
        freed.set_result(None)

    def _learn(self, scope: Scope, spent: dict[str, float]) -> None:
        """What others have spent as well; what was counted here meanwhile comes on top."""
        with self._lock:
            known = self._spent.setdefault(scope, {})
            for kind, amount in spent.items():
                known[kind] = max(known.get(kind, 0.0), amount + self._unsaved[kind])

    def question(self) -> dict[str, list[dict[str, Any]]]:
        """What the thread asks now, as interrupts by task id."""
        return {ASKER: [{"id": f"budget:{self._run.run_id}", "value": self.edge.told()}]} if self.edge else {}


def _is_ours(item: dict[str, Any]) -> bool:
    value = item.get("value")
    return isinstance(value, dict) and value.get("kind") == "budget" and str(item.get("id", "")).startswith("budget:")
