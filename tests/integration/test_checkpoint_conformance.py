"""LangGraph's own conformance suite, on both faces of the saver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.checkpoint.conformance.capabilities import Capability
from langgraph.checkpoint.conformance.initializer import checkpointer_test
from langgraph.checkpoint.conformance.validate import validate

from runyard.engine.saver import RedisSaver
from runyard.engine.store.client import AsyncStore, SyncStore
from runyard.engine.store.keys import Keys


class SyncFace(RedisSaver):
    """The suite only calls async methods; these answer through the sync ones."""

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        return self.put(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        self.put_writes(*args, **kwargs)

    async def aget_tuple(self, *args: Any, **kwargs: Any) -> Any:
        return self.get_tuple(*args, **kwargs)

    async def alist(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        for found in self.list(*args, **kwargs):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        self.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Any) -> None:
        self.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        self.prune(thread_ids, strategy=strategy)


@pytest.mark.parametrize("face", [RedisSaver, SyncFace])
async def test_all_eight_capabilities_are_there_and_pass(redis_url: str, face: type[RedisSaver]) -> None:
    @checkpointer_test(name=face.__name__)
    async def registered() -> AsyncIterator[RedisSaver]:
        store, sync_store = AsyncStore.connect(redis_url), SyncStore.connect(redis_url)
        yield face(Keys(), store=store, sync_store=sync_store)
        await store.close()
        sync_store.close()

    report = await validate(registered)
    results = report.results
    assert {name for name, result in results.items() if result.detected} == {one.value for one in Capability}
    assert len(results) == 8
    assert [failure for result in results.values() for failure in result.failures or ()] == []
    assert all(result.passed for result in results.values())
