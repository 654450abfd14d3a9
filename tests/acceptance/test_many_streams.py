"""Many clients that listen at once: they hold no threads, are told everything, and harm nobody."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runyard.app.processes import WEB
from tests.support.eventually import eventually
from tests.support.stack import FINAL, Stack, stack

#: Far more than the threads of the web process.
MANY = 300
THREADS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with stack(folder, RUNYARD_WEB_WORKERS=1, RUNYARD_WEB_THREADS=THREADS) as (made, _):
        yield made


class Listener:
    """A client of one stream that tells when it was answered and keeps what it was sent."""

    def __init__(self, server: Stack, path: str) -> None:
        self.server, self.path, self.answered = server, path, asyncio.Event()

    async def listen(self) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(f"GET {self.path} HTTP/1.1\r\nHost: here\r\nLast-Event-ID: -1\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            self.answered.set()
            return await reader.read()
        finally:
            writer.close()


async def test_hundreds_of_listeners_leave_room_for_requests_and_all_hear_the_end(server: Stack) -> None:
    place = server.run(server.thread(), "plain", input={"steps": []}, stream_mode="values", after_seconds=86_400)
    listeners = [Listener(server, f"{place}/stream") for _ in range(MANY)]
    heard = [asyncio.create_task(listener.listen()) for listener in listeners]
    async with asyncio.timeout(30):
        await asyncio.gather(*[listener.answered.wait() for listener in listeners])
    assert _threads(server) < THREADS + 40
    assert (await asyncio.to_thread(server.http.get, place)).json()["status"] == "pending"
    assert (await asyncio.to_thread(server.http.post, f"{place}/cancel")).status_code == 202
    async with asyncio.timeout(30):
        bodies = await asyncio.gather(*heard)
    assert all(body.endswith(b"0\r\n\r\n") for body in bodies)  # none was cut off
    assert len({body.replace(b"1f\r\n: heartbeat\n\n\r\n", b"") for body in bodies}) == 1


async def test_more_long_waits_than_threads_leave_room_for_requests(server: Stack) -> None:
    threads = [server.thread() for _ in range(3 * THREADS)]
    asked = {"assistant_id": "plain", "input": {"steps": []}, "after_seconds": 86_400}
    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
        waits = [asyncio.create_task(client.post(f"/threads/{each}/runs/wait", json=asked)) for each in threads]
        await asyncio.to_thread(eventually, lambda: _busy(server, threads), timeout_s=30)
        assert not any(wait.done() for wait in waits)
        assert (await client.post("/runs/cancel", json={"status": "pending"})).status_code == 204
        assert [answer.json() for answer in await asyncio.gather(*waits)] == [{}] * len(threads)


def test_a_reader_that_reads_nothing_holds_up_nobody_else(server: Stack) -> None:
    thread_id = server.thread()
    with socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.connect(("127.0.0.1", server.port))
        body = b'{"assistant_id":"plain","input":{"text":"%b"},"stream_mode":"values"}' % (b"x" * 4_000_000)
        head = f"POST /threads/{thread_id}/runs/stream HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        idle.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        other = server.post("/runs/stream", "plain", input={"steps": []}, stream_mode="values")
        assert '{"steps":["work"]}' in other.text
        with server.http.stream("GET", _newest(server, thread_id) + "/stream", headers={"Last-Event-ID": "-1"}) as same:
            assert sum(len(part) for part in same.iter_bytes()) > 4_000_000


def test_a_client_that_goes_ends_its_run_at_once_if_it_said_so(server: Stack) -> None:
    thread_id = server.thread()
    body = {"assistant_id": "waiting", "input": {"text": "20"}, "on_disconnect": "cancel"}
    with server.http.stream("POST", f"/threads/{thread_id}/runs/stream", json=body) as answer:
        place = answer.headers["Content-Location"]
        server.status(place, "running")
    assert server.status(place, *FINAL) == "interrupted"


def test_a_connection_is_there_for_the_next_request_once_its_stream_or_wait_has_ended(server: Stack) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    client.connect()
    opened = client.sock
    for path in ("/runs/stream", "/runs/wait", "/runs/stream"):
        # who may end the run by leaving is not waited for in a thread
        body = {"assistant_id": "plain", "input": {"steps": []}, "on_disconnect": "cancel"}
        client.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = client.getresponse()
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert b"work" in answer.read()
    assert client.sock is opened  # http.client opens another when one was closed
    client.close()


def test_a_stream_closes_the_connection_of_a_client_that_says_it_is_its_last(server: Stack) -> None:
    body = {"assistant_id": "plain", "input": {"steps": []}}
    answer = server.http.post("/runs/stream", json=body, headers={"Connection": "close"})
    assert answer.headers["Connection"] == "close"
    assert answer.headers["Transfer-Encoding"] == "chunked"


def test_a_client_of_the_old_protocol_is_sent_the_bare_stream(server: Stack) -> None:
    place = server.run(server.thread(), "plain", input={"steps": []}, stream_mode="values")
    server.status(place)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(f"GET {place}/stream HTTP/1.0\r\nLast-Event-ID: -1\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert body.startswith(b"event: metadata\n")


def test_the_head_of_a_stream_can_be_asked_for_alone(server: Stack) -> None:
    place = server.run(server.thread(), "plain", input={"steps": []}, after_seconds=86_400)
    answer = server.http.head(f"{place}/stream")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/event-stream")


def _web(server: Stack) -> int:
    """The web process that serves: gunicorn's only child."""
    [pid] = [member.pid for member in server.members if member.kind is WEB]
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _threads(server: Stack) -> int:
    return len(list(Path(f"/proc/{_web(server)}/task").iterdir()))


def _busy(server: Stack, threads: list[str]) -> bool:
    found = server.http.post("/threads/search", json={"ids": threads, "status": "busy", "limit": 100})
    return len(found.json()) == len(threads)


def _newest(server: Stack, thread_id: str) -> str:
    [run] = server.http.get(f"/threads/{thread_id}/runs").json()
    return f"/threads/{thread_id}/runs/{run['run_id']}"
