"""What items of the long-term store mean: their vectors, and how near a question is to them.

LangGraph's IndexConfig (``dims``, ``embed``, ``fields``): the texts at some paths of a value are embedded, each by
itself, and an item is as near as the nearest of them. Vectors are kept at length 1, so that a cosine is one product.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import operator
import sys
import threading
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base import PutOp, SearchOp, get_text_at_path, tokenize_path

from runyard.engine.errors import EmbeddingFailed, InvalidInput

Name = tuple[tuple[str, ...], str]

#: Texts of one item, and vectors with them.
MAX_TEXTS = 256
#: How long all texts of one batch may take to embed.
EMBED_TIMEOUT_S = 60.0
_FLOAT_BYTES, _MARK_BYTES = 4, 8


if sys.version_info >= (3, 12):
    _product = math.sumprod
else:

    def _product(one: Iterable[float], other: Iterable[float]) -> float:
        return sum(map(operator.mul, one, other), 0.0)


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a batch needed embedding: its questions (arrays of floats), and the bytes stored with each item it writes.

    Bytes are a mark of who embedded, then float32 as the machine writes them: little-endian on all that are supported.
    """

    queries: Mapping[str, Any] = field(default_factory=dict)
    items: Mapping[Name, bytes] = field(default_factory=dict)


class Index:
    """One for each process. ``name`` says who embeds: vectors of another name, or of other ``dims``, are not compared
    with, since they would be near to anything."""

    def __init__(self, embeddings: Embeddings, *, dims: int, fields: Sequence[str] = ("$",), name: str = "") -> None:
        self._embeddings, self._dims = embeddings, dims
        self._paths = [_tokens(path) for path in fields]
        self._mark = hashlib.sha256(f"{dims}\0{name}".encode()).digest()[:_MARK_BYTES]

    def embed(self, queries: Iterable[str], puts: Iterable[PutOp]) -> Embedded:
        """Embed all that a batch needs, from a thread. Raises EmbeddingFailed; InvalidInput for too many texts."""
        asked, texts = list(dict.fromkeys(queries)), {(op.namespace, op.key): self._texts(op) for op in puts}
        every = _unique(texts)
        if not asked and not every:
            return Embedded()

        def work() -> tuple[list[Any], list[Any]]:
            answers = [self._embeddings.embed_query(query) for query in asked]
            return answers, self._embeddings.embed_documents(every) if every else []

        return self._made(asked, texts, every, _or_failed(lambda: _within(EMBED_TIMEOUT_S, work)))

    async def aembed(self, queries: Iterable[str], puts: Iterable[PutOp]) -> Embedded:
        """The same on an event loop."""
        asked, texts = list(dict.fromkeys(queries)), {(op.namespace, op.key): self._texts(op) for op in puts}
        every = _unique(texts)
        if not asked and not every:
            return Embedded()
        try:
            async with asyncio.timeout(EMBED_TIMEOUT_S):
                answers = await asyncio.gather(*(self._embeddings.aembed_query(query) for query in asked))
                given = await self._embeddings.aembed_documents(every) if every else []
        except Exception as error:  # whatever a provider's client raises
            raise _failed(error) from error
        return self._made(asked, texts, every, (answers, given))

    def score(self, query: Any, stored: bytes | None) -> float | None:
        """How near an item is to a question, from -1 to 1; None for one without vectors, or with another's."""
        if not stored or stored[:_MARK_BYTES] != self._mark:
            return None
        held = array("f")
        held.frombytes(stored[_MARK_BYTES:])
        if len(held) == self._dims:
            return _product(query, held)
        return max(_product(query, held[at : at + self._dims]) for at in range(0, len(held), self._dims))

    def _texts(self, op: PutOp) -> list[str]:
        if op.value is None or op.index is False:
            return []
        paths = self._paths if op.index is None else [_tokens(path) for path in op.index]
        texts = [text for path in paths for text in get_text_at_path(op.value, path)]
        if len(texts) > MAX_TEXTS:
            raise InvalidInput(f"index: at most {MAX_TEXTS} texts of an item are embedded, not {len(texts)}.")
        return texts

    def _made(
        self, asked: list[str], texts: dict[Name, list[str]], every: list[str], answers: tuple[list[Any], list[Any]]
    ) -> Embedded:
        queries, given = answers
        if len(given) != len(every):
            raise EmbeddingFailed(f"store.index.embed answered {len(given)} vectors for {len(every)} texts.")
        bits = {text: self._vector(vector).tobytes() for text, vector in zip(every, given, strict=True)}
        stored = {name: self._mark + b"".join(bits[text] for text in held) for name, held in texts.items() if held}
        return Embedded({query: self._vector(each) for query, each in zip(asked, queries, strict=True)}, stored)

    def _vector(self, given: Any) -> Any:
        try:
            vector = array("f", list(given))
        except (TypeError, ValueError, OverflowError) as error:
            raise EmbeddingFailed(f"store.index.embed did not answer a list of numbers for a text: {error}") from error
        if len(vector) != self._dims:
            raise EmbeddingFailed(
                f"store.index.embed answered a vector of {len(vector)} numbers; store.index.dims says {self._dims}."
            )
        length = math.sqrt(_product(vector, vector))
        if not math.isfinite(length):
            raise EmbeddingFailed("store.index.embed answered a vector with a number that is not finite.")
        return array("f", [each / length for each in vector]) if length else vector


def index_of(section: Mapping[str, Any], embeddings: Embeddings | None) -> Index | None:
    """What the section ``store`` of ``langgraph.json``, which is checked, says about searching by meaning."""
    said = section.get("index")
    if not said or embeddings is None:
        return None
    return Index(embeddings, dims=said["dims"], fields=said.get("fields") or ("$",), name=said["embed"])


def asked_of(ops: Iterable[Any]) -> list[str]:
    """The questions of a batch's searches."""
    return [op.query for op in ops if isinstance(op, SearchOp) and op.query]


def _tokens(path: str) -> list[str] | str:
    return path if path == "$" else tokenize_path(path)


def _unique(texts: Mapping[Name, list[str]]) -> list[str]:
    return list(dict.fromkeys(text for held in texts.values() for text in held))


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """Do what nobody can stop, and wait for it for so long. Its thread keeps no process from ending."""
    told: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            told.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            raised.append(error)

    thread = threading.Thread(target=run, name="embed", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not told:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return told[0]


def _or_failed(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:  # whatever a provider's client raises
        raise _failed(error) from error


def _failed(error: Exception) -> EmbeddingFailed:
    said = str(error) or (f"no answer within {EMBED_TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else "")
    return EmbeddingFailed(f"store.index.embed has failed: {type(error).__name__}: {said[:500]}")
