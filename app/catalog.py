"""The graphs of this server: each comes with an assistant, and with what can be said about it."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import structlog

from runyard.app.ids import canonical
from runyard.app.inputs import CheckInput, checker, context_keys
from runyard.engine.errors import AssistantNotFound
from runyard.engine.store.assistants import Assistant
from runyard.engine.worker import Graph
from runyard.graphs.errors import GraphBroken
from runyard.graphs.project import BUILT_IN, FILE_NAME
from runyard.graphs.registry import Registry, server_runtime

log = structlog.get_logger(__name__)

#: LangGraph's namespace: every server gives a graph's own assistant the same id.
NAMESPACE = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")

Json = dict[str, Any]


class Catalog:
    """One per process. Graphs are loaded when first asked about; what is learned of them is kept."""

    def __init__(self, registry: Registry, config: str) -> None:
        self.registry = registry
        made_at = _changed_at(config)
        self._all = [
            Assistant(
                assistant_id=str(uuid.uuid5(NAMESPACE, graph_id)),
                graph_id=graph_id,
                name=graph_id,
                description=registry.spec(graph_id).description,
                metadata={"created_by": "system"},
                created_at=made_at,
                updated_at=made_at,
            )
            for graph_id in registry.graph_ids()
        ]
        self._by_name = {assistant.graph_id: assistant for assistant in self._all}
        self._by_id = {assistant.assistant_id: assistant for assistant in self._all}
        #: Looks among the assistants that clients made; the wiring, which knows the store, puts it here.
        self.stored: Callable[[str], Assistant | None] = lambda _: None
        self._checks: dict[str, CheckInput] = {}
        self._context_keys: dict[str, Collection[str] | None] = {}
        self._learning = threading.Lock()

    def all(self) -> list[Assistant]:
        return list(self._all)

    def known(self, wanted: str) -> Assistant | None:
        """The assistant that comes with a graph, by the graph's name or by id."""
        return self._by_name.get(wanted) or self._by_id.get(canonical(wanted) or "")

    def find(self, wanted: str) -> Assistant:
        """By the name of a graph or by id, also one that a client made. Raises AssistantNotFound."""
        found = self.known(wanted)
        if found is None and (assistant_id := canonical(wanted)):
            found = self.stored(assistant_id)
        if found is None:
            known = ", ".join(self._by_name) or "none"
            raise AssistantNotFound(f"Assistant {wanted!r} not found. The graphs of this server: {known}.")
        return found

    def check_input(self, graph_id: str, given: Any) -> None:
        """Raises InvalidInput when the graph would refuse ``given``, GraphBroken when it cannot be loaded."""
        self._known(graph_id)(given)

    def context_of(self, graph_id: str, configurable: Json) -> Json | None:
        """What nodes find in ``runtime.context`` when a client, perhaps one older than context, gave ``configurable``
        alone. Raises GraphBroken."""
        self._known(graph_id)
        keys = self._context_keys[graph_id]
        return {name: value for name, value in configurable.items() if keys is None or name in keys} or None

    def _known(self, graph_id: str) -> CheckInput:
        """What is learned of a graph is, once this returns: its keys of context, too."""
        check = self._checks.get(graph_id)
        if check is None:
            with self._learning:
                check = self._checks.get(graph_id) or self._learn(graph_id)
        return check

    @contextlib.contextmanager
    def open(self, graph_id: str, thread_id: str | None = None) -> Iterator[Graph]:
        """A graph to read or draw with. Raises GraphBroken."""
        config: Any = {"configurable": {"thread_id": thread_id} if thread_id else {}}
        with self.registry.open(graph_id, config, runtime=server_runtime("threads.read")) as graph:
            yield graph

    def warm_up(self) -> None:
        """Load every graph before the first request needs it, and say at once which are broken."""
        for assistant in self._all:
            try:
                self.check_input(assistant.graph_id, None)
            except GraphBroken as broken:
                log.warning("graph.broken", graph_id=assistant.graph_id, detail=str(broken))

    def _learn(self, graph_id: str) -> CheckInput:
        with self.open(graph_id) as graph, self.open(graph_id) as again:
            # A graph that is made anew for each run may take another input for another config.
            check: CheckInput = checker(graph) if graph is again else _accept
            self._context_keys[graph_id] = context_keys(graph)
        self._checks[graph_id] = check
        return check


def _accept(_: Any) -> None:
    pass


def _changed_at(config: str) -> int:
    """When the project file was last changed, in ms: the same in every process, and after a restart."""
    source = Path(config) if config else BUILT_IN
    source = source / FILE_NAME if source.is_dir() else source
    return int(source.stat().st_mtime) * 1000


def drawing_of(graph: Graph, xray: int | bool) -> Json:
    """Nodes and edges, subgraphs opened ``xray`` levels deep."""
    drawn: Json = graph.get_graph(xray=xray).to_json()
    for node in drawn["nodes"]:
        if isinstance(node.get("data"), dict):
            node["data"].pop("id", None)  # where in LangGraph's own modules the node's class is
    return drawn
