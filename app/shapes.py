"""Runs and threads in the words of LangGraph's API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from runyard.engine import redact, shape
from runyard.engine.letter import summary
from runyard.engine.outcomes import ROOM
from runyard.engine.run import Delivery, Phase, Run
from runyard.engine.shape import at
from runyard.engine.store.assistants import Assistant
from runyard.engine.store.crons import Cron
from runyard.engine.store.threads import Thread

if TYPE_CHECKING:  # it loads LangGraph, and commands that ask about runs do without
    from runyard.engine.store.checkpoint_sizes import Storage

Json = dict[str, Any]


def of_run(run: Run, asked: Sequence[Json] = ()) -> Json:
    """``asked``: what the thread asks, of a run that waits for an answer."""
    return {
        **shape.of_run(run),
        "phase": str(run.phase),
        "reason": reason(run, asked),
        "started_at": at(run.started_at),
        "ended_at": at(run.ended_at),
        "due_at": at(run.due_at) if run.phase in (Phase.DUE, Phase.PARKED) else None,
        "waits_for": [{**entry, "since": at(entry["since"])} for entry in run.waits_for],
        "deadline_at": at(run.deadline_at),
        "error": _error(run.error),
        "partial": bool(_missing(run)),
        "missing": _missing(run),
        "degraded": run.degraded,
        "attempts": run.attempts,
        "replays": run.replays,
        "priority": run.priority,
        "spent": run.spent,
        "webhook_delivery": of_delivery(run.delivery) if run.delivery else None,
    }


def of_delivery(delivery: Delivery) -> Json:
    told = {"state": delivery.state, "attempts": delivery.attempts, "status_code": delivery.status}
    pending = delivery.state == "pending"
    times = {
        "next_attempt_at": at(delivery.at) if pending else None,
        "settled_at": None if pending else at(delivery.at),
    }
    return {**told, **times, "problem": delivery.problem}


def _missing(run: Run) -> list[Json]:
    """Of what a run does without, what nothing stands in for."""
    return [part for part in run.degraded if part["instead"] == "nothing"]


#: So many characters of a question are told with where a run stands.
_MOST_QUESTION = 200
#: Where a run of each phase stands, in words.
_REASONS = {
    Phase.QUEUED: "waits behind another run of its thread since {updated}",
    Phase.DUE: "{what} at {due}, since {updated}",
    Phase.PARKED: "{room}",
    Phase.WAITING: "waits for a worker of queue {queue!r} since {updated}",
    Phase.LEASED: "worker {owner} has it in hand{moved}",
    Phase.CANCELLING: "its end was asked for; worker {owner} ends it as soon as its nodes let it",
    Phase.DISPATCHED: "its nodes run on other workers since {updated}{some}",
    Phase.SUCCEEDED: "the graph ran to its end{without}",
    Phase.PAUSED: "waits {for_what} since {updated}; a new run on its thread goes on",
    Phase.CANCELLED: "was cancelled{left}",
    Phase.FAILED: "failed for good; {letter}",
    Phase.TIMED_OUT: "took longer than it may{left}; {letter}",
}


def reason(run: Run, asked: Sequence[Json] = ()) -> str:
    """Why a run waits and since when, who has it in hand, or what it came to: a sentence for a person.

    ``asked`` is what its thread asks; of one that is parked or in hand nothing.
    """
    missing = ", ".join(sorted({str(part["node"]) for part in run.degraded}))
    room = _room(run)
    return _REASONS[run.phase].format(
        room=room,
        some=f"; {room}" if room else "",
        updated=at(run.updated_at),
        due=at(run.due_at),
        queue=run.queue,
        owner=run.owner,
        moved=f"; it has come on last at {at(run.progress_at)}" if run.progress_at else "",
        for_what=_question(asked),
        what="waits for the next attempt of a node" if run.attempts else "is to start",
        without=f" without {missing}" if missing else "",
        letter=f"discarded: {run.discarded}" if run.discarded else "a dead letter",
        left=f"; the plain function of {run.left_running} goes on in its thread to its end, and saves nothing"
        if run.left_running
        else "",
    )


def _question(asked: Sequence[Json]) -> str:
    if not asked:
        return "for an answer, or at a breakpoint,"
    value = asked[0].get("value")
    said = value.get("question", value) if isinstance(value, dict) else value
    told = redact.text(said if isinstance(said, str) else str(redact.plain(said)), _MOST_QUESTION)
    who = "for a larger budget" if isinstance(value, dict) and value.get("kind") == "budget" else "for an answer"
    more = f" (and {len(asked) - 1} more)" if len(asked) > 1 else ""
    return f"{who} to {told!r}{more}"


def _room(run: Run) -> str:
    """What its nodes wait for, where they wait for room."""
    waiting: dict[tuple[str, str, str], list[int]] = {}
    for entry in run.waits_for:
        waiting.setdefault((entry["node"], entry["why"], entry["name"]), []).append(entry["since"])
    said = [
        f"{_who(node, len(since))}waits for {ROOM[why].format(name=name)} since {at(min(since))}"
        for (node, why, name), since in waiting.items()
    ]
    return ", ".join(said)


def _who(node: str, times: int) -> str:
    """Which node of a run waits; "" for the run as a whole."""
    return f"node {node!r}{f' ({times} times)' if times > 1 else ''} " if node else ""


def of_letter(letter: Run | Json) -> Json:
    """A dead letter: all of it, or, from a run alone, its summary."""
    known = summary(letter) if isinstance(letter, Run) else letter
    return {**known, "failed_at": at(known["failed_at"])}


def of_record(record: Json) -> Json:
    """A record of the ledger with its instant as text."""
    return {**record, "timestamp": at(record["timestamp"])}


def of_circuit(circuit: Json) -> Json:
    shown = {**circuit, "since": at(circuit["since"]), "until": at(circuit["until"])}
    if "history" in circuit:
        shown["history"] = [{**change, "at": at(change["at"])} for change in circuit["history"]]
    return shown


def of_partial(run: Run, parts: list[Json]) -> Json:
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "status": run.status,
        "phase": str(run.phase),
        "reason": reason(run),
        "parts": parts,
        "partial": bool(_missing(run)),
        "missing": _missing(run),
        "degraded": run.degraded,
        "attempts": run.attempts,
    }


def of_cron(cron: Cron) -> Json:
    return {
        "cron_id": cron.cron_id,
        "assistant_id": cron.assistant_id,
        "thread_id": cron.thread_id,
        "on_run_completed": cron.on_run_completed,
        "end_time": at(cron.end_at),
        "schedule": cron.schedule,
        "timezone": cron.timezone,
        "created_at": at(cron.created_at),
        "updated_at": at(cron.updated_at),
        "payload": cron.payload,
        "user_id": (cron.user or {}).get("identity"),
        "next_run_date": at(cron.next_at),
        "metadata": cron.metadata,
        "enabled": cron.enabled,
        "fired": cron.fired,
        "last_run_id": cron.last_run_id,
        "problem": cron.problem,
    }


def of_assistant(assistant: Assistant) -> Json:
    return {
        "assistant_id": assistant.assistant_id,
        **assistant.facts(),
        "version": assistant.version,
        "created_at": at(assistant.created_at),
        "updated_at": at(assistant.updated_at),
    }


def of_thread(thread: Thread) -> Json:
    return {
        "thread_id": thread.thread_id,
        "created_at": at(thread.created_at),
        "updated_at": at(thread.updated_at),
        "state_updated_at": at(thread.state_updated_at),
        "metadata": thread.metadata,
        "status": thread.status,
        "config": thread.config,
        # JSON already: state can be large, and decoding it to encode it again would be for nothing.
        "values": orjson.Fragment(thread.values) if thread.values else None,
        "interrupts": thread.interrupts,
        "error": _error(thread.error),
    }


def of_storage(thread_id: str, found: Storage) -> Json:
    channels = {name: {"versions": share.count, "bytes": share.bytes} for name, share in sorted(found.channels.items())}
    values = {
        "count": sum(share.count for share in found.channels.values()),
        "bytes": sum(share.bytes for share in found.channels.values()),
    }
    return {
        "thread_id": thread_id,
        "total_bytes": found.checkpoints.bytes + found.writes.bytes + values["bytes"],
        "checkpoints": asdict(found.checkpoints),
        "channel_values": {**values, "by_channel": channels},
        "pending_writes": asdict(found.writes),
    }


def _error(known: Json | None) -> Json | None:
    """What clients hear of an error; node, attempt and traceback are for who repairs the run, in its dead letter."""
    return {key: known.get(key) for key in ("error", "message")} if known else None


#: A thread without a checkpoint, or without a graph to read it with.
EMPTY_STATE: Json = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}


def only(selected: list[str] | None, facts: Json) -> Json:
    """The fields a client selected; all of them when it named none."""
    return {name: facts[name] for name in selected if name in facts} if selected else facts
