"""Values to bytes and back: strict msgpack, compressed when it helps, and errors that say which value is at fault.

A stored value is one tag byte and its data. The tag names the type that the serializer gave (``m`` msgpack, ``n`` null,
``b`` bytes, ``a`` bytearray, ``t`` a named type such as ``msgpack+aes``); its capital says that the data is compressed
with zstandard. Nothing is ever pickled or unpickled, whatever serializer is given.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import zstandard
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from runyard.engine.errors import StateTooLarge, Unserializable

COMPRESS_FROM_BYTES = 1024
#: Most bytes of one state key, before they are compressed, where nobody says otherwise.
MAX_VALUE_BYTES = 64 * 2**20

_TAGS = {"msgpack": b"m", "null": b"n", "bytes": b"b", "bytearray": b"a"}
_KINDS = {tag[0]: kind for kind, tag in _TAGS.items()}
_NAMED = ord("t")
_CAPITAL = ord("a") - ord("A")
_DEEPEST = 100
#: About as many graphs as one process serves.
MOST_ALLOWLISTS = 256


class _Zstd(threading.local):
    """A compressor and a decompressor for each thread: they must not be shared, and are slow to make."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd = _Zstd()


class StrictSerializer(JsonPlusSerializer):
    """LangGraph's serializer without pickle, reviving only types that are known to be safe.

    A graph's own state types are added when it is compiled (``with_allowlist``); a type that is on no list comes back
    as plain data. ``max_value_bytes`` is what :func:`encode` lets one state key have, before it is compressed.
    """

    def __init__(self, max_value_bytes: int = MAX_VALUE_BYTES) -> None:
        super().__init__(pickle_fallback=False, allowed_msgpack_modules=None)
        self.max_value_bytes = max_value_bytes
        self._allowing: dict[frozenset[Any], JsonPlusSerializer] = {}

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[tuple[str, ...] | type]) -> JsonPlusSerializer:
        """One that revives these types, too: the same each time, since LangGraph asks twice for every run."""
        extra = frozenset(extra_allowlist)
        known = self._allowing.get(extra)
        if known is None:
            known = super().with_msgpack_allowlist(extra)
            if known is not self:
                known._allowing = {extra: known}  # type: ignore[attr-defined]  # noqa: SLF001 - a clone of this one
            if len(self._allowing) >= MOST_ALLOWLISTS:
                self._allowing.clear()
            self._allowing[extra] = known
        return known


def strict_serde(max_value_bytes: int = MAX_VALUE_BYTES) -> StrictSerializer:
    """The serializer of everything that the checkpointer stores."""
    return StrictSerializer(max_value_bytes)


def encode(serde: SerializerProtocol, name: str, value: Any) -> bytes:
    """The bytes to store for ``value``.

    Raises Unserializable, naming the state key ``name`` and the place in it; StateTooLarge.
    """
    if value is None and isinstance(serde, StrictSerializer):
        return b"n"  # half of all values: what a node writes to name the next one
    try:
        kind, data = serde.dumps_typed(value)
    except Exception as error:  # serializing runs code of the value's own class, which may raise anything
        raise Unserializable(_explain(serde, name, value, error)) from error
    most = serde.max_value_bytes if isinstance(serde, StrictSerializer) else _most(serde)
    if len(data) > most:
        raise StateTooLarge(
            f'State key "{name}" has {len(data)} bytes, and at most {most} of one key are stored '
            "(RUNYARD_MAX_STATE_BYTES). Keep large things elsewhere, and in the state where they are."
        )
    tag = _TAGS.get(kind) or _named_tag(kind, name)
    if len(data) >= COMPRESS_FROM_BYTES:
        packed = _zstd.compress(data)
        if len(packed) < len(data):
            return bytes((tag[0] - _CAPITAL,)) + tag[1:] + packed
    return tag + data


def decode(serde: SerializerProtocol, stored: bytes) -> Any:
    """The value of stored bytes. Raises Unserializable for a type that is never written here, such as pickle."""
    tag, start = stored[0], 1
    packed = tag < ord("a")
    if packed:
        tag += _CAPITAL
    if tag == _NAMED:
        start = 2 + stored[1]
        kind = stored[2:start].decode()
        _refuse_code(kind, "A stored value")
    else:
        kind = _KINDS[tag]
    data = stored[start:]
    return serde.loads_typed((kind, _zstd.decompress(data) if packed else data))


def _most(serde: SerializerProtocol) -> int:
    """What one value may have; a serializer that encrypts holds the one that knows."""
    inner = getattr(serde, "serde", serde)
    return int(getattr(inner, "max_value_bytes", MAX_VALUE_BYTES))


def _named_tag(kind: str, name: str) -> bytes:
    _refuse_code(kind, f'State key "{name}"')
    return bytes((_NAMED, len(kind.encode()))) + kind.encode()


def _refuse_code(kind: str, what: str) -> None:
    """``msgpack+aes`` and the like are fine; pickle and json, which can construct objects, are not."""
    if kind.partition("+")[0] not in _TAGS:
        raise Unserializable(f"{what} is of the type {kind!r}, which is never loaded: it can run code.")


def _explain(serde: SerializerProtocol, name: str, value: Any, error: Exception) -> str:
    path, culprit = _find_culprit(serde, name, value)
    kind = type(culprit)
    place = "" if path == name else f" at {path}"
    return (
        f'State key "{name}" cannot be stored: the value{place} is a {kind.__module__}.{kind.__qualname__} ({error}). '
        "Keep such things out of the state (in the runtime context, or in an UntrackedValue channel)."
    )


def _find_culprit(serde: SerializerProtocol, path: str, value: Any) -> tuple[str, Any]:
    """Walk down from a value that cannot be stored to the innermost part of it that cannot either."""
    for _ in range(_DEEPEST):  # a value that contains itself has no innermost part
        for step, part in _parts(value):
            if not _storable(serde, part):
                path, value = path + step, part
                break
        else:
            break
    return path, value


def _storable(serde: SerializerProtocol, value: Any) -> bool:
    try:
        serde.dumps_typed(value)
    except Exception:  # noqa: BLE001 - as in encode
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield (f'["{key}"]' if isinstance(key, str) else f"[{key!r}]"), part
    elif hasattr(value, "_asdict"):
        for name, part in value._asdict().items():
            yield f".{name}", part
    elif isinstance(value, list | tuple | set | frozenset | deque):
        for position, part in enumerate(value):
            yield f"[{position}]", part
    else:
        for name in _field_names(value):
            yield f".{name}", getattr(value, name, None)


def _field_names(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if hasattr(value, "model_dump"):
        return list(getattr(value, "__dict__", {}))
    return list(getattr(value, "__slots__", ()))
