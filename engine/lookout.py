"""The lookout: finds what somebody should be told, and answers questions that have expired. One process at a time.

It reads what the store keeps anyway (dead letters, leases, what waits), on a thread of its own, so that no run waits
for it. What it finds is put into the outbox once, whoever finds it and however often; the notifier sends it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from runyard.engine import metrics, redact, wire
from runyard.engine.errors import Backlogged, Conflict, EngineError, StoreUnavailable, TooManyWaiting
from runyard.engine.idempotency import Idempotency
from runyard.engine.notices import Notice, Notify, Rules
from runyard.engine.record import ids_of
from runyard.engine.run import LEASED, Phase, Run
from runyard.engine.service import Service
from runyard.engine.store import circuits, notices as calls, runs, threads
from runyard.engine.store.client import Call
from runyard.engine.store.keys import Partition
from runyard.engine.store.recovery import clock
from runyard.engine.tenancy import shown
from runyard.engine.waiting import Waiting
from runyard.engine.why import duration

log = structlog.get_logger(__name__)

#: Between two looks, and between two looks at everything that is in hand, in seconds.
LOOK_EVERY_S, LOOK_AROUND_EVERY_S = 1.0, 10.0
#: So far back a look begins before the end of the last one, in ms: what is written at one moment may be seen later.
_OVERLAP_MS = 5_000
_BATCH = 200
#: Of each partition, the runs in hand, waiting and parked that one look around reads.
_AROUND = 500
#: A question that could not be answered in its place is looked at again after so long, in ms.
_AGAIN_MS = 30_000

Send = Callable[[Sequence[str]], None]


class Lookout:
    """One per worker process; it looks while ``leads`` answers True. ``send`` is given deliveries that are due."""

    def __init__(
        self, service: Service, notify: Notify, waiting: Waiting, *, leads: Callable[[], bool], send: Send, link: str
    ) -> None:
        """``link``: where clients reach this server, without a slash at its end."""
        self._service, self._store, self._keys = service, service.store, service.keys
        self._notify, self._waiting, self._link = notify, waiting, link
        self._leads, self._send = leads, send
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        #: What was looked at and is not to be read again while it is within the overlap.
        self._known: dict[str, int] = {}
        self._around_after_ms = 0
        self._offset = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                if self._leads():
                    self.look()
            except StoreUnavailable as error:
                log.warning("lookout.store_away", error=str(error))
            except Exception:  # whatever one look met, the next one may find what somebody has to know
                log.exception("lookout.failed")

    def look(self) -> None:
        """Look once. Called by the thread, and by tests."""
        now_ms, seen = self._store.do_all([clock(), calls.cursors(self._keys)])
        if "since" not in seen:  # what was before there was anybody to tell is no news
            seen = {"since": now_ms}
            self._store.do(calls.note_cursors(self._keys, seen))
        self._forget(now_ms)
        reached = {**self._deaths(seen), **self._turns(seen)}
        self._questions(now_ms)
        if now_ms >= self._around_after_ms:
            self._around_after_ms = now_ms + round(LOOK_AROUND_EVERY_S * 1000)
            self._look_around(now_ms)
        if reached:
            self._store.do(calls.note_cursors(self._keys, reached))
        now_ms = self._store.do(clock())  # what was put just now is due as well
        if due := self._store.do(calls.due(self._keys, now_ms, most=_BATCH)):
            self._send(due)

    def _forget(self, now_ms: int) -> None:
        self._known = {key: at for key, at in self._known.items() if at > now_ms - 4 * _OVERLAP_MS}

    # --- telling

    def _tell(self, notice: Notice, rules: Rules) -> None:
        if not rules.tells(notice.kind):
            return
        told = dataclasses.replace(notice, tenant=shown(notice.tenant)).told()
        came_to = self._store.do(calls.put(self._keys, notice, rules, told=told))
        if came_to != "known":
            metrics.inc("runyard_notices_total", notice.kind, came_to)
            facts = {"run_id": notice.run_id, "graph": notice.graph_id} if notice.run_id else {}
            log.info("notice.found", kind=notice.kind, title=notice.title, came_to=came_to, **facts)

    def _of_run(
        self, run: Run, kind: str, *, key: str, group: str, title: str, text: str, at: int, **facts: Any
    ) -> None:
        notice = Notice(
            kind=kind, key=f"{run.run_id}/{key}", group=group, title=title, text=text, tenant=run.tenant,
            run_id=run.run_id, thread_id=run.thread_id, graph_id=run.graph_id, at=at, facts=facts,
            link=f"{self._link}/runs/{run.run_id}",
        )  # fmt: skip
        self._tell(notice, self._notify.of(run.graph_id, run.tenant))

    # --- runs that failed for good

    def _deaths(self, seen: dict[str, int]) -> dict[str, int]:
        if not self._notify.tells("failed") and not self._notify.tells("budget"):
            return {}
        partitions = self._keys.all()
        since = [seen.get(f"dead:{at.number}", seen["since"]) for at in partitions]
        found = self._store.do_all([
            calls.scored(("ZRANGEBYSCORE", at.dead, first - _OVERLAP_MS, "+inf", "LIMIT", 0, _BATCH))
            for at, first in zip(partitions, since, strict=True)
        ])  # fmt: skip
        reached = {}
        for at, first, batch in zip(partitions, since, found, strict=True):
            new = [
                (run_id, ms) for run_id, ms in batch if ms >= seen["since"] and self._is_new(f"dead/{run_id}/{ms}", ms)
            ]
            for run in self._read(run_id for run_id, _ in new):
                self._dead(run)
            if batch and (last := batch[-1][1]) > first:
                reached[f"dead:{at.number}"] = last
        return reached

    def _is_new(self, key: str, at: int) -> bool:
        if key in self._known:
            return False
        self._known[key] = at
        return True

    def _read(self, run_ids: Iterable[str]) -> list[Run]:
        wanted = [runs.get(self._keys, run_id) for run_id in run_ids]
        return [run for run in (self._store.do_all(wanted) if wanted else []) if run is not None]

    def _dead(self, run: Run) -> None:
        error = run.error or {"error": "Unknown", "message": ""}
        name, node = str(error["error"]), error.get("node")
        message = redact.text(str(error.get("message") or ""), 400)
        where = f" in node {node}" if node else ""
        self._of_run(
            run, "budget" if name == "BudgetExceeded" else "failed", key=f"{run.replays}/{run.ended_at}",
            group=f"{run.graph_id}/{node}/{name}", title=f"{run.graph_id} failed{where}: {name}",
            text=f"A run of {run.graph_id} failed for good{where}. {name}: {message}", at=run.ended_at or 0,
            error=name, message=message, node=node, attempt=error.get("attempt"), replays=run.replays,
        )  # fmt: skip

    # --- circuits

    def _turns(self, seen: dict[str, int]) -> dict[str, int]:
        rules = self._notify.of()
        if not rules.tells("circuit"):
            return {}
        names = self._store.do(circuits.known(self._keys))
        changes = self._store.do_all([circuits.history(self._keys, name, limit=20) for name in names]) if names else []
        reached = {}
        for name, entries in zip(names, changes, strict=True):
            first = seen.get(f"circuit:{name}", seen["since"])
            for entry in reversed(entries):
                if entry["at"] >= first and entry["to"] != "half_open":
                    self._turned(name, entry, rules)
            if entries and entries[0]["at"] > first:
                reached[f"circuit:{name}"] = entries[0]["at"]
        return reached

    def _turned(self, name: str, entry: dict[str, Any], rules: Rules) -> None:
        if not self._is_new(f"circuit/{name}/{entry['at']}/{entry['to']}", entry["at"]):
            return
        by = f", by {entry['by']}" if entry["by"] else ""
        verb = "opened" if entry["to"] == "open" else "closed"
        notice = Notice(
            kind="circuit", key=f"{name}/{entry['at']}/{entry['to']}", group=f"{name}/{entry['to']}",
            title=f"Circuit {name} {verb}", text=f"Circuit {name} {verb}{by}: {redact.text(entry['why'], 300)}.",
            link=f"{self._link}/circuits/{name}", at=entry["at"], facts={"circuit": name, **entry},
        )  # fmt: skip
        self._tell(notice, rules)

    # --- runs that wait for a person

    def _questions(self, now_ms: int) -> None:
        looking = [
            calls.scored(("ZRANGEBYSCORE", at.asking, "-inf", now_ms, "LIMIT", 0, _BATCH)) for at in self._keys.all()
        ]
        ids = [run_id for batch in self._store.do_all(looking) for run_id, _ in batch]
        known = {run.run_id: run for run in self._read(ids)}
        for run_id in ids:
            run = known.get(run_id)
            again_ms = self._question(run, now_ms) if run is not None else None
            at = self._keys.of_run(run_id)
            move: Call[Any] = (
                Call.command("ZREM", at.asking, run_id)
                if again_ms is None
                else Call.command("ZADD", at.asking, "XX", again_ms, run_id)
            )
            self._store.do(move)

    def _question(self, run: Run, now_ms: int) -> int | None:
        """Tell of it, remind of it, or answer it; the ms at which to look again, None for never."""
        asked = self._asked_by(run)
        if not asked:
            return None
        rules, ended = self._notify.of(run.graph_id, run.tenant), run.ended_at or now_ms
        times = [ended, *(ended + round(after_s * 1000) for after_s in rules.remind_s)]
        passed = [at for at in times if at <= now_ms]
        if passed:
            self._ask(run, asked, len(passed) - 1, now_ms - ended)
        if is_answered := self._answer_expired(run, asked, now_ms):
            return None if is_answered == "yes" else now_ms + _AGAIN_MS
        expiring = [ended + round(expiry.after_s * 1000) for expiry in self._expiries(run, asked).values()]
        following = [at for at in [*times, *expiring] if at > now_ms]
        return min(following, default=None)

    def _asked_by(self, run: Run) -> list[dict[str, Any]]:
        """What the run's thread asks, as long as nothing has come after the run."""
        newest = self._store.do(runs.of_thread(self._keys, run.thread_id, limit=1, offset=0))
        if run.phase is not Phase.PAUSED or newest != [run.run_id]:
            return []
        thread = threads.from_replies(*self._store.do_all(threads.get(self._keys, run.thread_id)))
        if thread is None or thread.status != "interrupted":
            return []
        return [item for items in thread.interrupts.values() for item in items]

    def _ask(self, run: Run, asked: list[dict[str, Any]], reminder: int, waited_ms: int) -> None:
        is_budget = any(str(item["id"]).startswith("budget:") for item in asked)
        question = redact.text("; ".join(_question_of(item["value"]) for item in asked), 500)
        since = f" It has waited for {duration(waited_ms)}." if reminder else ""
        what = "is at the edge of a budget" if is_budget else "waits for a person"
        self._of_run(
            run, "budget" if is_budget else "waiting", key=f"asks/{reminder}", group=f"{run.run_id}/{reminder}",
            title=f"{run.graph_id} {what}", text=f"A run of {run.graph_id} {what}: {question}.{since}",
            at=run.ended_at or 0, reminder=reminder, asked=[redact.plain(item["value"]) for item in asked],
        )  # fmt: skip

    def _expiries(self, run: Run, asked: list[dict[str, Any]]) -> dict[str, Any]:
        """By the id of what is asked. A budget is never granted by nobody."""
        mine = {item["id"]: self._waiting.of(run.graph_id, item["value"]) for item in asked}
        return {id_: expiry for id_, expiry in mine.items() if expiry and not str(id_).startswith("budget:")}

    def _answer_expired(self, run: Run, asked: list[dict[str, Any]], now_ms: int) -> str:
        waited_s = (now_ms - (run.ended_at or now_ms)) / 1000
        answers = {
            id_: expiry.answer for id_, expiry in self._expiries(run, asked).items() if expiry.after_s <= waited_s
        }
        if not answers:
            return ""
        request = dataclasses.replace(run.request, input=None, command={"resume": answers}, checkpoint=None)
        once = Idempotency.of(f"expired/{run.run_id}", answers, tenant=run.tenant, thread_id=run.thread_id)
        try:
            following = self._service.of(run.tenant).create_run(
                request, graph_id=run.graph_id, assistant_id=run.assistant_id, thread_id=run.thread_id,
                metadata={**run.metadata, "answered_by": "expiry"}, strategy="reject", user=run.user,
                priority=run.priority, idempotency=once,
            )  # fmt: skip
        except (Backlogged, TooManyWaiting):
            return "later"
        except Conflict:  # somebody has answered at this moment
            return "yes"
        except EngineError as error:
            log.warning("question.not_answered", error=str(error), **ids_of(run))
            return "yes"
        log.info("question.expired", answered_with=following.run_id, waited_s=round(waited_s), **ids_of(run))
        return "yes"

    # --- runs that do not come on

    def _look_around(self, now_ms: int) -> None:
        """Look at what is in hand, waits or is parked, a page of each partition at a time."""
        kinds = [kind for kind in ("stuck", "late", "parked") if self._notify.tells(kind)]
        if not kinds:
            return
        pages = self._store.do_all([call for at in self._keys.all() for call in self._pages(at, now_ms)])
        full = any(len(page) == _AROUND for page in pages)
        self._offset = self._offset + _AROUND if full else 0
        ids = list(dict.fromkeys(runs.split_member(member)[0] for page in pages for member, _ in page))
        for start in range(0, len(ids), _BATCH):
            standing = self._store.do_all(
                [calls.standing(self._keys, run_id) for run_id in ids[start : start + _BATCH]]
            )
            late = [stand.run_id for stand in standing if stand is not None and self._reasons(stand, now_ms)]
            for run in self._read(late):
                self._slow(run, now_ms)

    def _pages(self, at: Partition, now_ms: int) -> list[Call[list[tuple[str, int]]]]:
        end = self._offset + _AROUND - 1
        soonest = min(self._notify.soonest("stuck_after_s"), self._notify.soonest("late_after_s"))
        old = now_ms - min(soonest, 1e9) * 1000
        return [
            calls.scored(("ZRANGE", at.leases, self._offset, end)),
            calls.scored(("ZRANGE", at.due, self._offset, end)),
            calls.scored(("ZRANGEBYSCORE", at.waiting, "-inf", round(old), "LIMIT", self._offset, _AROUND)),
        ]

    def _reasons(self, stand: calls.Standing, now_ms: int) -> list[str]:
        rules, found = self._notify.of(stand.graph_id, stand.tenant), []
        idle_s = (now_ms - stand.moved_at) / 1000
        if stand.phase in _ON_ITS_WAY and idle_s >= rules.stuck_after_s:
            found.append("stuck")
        if stand.phase is Phase.PARKED and (now_ms - stand.updated_at) / 1000 >= rules.parked_after_s:
            found.append("parked")
        began = stand.started_at
        if rules.late_after_s is not None and began and (now_ms - began) / 1000 >= rules.late_after_s:
            found.append("late")
        return [kind for kind in found if rules.tells(kind)]

    def _slow(self, run: Run, now_ms: int) -> None:
        stand = calls.standing_of(run)
        for kind in self._reasons(stand, now_ms):
            since, key = _since(kind, stand), f"{kind}/{_since(kind, stand)}"
            why = self._service.why(run)
            self._of_run(
                run, kind, key=key, group=run.graph_id, title=f"{run.graph_id}: {_TITLES[kind]}",
                text=f"A run of {run.graph_id} {_TITLES[kind]}, for {duration(now_ms - since)} by now. {why.headline}",
                at=now_ms, since=since, phase=str(run.phase), owner=run.owner,
                waits_for=[wire.decode(wire.encode(part)) for part in run.waits_for],
            )  # fmt: skip


_ON_ITS_WAY = LEASED | {Phase.WAITING, Phase.DISPATCHED}
_TITLES = {
    "stuck": "makes no progress",
    "late": "takes longer than it should",
    "parked": "waits for room",
}


def _since(kind: str, stand: calls.Standing) -> int:
    return {"stuck": stand.moved_at, "late": stand.started_at or 0, "parked": stand.updated_at}[kind]


def _question_of(value: Any) -> str:
    """The words of what is asked, where it is an object that has any."""
    if isinstance(value, dict):
        value = next((value[name] for name in ("question", "message", "text") if value.get(name)), value)
    return value if isinstance(value, str) else wire.encode(redact.plain(value)).decode()
