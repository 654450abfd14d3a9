"""How fast: limits for each key, each tenant and each route, counted in the store for all web processes."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import limits
import redis
import structlog
from flask import Flask, Response, g
from limits.storage import RedisStorage

from runyard.app.auth.identity import Identity
from runyard.app.auth.scopes import SCOPES
from runyard.app.errors import RateLimited
from runyard.engine import metrics
from runyard.engine.errors import ConfigError
from runyard.engine.settings import Settings
from runyard.engine.store.keys import Keys
from runyard.engine.tenancy import shown

log = structlog.get_logger(__name__)

#: How long the store is waited for, and left alone when it did not answer: nobody is to wait for a limit.
TIMEOUT_S, LEAVE_ALONE_S = 0.25, 1.0


@dataclass(frozen=True, slots=True)
class Limit:
    """``what`` is key, tenant, a scope or a route; the last two are counted for each key by itself."""

    what: str
    item: limits.RateLimitItem

    def counts(self, scope: str, route: str) -> bool:
        return self.what in ("key", "tenant", scope, route)

    def name(self, who: Identity) -> str:
        whose = f"tenant/{shown(who.tenant)}" if self.what == "tenant" else who.name
        return f"{whose}/{self.what}/{self.item.amount}/{self.item.get_expiry()}"


class Rates:
    """One for each process. A request costs one round trip however many limits count for it, and none without any.

    A window begins with its first request. Fails open: while the store is away nobody is held up by a limit; that is
    counted as ``runyard_rate_limits_skipped_total``.
    """

    def __init__(self, settings: Settings, known: Iterable[Limit]) -> None:
        self._limits = tuple(known)
        timeouts = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
        place = Keys(settings.prefix).rate("").removesuffix(":")
        self._storage = RedisStorage(settings.redis_url, key_prefix=place, **timeouts)
        self._leave_alone_until = 0.0

    def register(self, app: Flask) -> None:
        app.after_request(_tell)

    def take(self, who: Identity, scope: str, route: str) -> None:
        """Count a request. Raises RateLimited, with the seconds after which the window begins anew."""
        counting = [each for each in self._limits if each.counts(scope, route)]
        if not counting or time.monotonic() < self._leave_alone_until:
            if counting:
                metrics.inc("runyard_rate_limits_skipped_total")
            return
        try:
            hits = self._counted(counting, [limit.name(who) for limit in counting])
        except redis.RedisError as error:
            self._leave_alone_until = time.monotonic() + LEAVE_ALONE_S
            metrics.inc("runyard_rate_limits_skipped_total")
            log.warning("rate_limit.skipped", error=str(error))
            return
        _judge(counting, hits)

    def _counted(self, counting: Sequence[Limit], names: Sequence[str]) -> list[tuple[int, int]]:
        """Count one request with each limit, all in one round trip: the window's number by now, and the ms it lasts."""
        keys = [self._storage.prefixed_key(name) for name in names]
        pipeline = self._storage.storage.pipeline()
        for limit, key in zip(counting, keys, strict=True):
            pipeline.set(key, 0, ex=limit.item.get_expiry(), nx=True).incr(key).pttl(key)
        answers = pipeline.execute()
        hits = list(zip(answers[1::3], answers[2::3], strict=True))
        for limit, key, (_, left_ms) in zip(counting, keys, hits, strict=True):
            if left_ms < 0:  # the window ended between the first two commands: the new one is to end as well
                self._storage.storage.expire(key, limit.item.get_expiry())
        return hits


def _judge(counting: Sequence[Limit], hits: Sequence[tuple[int, int]]) -> None:
    """Note the tightest limit for the answer. Raises RateLimited for the one that is exceeded for longest."""
    left = [limit.item.amount - number for limit, (number, _) in zip(counting, hits, strict=True)]
    tightest = min(range(len(left)), key=left.__getitem__)
    g.rate = counting[tightest].item.amount, max(0, left[tightest])
    exceeded = [each for each in range(len(left)) if left[each] < 0]
    if exceeded:
        longest = max(exceeded, key=lambda each: hits[each][1])
        limit, left_ms = counting[longest], hits[longest][1]
        metrics.inc("runyard_rate_limited_total", limit.what)
        raise RateLimited(
            f"Too many requests: {limit.item} for {'this tenant' if limit.what == 'tenant' else 'this key'}"
            + ("." if limit.what in ("key", "tenant") else f" on {limit.what}."),
            retry_after_s=max(1, math.ceil(left_ms / 1000)),
        )


def rates_of(settings: Settings, app: Flask) -> Rates | None:
    """What ``RUNYARD_RATE_LIMITS`` says; None when it says nothing. Raises ConfigError that names the entry."""
    entries = [entry.strip() for entry in settings.rate_limits.split(";") if entry.strip()]
    if not entries:
        return None
    routes = {f"{method} {path_of(rule.rule)}" for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    return Rates(settings, [limit for entry in entries for limit in _parsed(entry, routes)])


def path_of(rule: str) -> str:
    """A route as the API's description writes it: ``/threads/{thread_id}``."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def _parsed(entry: str, routes: set[str]) -> list[Limit]:
    what, _, text = (part.strip() for part in entry.partition("="))
    if what not in ("key", "tenant") and what not in SCOPES and what not in routes:
        raise ConfigError(
            f"RUNYARD_RATE_LIMITS has {entry!r}: before the = stands key, tenant, a scope like runs:write, or a "
            "route like POST /threads/{thread_id}/runs, and this is none of them."
        )
    try:
        return [Limit(what, item) for item in limits.parse_many(text)]
    except ValueError as error:
        raise ConfigError(f"RUNYARD_RATE_LIMITS has {entry!r}: say how many in which time, like 100/minute.") from error


def _tell(response: Response) -> Response:
    if rate := g.get("rate"):
        response.headers["X-RateLimit-Limit"], response.headers["X-RateLimit-Remaining"] = map(str, rate)
    return response
