"""Requests that show an API key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from runyard.app.auth.identity import Identity
from runyard.app.errors import NotAuthenticated
from runyard.engine.api_keys import ApiKeys, opens, parsed
from runyard.engine.errors import StoreUnavailable
from runyard.engine.store.api_keys import ApiKey
from runyard.engine.tenancy import shown

log = structlog.get_logger(__name__)

#: A use is noted in the store no more often than this, for each key and process.
NOTE_S = 60.0
#: As many keys, or texts that look like keys, are remembered.
MOST_KNOWN = 10_000


class KeyCheck:
    """Recognises keys; one for each process. What the store said of a key counts for ``keep_s``, so a request costs no
    round trip, and a revoked key works that much longer."""

    def __init__(self, keys: Callable[[], ApiKeys], *, keep_s: float) -> None:
        self._keys, self._keep_s = keys, keep_s
        self._known: dict[str, tuple[float, ApiKey | None]] = {}
        self._noted: dict[str, float] = {}
        self._changing = threading.Lock()

    def identify(self, text: str) -> Identity:
        """Raises NotAuthenticated, StoreUnavailable."""
        given = parsed(text)
        if given is None:
            raise NotAuthenticated("The API key is not valid.")
        key_id, secret = given
        key = self._look_up(key_id)
        if not opens(key, secret) or key is None:
            raise NotAuthenticated("The API key is not valid.")
        now = time.time()
        if (state := key.state(now * 1000)) != "active":
            raise NotAuthenticated(f"The API key {key.name!r} ({key.key_id}) {_SAID[state]}.")
        self._note(key_id, now)
        return _identity(key)

    def _look_up(self, key_id: str) -> ApiKey | None:
        known = self._known.get(key_id)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        found = self._keys().find(key_id)
        with self._changing:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key_id] = (time.monotonic() + self._keep_s, found)
        return found

    def _note(self, key_id: str, now: float) -> None:
        """Fails open: that a key was used is worth no failed request."""
        if now - self._noted.get(key_id, 0.0) < NOTE_S:
            return
        self._noted[key_id] = now
        try:
            self._keys().note_use(key_id, round(now * 1000))
        except StoreUnavailable as error:
            log.warning("api_key.use_not_noted", key_id=key_id, error=str(error))


_SAID = {"expired": "has expired", "revoked": "was revoked"}


def _identity(key: ApiKey) -> Identity:
    name = f"key:{key.key_id}"
    user = {
        "identity": name,
        "display_name": key.name,
        "is_authenticated": True,
        "permissions": list(key.scopes),
        "tenant": shown(key.tenant),
    }
    return Identity(name=name, tenant=key.tenant, scopes=frozenset(key.scopes), user=user)
