"""Settings: one place for names, defaults, units and validation.

README's table and ``.env.example`` are tested against it.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from runyard.engine.errors import ConfigError
from runyard.engine.ids import MAX_PARTITIONS
from runyard.engine.reach import Reach
from runyard.engine.vault import ACCEPTED, keys_in


def setting(
    env: str, default: Any, meaning: str, *, check: Callable[[Any], str | None] | None = None, secret: bool = False
) -> Any:
    """A field of Settings: the variable it is read from, and what it means in a sentence."""
    return field(default=default, repr=not secret, metadata={"env": env, "help": meaning, "check": check})


#: A store takes no value of 512 MiB, and beside a state key stand its name and its type.
MOST_STATE_BYTES = 500 * 2**20
#: Larger than any sensible number of seconds, bytes or things, and small enough for every clock.
_TOO_MUCH = 1e10


def _positive(value: float) -> str | None:
    return None if 0 < value < _TOO_MUCH else "a number above 0"


def _not_negative(value: float) -> str | None:
    return None if 0 <= value < _TOO_MUCH else "0 or a number above it"


def _state_size(value: int) -> str | None:
    return None if 0 < value <= MOST_STATE_BYTES else f"a whole number from 1 to {MOST_STATE_BYTES}"


def _nice(value: int) -> str | None:
    return None if 0 <= value <= 19 else "a whole number from 0 to 19"


def _core(value: str) -> str | None:
    return None if not value or (value.isascii() and value.isdigit()) else "the number of a core, from 0, or nothing"


def _port(value: int) -> str | None:
    return None if 0 <= value <= 65535 else "a port from 0 to 65535"


def _prefix(value: str) -> str | None:
    plain = value.replace("-", "").replace("_", "").replace(".", "").isalnum() and value.isascii()
    return None if plain else "letters, digits, '-', '_' and '.'"


def _partitions(value: int) -> str | None:
    return None if 1 <= value <= MAX_PARTITIONS else f"a whole number from 1 to {MAX_PARTITIONS}"


def _level(value: str) -> str | None:
    known = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    return None if value in known else f"one of {', '.join(known)}"


def _levels(value: str) -> str | None:
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    fine = all(name.strip() and _level(level.strip()) is None for name, _, level in pairs)
    return None if fine else "module=LEVEL pairs, parted by commas"


def _log_format(value: str) -> str | None:
    return None if value in ("auto", "json", "console") else "auto, json or console"


def _switch(value: str) -> str | None:
    return None if value in ("on", "off") else "on or off"


def _redis_url(value: str) -> str | None:
    known = ("redis://", "rediss://", "unix://")
    return None if not value or value.startswith(known) else "a URL that starts with redis://, rediss:// or unix://"


def _secrets(value: str) -> str | None:
    keys = [key_of(secret) for secret in value.split()]
    enough = all(key is not None and len(key) >= 16 for key in keys)
    return None if enough else "at least 16 characters, or whsec_ and at least 16 bytes in base64"


def key_of(secret: str) -> bytes | None:
    """The key of a webhook secret: what follows ``whsec_`` in base64, or the text itself; None for wrong base64."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return None


def _encryption(value: str) -> str | None:
    try:
        keys_in(value)
    except ValueError as error:
        return f"{ACCEPTED} ({error})"
    return None


def _reachable(value: str) -> str | None:
    try:
        Reach.of(value.replace(",", " ").split())
    except ValueError as error:
        return f"host names, *.domains, addresses and networks like 10.0.0.0/8 with spaces between ({error} is none)"
    return None


def _http(value: str) -> str | None:
    return (
        None if not value or value.startswith(("http://", "https://")) else "a URL that starts with http:// or https://"
    )


def _ways(value: str) -> str | None:
    known = ("keys", "jwt")
    return None if all(way in known for way in _words(value)) else f"words out of {', '.join(known)}"


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.replace(",", " ").split())


def _jwks(value: str) -> str | None:
    here = value.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
    return None if here or not value.startswith("http://") else "a file, or an address that begins with https://"


def _algorithms(value: str) -> str | None:
    known = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
    fits = _words(value) and all(word in known for word in _words(value))
    return None if fits else f"one or more of {', '.join(known)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything an operator can set. ``_s`` are seconds, ``_ms`` milliseconds, ``_bytes`` bytes."""

    redis_url: str = setting("REDIS_URL", "", "The store. Empty: `runyard up` starts one of its own.", check=_redis_url)
    broker_url: str = setting(
        "RUNYARD_BROKER_URL", "", "Celery's broker, if it is not the store (amqp://… for RabbitMQ)."
    )
    prefix: str = setting(
        "RUNYARD_PREFIX", "ry", "First word of every key, so that several Runyards can share a store.", check=_prefix
    )
    partitions: int = setting(
        "RUNYARD_PARTITIONS", 16, "Partitions of the store; fixed once it holds data.", check=_partitions
    )
    config: str = setting("RUNYARD_CONFIG", "", "Path of the langgraph.json to serve. Empty: the example graphs.")
    host: str = setting("RUNYARD_HOST", "127.0.0.1", "Address the web process listens on.")
    port: int = setting("RUNYARD_PORT", 8123, "Port the web process listens on.", check=_port)
    auth: str = setting(
        "RUNYARD_AUTH", "", "How clients say who they are: keys, jwt or both. Empty: not at all, on loopback only.",
        check=_ways,
    )  # fmt: skip
    auth_cache_s: float = setting(
        "RUNYARD_AUTH_CACHE_S", 5.0, "How long a web process remembers a key, and lets in a revoked one.",
        check=_not_negative,
    )  # fmt: skip
    jwt_issuer: str = setting("RUNYARD_JWT_ISSUER", "", "Who must have issued a token: its claim iss.")
    jwt_audience: str = setting(
        "RUNYARD_JWT_AUDIENCE", "", "Whom a token must be for: its claim aud. Several with spaces between: any of them."
    )
    jwt_jwks: str = setting(
        "RUNYARD_JWT_JWKS", "", "The issuer's public keys: a file, or an https:// address.", check=_jwks
    )
    jwt_algorithms: str = setting(
        "RUNYARD_JWT_ALGORITHMS", "RS256 ES256", "Algorithms a token may be signed with; none that shares a secret.",
        check=_algorithms,
    )  # fmt: skip
    jwt_skew_s: float = setting(
        "RUNYARD_JWT_SKEW_S", 30.0, "How far the issuer's clock may be off.", check=_not_negative
    )
    jwt_tenant_claim: str = setting(
        "RUNYARD_JWT_TENANT_CLAIM", "", "The claim that names the tenant. Empty: all are of the default tenant."
    )
    jwt_scopes_claim: str = setting(
        "RUNYARD_JWT_SCOPES_CLAIM", "scope", "The claim with the scopes: words, or a list; a.b is b inside a."
    )
    rate_limits: str = setting(
        "RUNYARD_RATE_LIMITS",
        "",
        "How fast clients may ask, like key=600/minute; tenant=50/second; runs:write=5/second.",
    )
    queue: str = setting("RUNYARD_QUEUE", "default", "Queue of runs, and of nodes that name none.")
    isolated_queue: str = setting(
        "RUNYARD_ISOLATED_QUEUE", "cpu", "Queue of nodes that run in a process that may be killed (worker-cpu)."
    )
    concurrency: int = setting(
        "RUNYARD_CONCURRENCY", 1000, "Runs one worker process has in hand at once.", check=_positive
    )
    sync_threads: int = setting(
        "RUNYARD_SYNC_THREADS", 128, "Threads of a worker for nodes that are plain functions.", check=_positive
    )
    worker_nice: int = setting(
        "RUNYARD_WORKER_NICE",
        10,
        "How far a worker gives way to others on its machine, 0 to 19: clients are answered while it is busy.",
        check=_nice,
    )
    worker_core: str = setting(
        "RUNYARD_WORKER_CORE",
        "",
        "The core a worker keeps to, from 0; its threads for plain functions use all. Default: as the kernel likes.",
        check=_core,
    )
    lease_s: float = setting(
        "RUNYARD_LEASE_S", 3.0, "How long a worker may be silent before others take its runs.", check=_positive
    )
    quantum_s: float = setting(
        "RUNYARD_QUANTUM_S", 10.0, "How long a slice goes on before the run is given back; 0: one superstep each.",
        check=_not_negative,
    )  # fmt: skip
    drain_s: float = setting(
        "RUNYARD_DRAIN_S", 20.0, "How long a stopping worker waits for running nodes before it gives their runs back.",
        check=_not_negative,
    )  # fmt: skip
    sweep_s: float = setting("RUNYARD_SWEEP_S", 0.25, "Pause between two sweeps of recovery.", check=_positive)
    rewake_s: float = setting(
        "RUNYARD_REWAKE_S", 2.0, "How far a wake-up may lag behind its queue before it counts as lost.", check=_positive
    )
    max_branches: int = setting(
        "RUNYARD_MAX_BRANCHES",
        64,
        "Most parts a superstep is cut into for other workers; four for each that lives are enough.",
        check=_positive,
    )
    node_deadline_s: float = setting(
        "RUNYARD_NODE_DEADLINE_S", 600.0, "How long one attempt of a node may take that says nothing else.",
        check=_positive,
    )  # fmt: skip
    run_deadline_s: float = setting(
        "RUNYARD_RUN_DEADLINE_S", 86400.0, "How long a run that says nothing else may take from its first slice on.",
        check=_positive,
    )  # fmt: skip
    max_crashes: int = setting(
        "RUNYARD_MAX_CRASHES", 3, "How many workers a run may take down at one place before it is a dead letter.",
        check=_positive,
    )  # fmt: skip
    max_abandoned: int = setting(
        "RUNYARD_MAX_ABANDONED", 8, "Plain functions left behind in threads before a worker replaces itself.",
        check=_positive,
    )  # fmt: skip
    recursion_limit: int = setting(
        "RUNYARD_RECURSION_LIMIT", 100, "Supersteps of a run that names no limit.", check=_positive
    )
    encryption_keys: str = setting(
        "RUNYARD_ENCRYPTION_KEYS", "",
        "Encrypts what the store keeps: ID:KEY with spaces between, the first encrypts, all decrypt.",
        check=_encryption, secret=True,
    )  # fmt: skip
    max_body_bytes: int = setting("RUNYARD_MAX_BODY_BYTES", 8 * 2**20, "Largest request body.", check=_positive)
    max_queue_age_s: float = setting(
        "RUNYARD_MAX_QUEUE_AGE_S", 0.0, "New runs are refused while the oldest has waited for longer; 0: never.",
        check=_not_negative,
    )  # fmt: skip
    max_waiting: int = setting("RUNYARD_MAX_WAITING", 0, "So many runs may wait even then.", check=_not_negative)
    worker_memory_mb: int = setting(
        "RUNYARD_WORKER_MEMORY_MB", 0, "A worker process that uses more memory takes no new run; 0: no limit.",
        check=_not_negative,
    )  # fmt: skip
    worker_recent_bytes: int = setting(
        "RUNYARD_WORKER_RECENT_BYTES", 32 * 2**20,
        "What a worker keeps of the threads it had in hand last, so that their next turn reads less; 0: nothing.",
        check=_not_negative,
    )  # fmt: skip
    max_input_bytes: int = setting(
        "RUNYARD_MAX_INPUT_BYTES", 8 * 2**20, "Largest input, command, context, config or metadata of a run, as JSON.",
        check=_positive,
    )  # fmt: skip
    max_state_bytes: int = setting(
        "RUNYARD_MAX_STATE_BYTES", 64 * 2**20, "Largest value of one key of a graph's state, before it is compressed.",
        check=_state_size,
    )  # fmt: skip
    keep_events_s: int = setting(
        "RUNYARD_KEEP_EVENTS_S", 3600, "How long the events of an ended run can be read.", check=_positive
    )
    keep_runs_s: int = setting(
        "RUNYARD_KEEP_RUNS_S", 30 * 86400, "How long ended runs are kept; 0: for ever.", check=_not_negative
    )
    keep_dead_s: int = setting(
        "RUNYARD_KEEP_DEAD_S", 90 * 86400, "How long dead letters are kept; 0: for ever.", check=_not_negative
    )
    max_events: int = setting("RUNYARD_MAX_EVENTS", 10_000, "About how many events of a run are kept.", check=_positive)
    ledger: str = setting(
        "RUNYARD_LEDGER", "on", "Keep a record of every attempt, tool call, model call and decision: on or off.",
        check=_switch,
    )  # fmt: skip
    max_records: int = setting(
        "RUNYARD_MAX_RECORDS", 10_000, "About how many records of a run are kept.", check=_positive
    )
    webhook_secret: str = setting(
        "RUNYARD_WEBHOOK_SECRET", "",
        "Signs webhooks (HMAC-SHA256, Standard Webhooks); several, with spaces between, while one is replaced.",
        check=_secrets, secret=True,
    )  # fmt: skip
    webhook_allow: str = setting(
        "RUNYARD_WEBHOOK_ALLOW", "", "Hosts, *.domains and networks that webhooks may reach though not public.",
        check=_reachable,
    )  # fmt: skip
    webhook_timeout_s: float = setting(
        "RUNYARD_WEBHOOK_TIMEOUT_S", 10.0, "How long a webhook's receiver may take to answer.", check=_positive
    )
    webhook_attempts: int = setting(
        "RUNYARD_WEBHOOK_ATTEMPTS", 12, "Attempts to deliver a webhook before it counts as failed.", check=_positive
    )
    webhook_concurrency: int = setting(
        "RUNYARD_WEBHOOK_CONCURRENCY", 64, "Webhooks one worker process sends at once.", check=_positive
    )
    notify: str = setting(
        "RUNYARD_NOTIFY", "",
        "Whom notices go to, with spaces between: https://… or an address of apprise; runyard.notify says more.",
        secret=True,
    )  # fmt: skip
    public_url: str = setting(
        "RUNYARD_PUBLIC_URL", "", "Where people reach this server, for links in notices. Empty: host and port.",
        check=_http,
    )  # fmt: skip
    cron_min_interval_s: float = setting(
        "RUNYARD_CRON_MIN_INTERVAL_S", 60.0, "Least time between two firings of a cron.", check=_not_negative
    )
    metrics: str = setting("RUNYARD_METRICS", "on", "Count for Prometheus: on or off.", check=_switch)
    metrics_host: str = setting("RUNYARD_METRICS_HOST", "127.0.0.1", "Address that workers are scraped at.")
    metrics_port: int = setting(
        "RUNYARD_METRICS_PORT", 9464, "Port that a worker is scraped at; the next free one if it is taken.", check=_port
    )
    log_level: str = setting(
        "RUNYARD_LOG_LEVEL", "INFO", "Level of the log: DEBUG, INFO, WARNING, ERROR.", check=_level
    )
    log_levels: str = setting(
        "RUNYARD_LOG_LEVELS", "", "Levels of single modules, e.g. runyard.engine.recovery=WARNING,celery=INFO.",
        check=_levels,
    )  # fmt: skip
    log_format: str = setting(
        "RUNYARD_LOG_FORMAT", "auto", "json, console, or auto: words at a terminal, JSON elsewhere.", check=_log_format
    )
    redact: str = setting(
        "RUNYARD_REDACT", "", "More names of what is a secret, with spaces between: hidden in logs, records and errors."
    )
    log_records: str = setting(
        "RUNYARD_LOG_RECORDS", "on", "A line in the log for every record of the ledger: on or off.", check=_switch
    )
    otel_endpoint: str = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", "", "Where traces go (OTLP over HTTP, http://collector:4318). Empty: nowhere."
    )
    sentry_dsn: str = setting("SENTRY_DSN", "", "Where Sentry events go. Empty: nowhere.")

    @classmethod
    def from_env(cls, environment: Mapping[str, str], **overrides: Any) -> Settings:
        """Settings from environment variables; ``overrides`` win. Raises ConfigError that names the variable."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            if item.name in overrides:
                values[item.name] = overrides[item.name]
            elif environment.get(item.metadata["env"], "") != "":
                values[item.name] = _read(environment, item)
        made = cls(**values)
        made._check()
        return made

    @property
    def log_levels_by_name(self) -> dict[str, str]:
        pairs = (part.partition("=") for part in self.log_levels.split(",") if part.strip())
        return {name.strip(): level.strip() for name, _, level in pairs}

    @property
    def lease_ms(self) -> int:
        return round(self.lease_s * 1000)

    @property
    def link(self) -> str:
        """Where people reach this server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    @property
    def auth_ways(self) -> tuple[str, ...]:
        return _words(self.auth)

    @property
    def redact_names(self) -> tuple[str, ...]:
        return _words(self.redact)

    @property
    def jwt_audiences(self) -> tuple[str, ...]:
        return _words(self.jwt_audience)

    @property
    def jwt_algorithm_names(self) -> tuple[str, ...]:
        return _words(self.jwt_algorithms)

    @property
    def celery_broker(self) -> str:
        """The broker in the form Celery knows: it spells a unix socket differently."""
        return (self.broker_url or self.redis_url).replace("unix://", "redis+socket://", 1)

    def _check(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            accepted = item.metadata["check"](value) if item.metadata["check"] else None
            if accepted:
                shown = f"={value!r}" if item.repr else ""
                raise ConfigError(f"{item.metadata['env']}{shown} is not valid: it must be {accepted}.")
        needed = {"RUNYARD_JWT_ISSUER": self.jwt_issuer, "RUNYARD_JWT_AUDIENCE": self.jwt_audiences}
        for name, value in {**needed, "RUNYARD_JWT_JWKS": self.jwt_jwks}.items():
            if "jwt" in self.auth_ways and not value:
                raise ConfigError(f"{name} is missing: RUNYARD_AUTH={self.auth!r} needs it to tell tokens apart.")


def _read(environment: Mapping[str, str], item: Any) -> Any:
    name, text = item.metadata["env"], environment[item.metadata["env"]]
    words = {int: "a whole number", float: "a number", str: "text"}
    kind = type(item.default)
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigError(f"{name}={text!r} is not valid: it must be {words[kind]}.") from error


def worker_id() -> str:
    """A name for this process that no other has: host, pid and a few random characters."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
