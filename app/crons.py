"""From a validated request to a cron that is recorded, changed or found."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from runyard.app.auth import identity
from runyard.app.auth.handlers import check_assistant
from runyard.app.run_requests import check_webhook, to_request, with_context
from runyard.app.schemas.crons import instant
from runyard.app.wiring import Wiring
from runyard.engine.errors import AssistantNotFound, InvalidInput
from runyard.engine.schedule import zone_of
from runyard.engine.store.crons import Cron
from runyard.engine.thread_search import contains

Json = dict[str, Any]

#: What of a cron's body is not part of the runs it starts.
_OWN = ("schedule", "timezone", "end_time", "enabled", "on_run_completed")
#: What an explicit null takes away; elsewhere null says nothing.
_CLEARED = ("end_time", "timezone", "webhook", "input")


def create(wiring: Wiring, body: Json, thread_id: str | None = None) -> Cron:
    """Record the cron that ``body`` asks for, on a thread or with a thread for each run.

    Raises what starting its run would, and InvalidInput for a schedule that cannot be.
    """
    assistant = wiring.catalog.find(body["assistant_id"])
    check_assistant(wiring, assistant)
    payload = {key: value for key, value in body.items() if value is not None} | {
        "assistant_id": assistant.assistant_id
    }
    blank = Cron(
        cron_id="", assistant_id=assistant.assistant_id, graph_id=assistant.graph_id,
        own=wiring.catalog.known(assistant.assistant_id) is not None, thread_id=thread_id, schedule="", timezone=None,
        end_at=None, enabled=True, on_run_completed=None, request=to_request({}), strategy="enqueue", payload={},
        metadata={}, user=identity.current().user,
    )  # fmt: skip
    return wiring.crons.create(_says(wiring, blank, payload))


def change(wiring: Wiring, cron_id: str, body: Json) -> Cron:
    """Raises CronNotFound, and what :func:`create` does."""
    given = {key: value for key, value in body.items() if value is not None or key in _CLEARED}

    def changed(read: Cron) -> Cron:
        metadata = {**read.metadata, **given.get("metadata", {})}
        merged = {**read.payload, **given, **({"metadata": metadata} if metadata else {})}
        return _says(wiring, read, merged, ends_anew="end_time" in given)

    return wiring.crons.change(cron_id, changed)


def _says(wiring: Wiring, cron: Cron, payload: Json, *, ends_anew: bool = True) -> Cron:
    """``cron`` with what ``payload`` says, checked as a run that is started now would be."""
    zone_of(payload.get("timezone"))
    said = to_request({key: value for key, value in payload.items() if key not in _OWN})
    request = with_context(wiring, cron.graph_id, said)
    wiring.catalog.check_input(cron.graph_id, request.input)
    check_webhook(wiring, request)
    end_at = round(instant(payload["end_time"]).timestamp() * 1000) if payload.get("end_time") else None
    if ends_anew and end_at is not None and end_at <= datetime.now(UTC).timestamp() * 1000:
        raise InvalidInput(f"end_time: must lie in the future, not {payload['end_time'][:60]!r}")
    own_threads = cron.thread_id is None
    return dataclasses.replace(
        cron,
        schedule=payload["schedule"],
        timezone=payload.get("timezone") or None,
        end_at=end_at,
        enabled=payload.get("enabled") is not False,
        on_run_completed=(payload.get("on_run_completed") or "delete") if own_threads else None,
        request=request,
        strategy=payload.get("multitask_strategy") or "enqueue",
        payload={key: value for key, value in payload.items() if value is not None},
        metadata=payload.get("metadata") or {},
        priority=payload.get("priority") or 0,
    )


def search(wiring: Wiring, wanted: Json) -> list[Cron]:
    """Crons that match all that is given, newest first."""
    assistant_id = wanted.get("assistant_id")
    if assistant_id:
        try:
            assistant_id = wiring.catalog.find(assistant_id).assistant_id
        except AssistantNotFound:  # it may be gone, and its crons still there
            assistant_id = assistant_id.lower()
    return [
        cron
        for cron in wiring.crons.all()
        if assistant_id in (None, cron.assistant_id)
        and wanted.get("thread_id") in (None, cron.thread_id)
        and wanted.get("enabled") in (None, cron.enabled)
        and contains(cron.metadata, wanted.get("metadata") or {})
    ]


_SORTED_BY = {"next_run_date": "next_at", "end_time": "end_at"}


def order(cron: Cron, sort_by: str) -> tuple[bool, Any, str]:
    """What a listing sorts by: the field, nulls first, and among equals the id, so that pages never overlap."""
    value = getattr(cron, _SORTED_BY.get(sort_by, sort_by))
    return value is not None, value or 0, cron.cron_id
