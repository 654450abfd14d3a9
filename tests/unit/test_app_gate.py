"""What a request shows of itself, and where nobody may be let in unasked."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from runyard.app.auth.gate import MAX_CREDENTIAL, credential, refuse_remote
from runyard.app.errors import Forbidden, NotAuthenticated
from runyard.app.place import bound_hosts, refuse_open_host
from runyard.engine.errors import ConfigError


def asked(**headers: str) -> Any:
    return Request(
        EnvironBuilder(headers={name.replace("_", "-"): value for name, value in headers.items()}).get_environ()
    )


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"X_Api_Key": "ry_a"}, "ry_a"),
        ({"Authorization": "Bearer ry_a"}, "ry_a"),
        ({"Authorization": "bearer   ry_a "}, "ry_a"),
        ({"Authorization": "Bearer token", "X_Api_Key": "lsv2_from_the_environment"}, "token"),
        ({"Authorization": "Bearer ry_a", "X_Api_Key": "ry_a"}, "ry_a"),
        ({"Authorization": "Basic dXNlcg==", "X_Api_Key": "ry_a"}, "ry_a"),
    ],
)
def test_a_credential_is_found_where_clients_put_it(headers: dict[str, str], found: str) -> None:
    assert credential(asked(**headers)) == found


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Authorization": "Bearer ry_a", "X_Api_Key": "ry_b"}, "two different keys"),
        ({"Authorization": "Bearer " + "x" * MAX_CREDENTIAL}, "longer than any"),
    ],
)
def test_two_credentials_and_one_without_end_are_refused(headers: dict[str, str], said: str) -> None:
    with pytest.raises(NotAuthenticated, match=said):
        credential(asked(**headers))


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Basic dXNlcg=="}, {"Authorization": "Bearer "}, {"X_Auth_Scheme": "langsmith"}],
)
def test_what_is_no_credential_is_none(headers: dict[str, str]) -> None:
    assert credential(asked(**headers)) == ""


def test_a_key_in_the_address_is_none() -> None:
    address = EnvironBuilder(query_string="x-api-key=ry_a&api_key=ry_a&token=ry_a")
    assert credential(Request(address.get_environ())) == ""


@pytest.mark.parametrize(
    ("command", "variable", "hosts"),
    [
        ("gunicorn --bind 0.0.0.0:80 app", "", ["0.0.0.0"]),
        ("/venv/bin/gunicorn -b [::]:80 -b 127.0.0.1:81 app", "", ["[::]", "127.0.0.1"]),
        ("gunicorn --bind=10.0.0.1:80 app", "--bind=:90", ["10.0.0.1", "0.0.0.0"]),
        ("gunicorn --bind unix:/run/x.sock app", "", []),
        ("gunicorn app", "", []),
        ("pytest --bind 0.0.0.0:80", "", []),
    ],
)
def test_the_hosts_that_gunicorn_was_told_are_known(command: str, variable: str, hosts: list[str]) -> None:
    assert bound_hosts(command.split(), {"GUNICORN_CMD_ARGS": variable}) == hosts


def test_the_refusal_says_what_to_set() -> None:
    with pytest.raises(ConfigError) as told:
        refuse_open_host("0.0.0.0", {})
    for word in ("RUNYARD_AUTH=keys", "RUNYARD_AUTH=jwt", "langgraph.json", "127.0.0.1", "RUNYARD_ALLOW_OPEN=1"):
        assert word in str(told.value)


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        (("127.0.0.1", 80), False),
        (("10.1.2.3", 80), True),
        (("::1", 80), False),
        (("::ffff:10.0.0.1", 80), True),
        ("/run/x.sock", False),
    ],
)
def test_whoever_comes_over_a_network_is_refused_while_nobody_is_asked(address: Any, refused: bool) -> None:
    class Connection:
        def getsockname(self) -> Any:
            return address

    environ = {"gunicorn.socket": Connection()}
    if not refused:
        refuse_remote(environ)
        return
    with pytest.raises(Forbidden, match="RUNYARD_AUTH"):
        refuse_remote(environ)


def test_a_server_that_shows_no_socket_is_taken_to_be_a_test() -> None:
    refuse_remote({})
    with socket.socket() as unbound:
        unbound.close()
        refuse_remote({"werkzeug.socket": unbound})
