"""Why a run is where it is, in words a person can act on: what failed, after what, what it cost, what to do next.

Put together from the run, its failed attempts and its ledger; no graph is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runyard.engine.outcomes import ROOM
from runyard.engine.record import Kind, Status, Tokens
from runyard.engine.run import REVIVABLE, TERMINAL, Phase, Run

Json = dict[str, Any]
#: So many lines of each kind are told, the newest; the ledger has all.
MOST = 12


@dataclass(slots=True)
class Why:
    """An explanation. ``next`` are commands with what they are for."""

    headline: str
    story: list[str] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    cost: Json = field(default_factory=dict)
    next: list[tuple[str, str]] = field(default_factory=list)

    def told(self, run: Run) -> Json:
        """As JSON; ``text`` is all of it as lines."""
        return {
            "run_id": run.run_id,
            "status": run.status,
            "phase": str(run.phase),
            "headline": self.headline,
            "story": self.story,
            "attempts": self.attempts,
            "decisions": self.decisions,
            "cost": self.cost,
            "next": [{"why": why, "command": command} for command, why in self.next],
            "text": self.text(),
        }

    def text(self) -> str:
        """The explanation as plain lines."""
        parts = [self.headline, *self.story]
        for title, lines in (("Attempts that did not go well", self.attempts), ("Decided before", self.decisions)):
            if lines:
                parts += ["", f"{title}:", *(f"  {line}" for line in lines)]
        parts += ["", f"Cost: {cost_line(self.cost)}"]
        if self.next:
            parts += ["", "What to do:", *(f"  {command}\n      {why}" for command, why in self.next)]
        return "\n".join(parts)


def explain(run: Run, failed: Sequence[Json], records: Sequence[Json], asked: Sequence[Any], now_ms: int) -> Why:
    """``failed``: the run's failed attempts, as noted; ``asked``: what the graph asks a person; times in ms."""
    why = Why(_headline(run, failed, asked, now_ms))
    why.story = _story(run, records, asked, now_ms)
    why.attempts = _attempts(failed, records)
    chosen = [record for record in records if record["kind"] == Kind.DECISION]
    why.decisions = _newest([f"step {r['step']}: {r['node']} chose {r['decision']}{_by(r)}" for r in chosen])
    why.cost = cost_of(run, records, now_ms)
    why.next = _next(run)
    return why


def duration(ms: float) -> str:
    """A span of time as people say it."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min")):
        if ms >= 2 * size:
            return f"{ms / size:.0f} {unit}"
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms"


# --- the headline

_HEADLINES = {
    Phase.QUEUED: "It waits behind another run of its thread, {since}.",
    Phase.DUE: "It waits for {what}, due in {due}.",
    Phase.PARKED: "It is parked, without a worker: {parked}.",
    Phase.WAITING: "It waits for a worker of queue {queue!r}, {since}.",
    Phase.LEASED: "It is running on worker {owner}; {moved}.",
    Phase.DISPATCHED: "It is running: its nodes were handed to workers of other queues, {since}.",
    Phase.CANCELLING: "Its end was asked for; worker {owner} ends it as soon as its nodes let it.",
    Phase.SUCCEEDED: "It ran to its end in {took}{without}.",
    Phase.PAUSED: "It did its part in {took} and waits {for_what}.",
    Phase.CANCELLED: "It was cancelled {when}.",
    Phase.FAILED: "It failed{place}: {error}",
    Phase.TIMED_OUT: "It took longer than it may: {took}.",
}


def _headline(run: Run, failed: Sequence[Json], asked: Sequence[Any], now_ms: int) -> str:
    if (run.error or {}).get("error") == "Quarantined" and run.phase in REVIVABLE:
        return _quarantined(run)
    moved = f"the graph last moved {duration(now_ms - run.progress_at)} ago" if run.progress_at else "it has just begun"
    return _HEADLINES[run.phase].format(
        since=f"for {duration(max(0, now_ms - run.updated_at))}",
        what=f"the next attempt of node {failed[-1]['node']}" if failed else "its time",
        due=duration(max(0, (run.due_at or now_ms) - now_ms)),
        parked="; ".join(_parked(part, now_ms) for part in run.waits_for) or "it waits for room",
        queue=run.queue,
        owner=run.owner,
        moved=moved,
        took=_took(run),
        without=_without(run),
        for_what="for an answer" if asked else "at a breakpoint",
        when=f"after {_took(run)}" if run.started_at else "before it began",
        place=_place(run),
        error=_error(run),
    )


def _parked(part: Json, now_ms: int) -> str:
    who = f"node {part['node']}" if part["node"] else "it"
    waits_for = ROOM[part["why"]].format(name=_cut(str(part["name"]), 160))
    return f"{who} has waited {duration(max(0, now_ms - part['since']))} for {waits_for}"


def _quarantined(run: Run) -> str:
    return f"It was quarantined: {_workers(run.crashes)} died, or lost touch, with it in hand, and it came no further."


def _workers(count: int) -> str:
    return "one worker" if count == 1 else f"{count} workers"


def _place(run: Run) -> str:
    node = (run.error or {}).get("node")
    return f" in node {node}" if node else ""


def _error(run: Run) -> str:
    error = run.error or {"error": "Unknown", "message": ""}
    return f"{error['error']}: {_cut(str(error['message']))}"


def _without(run: Run) -> str:
    missing = ", ".join(sorted({str(part["node"]) for part in run.degraded}))
    return f", but without {missing}" if missing else ""


def _took(run: Run) -> str:
    ended, began = run.ended_at or run.updated_at, run.started_at or run.created_at
    return duration(max(0, ended - began))


# --- what happened


def _story(run: Run, records: Sequence[Json], asked: Sequence[Any], now_ms: int) -> list[str]:
    lines = _how_far(run, [record for record in records if _is_of_a_node(record)])
    lines += [f"It asks: {_cut(str(question))}" for question in asked]
    lines += [
        f"Node {part['node']} was given up on after attempt {part['attempt']} "
        f"({part['error']}: {_cut(str(part['message']), 120)}); {part['instead']} in its place."
        for part in run.degraded
    ]
    lines += _crashes(run, records)
    if run.replays:
        lines.append(f"It was a dead letter before and was replayed {times(run.replays)}.")
    if run.deadline_at and run.phase not in TERMINAL:
        lines.append(f"It must have ended in {duration(max(0, run.deadline_at - now_ms))}.")
    if run.discarded:
        lines.append(f"It was discarded from the dead letters: {run.discarded}")
    elif run.phase in REVIVABLE:
        lines.append("It is a dead letter: what was finished is kept, and a replay runs only what is missing.")
    return lines


def _crashes(run: Run, records: Sequence[Json]) -> list[str]:
    if not run.crashes:
        return []
    if (run.error or {}).get("error") != "Quarantined":
        died = _workers(run.crashes)
        return [
            f"{died[0].upper()}{died[1:]} died, or lost touch, with it in hand; it was taken up where it was saved."
        ]
    at = ", ".join(dict.fromkeys(str(r["node"]) for r in records if r["status"] == Status.LOST))
    look = f"It was at node {at} when they did: look at what that" if at else "Look at what its next node"
    innocent = "It may have been another run that the same workers had; then a replay goes well."
    return [f"It is not tried again by itself. {look} does to its process. {innocent}"]


def _is_of_a_node(record: Json) -> bool:
    """Whether a record is of an attempt of a node of the run's own graph."""
    return record["kind"] == Kind.ATTEMPT and "/" not in (record["node"] or "")


def _how_far(run: Run, attempts: Sequence[Json]) -> list[str]:
    if not attempts:
        return []
    last, tried = attempts[-1], len({(record["node"], record["step"]) for record in attempts})
    slices = run.slices + (run.phase not in TERMINAL)
    ran = "One node ran" if tried == 1 else f"{tried} nodes ran"
    how = f"The last to end was {last['node']} in step {last['step']}: {last['status']}."
    return [f"{ran}, in {slices} slice{'s' if slices > 1 else ''}. {how}"]


def _attempts(failed: Sequence[Json], records: Sequence[Json]) -> list[str]:
    """Attempts that failed, from the run; what was cut off, and tools that failed, from the ledger."""
    lines = [(record["started_at"], _failed(record)) for record in failed]
    lines += [(record["timestamp"], said) for record in records if (said := _gone_wrong(record))]
    return _newest([line for _, line in sorted(lines)])


def _failed(noted: Json) -> str:
    took = duration(noted["duration_ms"])
    told = f"{noted['error']}: {_cut(noted['message'], 160)}"
    return f"{noted['node']}, attempt {noted['attempt']}: failed after {took} with {told} → {noted['decision']}"


def _gone_wrong(record: Json) -> str:
    """What is to be told of a record that is no failed attempt of a node, or nothing."""
    match record["kind"], record["status"]:
        case Kind.ATTEMPT, Status.LOST:
            return f"{record['node']}, attempt {record['attempt']}: {record['error']} → {record['decision']}"
        case Kind.ATTEMPT, Status.CANCELLED:
            return f"{record['node']}, attempt {record['attempt']}: cut off after {duration(record['latency_ms'])}"
        case (Kind.TOOL | Kind.MODEL) as kind, Status.ERROR | Status.TIMEOUT:
            where = f"{record['node']}: {kind} {record['tool']}"
            return f"{where} failed after {duration(record['latency_ms'])}: {_cut(record['error'] or '', 160)}"
    return ""


def times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _by(record: Json) -> str:
    router = (record["args"] or {}).get("router")
    return f" (by {router})" if router else ""


# --- cost


def cost_of(run: Run, records: Sequence[Json], now_ms: int) -> Json:
    """What a run used until now: time, attempts, calls, tokens, money (null when no model of it has a price)."""
    spent, models, tools, attempts, busy_ms = Tokens(), 0, 0, 0, 0.0
    for record in records:
        if record["kind"] == Kind.MODEL:
            models += 1
            for model, used in ((record["tokens_used"] or {}).get("by_model") or {}).items():
                spent.add(model, used["in"], used["out"], record["cost"])
        elif record["kind"] == Kind.TOOL:
            tools += 1
        elif _is_of_a_node(record):
            attempts += 1
            busy_ms += record["latency_ms"] or 0
    until = run.ended_at or (run.updated_at if run.phase in TERMINAL else now_ms)
    took_ms = until - run.started_at if run.started_at else 0
    return {
        "took_ms": took_ms,
        "node_ms": round(busy_ms, 1),
        "node_attempts": attempts,
        "tool_calls": tools,
        "model_calls": models,
        "tokens_used": spent.told(),
        "cost": None if spent.cost is None else round(spent.cost, 6),
    }


def cost_line(cost: Json) -> str:
    tokens = cost["tokens_used"]
    parts = [duration(cost["took_ms"])]
    for name in ("node_attempts", "tool_calls", "model_calls"):
        words = name.replace("_", " ")
        parts.append(f"{cost[name]} {words[:-1] if cost[name] == 1 else words}")
    if tokens["in"] or tokens["out"]:
        parts.append(f"{tokens['in']} tokens in, {tokens['out']} out")
        parts.append("no price for its models" if cost["cost"] is None else f"cost {cost['cost']:g}")
    return ", ".join(parts)


# --- what to do

_PARTIAL = ("runyard partial {id}", "which nodes are done, and which are open")
_CANCEL = ("runyard cancel {id}", "end it")
_LOOK = ("runyard records {id}", "every attempt, call and decision, one by one")
_FOLLOW = ("runyard records {id} --follow", "what happens from now on")
_NEXT: dict[Phase, list[tuple[str, str]]] = {
    Phase.QUEUED: [("runyard cancel {id}", "give it up; the run before it goes on")],
    Phase.DUE: [("runyard status {id} --watch", "stay until it has ended"), _LOOK],
    Phase.PARKED: [("runyard status {id} --watch", "stay until it has ended"), _LOOK, _CANCEL],
    Phase.WAITING: [("runyard doctor", "whether a worker serves queue {queue!r} and takes work"), _LOOK],
    Phase.LEASED: [_PARTIAL, _FOLLOW, _CANCEL],
    Phase.CANCELLING: [_PARTIAL, _FOLLOW],
    Phase.DISPATCHED: [("runyard doctor", "whether workers serve the queues of its nodes"), _PARTIAL, _CANCEL],
    Phase.PAUSED: [("runyard resume {id} --value JSON", "answer it, and go on"), _LOOK],
    Phase.CANCELLED: [("runyard run {graph} --thread {thread}", "go on where it stopped"), _LOOK],
}
_REPLAY = "runyard dead-letters replay {id}"
_SHOW = ("runyard dead-letters show {id}", "its traceback, state and finished siblings")
_TRY_AGAIN = (_REPLAY, "try again what failed, once its cause is gone")
_REPAIRS = {
    "Quarantined": [_SHOW, (_REPLAY, "once you know what its next node does to its process")],
    "GraphChanged": [(f"{_REPLAY} --accept-change", "go on without the nodes that the graph has lost"), _SHOW],
    "GraphUnavailable": [("runyard graphs", "whether the graph can be loaded, and what is wrong with it"), _TRY_AGAIN],
    "RunTimedOut": [(_REPLAY, "go on where it stopped, with its time counted anew"), _SHOW],
}


def _next(run: Run) -> list[tuple[str, str]]:
    error = run.error or {}
    if run.phase in REVIVABLE and run.discarded is None:
        skip = [(_REPLAY + " --skip {node}", "go on as if {node} had returned nothing")] if error.get("node") else []
        wanted = [*_REPAIRS.get(str(error.get("error")), [_TRY_AGAIN, *skip, _SHOW]), _LOOK]
    else:
        wanted = [*_room(run), *_NEXT.get(run.phase, [_LOOK])]
    facts = {"id": run.run_id, "queue": run.queue, "graph": run.graph_id, "thread": run.thread_id,
             "node": error.get("node"),
             "parked": next((part["node"] for part in run.waits_for if part["why"] == "exhausted"), "")}  # fmt: skip
    return [(command.format(**facts), why.format(**facts)) for command, why in wanted]


def _room(run: Run) -> list[tuple[str, str]]:
    """What can be done about that which a parked run waits for."""
    kinds = {part["why"] for part in run.waits_for}
    wanted = [_TRY_AGAIN, (f"{_REPLAY} --skip {{parked}}", "go on as if {parked} had returned nothing")]
    wanted = wanted if "exhausted" in kinds else []
    return [*wanted, *([("runyard circuits list", "whether it is open, and why")] if "circuit" in kinds else [])]


def _newest(lines: list[str]) -> list[str]:
    left_out = len(lines) - MOST
    return lines if left_out <= 0 else [f"… {left_out} before these", *lines[-MOST:]]


def _cut(text: str, most: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"
