"""Crons as clients ask for them and see them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, fields

from runyard.app.schemas.fields import Lenient, Value, boolean, mapping, one_of, text, texts, uuid, whole
from runyard.app.schemas.runs import RunCreate

SELECTABLE = (
    *("cron_id", "assistant_id", "thread_id", "end_time", "schedule", "timezone", "created_at", "updated_at"),
    *("user_id", "payload", "next_run_date", "metadata", "now", "on_run_completed", "enabled"),
    *("fired", "last_run_id", "problem"),
)
SORTABLE = ("cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_date", "end_time")


def instant(text: str) -> datetime:
    """An ISO 8601 date and time in UTC, which it is meant in without an offset. Raises ValueError, OverflowError."""
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(instant(value))
    except (ValueError, OverflowError):
        return False


def _schedule(**options: Any) -> Value:
    return text("Five cron fields, minute hour day month weekday, or a word like @daily.", **options)


def _end_time() -> Value:
    spec = {"type": "string", "format": "date-time"}
    return Value("an ISO 8601 date and time", _is_time, spec, "When it ends. Null: never. Without an offset: UTC.")


_ZONE = "The IANA time zone the schedule is meant in. UTC."
_THREADS = "What becomes of the thread that each run of a cron without a thread gets. delete."


class CronCreate(RunCreate):
    """A run to be started again and again. Fields that are not listed are ignored."""

    class Meta(Lenient.Meta):
        exclude = ("after_seconds", "if_not_exists", "on_completion", "on_disconnect", "checkpoint", "checkpoint_id")

    schedule = _schedule(required=True)
    timezone = text(_ZONE)
    end_time = _end_time()
    enabled = boolean("Whether it fires. true.")
    on_run_completed = one_of(["delete", "keep"], _THREADS)


class CronPatch(CronCreate):
    """What is to be different from now on. Metadata is merged; everything else takes the place of what there was."""

    class Meta(Lenient.Meta):
        exclude = (*CronCreate.Meta.exclude, "assistant_id")

    schedule = _schedule()


class CronFilter(Lenient):
    assistant_id = text("Crons of this assistant, by id or by the name of its graph.")
    thread_id = uuid("Crons of this thread.")
    enabled = boolean("Crons that fire, or that do not.")
    metadata = mapping("Crons whose metadata holds all of this.")


class CronSearch(CronFilter):
    limit = whole("Most crons to answer. 10.", least=1, most=1000)
    offset = whole("How many matching crons to leave out.")
    sort_by = one_of(SORTABLE, "created_at")
    sort_order = one_of(["asc", "desc"], "desc")
    select = texts("Answer only these fields.", among=SELECTABLE)


class Cron(Schema):
    """A run that is started again and again."""

    cron_id = fields.UUID()
    assistant_id = fields.UUID()
    thread_id = fields.UUID(allow_none=True)
    on_run_completed = fields.String(allow_none=True)
    end_time = fields.DateTime(allow_none=True)
    schedule = fields.String()
    timezone = fields.String(allow_none=True)
    created_at = fields.DateTime()
    updated_at = fields.DateTime()
    payload = fields.Dict(keys=fields.String(), metadata={"description": "What each run is asked for."})
    user_id = fields.String(allow_none=True)
    next_run_date = fields.DateTime(allow_none=True, metadata={"description": "Null: it does not fire any more."})
    metadata = fields.Dict(keys=fields.String())
    enabled = fields.Boolean()
    fired = fields.Integer(metadata={"description": "How many runs it has started."})
    last_run_id = fields.UUID(allow_none=True)
    problem = fields.String(allow_none=True, metadata={"description": "Why its last firing started no run."})
