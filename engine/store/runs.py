"""Runs in the store: one typed function for each script.

Every function returns a :class:`Call`; who sends it decides between the web's threads and a worker's loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from runyard.engine import wire
from runyard.engine.idempotency import KEPT_MS, Idempotency
from runyard.engine.run import (
    REVIVABLE,
    TERMINAL,
    THREAD_AFTER,
    Branch,
    CancelAction,
    Phase,
    Run,
    ThreadStatus,
    status_of,
)
from runyard.engine.store import labels
from runyard.engine.store.client import Call
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.replies import as_hash, from_flat, scored
from runyard.engine.store.run_record import decode, fields_of, labels_in
from runyard.engine.store.save import Part, spelled
from runyard.engine.store.scripts import script

if TYPE_CHECKING:
    from runyard.engine.store import results

#: The broker's list and the message that wakes a run there, for a store that is the broker, too.
Letter = tuple[str, bytes]
Woken = list[tuple[str, str]]

#: How long whoever ended a run has to send the wake-up for its webhook, before recovery does.
WEBHOOK_GRACE_MS = 2_000

#: What a run that took too long is said to have failed with.
TIMED_OUT = {"error": "RunTimedOut", "message": "The run took longer than it was allowed to."}

#: What a thread, and a webhook, say of a run that was cut off; the run itself has failed with nothing.
CANCELLED = {"error": "UserInterrupt", "message": "The run was cancelled while it was under way."}


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that is in hand: its record, the fence of all its writes, and what its branches came to."""

    run: Run
    fence: Fence
    now_ms: int
    came_from: str
    branches: dict[str, str]
    #: When the wake-up that led here was sent; 0 when that cannot be told.
    woken_ms: int
    #: Since when the run has waited; another wake-up than its own may have led here.
    waits_since_ms: int
    #: Whether its thread holds a checkpoint.
    has_state: bool


@dataclass(frozen=True, slots=True)
class BranchClaim:
    run: Run
    fence: Fence
    branch: Branch
    now_ms: int
    woken_ms: int
    #: The attempt that the last holder was to be killed for, if it noted one.
    doom: dict[str, Any] | None = None

    @property
    def waits_since_ms(self) -> int:
        return self.woken_ms


class Created(NamedTuple):
    """What became of a run that was to be recorded."""

    phase: Phase
    #: ms since the epoch.
    at: int
    #: That of another run when the idempotency key has made one before; then the rest says nothing.
    run_id: str
    #: What the thread's labels add to the run's own.
    labels: dict[str, Any]


def _created(reply: Sequence[Any]) -> Created:
    return Created(Phase(reply[0].decode() or Phase.WAITING), int(reply[1]), reply[2].decode(), labels_in(reply[3]))


def _shown_config(run: Run) -> bytes:
    """A run's config as its thread shows it: without the values for its nodes, which may be secret."""
    return wire.encode({**run.request.config, "configurable": {}})


def create(
    keys: Keys,
    run: Run,
    *,
    delay_ms: int = 0,
    create_thread: bool = False,
    thread_metadata: dict[str, Any] | None = None,
    idempotency: Idempotency | None = None,
    letter: Letter | None = None,
) -> Call[Created]:
    """Record a run; ``thread_metadata`` is for a thread that is made here, ``letter`` wakes a worker when the run can
    start at once. Sending it twice is the same as once.

    Raises ThreadNotFound, also for another tenant's, ThreadBusy, IdempotencyConflict.
    """
    at = keys.of_thread(run.thread_id)
    thread_id = run.thread_id
    if_missing = "hidden" if run.temporary else "create" if create_thread else ""
    return Call(
        script("create_run"),
        (at.run(run.run_id), at.thread(thread_id), at.thread_runs(thread_id), at.thread_queue(thread_id), at.waiting,
         at.due, at.threads, at.idempotency(idempotency.name) if idempotency else at.run(run.run_id),
         letter[0] if letter else at.run(run.run_id)),
        (run.run_id, thread_id, run.strategy, if_missing, delay_ms, wire.encode(thread_metadata or {}), run.tenant,
         idempotency.digest if idempotency else "", KEPT_MS, letter[1] if letter else b"",
         keys.seal(_shown_config(run), thread_id), "" if run.temporary else labels.of(thread_metadata or {}),
         *fields_of(keys, run)),
        _created,
    )  # fmt: skip


def claim(keys: Keys, run_id: str, *, owner: str, nonce: str, lease_ms: int) -> Call[Claim | None]:
    """Take the lease of this run, or of one of its partition and queue whose turn it is rather (see claim_run.lua).

    None: somebody else has it, it is over, or there is no such run.
    """
    at = keys.of_run(run_id)

    def parse(reply: Any) -> Claim | None:
        if reply is None:
            return None
        fields = from_flat(reply[1])
        run = decode(fields)
        fence = Fence(at.run(run.run_id), "lease", fields["lease"].decode())
        branches = {name: value.decode() for name, value in from_flat(reply[2]).items()}
        came_from = fields.get("came_from", b"").decode()
        return Claim(run, fence, int(reply[0]), came_from, branches, int(reply[3]), int(reply[5]), reply[4] == 1)

    wanted = (at.run(run_id), at.leases, at.waiting, at.deadlines)
    return Call(script("claim_run"), wanted, (run_id, owner, nonce, lease_ms, at.run("")), parse, owner_in)


def owner_in(reply: Any) -> tuple[str, ...]:
    """Whose the answer of a script is that has a run's hash in the second place: its keys may be another's."""
    fields = from_flat(reply[1])
    return fields["run_id"].decode(), fields["thread_id"].decode()


def claim_branch(keys: Keys, run_id: str, name: str, *, nonce: str, lease_ms: int) -> Call[BranchClaim | None]:
    """Take the lease of one branch, or None: somebody else has it, or it is over."""
    at = keys.of_run(run_id)

    def parse(reply: Any) -> BranchClaim | None:
        if reply is None:
            return None
        spec = wire.decode(reply[2])
        fence = Fence(at.branches(run_id), name, str(int(reply[1])))
        branch = Branch(name, spec["queue"], tuple(spec["task_ids"]), tuple(spec["nodes"]))
        doom = wire.decode(reply[5]) if reply[5] else None
        return BranchClaim(decode(from_flat(reply[3])), fence, branch, int(reply[0]), int(reply[4]), doom)

    wanted = (at.run(run_id), at.branches(run_id), at.leases, at.waiting, at.due)
    return Call(script("claim_branch"), wanted, (run_id, name, nonce, lease_ms), parse)


def queue_of_branch(keys: Keys, run_id: str, name: str) -> Call[str | None]:
    """The queue of a branch that waits for a worker, or None: somebody has it, or it is over."""
    key = keys.of_run(run_id).branches(run_id)
    return Call.command(
        "HMGET", key, name, f"{name}:queue", parse=lambda reply: reply[1].decode() if reply[0] == b"" else None
    )


def waits_of(keys: Keys, member: str) -> Call[tuple[str, int | None]]:
    """The queue of a member of the waiting ("" when it is gone), and since when it waits, in ms: its place among the
    waiting is that of its last wake-up, and recovery sends one anew that nobody took. None for a branch: not kept."""
    run_id, branch = split_member(member)
    at = keys.of_run(run_id)
    wanted = (at.branches(run_id), f"{branch}:queue", "") if branch else (at.run(run_id), "queue", "updated_at")
    return Call.command(
        "HMGET",
        *wanted,
        parse=lambda reply: (reply[0].decode() if reply[0] else "", int(reply[1]) if reply[1] else None),
    )


def member_of(run_id: str, branch: str | None = None) -> str:
    """How a run or one of its branches is named among the leases and the waiting."""
    return f"{run_id}/{branch}" if branch else run_id


def split_member(member: str) -> tuple[str, str | None]:
    run_id, _, branch = member.partition("/")
    return run_id, branch or None


def renew(keys: Keys, partition: int, held: Sequence[tuple[str, Fence]], *, lease_ms: int) -> Call[list[int]]:
    """Renew the leases of one partition: ``(member, fence)`` each; answers 0 lost, 1 renewed, 2 to be cancelled."""
    at = keys.all()[partition]
    wanted, words = [at.leases], []
    for member, fence in held:
        wanted += [fence.key, at.run(split_member(member)[0])]
        words += [member, fence.field, fence.value]
    return Call(script("renew_leases"), tuple(wanted), (lease_ms, *words), list)


def give_back(keys: Keys, run_id: str, fence: Fence) -> Call[str]:
    """Yield at a superstep edge: ``waiting``, or ``cancelling`` when the run must be cancelled instead."""
    at = keys.of_run(run_id)
    return Call(script("yield_run"), (at.run(run_id), at.leases, at.waiting), (run_id, fence.value), bytes.decode)


def dispatch(
    keys: Keys, run_id: str, fence: Fence, branches: Iterable[Branch], *, cut_at_ms: int | None = None
) -> Call[str]:
    """Hand the branches to other workers: ``dispatched``, or ``cancelling`` when the run must be cancelled instead."""
    at = keys.of_run(run_id)
    words: list[str | bytes | int] = ["" if cut_at_ms is None else cut_at_ms]
    for branch in branches:
        words += [branch.name, branch.queue, wire.encode(asdict(branch))]
    wanted = (at.run(run_id), at.leases, at.waiting, at.branches(run_id), at.cuts)
    return Call(script("dispatch_run"), wanted, (run_id, fence.value, *words), bytes.decode)


def delay(keys: Keys, run_id: str, fence: Fence, wait_ms: int) -> Call[str]:
    """Wait for the next attempt without a worker: ``due``, or ``cancelling`` when the run must be cancelled instead."""
    at = keys.of_run(run_id)
    return Call(script("delay_run"), (at.run(run_id), at.leases, at.due), (run_id, fence.value, wait_ms), bytes.decode)


def park(keys: Keys, run_id: str, fence: Fence, wait_ms: int, parked: Sequence[Mapping[str, Any]]) -> Call[str]:
    """Wait for room without a worker, for ``wait_ms`` at most: ``parked``; ``waiting`` when there is room by now;
    ``cancelling`` when the run must be cancelled instead."""
    at = keys.of_run(run_id)
    wanted = (at.run(run_id), at.leases, at.due, at.waiting)
    return Call(script("park_run"), wanted, (run_id, fence.value, wait_ms, wire.encode(list(parked))), bytes.decode)


def park_branch(
    keys: Keys, run_id: str, name: str, fence: Fence, wait_ms: int, parked: Sequence[Mapping[str, Any]]
) -> Call[str]:
    """As :func:`park` for a branch; answers its queue when it is to be woken at once, else ""."""
    at = keys.of_run(run_id)
    wanted = (at.run(run_id), at.branches(run_id), at.leases, at.waiting, at.due)
    return Call(
        script("park_branch"), wanted, (run_id, name, fence.value, wait_ms, wire.encode(list(parked))), bytes.decode
    )


def unpark(keys: Keys, member: str) -> Call[tuple[bool, str]]:
    """Wake a parked run or branch: whether it will come, and the queue of the wake-up to send, or ""."""
    run_id, branch = split_member(member)
    at = keys.of_run(run_id)
    wanted = (at.run(run_id), at.branches(run_id), at.due, at.waiting)
    return Call(script("unpark"), wanted, (run_id, branch or ""), lambda reply: (reply[0] == 1, reply[1].decode()))


def note_attempt(
    keys: Keys, run_id: str, thread_id: str, fence: Fence, record: dict[str, Any], *,
    degraded: dict[str, Any] | None = None, part_of: int | None = None, again_ms: int = 0, new_round: bool = False,
) -> Call[int]:  # fmt: skip
    """Note a failed attempt (``record`` has ``task_id`` and ``attempt``), and what follows from it.

    ``degraded``: what the run does without. ``part_of``: the task is not executed again; the step of its fan-out.
    ``again_ms``: how long the next attempt has to wait. ``new_round``: that one is the first of its policy again.
    """
    at = keys.of_run(run_id)

    def kept(told: dict[str, Any]) -> bytes:
        return keys.seal(wire.encode(told), run_id)

    without = keys.seal(wire.encode(degraded), run_id, thread_id) if degraded else b""
    last = {key: value for key, value in record.items() if key != "traceback"}
    part: tuple[str | int, str | bytes] = ("", "") if part_of is None else (part_of, kept(last))
    words: tuple[str | bytes | int, ...] = (
        fence.field, fence.value, record["task_id"], record["attempt"], kept(record), 200, without,
        *part, again_ms, kept(last) if new_round else "",
    )  # fmt: skip
    return Call(script("note_attempt"), (fence.key, at.run(run_id), at.attempts(run_id)), words)


def note_answers(
    keys: Keys, run_id: str, fence: Fence, *, step: int, key: str, needed: int, rest_ms: int, answered: Sequence[str]
) -> Call[int | None]:
    """Count the tasks of a fan-out that have answered, those of other branches too.

    Answers in how many ms the rest is cut off, or None: the quorum is not reached.
    """
    at = keys.of_run(run_id)
    words: tuple[str | int, ...] = (fence.field, fence.value, run_id, step, key, needed, rest_ms, *answered)
    wanted = (fence.key, at.run(run_id), at.branches(run_id), at.cuts)
    return Call(script("note_answers"), wanted, words, lambda reply: None if reply is None else int(reply))


def foretell(keys: Keys, run_id: str, fence: Fence, doom: dict[str, Any]) -> Call[int]:
    """Note, with the branch in hand, the attempt this process is to be killed for when it takes too long."""
    fields = (f"{fence.field}:doom", wire.encode(doom))
    wanted = (fence.key, keys.of_run(run_id).branches(run_id))
    return Call(script("set_fields"), wanted, (fence.field, fence.value, *fields))


def attempts(keys: Keys, run_id: str) -> Call[list[dict[str, Any]]]:
    """The failed attempts of a run's nodes, oldest first."""
    key = keys.of_run(run_id).attempts(run_id)
    return Call.command("LRANGE", key, 0, -1, parse=lambda reply: [wire.decode(record) for record in reply])


def end_branch(
    keys: Keys, run_id: str, name: str, fence: Fence, result: dict[str, Any] | None
) -> Call[tuple[int, str]]:
    """End a branch; answers how many are left and the run's queue, to wake the run when it was the last."""
    at = keys.of_run(run_id)
    words = (run_id, name, fence.value, keys.seal(wire.encode(result), run_id) if result else "")
    wanted = (at.run(run_id), at.branches(run_id), at.leases, at.waiting)
    return Call(script("end_branch"), wanted, words, lambda reply: (int(reply[0]), (reply[1] or b"").decode()))


def return_branch(keys: Keys, run_id: str, name: str, fence: Fence) -> Call[str]:
    """Give a branch back unfinished; answers its queue."""
    at = keys.of_run(run_id)
    wanted = (at.run(run_id), at.branches(run_id), at.leases, at.waiting)
    return Call(script("return_branch"), wanted, (run_id, name, fence.value), bytes.decode)


def end(
    keys: Keys,
    run: Run,
    fence: Fence,
    phase: Phase,
    *,
    events_ttl_ms: int,
    thread_status: ThreadStatus | None = None,
    error: Mapping[str, Any] | None = None,
    values: bytes = b"",
    interrupts: dict[str, Any] | None = None,
    report: bytes = b"{}",
    hold_thread: bool = False,
    asks: bool = False,
    parts: Sequence[Part] = (),
    kept: results.Kept | None = None,
) -> Call[Woken]:
    """End a run that is in hand; answers the next run to wake, if any. ``asks``: a person is to be told that it waits.
    With ``kept`` the thread keeps the result, which are its ``values`` and what it asks, and there is no ``report``.
    ``parts`` are what it has not saved yet: they are saved with it, or none of it is.

    ``values`` are JSON, ``report`` is the JSON that waiting clients are answered.
    """
    at, owners = keys.of_thread(run.thread_id), (run.run_id, run.thread_id)
    shown = error or (CANCELLED if phase is Phase.CANCELLED else None)
    words = (
        run.run_id,
        fence.value,
        phase,
        thread_status or THREAD_AFTER[phase],
        keys.seal(wire.encode(shown), *owners) if shown else "",
        keys.seal(kept.edit if kept and kept.edit else wire.pack_json(values), *owners) if values else b"",
        keys.seal(wire.encode(interrupts), *owners) if interrupts else "{}",
        keys.seal(end_event(phase, report) if kept is None else _kept_event(phase, interrupts or {}), run.run_id),
        events_ttl_ms,
        at.run(""),
        int(hold_thread),
        int(phase in REVIVABLE),
        "" if hold_thread else _webhook_grace(run),
        int(asks),
        *((run.run_id, kept.before, kept.back, kept.number or "") if kept else ("", "", "", "")),
    )
    wanted = (at.run(run.run_id), at.thread(run.thread_id), at.thread_queue(run.thread_id), at.leases, at.waiting,
              at.ended, at.threads, at.events(run.run_id), at.branches(run.run_id), at.rollbacks,
              at.deadlines, at.dead, at.webhook(run.run_id), at.webhooks, at.webhooks_failed, at.asking,
              at.thread_results(run.thread_id))  # fmt: skip
    keys_of_parts, words_of_parts = spelled(parts)
    return Call(script("end_run"), (*wanted, *keys_of_parts), (*words, *words_of_parts), _woken)


def cancel(keys: Keys, run: Run, action: CancelAction, *, events_ttl_ms: int) -> Call[tuple[str, Woken]]:
    """Ask for the end of a run: ``cancelled`` at once or ``cancelling`` by its worker, and the next run to wake.

    ``rolling back`` when it is over and its checkpoints are the caller's to delete, and then the run. Raises
    RunNotFound, InvalidTransition when it is over already.
    """
    at = keys.of_thread(run.thread_id)
    wanted = (at.run(run.run_id), at.thread(run.thread_id), at.thread_queue(run.thread_id), at.leases, at.waiting,
              at.due, at.ended, at.events(run.run_id), at.branches(run.run_id), at.rollbacks,
              at.deadlines, at.webhook(run.run_id), at.webhooks, at.webhooks_failed)  # fmt: skip
    words = (run.run_id, action, events_ttl_ms, at.run(""), end_event(Phase.CANCELLED, b""), keys.control,
             _webhook_grace(run), keys.seal(wire.encode(CANCELLED), run.run_id, run.thread_id))  # fmt: skip
    return Call(script("cancel_run"), wanted, words, lambda reply: (reply[0].decode(), _woken(reply[1:])))


def expire(keys: Keys, run: Run, *, grace_ms: int, events_ttl_ms: int) -> Call[tuple[bool, Woken]]:
    """End a run whose deadline has passed; answers whether that was done, and the next run to wake."""
    at = keys.of_thread(run.thread_id)
    wanted = (at.run(run.run_id), at.thread(run.thread_id), at.thread_queue(run.thread_id), at.leases, at.waiting,
              at.due, at.ended, at.events(run.run_id), at.branches(run.run_id), at.deadlines, at.dead,
              at.webhook(run.run_id), at.webhooks, at.webhooks_failed)  # fmt: skip
    report = end_event(Phase.TIMED_OUT, wire.encode({"__error__": TIMED_OUT}))
    words = (run.run_id, grace_ms, events_ttl_ms, at.run(""), report, wire.encode(TIMED_OUT), _webhook_grace(run))
    return Call(script("expire_run"), wanted, words, lambda reply: (reply[0] == 1, _woken(reply[1:])))


def revive(keys: Keys, run: Run, supplied: dict[str, Any], *, accept_change: bool = False) -> Call[str | None]:
    """Take a dead letter up again; answers its queue, or None when it is none. Raises RunNotFound, ThreadBusy."""
    at = keys.of_thread(run.thread_id)
    wanted = (at.run(run.run_id), at.thread(run.thread_id), at.waiting, at.ended, at.dead, at.events(run.run_id),
              at.due)  # fmt: skip
    words = (run.run_id, keys.seal(wire.encode(supplied), run.run_id), int(accept_change))
    return Call(script("revive_run"), wanted, words, lambda reply: reply[1].decode() if reply[0] == 1 else None)


def discard(keys: Keys, run_id: str, reason: str) -> Call[bool]:
    """Take a run off the dead letters for good; answers whether it was one."""
    at = keys.of_run(run_id)
    return Call(script("discard_run"), (at.run(run_id), at.dead, at.ended), (run_id, reason), bool)


def is_dead(keys: Keys, run_id: str) -> Call[bool]:
    return Call.command("ZSCORE", keys.of_run(run_id).dead, run_id, parse=lambda score: score is not None)


def waiting_for_a_time(keys: Keys, partition: int, *, limit: int) -> Call[list[str]]:
    """Ids of a partition's runs that are due or parked, those that wait longest last."""
    key = keys.all()[partition].due
    return Call.command("ZREVRANGE", key, 0, limit - 1, parse=lambda ids: [i.decode() for i in ids if b"/" not in i])


def dead(
    keys: Keys, partition: int, tenant: str | None, lowest: str, highest: str, *, limit: int, offset: int = 0
) -> Call[list[tuple[float, str]]]:
    """A partition's dead letters, newest first: the ms of their end, and ids; of all, or of a tenant. ``lowest`` and
    ``highest`` bound the ms, in the notation of ZREVRANGEBYSCORE."""
    words = ("ZREVRANGEBYSCORE", keys.all()[partition].dead_of(tenant), highest, lowest, "WITHSCORES")
    return Call.command(
        *words, "LIMIT", offset, limit, parse=lambda reply: [(float(ms), i.decode()) for i, ms in scored(reply)]
    )


def count_dead(keys: Keys, partition: int, tenant: str | None, lowest: str, highest: str) -> Call[int]:
    """How many those are."""
    return Call.command("ZCOUNT", keys.all()[partition].dead_of(tenant), lowest, highest, parse=int)


def delete(keys: Keys, run_id: str, thread_id: str) -> Call[Woken]:
    """Forget a run, and a thread that was made for it alone; answers the next run of its thread to wake, if it held the
    thread."""
    at = keys.of_run(run_id)
    wanted = (at.run(run_id), at.thread(thread_id), at.thread_runs(thread_id), at.thread_queue(thread_id), at.waiting,
              at.ended, at.events(run_id), at.branches(run_id), at.leases, at.due, at.rollbacks,
              at.threads, at.deadlines, at.dead, at.attempts(run_id), at.effects(run_id),
              at.records(run_id), at.webhook(run_id), at.webhooks, at.webhooks_failed)  # fmt: skip
    return Call(script("delete_run"), wanted, (run_id, at.run(""), thread_id), _woken)


def get(keys: Keys, run_id: str) -> Call[Run | None]:
    """A run by its id alone."""
    at = keys.of_run(run_id)
    return Call.command("HGETALL", at.run(run_id), parse=lambda reply: decode(as_hash(reply)) if reply else None)


def graph_id(keys: Keys, run_id: str) -> Call[str]:
    """The graph of a run; "" for one that was forgotten."""
    return Call.command(
        "HGET", keys.of_run(run_id).run(run_id), "graph_id", parse=lambda reply: (reply or b"").decode()
    )


def is_over(keys: Keys, run_id: str) -> Call[bool]:
    """Whether a run has ended or was forgotten."""
    key = keys.of_run(run_id).run(run_id)
    return Call.command("HGET", key, "phase", parse=lambda reply: reply is None or reply.decode() in TERMINAL)


def remember_shape(keys: Keys, fingerprint: str, shape: dict[str, Any]) -> Call[Any]:
    """Keep the shape of a graph, so that a later version can be compared with it."""
    return Call.command("SET", keys.graph(fingerprint), wire.encode(shape), "NX")


def shape(keys: Keys, fingerprint: str) -> Call[dict[str, Any] | None]:
    """The shape of the graph that had this fingerprint."""
    return Call.command("GET", keys.graph(fingerprint), parse=lambda reply: wire.decode(reply) if reply else None)


def thread_left(keys: Keys, thread_id: str) -> Call[tuple[str, list[dict[str, Any]]]]:
    """How the thread's last run has left it: the fingerprint of its graph ("" before the first), and what it did
    without, if it has left something to go on with."""
    key = keys.of_thread(thread_id).thread(thread_id)

    def parse(reply: Sequence[bytes | None]) -> tuple[str, list[dict[str, Any]]]:
        return (reply[0] or b"").decode(), wire.decode(reply[1]) if reply[1] else []

    return Call.command("HMGET", key, "fingerprint", "degraded", parse=parse)


def fields_part(keys: Keys, run_id: str, fields: Mapping[str, str | int]) -> Part:
    """Fields of a run that is in hand, to save with what else it saves."""
    words = tuple(word for pair in fields.items() for word in pair)
    return Part("fields", (), words, keys.of_run(run_id).run(run_id))


def set_fields(keys: Keys, run_id: str, fence: Fence, fields: Mapping[str, str | bytes | int]) -> Call[int]:
    """Set fields of a run that is in hand. Raises LeaseLost."""
    words = [word for pair in fields.items() for word in pair]
    return Call(script("set_fields"), (fence.key, keys.of_run(run_id).run(run_id)), (fence.field, fence.value, *words))


def of_thread(keys: Keys, thread_id: str, *, limit: int, offset: int) -> Call[list[str]]:
    """Ids of a thread's runs, newest first."""
    key = keys.of_thread(thread_id).thread_runs(thread_id)
    return Call.command("ZREVRANGE", key, offset, offset + limit - 1, parse=lambda ids: [i.decode() for i in ids])


def unfinished(keys: Keys, thread_id: str) -> list[Call[list[str]]]:
    """The thread's active run, and those that wait behind it: two calls to be sent together."""
    at = keys.of_thread(thread_id)
    return [
        Call.command("HGET", at.thread(thread_id), "active", parse=lambda reply: [reply.decode()] if reply else []),
        Call.command("ZRANGE", at.thread_queue(thread_id), 0, -1, parse=lambda ids: [i.decode() for i in ids]),
    ]


def _webhook_grace(run: Run) -> int | str:
    return WEBHOOK_GRACE_MS if run.request.webhook else ""


def end_event(phase: Phase, result: bytes) -> bytes:
    """The data of a run's last event: its status, and the result as the JSON it is, if there is one."""
    status = status_of(phase, started=True).encode()
    return b'{"status":"%b","result":%b}' % (status, result) if result else b'{"status":"%b"}' % status


def _kept_event(phase: Phase, interrupts: Mapping[str, Any]) -> bytes:
    """The data of the last event of a run whose thread keeps the result: see :func:`events.asked_in`."""
    asked = wire.encode([item for items in interrupts.values() for item in items])
    return b'{"status":"%b","kept":true,"asked":%b}' % (status_of(phase, started=True).encode(), asked)


def _woken(reply: Sequence[bytes]) -> Woken:
    words = [word.decode() for word in reply]
    return [(words[i], words[i + 1]) for i in range(0, len(words), 2) if words[i]]
