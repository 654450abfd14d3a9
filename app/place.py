"""Where a stack listens, and whether it may: hosts, ports and the addresses a person is told."""

from __future__ import annotations

import errno
import ipaddress
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from runyard.engine.errors import ConfigError, EngineError


class PortInUse(ConfigError):
    """Another program listens on this host and port."""

    code = "port_in_use"


@dataclass(frozen=True)
class Place:
    """Where a stack can be reached, once its ports are chosen."""

    host: str
    port: int
    flower_port: int
    redis_url: str
    data: Path | None

    @property
    def reached_at(self) -> str:
        """The address to connect to: a server that listens everywhere is reached at home."""
        bare = self.host.strip("[]")
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bare, bare)  # noqa: S104

    @property
    def url(self) -> str:
        return f"http://{in_url(self.reached_at)}:{self.port}"

    def facts(self) -> dict[str, str]:
        """The words of the ready block; ``--json`` prints exactly these."""
        store = {"data": str(self.data)} if self.data else {"redis": _without_password(self.redis_url)}
        return {
            "api": self.url,
            "docs": f"{self.url}/docs",
            "status": f"{self.url}/threads/<thread_id>/runs/<run_id>",
            "flower": f"http://127.0.0.1:{self.flower_port}",
            **store,
        }


def refuse_open_host(
    host: str, environ: Mapping[str, str] = os.environ, *, error: type[EngineError] = ConfigError
) -> None:
    """Raise for a host that others can reach: whoever reaches the API can run graphs and read their state.

    Asked by a server that asks nobody who they are.
    """
    if _is_loopback(host) or may_be_open(environ):
        return
    raise error(
        f"Listening on {host} opens the API to everyone who reaches this machine, and it asks nobody who they are. "
        "Set RUNYARD_AUTH=keys (`runyard keys create` makes one), RUNYARD_AUTH=jwt, or name an Auth object in "
        "langgraph.json; or listen on 127.0.0.1. RUNYARD_ALLOW_OPEN=1 says that something in front of it asks."
    )


def refuse_open_flower(address: str, environ: Mapping[str, str] = os.environ) -> None:
    """Raise ConfigError for an address that others can reach, unless Flower asks who they are."""
    accounts = [account for account in environ.get("FLOWER_BASIC_AUTH", "").split(",") if account]
    if not all(name and password for name, _, password in (account.partition(":") for account in accounts)):
        raise ConfigError("FLOWER_BASIC_AUTH is not valid: it must be user:password pairs, parted by commas.")
    if accounts or environ.get("FLOWER_AUTH") or _is_loopback(address) or may_be_open(environ):
        return
    raise ConfigError(
        f"Flower on {address or 'every address'} shows every run's errors to whoever reaches it, and lets them "
        "stop tasks. Set FLOWER_BASIC_AUTH=user:password, or listen on 127.0.0.1 (FLOWER_ADDRESS). "
        "RUNYARD_ALLOW_OPEN=1 says that something in front of it asks who they are."
    )


def may_be_open(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the operator has said that something else asks clients who they are."""
    return environ.get("RUNYARD_ALLOW_OPEN") == "1"


def bound_hosts(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """The hosts that a gunicorn was told to listen on, on its command line or in its variable; no unix sockets."""
    if not arguments or Path(arguments[0]).name != "gunicorn":
        return []
    words = [*arguments[1:], *shlex.split(environ.get("GUNICORN_CMD_ARGS", ""))]
    given = [word.partition("=")[2] for word in words if word.startswith("--bind=")]
    given += [word[2:] for word in words if word.startswith("-b") and len(word) > 2]
    given += [after for word, after in pairwise(words) if word in ("-b", "--bind")]
    hosts = [each.removeprefix("tcp://") for each in given if not each.startswith(("unix:", "fd://"))]
    return [host.rpartition(":")[0] or "0.0.0.0" for host in hosts]  # noqa: S104 - what gunicorn takes an empty host for


@lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def free_port(host: str, port: int) -> int:
    """``port``, or one that is free when it is 0; PortInUse when another program has it."""
    if (chosen := _bindable(host, port)) is None:
        raise PortInUse(
            f"Port {port} on {host} is in use, perhaps by another `runyard up`. Stop that, or choose: --port {port + 1}"
        )
    return chosen


def flower_port(wanted: int | None) -> int:
    """The port that was asked for; else Flower's own, or a free one when that is taken."""
    if wanted is not None:
        return free_port("127.0.0.1", wanted)
    return _bindable("127.0.0.1", 5555) or free_port("127.0.0.1", 0)


def _bindable(host: str, port: int) -> int | None:
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as exc:
            raise ConfigError(f"--host {host} is not an address of this machine: {exc.strerror}.") from exc
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return None
            raise ConfigError(f"Nothing can listen on {host}, port {port}: {exc.strerror}.") from exc
        chosen: int = probe.getsockname()[1]
        return chosen


def in_url(host: str) -> str:
    """A host as URLs and gunicorn want it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _without_password(url: str) -> str:
    # In the query too: redis-py takes ?password= there.
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
