"""Whole threads: copied, pruned, deleted, and swept when their time to live is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from runyard.engine import wire
from runyard.engine.errors import LeaseLost
from runyard.engine.ids import new_thread_id
from runyard.engine.store import crons, runs, threads
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.threads import Thread, TtlStrategy

if TYPE_CHECKING:  # what follows needs LangGraph
    from runyard.engine.saver import RedisSaver

#: Threads of a partition looked at in one sweep.
_BATCH = 200


def copy(store: SyncStore, keys: Keys, saver: RedisSaver, source: Thread) -> Thread:
    """A new thread with the labels, the state and the history of ``source``, but none of its runs.

    While a run is active on the source, the copy is of what was saved so far. A crash leaves a copy whose history is
    complete as far as it goes; nobody was told of it.
    """
    taken = store.do(threads.face(keys, source.thread_id))
    labels = wire.decode(source.raw_metadata)
    made = store.do(threads.create(keys, new_thread_id(), labels, exist_ok=True, tenant=source.tenant, fields=taken))
    saver.copy_thread(source.thread_id, made.thread_id)
    return made


def delete(store: SyncStore, keys: Keys, saver: RedisSaver, thread_id: str) -> None:
    """Delete a thread, its runs, its checkpoints and its crons. A run in hand loses its lease. Safe to repeat."""
    for cron_id in store.do(crons.of_thread(keys, thread_id)):  # one that is made meanwhile goes when it fires
        store.do(crons.delete(keys, cron_id, thread_id))
    while True:
        while ids := store.do(runs.of_thread(keys, thread_id, limit=200, offset=0)):
            waiting = set(store.do_all(runs.unfinished(keys, thread_id))[1])
            # the queue first, so that nothing of it is admitted in between
            for run_id in sorted(ids, key=lambda run_id: run_id not in waiting):
                store.do(runs.delete(keys, run_id, thread_id))
        saver.delete_thread(thread_id)
        if store.do(threads.delete(keys, thread_id)):  # else a run was accepted in the meantime
            return


def prune(
    store: SyncStore,
    keys: Keys,
    saver: RedisSaver,
    thread_ids: Iterable[str],
    strategy: TtlStrategy,
    is_ours: Callable[[Thread], bool],
) -> int:
    """Delete threads, or their history but for the latest checkpoint; answers how many.

    A thread that does not exist, or is not ours, is left out; so is one with an active run, when its history is to go.
    """
    found = (threads.from_replies(*store.do_all(threads.get(keys, each))) for each in dict.fromkeys(thread_ids))
    ours = (thread for thread in found if thread is not None and not thread.hidden and is_ours(thread))
    return sum(_prune_one(store, keys, saver, thread.thread_id, strategy) for thread in ours)


def _prune_one(store: SyncStore, keys: Keys, saver: RedisSaver, thread_id: str, strategy: TtlStrategy) -> bool:
    if strategy == "keep_latest":
        return keep_latest(keys, saver, thread_id)
    delete(store, keys, saver, thread_id)
    return True


def keep_latest(keys: Keys, saver: RedisSaver, thread_id: str) -> bool:
    """Forget a thread's history but for the latest checkpoint; stops, and answers False, when a run becomes active."""
    try:
        saver.fenced(threads.idle_fence(keys, thread_id)).prune([thread_id])
    except LeaseLost:
        return False
    return True


def sweep(store: SyncStore, keys: Keys, saver: RedisSaver, now_ms: int) -> None:
    """Do what is due with threads whose time to live is over. Called by recovery."""
    for batch in store.do_all([threads.old(at, now_ms, most=_BATCH) for at in keys.all()]):
        for thread_id in batch:
            match store.do(threads.expire(keys, thread_id)):
                case "delete":
                    delete(store, keys, saver, thread_id)
                case "keep_latest":
                    keep_latest(keys, saver, thread_id)
