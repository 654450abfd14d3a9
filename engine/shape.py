"""A run in LangGraph's own words: what its API and its webhooks show of one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from runyard.engine.run import Run

Json = dict[str, Any]


def at(milliseconds: int | None) -> str | None:
    """An instant of the store as ISO-8601 with its offset."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()


def of_run(run: Run) -> Json:
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "assistant_id": run.assistant_id,
        "created_at": at(run.created_at),
        "updated_at": at(run.updated_at),
        "status": run.status,
        "metadata": {"graph_id": run.graph_id, "assistant_id": run.assistant_id, **run.metadata},
        "kwargs": _kwargs(run),
        "multitask_strategy": run.strategy,
    }


def _kwargs(run: Run) -> Json:
    request = run.request
    return {
        "input": request.input,
        "command": request.command,
        "config": {**request.config, "configurable": {**request.config.get("configurable", {}), **_ids(run)}},
        "context": request.context or {},
        "checkpoint": request.checkpoint,
        "stream_mode": request.stream_mode,
        "interrupt_before": request.interrupt_before,
        "interrupt_after": request.interrupt_after,
        "webhook": request.webhook,
        "temporary": run.temporary,
        "subgraphs": request.stream_subgraphs,
        "resumable": request.stream_resumable,
        "durability": request.durability,
        "checkpoint_during": request.durability != "exit",
        "feedback_keys": None,
        "timeout_s": request.timeout_s,
    }


def _ids(run: Run) -> Json:
    """What nodes find in ``config["configurable"]`` whatever the client has put there."""
    of_thread = {"run_id": run.run_id, "thread_id": run.thread_id}
    return {**of_thread, "assistant_id": run.assistant_id, "graph_id": run.graph_id}


def checkpoint_of(config: Mapping[str, Any] | None) -> Json | None:
    """Where a config points to in a thread's history; None for a thread that has none yet. That of a subgraph which is
    under way has no checkpoint_id: its latest is meant."""
    if not config:
        return None
    configurable = config["configurable"]
    names = ("thread_id", "checkpoint_id", "checkpoint_map")
    known = {name: configurable[name] for name in names if configurable.get(name)}
    place = configurable.get("checkpoint_ns", "")
    return {**known, "checkpoint_ns": place} if place or "checkpoint_id" in known else None
