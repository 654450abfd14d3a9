"""What belongs to one tenant does not exist for another, whichever way it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from runyard.engine import bulk
from runyard.engine.assistants import Assistants
from runyard.engine.dead_letters import DeadLetters
from runyard.engine.errors import InvalidInput, NotFound, ThreadExists, ThreadNotFound
from runyard.engine.given import config_of
from runyard.engine.items import RedisItems
from runyard.engine.run import Phase, RunRequest
from runyard.engine.service import Service
from runyard.engine.tenancy import shown, stored
from tests.support.store import Bench


@pytest.fixture
def bench(redis_url: str) -> Bench:
    return Bench(redis_url, partitions=4)


def make_run(service: Service, thread_id: str | None = None, **how: Any) -> Any:
    return service.create_run(RunRequest(), graph_id="g", assistant_id="a", thread_id=thread_id, **how)


@pytest.mark.parametrize("name", ["acme", "default", "org|1", "a:b", "Ünder", "{x}"])
def test_a_tenants_name_survives_the_way_into_keys_and_back(name: str) -> None:
    assert shown(stored(name)) == name
    assert not set(stored(name)) & set("{}: ")


@pytest.mark.parametrize("name", ["", "  ", "x" * 200, "ü" * 100])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="tenant"):
        stored(name)


BY_ID: list[Callable[[Service, Any], Any]] = [
    lambda service, run: service.get_run(run.run_id),
    lambda service, run: service.get_run(run.run_id, run.thread_id),
    lambda service, run: service.list_runs(run.thread_id),
    lambda service, run: service.get_thread(run.thread_id),
    lambda service, run: service.reach(run.thread_id),
    lambda service, run: service.update_thread(run.thread_id, {"a": 1}),
    lambda service, run: service.set_ttl(run.thread_id, 1),
    lambda service, run: service.copy_thread(run.thread_id),
    lambda service, run: service.delete_thread(run.thread_id),
    lambda service, run: make_run(service, run.thread_id),
    lambda service, run: make_run(service, run.thread_id, create_thread=True),
    lambda service, run: make_run(service, run.thread_id, strategy="interrupt"),
    lambda service, run: make_run(service, run.thread_id, strategy="rollback", create_thread=True),
    lambda service, run: DeadLetters(service).get(run.run_id),
    lambda service, run: DeadLetters(service).discard(run.run_id, "mine"),
]


@pytest.mark.parametrize("owner", ["acme", ""])
@pytest.mark.parametrize("ask", BY_ID)
def test_another_tenants_ids_lead_nowhere_and_change_nothing(bench: Bench, owner: str, ask: Any) -> None:
    thread = bench.service.of(owner).create_thread(metadata={"secret": 1})
    run = make_run(bench.service.of(owner), thread.thread_id)
    before = bench.dump()
    with pytest.raises(NotFound):
        ask(bench.service.of("other"), run)
    assert bench.dump() == before


def test_a_thread_id_that_another_tenant_has_is_taken_and_tells_nothing(bench: Bench) -> None:
    thread = bench.service.of("acme").create_thread(metadata={"secret": 1})
    with pytest.raises(ThreadExists):
        bench.service.of("other").create_thread(thread.thread_id, exist_ok=True)
    assert bench.service.of("acme").create_thread(thread.thread_id, exist_ok=True).metadata == {"secret": 1}


def test_listings_show_a_tenants_own(bench: Bench) -> None:
    services = {tenant: bench.service.of(tenant) for tenant in ("", "acme", "other")}
    made = {tenant: service.create_thread().thread_id for tenant, service in services.items()}
    runs = {tenant: make_run(service, made[tenant]) for tenant, service in services.items()}
    for tenant, service in services.items():
        assert [thread.thread_id for thread in service.search_threads()[0]] == [made[tenant]]
        assert [t.thread_id for t in service.search_threads(ids=list(made.values()))[0]] == [made[tenant]]
        assert service.prune_threads([each for name, each in made.items() if name != tenant], "delete") == 0
    assert bulk.cancel_named(services["other"], made["acme"], [runs["acme"].run_id], "interrupt") == 0
    assert bulk.cancel_all(services["other"], "all", "interrupt") == 1
    assert bench.phase(runs["other"]) is Phase.CANCELLED
    assert bench.phase(runs["acme"]) is bench.phase(runs[""]) is Phase.WAITING
    services["acme"].delete_thread(made["acme"])
    assert services["acme"].search_threads()[1] == 0


def test_dead_letters_are_a_tenants_own_until_they_are_gone(bench: Bench) -> None:
    dead = {}
    for tenant in ("", "acme", "other"):
        run = make_run(bench.service.of(tenant), bench.service.of(tenant).create_thread().thread_id)
        bench.end(run, bench.claimed(run).fence, Phase.FAILED, error={"error": "E", "message": "m"})
        dead[tenant] = run
    for tenant, run in dead.items():
        assert [each.run_id for each in DeadLetters(bench.service.of(tenant)).search()[0]] == [run.run_id]
    assert DeadLetters(bench.service).search()[1] == 3, "who works on the store itself sees all"
    DeadLetters(bench.service.of("acme")).discard(dead["acme"].run_id, "done with")
    bench.delete(dead["other"])
    bench.delete(dead[""])
    assert not [key for key in bench.dump() if ":dead" in key]


def test_items_and_assistants_are_a_tenants_own(bench: Bench) -> None:
    items = RedisItems(bench.keys, sync_store=bench.store)
    for tenant in ("", "acme", "acme2"):
        items.of_tenant(tenant).put(("users", "ann"), "k", {"of": tenant})
        Assistants(bench.store, bench.keys.of_tenant(tenant)).create("id", {"graph_id": "g", "name": tenant})
    for tenant in ("", "acme", "acme2"):
        own = items.of_tenant(tenant)
        found = own.get(("users", "ann"), "k")
        assert found is not None
        assert found.value == {"of": tenant}
        assert [item.value for item in own.search(())] == [{"of": tenant}]
        assert own.list_namespaces() == [("users", "ann")]
        assert [each.name for each in Assistants(bench.store, bench.keys.of_tenant(tenant)).all()] == [tenant]


def test_a_service_that_may_see_some_threads_sees_their_runs_only(bench: Bench) -> None:
    service = bench.service.of("acme")
    mine = service.of("acme", lambda metadata: metadata.get("owner") == "ann")
    hers = service.create_thread(metadata={"owner": "bob"})
    run = make_run(service, hers.thread_id)
    for ask in BY_ID:
        with pytest.raises(NotFound):
            ask(mine, run)
    assert mine.search_threads()[1] == 0
    own = make_run(mine, metadata={"owner": "ann"}, thread_metadata={"owner": "ann"})
    assert mine.get_run(own.run_id) == service.get_run(own.run_id)
    with pytest.raises(ThreadExists):
        mine.create_thread(hers.thread_id, exist_ok=True)
    with pytest.raises(ThreadNotFound):
        mine.get_thread(hers.thread_id)


def test_nodes_are_told_who_asked_and_believe_no_client(bench: Bench) -> None:
    lie = RunRequest(config={"configurable": {"langgraph_auth_user": {"identity": "root"}, "user_id": "chosen"}})
    run = bench.service.of("acme").create_run(lie, graph_id="g", assistant_id="a")
    configurable = config_of(bench.service.get_run(run.run_id), 25)["configurable"]
    assert "langgraph_auth_user" not in configurable
    assert configurable["user_id"] == "chosen"
    told = config_of(replace(run, user={"identity": "ann", "permissions": ["a"]}), 25)["configurable"]
    assert told["langgraph_auth_user"] == {"identity": "ann", "permissions": ["a"]}
    assert told["langgraph_auth_user_id"] == told["user_id"] == "ann"
    assert told["langgraph_auth_permissions"] == ["a"]
