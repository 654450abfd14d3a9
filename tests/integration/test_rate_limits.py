"""How fast a key, a tenant and a route may be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from runyard.engine import metrics
from runyard.engine.api_keys import ApiKeys
from runyard.engine.errors import ConfigError
from runyard.engine.store.embedded import EmbeddedServer
from tests.support.web import Web


class Doors:
    def __init__(self, redis_url: str, folder: Path, limits: str) -> None:
        self.web = Web(redis_url, folder, auth="keys", rate_limits=limits)
        service = self.web.app.extensions["runyard"].shared_service
        self._keys = ApiKeys(service.store, service.keys)

    def key(self, tenant: str) -> str:
        return self._keys.create("t", ["*"], tenant=tenant)[1]

    def ask(self, key: str, method: str = "POST", path: str = "/threads/count", body: Any = None) -> Any:
        return self.web.call(method, path, body, headers={"X-Api-Key": key})


def statuses(doors: Doors, key: str, times: int, *where: Any) -> list[int]:
    return [doors.ask(key, *where).status_code for _ in range(times)]


def test_a_key_is_held_up_and_told_for_how_long_and_others_are_not(
    redis_url: str, tmp_path: Path, redis: redis_py.Redis
) -> None:
    doors = Doors(redis_url, tmp_path / "p", "key=2/minute")
    one, other = doors.key("acme"), doors.key("acme")
    first = doors.ask(one)
    assert (first.headers["X-RateLimit-Limit"], first.headers["X-RateLimit-Remaining"]) == ("2", "1")
    assert doors.ask(one).status_code == 200
    refused = doors.ask(one)
    assert refused.status_code == 429
    assert "2 per 1 minute" in refused.json["detail"]
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert doors.ask(other).status_code == 200
    [window] = [key for key in redis.scan_iter("ry:rates:*") if redis.get(key) == b"3"]
    assert 0 <= int(refused.headers["Retry-After"]) - redis.pttl(window) / 1000 <= 2
    redis.delete(window)
    assert doors.ask(one).status_code == 200, "the next window lets it in again"


def test_a_tenant_shares_its_limit_and_no_other_tenant_is_in_it(redis_url: str, tmp_path: Path) -> None:
    doors = Doors(redis_url, tmp_path / "p", "tenant=2/minute")
    assert [doors.ask(doors.key("acme")).status_code for _ in range(3)] == [200, 200, 429]
    assert doors.ask(doors.key("other")).status_code == 200


def test_scopes_and_routes_have_limits_of_their_own(redis_url: str, tmp_path: Path) -> None:
    doors = Doors(redis_url, tmp_path / "p", "threads:read=2/minute; POST /threads=1/minute, 5/hour")
    key = doors.key("acme")
    assert statuses(doors, key, 3) == [200, 200, 429]
    assert statuses(doors, key, 2, "POST", "/threads", {}) == [200, 429]
    assert statuses(doors, key, 3, "POST", "/assistants/count") == [200] * 3


def test_all_limits_of_a_request_cost_one_round_trip_and_the_longest_wait_is_told(
    redis_url: str, tmp_path: Path, redis: redis_py.Redis
) -> None:
    doors = Doors(redis_url, tmp_path / "p", "key=1/minute, 1/hour; tenant=9/second; threads:read=9/day")
    key = doors.key("acme")
    before = redis.info("commandstats")
    assert doors.ask(key).status_code == 200
    after = redis.info("commandstats")
    begun = [info.get("cmdstat_exec", {"calls": 0})["calls"] for info in (before, after)]
    assert begun[1] - begun[0] == 1, "one transaction"
    refused = doors.ask(key)
    assert refused.status_code == 429
    assert "1 per 1 hour" in refused.json["detail"]
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    assert all(redis.pttl(window) > 0 for window in redis.scan_iter("ry:rates:*"))


def test_what_asks_nobody_who_they_are_is_not_counted(redis_url: str, tmp_path: Path) -> None:
    doors = Doors(redis_url, tmp_path / "p", "key=1/minute")
    assert [doors.web.call("GET", "/ok").status_code for _ in range(3)] == [200] * 3
    assert [doors.web.call("POST", "/threads/count").status_code for _ in range(3)] == [401] * 3


def test_without_limits_nothing_is_counted_and_no_header_told(
    redis_url: str, tmp_path: Path, redis: redis_py.Redis
) -> None:
    doors = Doors(redis_url, tmp_path / "p", "")
    assert "X-RateLimit-Limit" not in doors.ask(doors.key("acme")).headers
    assert not list(redis.scan_iter("ry:rates:*"))


def test_while_the_store_is_away_limits_hold_nobody_up_and_that_is_counted(tmp_path: Path) -> None:
    counted = metrics.Metrics()
    with EmbeddedServer(tmp_path / "store") as server:
        doors = Doors(server.url, tmp_path / "p", "key=1/minute")
        key = doors.key("acme")
        before = metrics.active()
        metrics.install(counted)
        try:
            assert doors.ask(key).status_code == 200
            server.stop()
            assert doors.ask(key, "GET", "/assistants/plain/graph").status_code == 200
            assert doors.ask(key, "GET", "/assistants/plain/graph").status_code == 200
        finally:
            metrics.install(before)
    assert counted.registry.get_sample_value("runyard_rate_limits_skipped_total") == 2


@pytest.mark.parametrize("wrong", ["kye=1/minute", "key=often", "key", "POST /nowhere=1/minute", "runs:wirte=1/second"])
def test_limits_that_mean_nothing_stop_the_server_by_name(redis_url: str, tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="RUNYARD_RATE_LIMITS"):
        Doors(redis_url, tmp_path / "p", wrong)
