"""What embeds texts for the long-term store: ``store.index.embed`` of a project file.

A file's or a module's attribute (a function, an async function, or an ``Embeddings`` object), else a provider's model
such as "openai:text-embedding-3-small", which LangChain's ``init_embeddings`` makes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base import ensure_embeddings
from langgraph.store.base.embed import EmbeddingsLambda

from runyard.graphs.errors import GraphConfigError
from runyard.graphs.loops import LoopThread
from runyard.graphs.modules import is_file, load_object
from runyard.graphs.project import FILE_NAME, Project

Vectors = list[list[float]]
#: How long an async function may take.
TIMEOUT_S = 60.0


class LoopEmbeddings(Embeddings):
    """An async function for threads and event loops alike. It runs on one loop of its own, whoever asks: a client that
    it keeps belongs to one."""

    def __init__(self, function: Callable[[list[str]], Coroutine[Any, Any, Vectors]]) -> None:
        self._function, self._loop = function, LoopThread("embed")

    def embed_documents(self, texts: list[str]) -> Vectors:
        return self._loop.run(self._function(texts), timeout_s=TIMEOUT_S)

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> Vectors:
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        return await asyncio.to_thread(self.embed_query, text)


def load_embeddings(project: Project) -> Embeddings | None:
    """What embeds, or None for a project that does not search by meaning. Raises GraphConfigError by the key's name."""
    index = project.store.get("index")
    if not index:
        return None
    try:
        return _embeddings(_found(index["embed"], project))
    except Exception as error:  # whatever the user's module, or a provider's package, raises when it is loaded
        problem = f"store.index.embed: {index['embed']!r} cannot be loaded: {type(error).__name__}: {error}"
        raise GraphConfigError(project.root / FILE_NAME, problem) from error


def _found(embed: str, project: Project) -> Any:
    """A dotted name is a module's; no provider has a dot in its name."""
    path, _, attribute = embed.rpartition(":")
    is_module = "." in path and all(part.isidentifier() for part in path.split("."))
    return load_object(path, attribute, project.root) if is_file(path) or is_module else embed


def _embeddings(found: Any) -> Embeddings:
    if not isinstance(found, str | Embeddings) and not callable(found):
        raise TypeError(f"must be a function or an Embeddings object, not {type(found).__name__}")
    made: Embeddings = ensure_embeddings(found)
    if isinstance(made, EmbeddingsLambda) and hasattr(made, "afunc"):
        return LoopEmbeddings(found)
    return made
