"""Records of the ledger, counted for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runyard.engine.metrics import OTHER, inc, observe
from runyard.engine.record import About, Kind, Status


def take_record(about: About, record: Mapping[str, Any], _: bytes) -> None:
    """Count a record of the ledger: a sink of it."""
    _TAKE[record["kind"]](about.graph, record)


def _take_attempt(graph: str, record: Mapping[str, Any]) -> None:
    node, status = record["node"] or OTHER, record["status"]
    inc("runyard_node_attempts_total", graph, node, status)
    if (record.get("attempt") or 1) > 1:
        inc("runyard_node_retries_total", graph, node)
    if status == Status.LOST:
        return
    observe("runyard_node_attempt_seconds", record["latency_ms"] / 1000, graph, node)
    if queue_ms := record.get("queue_ms"):
        observe("runyard_node_queue_seconds", queue_ms / 1000, graph, node)


def _take_tool(_: str, record: Mapping[str, Any]) -> None:
    inc("runyard_tool_calls_total", record["tool"], record["status"])
    observe("runyard_tool_call_seconds", record["latency_ms"] / 1000, record["tool"])


def _take_model(graph: str, record: Mapping[str, Any]) -> None:
    model = record["tool"]
    inc("runyard_model_calls_total", model, record["status"])
    observe("runyard_model_call_seconds", record["latency_ms"] / 1000, model)
    for direction in ("in", "out"):
        if used := (record.get("tokens_used") or {}).get(direction):
            inc("runyard_tokens_total", graph, model, direction, by=used)
    if cost := record.get("cost"):
        inc("runyard_cost_total", graph, model, by=cost)


def _take_decision(graph: str, record: Mapping[str, Any]) -> None:
    inc("runyard_decisions_total", graph, record["node"] or OTHER)


_TAKE: dict[str, Callable[[str, Mapping[str, Any]], None]] = {
    Kind.ATTEMPT: _take_attempt, Kind.TOOL: _take_tool, Kind.MODEL: _take_model, Kind.DECISION: _take_decision,
}  # fmt: skip
