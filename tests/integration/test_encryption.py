"""Encryption at rest: what the store's files do not show, keys that change, keys that are lost."""

from __future__ import annotations

import base64
import json
import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from click.testing import CliRunner, Result
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from runyard.app.cli import cli
from runyard.engine import wire
from runyard.engine.crons import Crons
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.effects import once
from runyard.engine.errors import ConfigError, Sealed
from runyard.engine.notices import Notice, Rules, Target
from runyard.engine.run import Phase, Run, RunRequest
from runyard.engine.store import crons, items, notices, records, runs, threads
from runyard.engine.store.client import SyncStore
from runyard.engine.store.embedded import EmbeddedServer
from runyard.engine.store.keys import Keys
from runyard.engine.store.meta import open_store
from runyard.engine.vault import Vault
from tests.support.engine import Engine, engine

#: Stands in everything that a run is given, makes and says.
SECRET = "the-patients-name-is-quinn"


def entry(key_id: str, fill: str) -> str:
    return f"{key_id}:{base64.b64encode(fill.encode() * 32).decode()}"


OLD, NEW = entry("old", "o"), entry("new", "n")


class State(TypedDict, total=False):
    given: str
    out: Annotated[list[str], operator.add]
    fails: bool


def everything(fails: list[bool]) -> Any:
    """A graph that leaves something in every place: state, events, effects, branches, questions, errors."""

    def tells(state: State) -> State:
        get_stream_writer()({"said": SECRET})
        return {"out": [once("mail", lambda: SECRET)]}

    def branch(state: Any) -> Any:
        if state["i"] == 1:
            raise LookupError(f"no {SECRET} here")
        return {"out": [state["given"]]}

    def asks(state: State) -> State:
        return {"out": [interrupt({"question": f"Is it {SECRET}?"})]}

    def breaks(state: State) -> State:
        if fails[0]:
            raise ValueError(f"cannot do it for {SECRET}")
        return {"out": ["done"]}

    graph = StateGraph(State)
    graph.add_node("tells", tells)
    graph.add_node(
        "branch", branch, metadata={"runyard": {"queue": "cpu", "required": False, "fallback": {"stale": 60}}}
    )
    graph.add_node("asks", asks)
    graph.add_node("breaks", breaks)
    graph.add_edge(START, "tells")
    graph.add_conditional_edges(
        "tells", lambda state: [Send("branch", {"i": i, "given": state["given"]}) for i in range(2)], ["branch"]
    )
    graph.add_edge("branch", "asks")
    graph.add_edge("asks", "breaks")
    graph.add_edge("breaks", END)
    return graph.compile()


async def live(eng: Engine, fails: list[bool]) -> Run:
    """Leave the secret wherever the engine keeps something; answers a run that is a dead letter, replayed once."""
    asked = await eng.run("g", {"given": SECRET}, context={"who": SECRET}, webhook="http://127.0.0.1:9/hook")
    assert asked.phase is Phase.PAUSED
    fails[0] = True
    dead = await eng.run("g", None, thread_id=asked.thread_id, command={"resume": SECRET})
    assert dead.phase is Phase.FAILED
    keys, do = eng.keys, eng.sync_store.do
    do(items.put(keys, ("a", SECRET_FREE), "k", wire.encode({"who": SECRET}), vectors=SECRET.encode()))
    notice = Notice(kind="failed", key="1", group="g", title="t", text=SECRET)
    do(notices.put(keys, notice, Rules(to=(Target("https://example.com/hook"),)), told={"text": SECRET}))
    Crons(eng.service).create(cron_of())
    eng.service.copy_thread(asked.thread_id)
    eng.start("g", {"given": SECRET})
    return dead


SECRET_FREE = "namespaces-are-not-encrypted"


def cron_of() -> crons.Cron:
    return crons.Cron(
        cron_id="", assistant_id="g", graph_id="g", own=True, thread_id=None, schedule="0 0 1 1 *", timezone=None,
        end_at=None, enabled=True, on_run_completed="delete", request=RunRequest(input={"given": SECRET}),
        strategy="enqueue", payload={"input": SECRET}, metadata={},
    )  # fmt: skip


@pytest.fixture
def own() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as made:
        yield made


def files(own: EmbeddedServer) -> bytes:
    """All that the store has written, and what it writes of what it holds."""
    SyncStore.connect(own.url).client.save()
    found = [path for path in own.data_dir.rglob("*") if path.suffix in (".aof", ".rdb")]
    assert len(found) >= 2, found
    return b"".join(path.read_bytes() for path in found)


@pytest.mark.parametrize("keys", ["", OLD], ids=["off", "on"])
async def test_with_a_key_the_stores_files_show_nothing_of_what_a_run_was_about(own: EmbeddedServer, keys: str) -> None:
    fails = [False]
    async with engine(own.url, {"g": everything(fails)}, encryption_keys=keys) as eng:
        await live(eng, fails)
    assert (SECRET.encode() in files(own)) is (keys == "")
    assert SECRET_FREE.encode() in files(own)


async def test_everything_is_read_as_it_was(own: EmbeddedServer) -> None:
    fails = [False]
    async with engine(own.url, {"g": everything(fails)}, encryption_keys=OLD) as eng:
        dead = await live(eng, fails)
        assert SECRET in dead.request.command["resume"]  # type: ignore[index]
        assert SECRET in dead.error["message"]  # type: ignore[index]
        assert SECRET in eng.sync_store.do(runs.attempts(eng.keys, dead.run_id))[-1]["message"]
        assert SECRET in repr(eng.told(dead))
        assert eng.sync_store.do(records.read(eng.keys, dead.run_id))
        found = eng.sync_store.do(items.get(eng.keys, ("a", SECRET_FREE), "k", refresh=False))
        assert found is not None
        assert found.value == {"who": SECRET}
        thread = eng.service.get_thread(dead.thread_id)
        assert SECRET in thread.error["message"]  # type: ignore[index]
        searched, _ = eng.service.search_threads(values={"given": SECRET})
        assert dead.thread_id in {found.thread_id for found in searched}
        fails[0] = False
        DeadLetters(eng.service).replay(dead.run_id)
        await eng.drive()
        ended = eng.service.get_run(dead.run_id)
        assert ended.phase is Phase.SUCCEEDED
        assert wire.decode(eng.service.get_thread(dead.thread_id).values)["out"] == [SECRET, SECRET, SECRET, "done"]


async def test_a_copy_of_a_thread_goes_on_by_itself(own: EmbeddedServer) -> None:
    fails = [False]
    async with engine(own.url, {"g": everything(fails)}, encryption_keys=OLD) as eng:
        asked = await eng.run("g", {"given": SECRET})
        copy = eng.service.copy_thread(asked.thread_id)
        assert copy.interrupts == eng.service.get_thread(asked.thread_id).interrupts
        eng.service.delete_thread(asked.thread_id)
        done = await eng.run("g", None, thread_id=copy.thread_id, command={"resume": "yes"})
        assert done.phase is Phase.SUCCEEDED
        assert wire.decode(eng.service.get_thread(copy.thread_id).values)["out"] == [SECRET, SECRET, "yes", "done"]


async def test_a_value_that_was_moved_to_another_thread_is_not_opened(own: EmbeddedServer) -> None:
    fails = [False]
    async with engine(own.url, {"g": everything(fails)}, encryption_keys=OLD) as eng:
        mine, theirs = [await eng.run("g", {"given": f"{SECRET} {n}"}) for n in range(2)]
        client, at = eng.sync_store.client, eng.keys.of_thread
        stolen = client.hget(at(theirs.thread_id).thread(theirs.thread_id), "values")
        client.hset(at(mine.thread_id).thread(mine.thread_id), "values", stolen)
        with pytest.raises(Sealed, match="stands where it does not belong"):
            eng.service.get_thread(mine.thread_id)
        request = client.hget(at(theirs.thread_id).run(theirs.run_id), "request")
        client.hset(at(mine.thread_id).run(mine.run_id), "request", request)
        with pytest.raises(Sealed, match="stands where it does not belong"):
            eng.service.get_run(mine.run_id)


async def test_a_claim_of_another_run_than_was_asked_for_is_opened_and_a_stolen_request_in_it_is_not(
    own: EmbeddedServer,
) -> None:
    async with engine(own.url, {"g": everything([False])}, encryption_keys=OLD, partitions=1) as eng:
        first, second = (
            eng.service.of(tenant).create_run(
                RunRequest(input={"given": SECRET}),
                graph_id="g", assistant_id="g", thread_id=thread_id, create_thread=True,
            )
            for tenant, thread_id in (("acme", "thread-1"), ("zoo", "thread-2"))
        )  # fmt: skip
        for asked in (first, second):
            claim = eng.sync_store.do(
                runs.claim(eng.keys, second.run_id, owner="w", nonce=asked.run_id, lease_ms=9_000)
            )
            assert claim is not None
            assert claim.run.request.input == {"given": SECRET}


# --- keys


class Place:
    """The command line on a store, with the keys that a process has."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._url, self._patch = url, monkeypatch

    def __call__(self, keys: str, *arguments: str) -> Result:
        self._patch.setenv("RUNYARD_ENCRYPTION_KEYS", keys)
        return CliRunner().invoke(cli, [*arguments, "--redis-url", self._url], standalone_mode=False)


async def test_a_key_is_changed_while_everything_goes_on(own: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    place, fails = Place(own.url, monkeypatch), [False]
    async with engine(own.url, {"g": everything(fails)}, encryption_keys=f"{OLD} {NEW}") as eng:
        dead = await live(eng, fails)
        events = eng.told(dead)
        client = eng.sync_store.client
        ttl_ms = client.pttl(eng.keys.of_run(dead.run_id).events(dead.run_id))
    before = json.loads(place(f"{NEW} {OLD}", "encryption", "status", "--json").output)
    assert before["encrypts"] == "new"
    assert before["values"]["old"] > 50
    assert set(before["values"]) == {"old"}
    told = json.loads(place(f"{NEW} {OLD}", "encryption", "renew", "--json").output)
    assert told.pop("renewed") > 50
    assert told == {"left": {}, "problems": [], "not_needed": ["old"]}
    again = json.loads(place(NEW, "encryption", "renew", "--json").output)
    assert (again["renewed"], again["left"]) == (0, {})
    async with engine(own.url, {"g": everything(fails)}, encryption_keys=NEW) as eng:
        assert eng.told(dead) == events
        left_ms = client.pttl(eng.keys.of_run(dead.run_id).events(dead.run_id))
        assert (ttl_ms < 0 and left_ms < 0) or 0 < left_ms <= ttl_ms
        fails[0] = False
        DeadLetters(eng.service).replay(dead.run_id)
        await eng.drive()
        assert eng.service.get_run(dead.run_id).phase is Phase.SUCCEEDED


async def test_a_store_whose_key_is_lost_is_refused_by_the_keys_name(
    own: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, fails = Place(own.url, monkeypatch), [False]
    async with engine(own.url, {"g": everything(fails)}, encryption_keys=OLD) as eng:
        run = await eng.run("g", {"given": SECRET})
    for keys, words in [
        ("", "under the key 'old', which RUNYARD_ENCRYPTION_KEYS does not name"),
        (NEW, "under the key 'old', which RUNYARD_ENCRYPTION_KEYS does not name"),
        (entry("old", "x"), "names a key 'old' that is not the one"),
    ]:
        refused = place(keys, "status", run.run_id)
        assert isinstance(refused.exception, ConfigError) or "encrypted" in str(refused.exception), refused
        assert words in str(refused.exception)
        found = json.loads(place(keys, "doctor", "--json").output)["findings"]
        assert any(words in each["said"] for each in found if each["check"] == "encryption"), found
    found = json.loads(place(f"{NEW} {OLD}", "doctor", "--json").output)["findings"]
    assert "on, under the key new; values may still be under old" in {each["said"] for each in found}


def test_a_reader_without_the_key_is_told_so_and_given_no_garbage(redis_url: str) -> None:
    sealing, reads = Vault({"old": b"o" * 32}), Vault({"new": b"n" * 32})
    made = threads.create(Keys(vault=sealing), "t", {}, exist_ok=False, fields={"values": b'j{"a":1}'})
    SyncStore.connect(redis_url, vault=sealing).do(made)
    with pytest.raises(Sealed, match="under the key 'old'"):
        SyncStore.connect(redis_url, vault=reads).do_all(threads.get(Keys(vault=reads), "t"))


def test_a_store_is_marked_with_the_key_that_encrypts_and_needs_it_from_then_on(redis_url: str) -> None:
    store = SyncStore.connect(redis_url)
    open_store(store, Keys(vault=Vault({"a": b"a" * 32})))
    open_store(store, Keys(vault=Vault({"b": b"b" * 32, "a": b"a" * 32})))
    for vault in (None, Vault({"b": b"b" * 32}), Vault({"a": b"x" * 32, "b": b"b" * 32})):
        with pytest.raises(ConfigError, match="'a'"):
            open_store(store, Keys(vault=vault))


def test_a_key_is_made_to_be_put_into_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    made = CliRunner().invoke(cli, ["encryption", "key", "2026-a"], standalone_mode=False)
    assert made.output.startswith("2026-a:")
    monkeypatch.setenv("RUNYARD_ENCRYPTION_KEYS", made.output.strip())
    wrong = CliRunner().invoke(cli, ["encryption", "key", "a b"])
    assert wrong.exit_code == 2
