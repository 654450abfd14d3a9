"""An issuer's public keys, from a file or an address, looked at again as they are rotated."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import structlog

from runyard.app.errors import NotAuthenticated, NotReady

log = structlog.get_logger(__name__)

#: Keys are read again after so long; and at once for a token that names an unknown one, but no more often than this.
KEEP_S, PAUSE_S = 300.0, 10.0
TIMEOUT_S, MAX_BYTES = 5.0, 2**20
#: Kinds of public keys. A shared secret has no place in a set of public keys.
_PUBLIC = ("RSA", "EC", "OKP")

Json = dict[str, Any]


class KeysUnavailable(NotReady):
    """The keys of the tokens' issuer cannot be had."""

    code = "keys_unavailable"


class JwkSet:
    """One for each process. Thread-safe: one thread reads, the others go on with what there is."""

    def __init__(self, source: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source, self._clock = source, clock
        self._keys: list[Json] = []
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK:
        """The key that a token names; without a name, the only one.

        Raises NotAuthenticated, KeysUnavailable.
        """
        if self._clock() - self._read_at > KEEP_S or not self._keys:
            self._read()
        found = self._fitting(kid, algorithm)
        if found is None and self._clock() - self._read_at > PAUSE_S:
            self._read()
            found = self._fitting(kid, algorithm)
        if not self._keys:
            raise KeysUnavailable
        if found is None:
            raise NotAuthenticated("The token is signed with a key that its issuer does not publish.")
        return jwt.PyJWK(found, algorithm=algorithm)

    def _fitting(self, kid: str | None, algorithm: str) -> Json | None:
        fitting = [key for key in self._keys if key.get("alg") in (None, algorithm)]
        if kid is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.get("kid") == kid), None)

    def _read(self) -> None:
        """Read the keys; when that fails, those there were go on to count, and it is tried again in a while."""
        if not self._reading.acquire(blocking=not self._keys):
            return
        try:
            if self._clock() - self._read_at <= PAUSE_S:
                return  # another thread has just done it
            self._read_at = self._clock()
            self._keys = _public(json.loads(_text_of(self._source)))
        except (OSError, ValueError, httpx.HTTPError) as error:
            log.warning("jwks.unreadable", source=self._source, error=str(error), keys_kept=len(self._keys))
        finally:
            self._reading.release()


def _text_of(source: str) -> str:
    if not source.startswith(("http://", "https://")):
        return Path(source).read_text(encoding="utf-8")
    with httpx.stream("GET", source, timeout=TIMEOUT_S, follow_redirects=False) as answer:
        answer.raise_for_status()
        text = b""
        for part in answer.iter_bytes():
            text += part
            if len(text) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
    return text.decode()


def _public(document: Any) -> list[Json]:
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError('not a JSON object with a list of "keys"')  # noqa: TRY004 - what a reader of JSON raises
    known = [key for key in keys if isinstance(key, dict) and key.get("kty") in _PUBLIC]
    return [key for key in known if key.get("use", "sig") == "sig"]
