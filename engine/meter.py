"""Counts what a run spends while it is in hand, and stops it at the edge of its budget.

Before every call of a model or a tool, and before every node, it is asked whether there is anything left. What a call
took is known when it has ended, so a budget of tokens or money is overshot by the call that reaches it, and, where
calls run side by side, by those that had begun.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from runyard.engine.budget import Budget, Reached, Scope, grant_of
from runyard.engine.callbacks import usage
from runyard.engine.errors import BudgetExceeded, StoreUnavailable
from runyard.engine.gate import Parks
from runyard.engine.run import Run
from runyard.engine.store import spending
from runyard.engine.store.fence import Fence
from runyard.engine.worker import Worker

#: The task id under which a thread keeps a budget's question; no task has it.
ASKER = "budget"


class Edge(Parks):
    """A budget is used up: the node stays without writes, its siblings end, the run pauses."""


class Meter(BaseCallbackHandler):
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
        #: The edge that was reached, if one was.
        self.edge: Reached | None = None
        #: What the thread asked about a budget when the run began.
        self.asked: dict[str, Any] | None = None

    async def open(self) -> None:
        """Read what was spent before. One round trip, which rides with others."""
        keys, tenant = self._worker.keys, self._run.tenant
        calls: list[Any] = [spending.of_thread(keys, self._run.thread_id)]
        if self._budget.limits.get("tenant_day"):
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
        """Raises Edge, or BudgetExceeded, when nothing is left; else counts one of ``kind``."""
        with self._lock:
            reached = self._budget.reached(self._by_now(), self._granted, kind)
            if reached is None and kind is not None:
                self._add(kind, 1.0)
        if reached is None:
            return
        self.edge = self.edge or reached
        if self._budget.pauses:
            raise Edge(str(reached))
        raise BudgetExceeded(f"{reached}.")

    def begin(self, step: Any) -> None:
        """A node is about to begin, in this superstep."""
        if step != self._step:
            self._step = step
            self.pass_("supersteps")
        else:
            self.pass_()

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **more: Any) -> None:  # noqa: ARG002
        self._model_begins(run_id, more)

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: UUID, **more: Any) -> None:  # noqa: ARG002
        self._model_begins(run_id, more)

    def on_tool_start(self, serialized: Any, input_str: str, **_: Any) -> None:  # noqa: ARG002
        self.pass_("tool_calls")
        self._save_soon()

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        model, tokens_in, tokens_out = usage(response, self._models.pop(run_id, ""))
        cost = self._worker.prices.cost(model, tokens_in, tokens_out) or 0.0
        with self._lock:
            self._add("tokens", float(tokens_in + tokens_out))
            self._add("cost", cost)
        self._save_soon()

    def _model_begins(self, run_id: UUID, more: dict[str, Any]) -> None:
        self.pass_("model_calls")
        self._models[run_id] = str((more.get("invocation_params") or {}).get("model") or more.get("name") or "")

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
        """Count the time, and save what is not saved yet."""
        with self._lock:
            now = time.monotonic()
            self._add("seconds", now - self._began)
            self._began = now
        await self._save()

    async def _save(self) -> None:
        with self._lock:
            amounts, self._unsaved = dict(self._unsaved), defaultdict(float)
        if not amounts:
            return
        keys, tenant = self._worker.keys, self._run.tenant
        has_day = bool(self._budget.limits.get("tenant_day"))
        calls: list[Any] = [spending.note(keys, self._run, amounts)]
        if has_day:
            calls += [spending.note_day(keys, tenant, self._day, kind, amount) for kind, amount in amounts.items()]
            calls.append(spending.keep_day(keys, tenant, self._day))
        try:
            (run, thread), *day = await self._worker.store.do_all(calls)
        except StoreUnavailable:
            with self._lock:
                for kind, amount in amounts.items():
                    self._unsaved[kind] += amount
            return
        self._learn("run", run)
        self._learn("thread", thread)
        if has_day:
            self._learn("tenant_day", dict(zip(amounts, day, strict=False)))

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
