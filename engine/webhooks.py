"""Webhooks: which addresses are accepted, what is sent, how it is signed, and when a refusal is tried again.

The signature is that of the Standard Webhooks specification, so receivers can check it with a library they have.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from runyard.engine.errors import ConfigError, InvalidInput
from runyard.engine.guarded import GuardedTransport
from runyard.engine.reach import Reach, Refused, named
from runyard.engine.retry import retry_after_s
from runyard.engine.run import Wake
from runyard.engine.settings import Settings, key_of

#: The first wait after a failed attempt, in seconds; each is twice the one before, up to the longest.
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 3600.0
MAX_URL_LENGTH = 2048
#: The receiver is gone for good and says so: nothing is sent again.
GONE = 410
_TEMPLATE = re.compile(r"\$\{\{\s*env\.(\w+)\s*\}\}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Delivered:
    status: int


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """``retry_s``: when to try again; None: never."""

    problem: str
    retry_s: float | None
    status: int | None = None


Verdict = Delivered | NotDelivered


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookPolicy:
    """What an operator says about webhooks, in settings and in the project's ``webhooks``."""

    reach: Reach = field(default_factory=Reach)
    require_https: bool = False
    #: Hosts, or ``*.domain``; empty: any.
    allowed_domains: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = ()
    max_url_length: int = MAX_URL_LENGTH
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    timeout_s: float = 10.0
    attempts: int = 12
    concurrency: int = 64

    @classmethod
    def of(cls, section: Json, settings: Settings, environ: Mapping[str, str]) -> WebhookPolicy:
        """From the settings and the section ``webhooks`` of the project. Raises ConfigError that names the field."""
        url = _typed(section, "url", dict, {})
        return cls(
            reach=Reach.of(settings.webhook_allow.replace(",", " ").split()),
            require_https=_typed(url, "url.require_https", bool, False),
            allowed_domains=tuple(entry.lower() for entry in _listed(url, "url.allowed_domains", str)),
            allowed_ports=tuple(_listed(url, "url.allowed_ports", int)),
            max_url_length=_typed(url, "url.max_url_length", int, MAX_URL_LENGTH),
            headers=_headers(section, environ),
            secrets=tuple(key for secret in settings.webhook_secret.split() if (key := key_of(secret))),
            timeout_s=settings.webhook_timeout_s,
            attempts=settings.webhook_attempts,
            concurrency=settings.webhook_concurrency,
        )

    def check(self, text: str, where: str = "webhook", *, look_up: bool = True) -> None:
        """Raise InvalidInput, which names the field, for a URL that webhooks may not be sent to.

        Blocks for a lookup of its host, however long that takes; without ``look_up`` a name is judged when the webhook
        is sent, and not before.
        """
        try:
            url = self.accepted(text)
            if not self.reach.knows(host := url.raw_host.decode("ascii")):
                self.reach.check(host, url.port or (443 if url.scheme == "https" else 80), look_up=look_up)
        except Refused as refused:
            hint = "RUNYARD_WEBHOOK_ALLOW names hosts and networks that may be reached all the same"
            raise InvalidInput(f"{where}: {refused}, where webhooks are not sent. {hint}.") from refused
        except ValueError as error:
            raise InvalidInput(f"{where}: {error}") from error

    def accepted(self, text: str) -> httpx.URL:  # noqa: C901 - one line for each rule is the clearest form
        """The URL, if the rules allow it; nothing is looked up. Raises ValueError."""
        if len(text) > self.max_url_length:
            raise ValueError(f"must be a URL of at most {self.max_url_length} characters")
        if text.startswith("/"):
            raise ValueError("must be a whole URL: this server has no routes of yours that a path could lead to")
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as error:
            raise ValueError(f"must be a URL: {error}") from error
        schemes = ("https",) if self.require_https else ("http", "https")
        if url.scheme not in schemes:
            raise ValueError(f"must be a URL that begins with {' or '.join(f'{word}://' for word in schemes)}")
        if url.userinfo:
            raise ValueError("must be a URL without a user or a password in it")
        host = url.raw_host.decode("ascii")
        if not host or "%" in host:
            raise ValueError("must be a URL with the name or the address of a host")
        port = url.port if url.port is not None else (443 if url.scheme == "https" else 80)
        if not 0 < port < 2**16:
            raise ValueError("must be a URL with a port from 1 to 65535")
        if self.allowed_ports and port not in self.allowed_ports:
            raise ValueError(f"must be a URL with one of the ports {', '.join(map(str, self.allowed_ports))}")
        if self.allowed_domains and not any(named(host, entry) for entry in self.allowed_domains):
            raise ValueError(f"must be a URL of one of the hosts {', '.join(self.allowed_domains)}")
        return url


class Webhooks:
    """Sends webhooks from a worker's event loop, a bounded number at once."""

    def __init__(self, policy: WebhookPolicy | None = None, *, agent: str = "Runyard") -> None:
        self.policy = policy or WebhookPolicy()
        self._agent = agent
        self._free = self.policy.concurrency
        self._context: ssl.SSLContext | None = None

    def take_place(self) -> bool:
        """Whether one more may be sent now; then :meth:`leave_place` must follow."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def leave_place(self) -> None:
        self._free += 1

    async def send(self, url: str, body: bytes, *, delivery_id: str, attempt: int, trace: str = "") -> Verdict:
        """One attempt, the ``attempt``-th. Never raises for what the receiver does. ``trace``: a ``traceparent``."""
        now = datetime.now(UTC)
        try:
            self.policy.accepted(url)  # the rules may have changed since the run was accepted
            async with asyncio.timeout(self.policy.timeout_s):
                return Delivered(await self._post(url, body, self._headers(delivery_id, now, body, trace)))
        except (Refused, ValueError) as error:
            return NotDelivered(f"refused: {error}", None)
        except httpx.HTTPStatusError as error:  # its text holds the URL, which may hold a secret
            code = error.response.status_code
            again_s = self._retry_s(attempt, retry_after_s(error, now), gone=code == GONE)
            return NotDelivered(f"the receiver answered {code}", again_s, code)
        except TimeoutError:
            return NotDelivered(f"no answer within {self.policy.timeout_s:g} s", self._retry_s(attempt))
        except (httpx.HTTPError, OSError) as error:
            return NotDelivered(f"{type(error).__name__}: {error}"[:300], self._retry_s(attempt))

    async def _post(self, url: str, body: bytes, headers: httpx.Headers) -> int:
        if self._context is None:  # reading the certificates takes a while, and the loop has others to serve
            self._context = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        transport = GuardedTransport(self.policy.reach, self._context)
        waits = httpx.Timeout(self.policy.timeout_s, connect=self.policy.timeout_s / 2)
        async with (
            httpx.AsyncClient(transport=transport, timeout=waits, trust_env=False) as client,
            client.stream("POST", url, content=body, headers=headers) as response,  # whatever it says is not read
        ):
            response.raise_for_status()
            return response.status_code

    def _headers(self, delivery_id: str, now: datetime, body: bytes, trace: str) -> httpx.Headers:
        sent_at = int(now.timestamp())
        signatures = [sign(key, delivery_id, sent_at, body) for key in self.policy.secrets]
        made = httpx.Headers({"User-Agent": self._agent})
        made.update(self.policy.headers)
        made.update({"Content-Type": "application/json", "webhook-id": delivery_id, "webhook-timestamp": str(sent_at)})
        if trace:
            made["traceparent"] = trace
        if signatures:
            made["webhook-signature"] = " ".join(signatures)
        return made

    def _retry_s(self, attempt: int, asked_s: float | None = None, *, gone: bool = False) -> float | None:
        if gone or attempt >= self.policy.attempts:
            return None
        return max(backoff_s(attempt), asked_s or 0.0)


def wake_of(run_id: str, queue: str) -> Wake:
    """The wake-up for a delivery."""
    return Wake(run_id=run_id, queue=queue, label="webhook", webhook=True)


def backoff_s(attempt: int) -> float:
    """The wait after the ``attempt``-th failure: exponential, and up to a quarter longer so that many spread out."""
    wait = min(FIRST_WAIT_S * 2.0 ** min(attempt - 1, 30), LONGEST_WAIT_S)
    return wait * random.uniform(1.0, 1.25)  # noqa: S311 - spreads load, keeps no secret


def sign(key: bytes, delivery_id: str, sent_at: int, body: bytes) -> str:
    """The signature over id, time (seconds since the epoch) and body."""
    digest = hmac.digest(key, b"%b.%d.%b" % (delivery_id.encode(), sent_at, body), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _headers(section: Json, environ: Mapping[str, str]) -> dict[str, str]:
    """The static headers, with ``${{ env.NAME }}`` filled in; only names with the prefix may be used."""
    prefix = _typed(section, "env_prefix", str, "LG_WEBHOOK_")
    made = {}
    for name, text in _typed(section, "headers", dict, {}).items():
        if not _HEADER.fullmatch(name) or not isinstance(text, str) or "\n" in text or "\r" in text:
            raise ConfigError(
                f"webhooks.headers.{name} is not valid: it must be a header's name, and text on one line."
            )

        def value(found: re.Match[str], name: str = name) -> str:
            if not found[1].startswith(prefix):
                raise ConfigError(f"webhooks.headers.{name} may only use variables that begin with {prefix}.")
            if found[1] not in environ:
                raise ConfigError(f"webhooks.headers.{name} uses {found[1]}, which is not set.")
            return environ[found[1]]

        made[name] = _TEMPLATE.sub(value, text)
    return made


def _typed(section: Json, path: str, kind: type, default: Any) -> Any:
    value: Any = section.get(path.rpartition(".")[2])
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and not _is_positive(value)):
        words = {dict: "an object", bool: "true or false", int: "a whole number above 0", str: "text"}
        raise ConfigError(f"webhooks.{path} is not valid: it must be {words[kind]}.")
    return value


def _is_positive(value: Any) -> bool:
    return value is not True and value > 0


def _listed(section: Json, path: str, kind: type) -> list[Any]:
    value = section.get(path.rpartition(".")[2])
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, kind) and not isinstance(item, bool) for item in value):
        what = "texts" if kind is str else "numbers"
        raise ConfigError(f"webhooks.{path} is not valid: it must be a list of {what}.")
    return value
