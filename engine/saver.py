"""The checkpointer that LangGraph is given: every superstep saved in Redis, under the lease of the run.

``RedisSaver`` says nothing twice: what to store is in :mod:`runyard.engine.store.checkpoints`, and each method here has
a sync face (through ``SyncStore``) and an async one (through ``AsyncStore``) over the same calls.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import RESUME

from runyard.engine.recent import Recent
from runyard.engine.steps import Steps
from runyard.engine.store import checkpoint_calls as calls, checkpoint_upkeep as upkeep, checkpoints as codec
from runyard.engine.store.checkpoint_calls import Place, place_of
from runyard.engine.store.checkpoint_copy import copy_thread
from runyard.engine.store.checkpoint_history import delta_history
from runyard.engine.store.checkpoint_listing import Listing
from runyard.engine.store.client import AsyncStore, Call, SyncStore
from runyard.engine.store.fence import Fence
from runyard.engine.store.keys import Keys
from runyard.engine.store.plans import acarry_out, carry_out
from runyard.engine.store.save import Part, save
from runyard.engine.store.serde import strict_serde

#: What get_checkpoint.lua gives.
Reply = list[Any] | None


@dataclass(slots=True)
class SliceSession:
    """What a saver knows about the slice it serves. Shared by all clones of a bound saver; one slice, one thread."""

    #: Every write is refused (LeaseLost) when this does not hold.
    fence: Fence | None = None
    #: The hash of the run, in the thread's partition: it is told of progress in the same script.
    run_key: str | None = None
    #: The run that checkpoints are deleted with (rollback); without it, ``run_id`` of their metadata.
    run_id: str | None = None
    #: Thread and checkpoint namespace -> their keys.
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    #: Checkpoint namespace -> id of the latest checkpoint that was loaded or put in it.
    head: dict[str, str] = field(default_factory=dict)
    #: Namespaces that the slice has put a checkpoint in.
    put_in: set[str] = field(default_factory=set)
    #: Namespace and id of checkpoints that had writes before they were put, if they were. No set: an empty one is three
    #: times as large.
    early: dict[tuple[str, str], None] = field(default_factory=dict)
    #: The latest checkpoint of the root namespace as it was last primed or loaded. LangGraph changes it as it runs.
    loaded: CheckpointTuple | None = None
    #: Whether ``loaded`` is to be the answer to the next question for it.
    primed: bool = False
    #: Answers that name no interrupt and are there for whoever asks first: where each is stored, and its value.
    answers: list[tuple[Place, str, Any]] = field(default_factory=list)
    #: What async writes go through, to be saved with what else the slice leaves; without it each goes by itself.
    steps: Steps | None = None
    #: Whether no node is to run after a checkpoint of the root namespace, whose source is told, before the next one or
    #: the end.
    runs_nothing_next: Callable[[Checkpoint, str], bool] = lambda *_: False

    def is_primed_for(self, config: RunnableConfig) -> bool:
        asked = config["configurable"]
        if not self.primed or asked.get("checkpoint_ns") or asked.get("checkpoint_id"):
            return False
        return self.loaded is None or self.loaded.config["configurable"]["thread_id"] == asked["thread_id"]

    def take_primed(self) -> CheckpointTuple | None:
        self.primed = False
        return self.loaded

    def goes_along(self, place: Place, checkpoint: Checkpoint, metadata: CheckpointMetadata) -> bool:
        """Whether a checkpoint may be saved with what follows: no node runs between the two, so none sees a state that
        is not saved."""
        return not place.namespace and self.runs_nothing_next(checkpoint, metadata.get("source", ""))

    def note_head(self, namespace: str, latest: CheckpointTuple | None) -> None:
        if latest is None:
            self.head.pop(namespace, None)
        else:
            self.head[namespace] = latest.checkpoint["id"]

    def note_answer(self, place: Place, checkpoint_id: str, writes: Iterable[tuple[str, str, Any]]) -> None:
        """Remember the answer among a checkpoint's ``writes`` (task id, channel, value), if one waits there."""
        for task_id, channel, value in writes:
            if task_id == codec.NULL_TASK_ID and channel == RESUME:
                self.answers.append((place, checkpoint_id, value))

    def taken(self, place: Place, writes: Sequence[tuple[str, Any]], task_id: str) -> tuple[str, str, str] | None:
        """Which waiting answer the task of these ``writes`` has taken, in the words of ``put_writes``.

        LangGraph forgets a taken answer in its memory only, and would find it again after a crash. It hands on the very
        value, from the task's own namespace before those around it.
        """
        taken = [value[-1] for channel, value in writes if channel == RESUME and isinstance(value, list) and value]
        waited = [
            (where, checkpoint_id)
            for where, checkpoint_id, answer in self.answers
            if taken and answer is taken[-1] and where.surrounds(place)
        ]
        if not waited:
            return None
        where, checkpoint_id = max(waited, key=lambda found: len(found[0].namespace))
        return where.checkpoint(checkpoint_id), codec.resume_field(codec.NULL_TASK_ID), codec.resume_field(task_id)


class RedisSaver(BaseCheckpointSaver[str]):
    """LangGraph's checkpointer on plain Redis. Thread-safe, except that a bound saver serves one slice.

    ``store`` serves the async methods, ``sync_store`` the sync ones; either may be left out. Without a session
    (see :meth:`bound`) nothing is fenced: that is for reading and for tests.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        store: AsyncStore | None = None,
        sync_store: SyncStore | None = None,
        serde: SerializerProtocol | None = None,
        recent: Recent | None = None,
    ) -> None:
        """``recent``: what this process keeps of the threads it had in hand last."""
        super().__init__(serde=serde or strict_serde())
        self._keys = keys
        self._async = store
        self._sync = sync_store
        self._recent = recent
        #: The slice this saver serves, if it is bound to one.
        self.session: SliceSession | None = None

    def bound(self, session: SliceSession) -> Self:
        """A saver for one slice: it writes under the session's fence and tells the session's run of its progress."""
        clone = copy.copy(self)
        clone.session = session
        return clone

    def fenced(self, fence: Fence) -> Self:
        """A saver whose every write is refused (LeaseLost) when ``fence`` does not hold."""
        return self.bound(SliceSession(fence=fence))

    def prime(self, latest: CheckpointTuple | None) -> None:
        """Answer the next question for the thread's latest checkpoint (root namespace) with ``latest``, once.

        For a bound saver. A write in between makes it void. LangGraph changes what it is given: do not keep it.
        """
        if self.session is None:
            raise RuntimeError("Only a bound saver can be primed: another slice might be given the answer.")
        self.session.loaded, self.session.primed = latest, True
        self.session.note_head("", latest)

    # --- LangGraph's interface: one checkpoint

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, or the latest of its namespace. One round trip."""
        if self.session is not None and self.session.is_primed_for(config):
            return self.session.take_primed()
        return self._loaded(config, self._sync_store.do(self._get_call(config)))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As :meth:`get_tuple`."""
        if self.session is not None and self.session.is_primed_for(config):
            return self.session.take_primed()
        return self._loaded(config, await self._async_store.do(self._get_call(config)))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint. Raises LeaseLost, or Unserializable with the state key that cannot be stored."""
        place = self._place(config)
        part = self._checkpoint_part(place, config, checkpoint, metadata, new_versions)
        self._sync_store.do(save(self._fence, [part]))
        return self._was_put(place, checkpoint["id"])

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As :meth:`put`. The values are read before anything is awaited.

        In a slice the first checkpoint of an input, and one that nothing runs after, return before they are saved: they
        are with what follows, or none of it is.
        """
        place = self._place(config)
        if self.takes_at_once:
            if (saved := self.take_checkpoint(config, checkpoint, metadata, new_versions)) is not None:
                await saved()
            return place.config(checkpoint["id"])
        part = self._checkpoint_part(place, config, checkpoint, metadata, new_versions)
        await self._async_store.do(save(self._fence, [part]))
        return self._was_put(place, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote, under the checkpoint it ran on. Raises as :meth:`put` does."""
        if writes:
            self._sync_store.do(save(self._fence, [self._writes_part(config, writes, task_id, task_path)]))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As :meth:`put_writes`; but in a slice it returns before they are saved, and the next checkpoint raises."""
        if self.takes_at_once:
            self.take_writes(config, writes, task_id, task_path)
        elif writes:
            await self._async_store.do(save(self._fence, [self._writes_part(config, writes, task_id, task_path)]))

    # --- the same in a slice, for seam.Executor

    @property
    def takes_at_once(self) -> bool:
        """Whether this saver serves a slice, which saves in order what it is given."""
        return self.session is not None and self.session.steps is not None

    def take_checkpoint(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        /,
    ) -> Callable[[], Awaitable[None]] | None:
        """Send a checkpoint; what waits until it is saved, and raises as :meth:`put` does. None: it goes with what
        follows."""
        place, session, steps = self._place(config), *self._slice
        part = self._checkpoint_part(place, config, checkpoint, metadata, new_versions)
        self._was_put(place, checkpoint["id"])
        if session.goes_along(place, checkpoint, metadata):
            steps.goes_along(part)
            return None
        return steps.send_checkpoint(part)

    def take_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Have what a task wrote saved. Whether it could be is known at the next checkpoint, or at the end."""
        if writes:
            _, steps = self._slice
            steps.wrote(self._writes_part(config, writes, task_id, task_path))

    def get_next_version(self, current: str | None, channel: None) -> str:  # noqa: ARG002 - LangGraph's signature
        """Eight digits that grow, and forty random bits: two branches of a thread never share a version.

        Short, because a checkpoint holds many. Versions of other savers (a number before a dot) go on from there.
        """
        counter = int(current.split(".")[0]) + 1 if current else 1
        return f"{counter:08d}.{random.getrandbits(40):010x}"

    # --- LangGraph's interface: many checkpoints

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's signature
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first within a namespace, read a page at a time as they are asked for.

        ``filter`` compares metadata. Without a namespace in ``config`` all of the thread's are listed, the root first;
        without a ``config`` those of all threads, which walks the whole store.
        """
        listing = Listing(self._keys, self.serde, config, metadata=filter, before=before, limit=limit)
        while (page := carry_out(listing.next_page(), self._sync_store)) is not None:
            yield from page

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's signature
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As :meth:`list`."""
        listing = Listing(self._keys, self.serde, config, metadata=filter, before=before, limit=limit)
        while (page := await acarry_out(listing.next_page(), self._async_store)) is not None:
            for found in page:
                yield found

    def delete_thread(self, thread_id: str) -> None:
        """Remove all checkpoints of a thread. In batches, as everything below: not atomic, and safe to repeat."""
        carry_out(upkeep.delete_thread(self._keys, thread_id, fence=self._fence), self._sync_store)

    async def adelete_thread(self, thread_id: str) -> None:
        """As :meth:`delete_thread`."""
        await acarry_out(upkeep.delete_thread(self._keys, thread_id, fence=self._fence), self._async_store)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that runs made, wherever they are, and the values that only those needed (rollback).

        Copies of a thread keep theirs. The latest checkpoint is then the newest that is left.
        """
        carry_out(upkeep.delete_for_runs(self._keys, run_ids, fence=self._fence), self._sync_store)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As :meth:`delete_for_runs`."""
        await acarry_out(upkeep.delete_for_runs(self._keys, run_ids, fence=self._fence), self._async_store)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints with their writes; a bound saver's fence is one of the target."""
        carry_out(copy_thread(self._keys, source_thread_id, target_thread_id, fence=self._fence), self._sync_store)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As :meth:`copy_thread`."""
        plan = copy_thread(self._keys, source_thread_id, target_thread_id, fence=self._fence)
        await acarry_out(plan, self._async_store)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """``keep_latest`` keeps the latest checkpoint of each namespace, and the ancestors that its DeltaChannels are
        rebuilt from; ``delete`` keeps nothing."""
        carry_out(upkeep.prune(self._keys, self.serde, thread_ids, strategy, fence=self._fence), self._sync_store)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As :meth:`prune`."""
        plan = upkeep.prune(self._keys, self.serde, thread_ids, strategy, fence=self._fence)
        await acarry_out(plan, self._async_store)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What DeltaChannels are rebuilt from: nothing else of the ancestors is read, nor what is kept of them."""
        plan = delta_history(self.serde, self._place(config), get_checkpoint_id(config), channels, self._recent)
        return carry_out(plan, self._sync_store)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As :meth:`get_delta_channel_history`."""
        plan = delta_history(self.serde, self._place(config), get_checkpoint_id(config), channels, self._recent)
        return await acarry_out(plan, self._async_store)

    # --- how it is done

    @property
    def _fence(self) -> Fence | None:
        return self.session.fence if self.session is not None else None

    @property
    def _slice(self) -> tuple[SliceSession, Steps]:
        if self.session is None or self.session.steps is None:
            raise RuntimeError("This saver serves no slice.")
        return self.session, self.session.steps

    @property
    def _sync_store(self) -> SyncStore:
        if self._sync is None:
            raise RuntimeError("This saver was made for async use only (no sync_store).")
        return self._sync

    @property
    def _async_store(self) -> AsyncStore:
        if self._async is None:
            raise RuntimeError("This saver was made for sync use only (no store).")
        return self._async

    def _place(self, config: RunnableConfig) -> Place:
        configurable = config["configurable"]
        thread_id, namespace = configurable["thread_id"], configurable.get("checkpoint_ns", "")
        if self.session is None:
            return place_of(self._keys, thread_id, namespace)
        place = self.session.places.get((thread_id, namespace))
        if place is None:
            place = self.session.places[thread_id, namespace] = place_of(self._keys, thread_id, namespace)
        return place

    def _get_call(self, config: RunnableConfig) -> Call[Reply]:
        return calls.get_checkpoint(self._place(config), get_checkpoint_id(config))

    def _loaded(self, config: RunnableConfig, reply: Reply) -> CheckpointTuple | None:
        place = self._place(config)
        found = codec.decode_tuple(self.serde, place, reply) if reply else None
        if self.session is not None and found is not None and found.pending_writes:
            self.session.note_answer(place, found.checkpoint["id"], found.pending_writes)
        if self.session is not None and not get_checkpoint_id(config):
            self.session.note_head(place.namespace, found)
            if not place.namespace and not self.session.primed:
                self.session.loaded = found
        return found

    def _checkpoint_part(
        self,
        place: Place,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Part:
        session = self.session or SliceSession()
        session.primed = False
        values, emptied = codec.encode_values(self.serde, place, checkpoint["channel_values"], new_versions)
        full = get_checkpoint_metadata(config, metadata)
        listed = (
            session.run_id is not None  # else each may be another run's
            and place.namespace in session.put_in
            and (place.namespace, checkpoint["id"]) not in session.early
        )
        return calls.checkpoint_part(
            place,
            checkpoint["id"],
            body=codec.encode_body(self.serde, place, checkpoint),
            metadata=codec.encode_metadata(self.serde, place, full),
            parent_id=get_checkpoint_id(config) or "",
            versions=codec.encode_versions(checkpoint["channel_versions"]),
            values=values,
            # A slice's versions are used once (get_next_version): one that has no value has never had any.
            emptied=emptied if session.fence is None else (),
            run_id=session.run_id or str(full.get("run_id") or ""),
            run_key=session.run_key,
            step=full.get("step"),
            listed=listed,
            first=not listed or len(session.put_in) > 1,
        )

    def _was_put(self, place: Place, checkpoint_id: str) -> RunnableConfig:
        if self.session is not None:
            self.session.head[place.namespace] = checkpoint_id
            self.session.put_in.add(place.namespace)
        return place.config(checkpoint_id)

    def _writes_part(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Part:
        place, session = self._place(config), self.session or SliceSession()
        session.primed = False
        checkpoint_id: str = config["configurable"]["checkpoint_id"]
        there = session.head.get(place.namespace) == checkpoint_id
        if not there:
            session.early[place.namespace, checkpoint_id] = None
        if task_id == codec.NULL_TASK_ID:
            session.note_answer(place, checkpoint_id, [(task_id, *write) for write in writes])
        return calls.writes_part(
            place,
            checkpoint_id,
            codec.encode_writes(self.serde, place, writes, task_id, task_path),
            run_key=session.run_key,
            entered=task_id == codec.NULL_TASK_ID and not place.namespace,
            taken=session.taken(place, writes, task_id) if session.answers else None,
            there=there,
        )


#: LangGraph asks for it at the beginning of each run, and Python would work it out anew each time.
RedisSaver.aput_writes.__signature__ = inspect.signature(RedisSaver.aput_writes)  # type: ignore[attr-defined]
