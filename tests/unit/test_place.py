"""Where a stack may listen, and what a person is told about it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from runyard.app.place import Place, PortInUse, flower_port, free_port, refuse_open_flower, refuse_open_host
from runyard.engine.errors import ConfigError


def place(**changes: object) -> Place:
    facts = {"host": "127.0.0.1", "port": 8123, "flower_port": 5555, "redis_url": "redis://h", "data": None}
    return Place(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_a_loopback_host_is_accepted(host: str) -> None:
    refuse_open_host(host, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org"])
def test_a_host_that_others_can_reach_is_refused_unless_it_is_allowed(host: str) -> None:
    with pytest.raises(ConfigError, match="RUNYARD_ALLOW_OPEN=1"):
        refuse_open_host(host, {})
    refuse_open_host(host, {"RUNYARD_ALLOW_OPEN": "1"})


def test_a_port_in_use_is_refused_with_another_to_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"Port {port} on 127\.0\.0\.1 is in use.*--port {port + 1}"):
            free_port("127.0.0.1", port)


def test_port_zero_is_a_free_one() -> None:
    assert free_port("127.0.0.1", 0) > 0


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(ConfigError, match=r"Nothing can listen on 192\.0\.2\.1, port 8123"):
        free_port("192.0.2.1", 8123)


def test_flower_takes_another_port_by_itself_but_not_when_one_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert flower_port(None) > 0
        with pytest.raises(PortInUse):
            flower_port(taken.getsockname()[1])


def test_the_password_of_a_store_is_not_shown() -> None:
    shown = place(redis_url="redis://user:secret@redis.example:6379/0?password=secret").facts()["redis"]
    assert shown == "redis://redis.example:6379/0"


def test_an_embedded_store_is_shown_as_its_folder() -> None:
    facts = place(data=Path("/var/runyard")).facts()
    assert facts["data"] == "/var/runyard"
    assert "redis" not in facts


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8123"), ("::1", "http://[::1]:8123"), ("0.0.0.0", "http://127.0.0.1:8123")],
)
def test_the_address_that_is_told_can_be_opened(host: str, url: str) -> None:
    assert place(host=host).url == url


def test_flower_asks_who_they_are_where_others_reach_it() -> None:
    refuse_open_flower("127.0.0.1", {})
    refuse_open_flower("0.0.0.0", {"FLOWER_BASIC_AUTH": "me:secret"})
    for address in ("0.0.0.0", "", "10.0.0.7"):
        with pytest.raises(ConfigError, match="Set FLOWER_BASIC_AUTH=user:password"):
            refuse_open_flower(address, {})
    with pytest.raises(ConfigError, match="must be user:password pairs"):
        refuse_open_flower("127.0.0.1", {"FLOWER_BASIC_AUTH": "me:secret,you"})
