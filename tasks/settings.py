"""Celery's configuration, derived from ours. The reasons are measured: see docs/operations.md."""

from __future__ import annotations

from typing import Any

from runyard.engine.settings import Settings

#: Queue of CPU-bound and isolated nodes, consumed by the prefork workers.
CPU_QUEUE = "cpu"


def celery_settings(settings: Settings) -> dict[str, Any]:
    """A message is a wake-up: losing or repeating one is harmless, so delivery is as cheap as it gets."""
    redis_broker = not settings.celery_broker.startswith(("amqp", "pyamqp"))
    return {
        "broker_url": settings.celery_broker or "memory://",
        "broker_transport_options": _redis_options() if redis_broker else {},
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # for ever: a worker outlives whatever happens to its broker
        "broker_connection_timeout": 2,
        "task_default_queue": settings.queue,
        "task_ignore_result": True,  # the outcome is in the run, not in a result backend
        "task_acks_late": False,
        "task_send_sent_event": False,  # it would show a task's real name and one metric series for each web process
        "worker_send_task_events": True,  # Flower lives on them
        "worker_disable_prefetch": redis_broker,  # a worker takes a wake-up only when it can act on it
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,  # our lines are whole as they are
        "worker_enable_remote_control": True,
        "task_serializer": "json",
        "accept_content": ["json"],
    }


def _redis_options() -> dict[str, Any]:
    return {
        "ack_emulation": False,  # 2.7 times the throughput, and no redelivery of what a lease already brings back
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }
