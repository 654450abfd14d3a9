"""Somebody is told: of what, once, by whom, and what becomes of it when nobody listens."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

import pytest
from click.testing import CliRunner, Result
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from runyard.app.cli import cli as root
from runyard.app.exit_codes import ExitCode
from runyard.engine import wire
from runyard.engine.breaker import Mode
from runyard.engine.errors import ConfigError
from runyard.engine.lookout import Lookout
from runyard.engine.notices import notify_of
from runyard.engine.notifier import Notifier
from runyard.engine.run import Phase, Run, RunRequest
from runyard.engine.settings import Settings
from runyard.engine.store import circuits, notices as calls, runs
from runyard.engine.store.recovery import clock
from runyard.engine.waiting import waiting_of
from runyard.graphs.registry import Project
from runyard.tasks.notify import notify_for, sender
from tests.support.engine import Engine, engine
from tests.support.receiver import Receiver, receiver

SECRET = "a-secret-of-enough-letters"
MINUTE_MS = 60_000


class State(TypedDict, total=False):
    text: str


def work(state: Any) -> Any:
    if state["text"].startswith("fail"):
        raise ValueError(f"kaboom, token=sk-{'a' * 20}")
    if state["text"] == "ask":
        return {"text": interrupt({"question": "Send it?"})}
    if state["text"] == "ask for a while":
        return {"text": interrupt({"question": "Send it?", "expires_s": 60, "default": "no"})}
    return {"text": "done"}


def graph() -> Any:
    return StateGraph(State).add_node("work", work).add_edge(START, "work").add_edge("work", END).compile()


class Told:
    """An engine, its lookout, and the receiver that is told."""

    def __init__(self, eng: Engine, hook: Receiver) -> None:
        self.eng, self.hook = eng, hook
        self.client, self.keys = eng.sync_store.client, eng.keys
        self.notifier = self.make_notifier()
        self.lookout = self.make_lookout()
        self.lookout.look()

    def make_lookout(self) -> Lookout:
        """Another worker's."""
        eng = self.eng
        return Lookout(
            eng.service, eng.notify, eng.waiting, leads=lambda: True, send=self.notifier.send, link="https://here"
        )

    def make_notifier(self) -> Notifier:
        worker = self.eng.worker
        return Notifier(worker.store, self.keys, self.eng.notify, worker.webhooks, worker.background, sender())

    async def look(self, *, around: bool = False) -> list[Any]:
        """Look, send what is due, and answer what was received by now."""
        if around:
            self.lookout._around_after_ms = 0
        self.lookout.look()
        await self.eng.worker.background.close()
        return [one.body for one in self.hook.received]

    def let_pass(self, run: Run, ms: int) -> None:
        """Backdate a run and what it waits for."""
        at = self.keys.of_run(run.run_id)
        for field in ("updated_at", "ended_at", "progress_at", "started_at"):
            if self.client.hexists(at.run(run.run_id), field):
                self.client.hincrby(at.run(run.run_id), field, -ms)
        for index in (at.asking, at.waiting):
            if self.client.zscore(index, run.run_id):
                self.client.zincrby(index, -ms, run.run_id)


Make = Callable[..., AbstractAsyncContextManager[Told]]


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def make(redis_url: str, hook: Receiver) -> Make:
    @asynccontextmanager
    async def open_told(notify: Any = None, runyard: Any = None, **settings: Any) -> AsyncIterator[Told]:
        how = {"webhook_allow": "127.0.0.1", "partitions": 1, **settings}
        sections = {"notify": {"to": [hook.url], **(notify or {})}, **(runyard or {})}
        async with engine(redis_url, {"g": graph()}, runyard=sections, **how) as eng:
            yield Told(eng, hook)

    return open_told


async def test_a_run_that_failed_for_good_is_told_once_signed_and_without_secrets(make: Make) -> None:
    async with make(webhook_secret=SECRET) as told:
        run = await told.eng.run("g", {"text": "fail"})
        [body] = await told.look()
        assert (body["type"], body["kind"], body["more"]) == ("runyard.failed", "failed", 0)
        assert (body["run_id"], body["thread_id"], body["graph_id"]) == (run.run_id, run.thread_id, "g")
        assert (body["tenant"], body["link"]) == ("default", f"https://here/runs/{run.run_id}")
        assert (body["facts"]["error"], body["facts"]["node"]) == ("ValueError", "work")
        assert "kaboom" in body["text"]
        assert "sk-aaa" not in wire.encode(body).decode()
        [got] = told.hook.received
        signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.raw
        signature = b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).decode()
        assert got.headers["webhook-signature"] == f"v1,{signature}"
        told.make_lookout().look()
        assert len(await told.look()) == 1, "another worker that leads tells nothing anew"
        assert not told.client.exists(told.keys.notices)


async def test_what_was_there_before_anybody_was_to_be_told_is_no_news(make: Make) -> None:
    async with make() as told:
        run = await told.eng.run("g", {"text": "fail"})
        at = told.keys.of_run(run.run_id)
        told.client.zincrby(at.dead, -10 * MINUTE_MS, run.run_id)
        assert await told.look() == []


async def test_a_hundred_failures_alike_are_two_notices_and_another_is_one_more(make: Make) -> None:
    async with make() as told:
        for _ in range(30):
            await told.eng.run("g", {"text": "fail"})
        assert [body["more"] for body in await told.look()] == [0]
        group = told.keys.notice_group("/failed/g/work/ValueError")
        assert told.client.hget(group, "more") == b"29"
        told.client.hincrby(group, "at", -10 * MINUTE_MS)
        await told.eng.run("g", {"text": "fail"})
        assert [body["more"] for body in await told.look()] == [0, 29]


async def test_no_more_of_a_kind_are_told_in_an_hour_than_is_said(make: Make) -> None:
    async with make({"quiet_s": 0, "most_per_hour": 3}) as told:
        for _ in range(5):
            await told.eng.run("g", {"text": "fail"})
        assert len(await told.look()) == 3


async def test_a_person_is_told_reminded_and_left_alone_once_they_have_answered(make: Make) -> None:
    async with make({"remind_s": [3600]}) as told:
        run = await told.eng.run("g", {"text": "ask"})
        [first] = await told.look()
        assert (first["kind"], first["facts"]["reminder"]) == ("waiting", 0)
        assert "Send it?" in first["text"]
        assert len(await told.look()) == 1
        told.let_pass(run, 61 * MINUTE_MS)
        [_, second] = await told.look()
        assert second["facts"]["reminder"] == 1
        assert "61 min" in second["text"]
        assert not told.client.zcard(told.keys.of_run(run.run_id).asking), "there is nothing left to remind of"
        other = await told.eng.run("g", {"text": "ask"})
        await told.look()
        await told.eng.run("g", thread_id=other.thread_id, command={"resume": "yes"})
        told.let_pass(other, 61 * MINUTE_MS)
        assert len(await told.look()) == 3
        assert not told.client.zcard(told.keys.of_run(run.run_id).asking)


@pytest.mark.parametrize("by", ["node", "project"])
async def test_a_question_that_expires_is_answered_once_whoever_looks(make: Make, by: str) -> None:
    waiting = {"waiting": {"expires_s": 60, "answer": "no"}} if by == "project" else {}
    async with make({"on": ["failed"]}, waiting) as told:
        run = await told.eng.run("g", {"text": "ask" if by == "project" else "ask for a while"})
        await told.look()
        await told.eng.drive()
        assert told.eng.service.get_thread(run.thread_id).status == "interrupted", "its time has not come"
        told.let_pass(run, 2 * MINUTE_MS)
        told.lookout.look()
        told.make_lookout().look()
        await told.eng.drive()
        thread = told.eng.service.get_thread(run.thread_id)
        assert (thread.status, wire.decode(thread.values)) == ("idle", {"text": "no"})
        [newest, _] = told.eng.service.list_runs(run.thread_id)
        assert newest.metadata["answered_by"] == "expiry"
        assert newest.phase is Phase.SUCCEEDED


async def test_a_budgets_edge_is_told_and_never_granted_by_nobody(make: Make) -> None:
    more = {"budgets": {"run": {"supersteps": 1}}, "waiting": {"expires_s": 60, "answer": True}}
    two = StateGraph(State).add_node("a", lambda _: {}).add_node("b", lambda _: {})
    made = two.add_edge(START, "a").add_edge("a", "b").add_edge("b", END).compile()
    async with make(runyard=more) as told:
        told.eng.graphs["g"] = made
        run = await told.eng.run("g", {"text": ""})
        told.let_pass(run, 2 * MINUTE_MS)
        [body] = await told.look()
        assert (body["kind"], body["facts"]["asked"][0]["what"]) == ("budget", "supersteps")
        assert len(told.eng.service.list_runs(run.thread_id)) == 1


async def test_runs_that_do_not_come_on_are_told_of_in_plain_words(make: Make) -> None:
    async with make({"stuck_after_s": 60, "late_after_s": 3600, "parked_after_s": 60}) as told:
        stuck, parked, fine = (told.eng.start("g", {"text": text}) for text in ("stuck", "parked", "fine"))
        for run in (stuck, parked, fine):
            claim = told.eng.sync_store.do(runs.claim(told.keys, run.run_id, owner="w1", nonce="n", lease_ms=600_000))
            assert claim is not None
            if run is parked:
                waits = {"task_id": "t", "node": "work", "why": "limit", "name": "serp", "since": 1}
                told.eng.sync_store.do(runs.park(told.keys, run.run_id, claim.fence, 600_000, (waits,)))
        assert await told.look(around=True) == []
        told.let_pass(stuck, 61 * MINUTE_MS)
        told.let_pass(parked, 2 * MINUTE_MS)
        bodies = {(body["kind"], body["run_id"]): body for body in await told.look(around=True)}
        assert set(bodies) == {("stuck", stuck.run_id), ("late", stuck.run_id), ("parked", parked.run_id)}
        assert "worker w1" in bodies["stuck", stuck.run_id]["text"]
        assert "limit 'serp'" in bodies["parked", parked.run_id]["text"]
        assert len(await told.look(around=True)) == 3


async def test_a_run_that_no_worker_takes_is_stuck(make: Make) -> None:
    async with make({"stuck_after_s": 60}) as told:
        run = told.eng.start("g", {"text": ""})
        told.let_pass(run, 2 * MINUTE_MS)
        [body] = await told.look(around=True)
        assert (body["kind"], body["run_id"]) == ("stuck", run.run_id)
        assert "waits for a worker of queue 'default'" in body["text"]


async def test_a_circuit_that_opens_and_closes_is_told(make: Make) -> None:
    async with make() as told:
        do = told.eng.sync_store.do
        do(circuits.remember(told.keys, "api"))
        do(circuits.force(told.keys, "api", Mode.OPEN, why="their status page is red", by="ann"))
        [body] = await told.look()
        assert (body["title"], body["facts"]["circuit"]) == ("Circuit api opened", "api")
        assert "by ann: their status page is red" in body["text"]
        do(circuits.force(told.keys, "api", Mode.CLOSED, why="well again", by="ann"))
        assert [each["title"] for each in await told.look()] == ["Circuit api opened", "Circuit api closed"]


async def test_a_tenant_has_its_own_receivers_and_kinds_and_no_others(make: Make, hook: Receiver) -> None:
    with receiver() as theirs:
        tenants = {"acme": {"to": [theirs.url]}, "zoo": {"on": ["stuck"]}}
        async with make({"tenants": tenants, "on": ["failed"]}) as told:
            for tenant in ("", "acme", "zoo"):
                service = told.eng.service.of(tenant)
                thread = service.create_thread().thread_id
                service.create_run(told_request("fail"), graph_id="g", assistant_id="g", thread_id=thread)
            await told.eng.drive()
            assert [body["tenant"] for body in await told.look()] == ["default"]
            assert [one.body["tenant"] for one in theirs.received] == ["acme"]
            assert hook.url not in str(told.client.hgetall(told.keys.notices_seen))


def told_request(text: str) -> Any:
    return RunRequest(input={"text": text})


async def test_a_receiver_that_is_away_is_tried_again_and_given_up_and_then_sent_anew(make: Make) -> None:
    async with make(webhook_attempts=2) as told:
        told.hook.answers = [(500, {}), (500, {}), (200, {})]
        await told.eng.run("g", {"text": "fail"})
        assert len(await told.look()) == 1
        [(delivery_id, at)] = told.eng.sync_store.do(calls.listed(told.keys, "pending", limit=9))
        assert at > told.eng.sync_store.do(clock()), "it waits"
        told.client.zadd(told.keys.notices, {delivery_id: 1})
        assert len(await told.look()) == 2
        [(given_up, _)] = told.eng.sync_store.do(calls.listed(told.keys, "failed", limit=9))
        listed = told.eng.sync_store.do(calls.read(told.keys, given_up, 0))
        assert listed is not None
        assert (listed.attempts, listed.problem) == (2, "the receiver answered 500")
        assert "127.0.0.1" not in str(told.client.hgetall(told.keys.notice(given_up))), "an address may hold secrets"
        assert told.eng.sync_store.do(calls.resend(told.keys, given_up))
        assert not told.eng.sync_store.do(calls.resend(told.keys, given_up))
        assert len(await told.look()) == 3
        assert {one.headers["webhook-id"] for one in told.hook.received} == {delivery_id}
        assert not told.client.exists(told.keys.notices, told.keys.notices_failed, told.keys.notice(given_up))


async def test_a_sender_that_died_is_replaced_and_two_never_send_at_once(make: Make) -> None:
    async with make() as told:
        await told.eng.run("g", {"text": "fail"})
        told.hook.hold.clear()
        told.lookout.look()
        [delivery_id] = told.eng.sync_store.do(calls.due(told.keys, 2**50, most=9))
        other = told.make_notifier()
        await asyncio.sleep(0)
        first = await told.eng.worker.store.do(calls.claim(told.keys, delivery_id, nonce="other", lease_ms=1))
        other.send([delivery_id])
        told.hook.hold.set()
        await told.eng.worker.background.close()
        assert len(told.hook.received) == (0 if first else 1)


async def test_an_address_inside_the_network_is_not_reached_unless_an_operator_says_so(make: Make) -> None:
    async with make(webhook_allow="") as told:
        await told.eng.run("g", {"text": "fail"})
        assert await told.look() == []
        [(given_up, _)] = told.eng.sync_store.do(calls.listed(told.keys, "failed", limit=9))
        listed = told.eng.sync_store.do(calls.read(told.keys, given_up, 0))
        assert listed is not None
        assert "inside this network" in listed.problem


async def test_people_are_told_through_apprise(make: Make, hook: Receiver) -> None:
    host = hook.url.partition("://")[2]
    async with make({"to": [f"json://{host}"]}) as told:
        run = await told.eng.run("g", {"text": "fail"})
        [body] = await told.look()
        assert body["title"] == "g failed in node work: ValueError"
        assert body["message"].endswith(f"https://here/runs/{run.run_id}")
        hook.answers = [(500, {})]
        await told.eng.run("g", {"text": "ask"})
        await told.look()
        [(delivery_id, _)] = told.eng.sync_store.do(calls.listed(told.keys, "pending", limit=9))
        listed = told.eng.sync_store.do(calls.read(told.keys, delivery_id, 0))
        assert listed is not None
        assert listed.problem == "the service did not take it"


@pytest.mark.parametrize(
    ("configured", "word"),
    [([], "object"), ({"too": []}, "too"), ({"to": "x"}, "to"), ({"on": ["all"]}, "failed, stuck"),
     ({"to": ["nonsense"]}, "address"), ({"to": ["x://${{ env.HOME }}"]}, "RUNYARD_NOTIFY_"),
     ({"to": ["x://${{ env.RUNYARD_NOTIFY_X }}"]}, "not set"), ({"stuck_after_s": 0}, "stuck_after_s"),
     ({"most_per_hour": 0}, "most_per_hour"), ({"remind_s": 5}, "remind_s"),
     ({"tenants": {"a": {"quiet": 1}}}, "quiet")],
)  # fmt: skip
def test_rules_that_mean_nothing_are_refused_by_field(configured: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        notify_of(configured, {})


@pytest.mark.parametrize(
    "configured", [[], {"expires_s": 5}, {"expires_s": 0, "answer": 1}, {"graphs": {"g": {"x": 1}}}]
)
def test_expiries_that_mean_nothing_are_refused_by_field(configured: Any) -> None:
    with pytest.raises(ConfigError, match=r"runyard\.waiting"):
        waiting_of(configured)


def test_addresses_come_from_the_project_or_the_setting_with_secrets_from_the_environment() -> None:
    environ = {"RUNYARD_NOTIFY_HOOK": "s3cret"}
    own = notify_of({"to": ["https://x.example/${{ env.RUNYARD_NOTIFY_HOOK }}"]}, environ, "slack://elsewhere")
    [target] = own.targets.values()
    assert target.address == "https://x.example/s3cret"
    assert "s3cret" not in f"{target!r} {target.name}"
    [other] = notify_of({}, {}, "json://elsewhere").targets.values()
    assert other.address == "json://elsewhere"
    assert not notify_of({}, {}).tells("failed")


@pytest.mark.parametrize("address", ["nosuch://x", "http://127.0.0.1/x"])
def test_an_address_that_nothing_can_be_sent_to_stops_the_worker(address: str) -> None:
    project = Project(Path(), {}, runyard={"notify": {"to": [address]}})
    with pytest.raises(ConfigError, match=r"runyard\.notify\.to"):
        notify_for(project, Settings())


def runyard(_: Any, *arguments: str, **env: str) -> Result:
    env = {"COLUMNS": "160", "RUNYARD_PARTITIONS": "1", **env}
    return CliRunner().invoke(root, arguments, env=env, standalone_mode=False)


async def test_the_command_line_lists_what_was_given_up_and_sends_it_anew(make: Make, redis_url: str) -> None:
    async with make(webhook_attempts=1) as told:
        told.hook.answers = [(500, {}), (200, {})]
        await told.eng.run("g", {"text": "fail"})
        await told.look()
        listed = runyard(told, "notices", "list", "--json", REDIS_URL=redis_url)
        [one] = json.loads(listed.stdout)["notices"]
        assert (one["problem"], one["notice"]["kind"], one["attempts"]) == ("the receiver answered 500", "failed", 1)
        assert "g failed in node work" in runyard(told, "notices", "list", REDIS_URL=redis_url).stdout
        assert runyard(told, "notices", "resend", one["id"], REDIS_URL=redis_url).exception is None
        again = runyard(told, "notices", "resend", one["id"], REDIS_URL=redis_url)
        assert "was given up" in str(again.exception)
        assert len(await told.look()) == 2
        assert "no notice is failed" in runyard(told, "notices", "list", REDIS_URL=redis_url).stdout


def test_an_operator_can_try_whether_notices_arrive(hook: Receiver) -> None:
    hook.answers = [(200, {}), (404, {})]
    env = {"RUNYARD_NOTIFY": hook.url, "RUNYARD_WEBHOOK_ALLOW": "127.0.0.1"}
    assert runyard(None, "notices", "test", **env).stdout.endswith("delivered\n")
    assert hook.received[0].body["kind"] == "test"
    tried = runyard(None, "notices", "test", **env)
    assert tried.return_value == ExitCode.FAILED
    assert "answered 404" in tried.stdout
    assert "nobody is told" in runyard(None, "notices", "test").stdout
