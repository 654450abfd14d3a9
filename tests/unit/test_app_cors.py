"""Cross-origin rules: open by default, closed as the project file says."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.datastructures import Headers

from runyard.app.cors import Cors


def answered(config: dict[str, Any], origin: str) -> Headers:
    headers = Headers()
    Cors.from_config(config).mark(headers, origin)
    return headers


def test_everybody_may_ask_by_default_and_read_what_clients_need() -> None:
    headers = answered({}, "https://a.dev")
    assert headers["Access-Control-Allow-Origin"] == "*"
    for name in ("content-location", "location", "x-pagination-total", "x-pagination-next"):
        assert name in headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("config", [{"allow_origins": ["https://a.dev"]}, {"allow_origin_regex": r"https://\w\.dev"}])
def test_named_origins_are_echoed_and_others_get_nothing(config: dict[str, Any]) -> None:
    assert answered(config, "https://a.dev")["Access-Control-Allow-Origin"] == "https://a.dev"
    assert "Access-Control-Allow-Origin" not in answered(config, "https://a.dev.evil.com")


def test_answers_that_differ_by_origin_say_so_to_caches() -> None:
    assert answered({"allow_origins": ["https://a.dev"]}, "https://b.dev")["Vary"] == "Origin"


def test_credentials_never_go_with_a_star() -> None:
    headers = answered({"allow_origins": ["*"], "allow_credentials": True}, "https://a.dev")
    assert headers["Access-Control-Allow-Origin"] == "https://a.dev"
    assert headers["Access-Control-Allow-Credentials"] == "true"


def test_more_headers_can_be_exposed_but_none_of_ours_hidden() -> None:
    exposed = answered({"expose_headers": ["X-Mine"]}, "https://a.dev")["Access-Control-Expose-Headers"]
    assert "x-mine" in exposed
    assert "content-location" in exposed


def test_a_preflight_is_told_what_it_may_send() -> None:
    headers = Headers()
    Cors.from_config({"allow_methods": ["GET"], "allow_headers": ["X-A"], "max_age": 5}).mark_preflight(headers, "x-b")
    assert headers["Access-Control-Allow-Methods"] == "GET"
    assert headers["Access-Control-Allow-Headers"] == "X-A"
    assert headers["Access-Control-Max-Age"] == "5"
