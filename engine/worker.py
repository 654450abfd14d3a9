"""What a worker process has: made once after it has forked, handed to everything that works in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.store.base import BaseStore

from runyard.engine import seam
from runyard.engine.leases import LeaseKeeper
from runyard.engine.policy import NodePolicy, policies_of
from runyard.engine.saver import RedisSaver
from runyard.engine.settings import Settings
from runyard.engine.store.client import AsyncStore
from runyard.engine.store.keys import Keys

Graph = Pregel[Any, Any, Any, Any]
#: Given by whoever wires the process: the compiled graph of an id for a run's config, for as long as the block lasts.
#: May raise anything.
OpenGraph = Callable[[str, RunnableConfig], AbstractAsyncContextManager[Graph]]


@dataclass(eq=False, slots=True, kw_only=True)
class Worker:
    settings: Settings
    keys: Keys
    worker_id: str
    store: AsyncStore
    saver: RedisSaver
    #: As ``saver``, for branches: it never closes a superstep.
    branch_saver: RedisSaver
    keeper: LeaseKeeper
    open_graph: OpenGraph
    #: LangGraph's long-term store, for graphs that were compiled without one of their own.
    items: BaseStore
    #: Told (queue, ms the wake-up was sent, ms now) of every wake-up that was claimed.
    took: Callable[[str, int, int], None] = lambda *_: None
    #: graph id -> node -> what configuration says about it
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Set when the process was asked to stop: nothing new is claimed, slices end at their next superstep edge.
    draining: bool = False
    controls: set[RunControl] = field(default_factory=set)
    _policies: dict[tuple[str, str], dict[str, NodePolicy]] = field(default_factory=dict)

    def drain(self) -> None:
        """Ask every slice to end at its next superstep edge. Called on the event loop."""
        self.draining = True
        for control in self.controls:
            control.request_drain("shutdown")

    def policies_of(self, graph_id: str, graph: Graph, fingerprint: str) -> dict[str, NodePolicy]:
        """The policies of a graph's nodes, validated once. Raises ConfigError."""
        known = self._policies.get((graph_id, fingerprint))
        if known is None:
            known = policies_of(graph_id, seam.node_metadata(graph), self.policies.get(graph_id))
            self._policies[graph_id, fingerprint] = known
        return known
