"""The demo's client: plain HTTP, as any program would, on a thread of its own beside the supervisor."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx
import orjson

from runyard.app.commands.progress import STREAM_MODES, instant_of

GRAPH = "research"


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the run's stream, when it came about, in ms since the epoch."""

    name: str
    data: Any
    at_ms: int


@dataclass(frozen=True, slots=True)
class Started:
    thread_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """``result`` is what joining the run answered, ``degraded`` what it did without."""

    result: dict[str, Any]
    degraded: list[dict[str, Any]]


class Client:
    """Asks one question. ``messages`` gives what has come so far and never waits."""

    def __init__(self, url: str, question: str, dead: Sequence[str] = ()) -> None:
        self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(10, read=None))
        self._question, self._dead = question, list(dead)
        self._inbox: queue.Queue[Told | Started | Ended | Exception] = queue.Queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def deciding(self) -> set[str]:
        """The nodes that choose what comes next, as the server draws the graph."""
        edges = self._get(f"/assistants/{GRAPH}/graph")["edges"]
        return {edge["source"] for edge in edges if edge.get("conditional")}

    def start(self) -> None:
        threading.Thread(target=self._ask, name="client", daemon=True).start()

    def messages(self) -> Iterator[Told | Started | Ended]:
        """Raises what the client failed with."""
        while True:
            try:
                message = self._inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(message, Exception):
                raise message
            yield message

    def _ask(self) -> None:
        try:
            self._inbox.put(self._run())
        except Exception as problem:  # noqa: BLE001 - the thread's edge: whoever reads the messages is told
            self._inbox.put(problem)

    def _run(self) -> Ended:
        thread_id = self._post("/threads", {})["thread_id"]
        asked = {"assistant_id": GRAPH, "input": {"question": self._question}}
        how = {"stream_mode": STREAM_MODES, "stream_resumable": True, "config": {"configurable": {"dead": self._dead}}}
        run_id = self._post(f"/threads/{thread_id}/runs", {**asked, **how})["run_id"]
        self._inbox.put(Started(thread_id, run_id))
        address = f"/threads/{thread_id}/runs/{run_id}"
        with self._http.stream("GET", f"{address}/stream", headers={"Last-Event-ID": "-1"}) as stream:
            stream.raise_for_status()
            for told in read_sse(stream.iter_lines()):
                self._inbox.put(told)
        return Ended(dict(self._get(f"{address}/join")), self._get(address)["degraded"])

    def _get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()


def read_sse(lines: Iterable[str]) -> Iterator[Told]:
    """The events of a stream, as far as a run's has them: one line of data each; comments are heartbeats."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif "event" in fields:
            at_ms = instant_of(fields["id"]) if "id" in fields else round(time.time() * 1000)
            yield Told(fields["event"], orjson.loads(fields.get("data") or "null"), at_ms)
            fields = {}
        else:
            fields = {}
