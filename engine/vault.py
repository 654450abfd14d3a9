"""Encryption of what the store keeps: AES-256-GCM under keys of the operator's own.

A sealed value says under which key it was sealed and whose it is (a run's id, say); both are authenticated, and it can
be opened only where it belongs. So one that was moved to another run, or whose bytes were changed, is refused.

A sealed part is ``magic, length and key id, length and owners, length, nonce, AES-GCM``. It knows its own length, so it
may stand between plain text: whoever opens a value replaces all sealed parts in it. No text begins one, since UTF-8 has
no byte 0xff.

Each owner has a key that is derived from the operator's: however much is kept, no key encrypts much of it. Nonces are a
keyed digest of what is encrypted, so that the same value of the same owner is sealed alike, and a script that compares
what it is given with what is there still works. An onlooker can tell that an owner has the same value twice, and how
long it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runyard.engine.errors import ConfigError, Sealed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\xffRYE1"
_NONCE = 12
_KEY_BYTES = 32
_BETWEEN = "\0"
_LENGTHS = struct.Struct(">BH")
_LENGTH = struct.Struct(">I")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
ACCEPTED = "entries ID:KEY with spaces between; an ID of letters, digits, - and _, a KEY of 32 bytes in base64"


class Vault:
    """Keys by id; the first encrypts, all of them decrypt. Thread-safe."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        #: Under which key is encrypted.
        self.key_id = next(iter(self._keys))
        self._ciphers = lru_cache(maxsize=4096)(self._cipher)

    @property
    def key_ids(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def fingerprint(self, key_id: str) -> str:
        """What tells two keys of one id apart and gives neither away."""
        return hmac.digest(self._keys[key_id], b"runyard fingerprint", "sha256")[:8].hex()

    def seal(self, data: bytes, *owners: str) -> bytes:
        """``data``, to be opened where one of ``owners`` is asked for; their names must not contain NUL."""
        together = _BETWEEN.join(owners)
        cipher, digest_key = self._ciphers(self.key_id, together)
        named, owned = self.key_id.encode(), together.encode()
        nonce = hashlib.blake2b(data, digest_size=_NONCE, key=digest_key).digest()
        head = MAGIC + _LENGTHS.pack(len(named), len(owned)) + named + owned
        hidden = cipher.encrypt(nonce, data, head)
        return b"".join((head, _LENGTH.pack(len(hidden)), nonce, hidden))

    def open(self, stored: bytes, belongs: Callable[[str], bool]) -> bytes:
        """``stored`` with its sealed parts opened; ``belongs`` says of an owner whether that is who was asked for.

        Raises Sealed, naming the key.
        """
        if MAGIC not in stored:
            return stored
        return self._replaced(stored, lambda part: self._opened(part, belongs))

    def renewed(self, stored: bytes) -> bytes | None:
        """``stored`` with what is under another key than the first sealed under that; None when nothing is.

        Raises Sealed, naming the key.
        """
        if MAGIC not in stored:
            return None
        made = self._replaced(stored, self._under_the_first)
        return made if made != stored else None

    def _replaced(self, stored: bytes, put: Callable[[Part], bytes]) -> bytes:
        done, at = [], 0
        for part in parts(stored):
            done += [stored[at : part.begins], put(part)]
            at = part.ends
        return b"".join([*done, stored[at:]])

    def _under_the_first(self, part: Part) -> bytes:
        if part.key_id == self.key_id:
            return part.whole
        return self.seal(self._opened(part, lambda _: True), *part.owners.split(_BETWEEN))

    def _opened(self, part: Part, belongs: Callable[[str], bool]) -> bytes:
        if part.key_id not in self._keys:
            raise Sealed(missing(part.key_id))
        if not any(map(belongs, part.owners.split(_BETWEEN))):
            raise Sealed(
                f"A value that was encrypted under the key {part.key_id!r} for {_shown(part)} stands where it does not "
                "belong: somebody has moved it in the store. It is not opened."
            )
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as below

        cipher, _ = self._ciphers(part.key_id, part.owners)
        try:
            return cipher.decrypt(part.nonce, part.hidden, part.head)
        except InvalidTag:
            raise Sealed(
                f"A value of {_shown(part)} cannot be opened with the key {part.key_id!r}: it was encrypted with "
                "another key of that id, or changed in the store. Put the right key into RUNYARD_ENCRYPTION_KEYS."
            ) from None

    def _cipher(self, key_id: str, owners: str) -> tuple[AESGCM, bytes]:
        """What encrypts for these owners, and the key of its nonces."""
        # Who keeps no secret, as most commands, need not load it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        key, owned = self._keys[key_id], owners.encode()
        own = hmac.digest(key, b"runyard encryption\0" + owned, "sha256")
        return AESGCM(own), hmac.digest(key, b"runyard nonce\0" + owned, "sha256")


class Part:
    """A sealed part of a stored value."""

    __slots__ = ("begins", "ends", "head", "hidden", "key_id", "nonce", "owners", "whole")

    def __init__(self, stored: bytes, begins: int) -> None:
        """Raises ValueError, IndexError or struct.error where none begins."""
        at = begins + len(MAGIC)
        named, owned = _LENGTHS.unpack_from(stored, at)
        at += _LENGTHS.size
        self.key_id = stored[at : at + named].decode()
        self.owners = stored[at + named : at + named + owned].decode()
        at += named + owned
        self.head = stored[begins:at]
        (length,) = _LENGTH.unpack_from(stored, at)
        at += _LENGTH.size
        self.nonce = stored[at : at + _NONCE]
        self.hidden = stored[at + _NONCE : at + _NONCE + length]
        self.begins, self.ends = begins, at + _NONCE + length
        self.whole = stored[begins : self.ends]
        if len(self.hidden) != length or not _KEY_ID.fullmatch(self.key_id):
            raise ValueError("no sealed part")


def _shown(part: Part) -> str:
    return " and ".join(map(repr, part.owners.split(_BETWEEN)))


def parts(stored: bytes) -> Iterable[Part]:
    """The sealed parts of a stored value, in order. Bytes that only look like the beginning of one are none."""
    at = stored.find(MAGIC)
    while at >= 0:
        try:
            part = Part(stored, at)
        except (ValueError, IndexError, struct.error):
            at = stored.find(MAGIC, at + 1)
            continue
        yield part
        at = stored.find(MAGIC, part.ends)


def missing(key_id: str) -> str:
    """What to say where a key that is needed is not there."""
    return (
        f"The store holds values that were encrypted under the key {key_id!r}, which RUNYARD_ENCRYPTION_KEYS does not "
        "name. Put that key back, behind the one that encrypts."
    )


def keys_in(text: str) -> dict[str, bytes]:
    """The keys in ``RUNYARD_ENCRYPTION_KEYS``, in order. Raises ValueError, which shows no key."""
    found: dict[str, bytes] = {}
    for number, entry in enumerate(text.split(), 1):
        key_id, _, encoded = entry.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not _KEY_ID.fullmatch(key_id) or len(key) != _KEY_BYTES or key_id in found:
            raise ValueError(f"entry {number} is none")
        found[key_id] = key
    return found


def vault_of(text: str) -> Vault | None:
    """The vault with the keys of this text; None without any. Raises ConfigError."""
    try:
        keys = keys_in(text)
    except ValueError as error:
        raise ConfigError(f"RUNYARD_ENCRYPTION_KEYS is not valid ({error}): it must be {ACCEPTED}.") from None
    return Vault(keys) if keys else None


def opened(vault: Vault, reply: Any, belongs: Callable[[str], bool]) -> Any:
    """A reply of the store with all sealed parts in it opened. Raises Sealed."""
    if isinstance(reply, bytes):
        return vault.open(reply, belongs)
    if isinstance(reply, (list, tuple)):
        return [opened(vault, each, belongs) for each in reply]
    if isinstance(reply, dict):
        return {name: opened(vault, each, belongs) for name, each in reply.items()}
    return reply
