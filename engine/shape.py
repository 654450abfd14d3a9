"""A run in LangGraph's own words: what its API and its webhooks show of one."""

from __future__ import annotations

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
        "metadata": run.metadata,
        "kwargs": _kwargs(run),
        "multitask_strategy": run.strategy,
    }


def _kwargs(run: Run) -> Json:
    request = run.request
    return {
        "input": request.input,
        "command": request.command,
        "config": request.config,
        "context": request.context,
        "checkpoint": request.checkpoint,
        "stream_mode": request.stream_mode,
        "interrupt_before": request.interrupt_before,
        "interrupt_after": request.interrupt_after,
        "webhook": request.webhook,
        "temporary": run.temporary,
        "subgraphs": request.stream_subgraphs,
        "resumable": request.stream_resumable,
        "durability": request.durability,
        "timeout_s": request.timeout_s,
    }
