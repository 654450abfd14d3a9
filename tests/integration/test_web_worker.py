"""The web server's threads, which stay with clients that keep asking, and connections that are lent to the relay."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runyard.engine.tether import tethered
from tests.support.eventually import eventually
from tests.support.stack import free_port

APP = """
import asyncio
from runyard.app.relay import Relay, Stream, over_relay

relay = Relay(lambda: None)

def answer(environ, start_response):
    body = environ["PATH_INFO"].encode()
    if body.startswith(b"/long"):
        start_response("200 OK", [])
        return Stream(relay, lambda live: long(body))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def long(body):
    yield b"begun "
    if body.endswith(b"/endless"):
        await asyncio.Event().wait()
    yield body

app = over_relay(answer)
"""
THREADS = 4
#: The fewest that gunicorn takes with so many threads and kept connections.
CONNECTIONS = THREADS + 4


OURS = "runyard.app.web_worker.WebWorker"


class Server:
    def __init__(self, folder: Path, worker_class: str = OURS, *more: str) -> None:
        (folder / "tiny.py").write_text(APP)
        self.port = free_port()
        options = (
            f"--worker-class {worker_class} --workers 1 --threads {THREADS} "
            f"--worker-connections {CONNECTIONS} "
            f"--bind 127.0.0.1:{self.port} --graceful-timeout 10 --no-control-socket tiny:app"
        )
        line = [sys.executable, "-m", "gunicorn", *more, *options.split()]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                tethered(line), cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(folder)}
            )
        eventually(self._listens, timeout_s=30, what="gunicorn listens")

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.connect()
        return connection

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def ask(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def test_clients_that_keep_their_connections_do_not_keep_others_waiting(server: Server) -> None:
    kept = [server.connect() for _ in range(3 * THREADS)]
    for round_ in range(3):
        for number, connection in enumerate(kept):
            assert ask(connection, f"/{round_}/{number}") == f"/{round_}/{number}"
    for connection in kept:
        connection.close()


def test_requests_that_do_not_wait_for_the_answer_before_are_all_answered(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(5)))
        answered = b""
        while not answered.endswith(b"/4"):
            answered += client.recv(4096)
    assert [part[:2] for part in answered.split(b"\r\n\r\n")[1:]] == [b"/0", b"/1", b"/2", b"/3", b"/4"]


def test_a_client_that_goes_and_one_that_says_nothing_cost_nothing(server: Server) -> None:
    silent = server.connect()
    gone = server.connect()
    assert ask(gone, "/1") == "/1"
    gone.close()
    assert ask(server.connect(), "/2") == "/2"
    assert ask(silent, "/3") == "/3"


def test_others_are_answered_while_a_client_that_asks_no_more_has_not_closed_its_end(server: Server) -> None:
    """gunicorn waits for that two seconds, and then resets the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answered = b""
        while part := slow.recv(4096):
            answered += part
        assert answered.endswith(b"/1")
        for number in range(3):
            assert ask(server.connect(), f"/{number}") == f"/{number}"
        for _ in range(2):  # a reset would break the second
            slow.sendall(b"it still listens")


def test_a_server_that_stops_waits_for_no_client_to_ask_again(server: Server) -> None:
    kept = server.connect()
    assert ask(kept, "/1") == "/1"
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=9) == 0


def test_a_head_without_a_body_is_not_kept_back(server: Server) -> None:
    client = server.connect()
    for path in ("/1", "/2"):
        client.request("HEAD", path)
        answer = client.getresponse()
        assert (answer.status, answer.headers["Content-Length"], answer.read()) == (200, "2", b"")
    assert ask(client, "/3") == "/3"


def test_a_short_answer_is_one_packet(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        for _ in range(20):
            client.sendall(b"GET /body HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(4096).endswith(b"\r\n\r\n/body")


def test_a_connection_is_there_for_the_next_request_once_a_long_answer_has_ended(server: Server) -> None:
    clients = [server.connect() for _ in range(THREADS)]
    sockets = [client.sock for client in clients]
    for round_ in range(3 * CONNECTIONS):
        for client in clients:
            path = f"/long/{round_}" if round_ % 2 else f"/{round_}"
            assert ask(client, path) == (f"begun {path}" if round_ % 2 else path)
    assert [client.sock for client in clients] == sockets  # http.client opens another when one was closed


def test_a_request_that_came_with_the_one_before_is_answered_after_its_long_answer(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"".join(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in (b"long", b"short")))
        answered = b""
        while not answered.endswith(b"/short"):
            some = client.recv(4096)
            assert some, answered
            answered += some
    assert answered.index(b"begun ") < answered.index(b"0\r\n\r\n") < answered.index(b"/short")


@pytest.mark.parametrize("request_", ["GET /long HTTP/1.1\r\nHost: a\r\nConnection: close", "GET /long HTTP/1.0"])
def test_a_connection_that_nobody_wants_kept_is_closed_after_a_long_answer(server: Server, request_: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(f"{request_}\r\n\r\n".encode())
        answered = b"".join(iter(lambda: client.recv(4096), b""))
    assert b"Connection: close" in answered
    assert b"/long" in answered


@pytest.mark.parametrize(("worker_class", "more"), [("gthread", []), (OURS, ["--keep-alive", "0"])])
def test_where_connections_are_not_kept_a_long_answer_is_whole_and_closes_its_own(
    tmp_path: Path, worker_class: str, more: list[str]
) -> None:
    server = Server(tmp_path, worker_class, *more)
    try:
        for _ in range(2 * CONNECTIONS):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
                answered = b"".join(iter(lambda: client.recv(4096), b""))
            assert b"Connection: close" in answered
            assert answered.endswith(b"/long\r\n0\r\n\r\n")
    finally:
        server.close()


def test_open_long_answers_and_clients_that_left_them_take_no_place_of_others(server: Server) -> None:
    for _ in range(3):
        listening = [begun(server) for _ in range(2 * CONNECTIONS)]
        assert ask(server.connect(), "/1") == "/1"
        for client in listening:
            client.close()


def test_a_server_that_stops_waits_for_no_long_answer(server: Server) -> None:
    listening = begun(server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=9) == 0
    listening.close()


def begun(server: Server) -> http.client.HTTPConnection:
    """A client that listens to an answer without an end."""
    client = server.connect()
    client.request("GET", "/long/endless")
    assert client.getresponse().read(6) == b"begun "
    return client
