"""What an operator says about webhooks, which URLs are accepted, and how a delivery is signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
from typing import Any

import pytest

from runyard.engine.errors import ConfigError, InvalidInput
from runyard.engine.settings import Settings
from runyard.engine.webhooks import LONGEST_WAIT_S, WebhookPolicy, backoff_s, sign


def policy(
    section: dict[str, Any] | None = None, environ: dict[str, str] | None = None, **settings: Any
) -> WebhookPolicy:
    return WebhookPolicy.of(section or {}, Settings.from_env({}, **settings), environ or {})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://8.8.8.8/", "begins with http:// or https://"),
        ("javascript:alert(1)", "begins with http:// or https://"),
        ("8.8.8.8", "begins with http:// or https://"),
        ("/told", "must be a whole URL"),
        ("//8.8.8.8/told", "must be a whole URL"),
        ("https://", "name or the address of a host"),
        ("https://me:secret@8.8.8.8/", "without a user or a password"),
        ("https://me@8.8.8.8/", "without a user or a password"),
        ("https://8.8.8.8\\@127.0.0.1/", "without a user or a password"),
        ("https://8.8.8.8:0/", "port from 1 to 65535"),
        ("https://8.8.8.8:70000/", "port"),
        ("https://8.8.8.8:x/", "must be a URL"),
        ("https://a b/", "name or the address of a host"),
        ("https://8.8.8.8/" + "x" * 2048, "at most 2048 characters"),
        ("http://localhost:9/", "RUNYARD_WEBHOOK_ALLOW"),
        ("http://127.1/", "inside this network"),
        ("http://[::1]/", "inside this network"),
        ("http://[::ffff:169.254.169.254]/latest", "inside this network"),
        ("http://2130706433/", "inside this network"),
    ],
)
def test_a_wrong_url_is_refused_by_the_name_of_its_field(url: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        policy().check(url, "webhook")
    assert str(caught.value).startswith("webhook: ")
    assert said in str(caught.value)


def test_a_url_of_the_public_internet_is_accepted() -> None:
    policy().check("https://8.8.8.8:8443/told?key=1")
    policy().check("http://[2606:4700::1111]/")


def test_an_operator_narrows_and_opens_where_webhooks_go() -> None:
    narrow = policy({"url": {"require_https": True, "allowed_domains": ["8.8.8.8", "*.a.dev"], "allowed_ports": [443]}})
    narrow.check("https://8.8.8.8/")
    for url in ("http://8.8.8.8/", "https://8.8.8.8:444/", "https://1.1.1.1/"):
        with pytest.raises(InvalidInput):
            narrow.check(url)
    policy(webhook_allow="127.0.0.0/8, localhost").check("http://127.0.0.1:5/")
    policy({"url": {"max_url_length": 20}}).check("https://8.8.8.8/")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"url": []}, "webhooks.url"),
        ({"url": {"require_https": "yes"}}, "webhooks.url.require_https"),
        ({"url": {"allowed_ports": ["443"]}}, "webhooks.url.allowed_ports"),
        ({"url": {"max_url_length": 0}}, "webhooks.url.max_url_length"),
        ({"headers": {"x y": "a"}}, "webhooks.headers.x y"),
        ({"headers": {"x": "a\nb: c"}}, "webhooks.headers.x"),
        ({"headers": {"x": "${{ env.HOME }}"}}, "begin with LG_WEBHOOK_"),
        ({"headers": {"x": "${{ env.LG_WEBHOOK_NONE }}"}}, "LG_WEBHOOK_NONE, which is not set"),
    ],
)
def test_a_project_that_says_something_wrong_about_webhooks_is_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy(section)
    assert said in str(caught.value)


def test_headers_are_filled_from_the_environment() -> None:
    made = policy({"headers": {"Authorization": "Bearer ${{ env.LG_WEBHOOK_KEY }}!"}}, {"LG_WEBHOOK_KEY": "k"})
    assert made.headers == {"Authorization": "Bearer k!"}
    assert policy({"env_prefix": "MY_", "headers": {"a": "${{env.MY_A}}"}}, {"MY_A": "1"}).headers == {"a": "1"}


def test_a_secret_is_checked_and_never_shown() -> None:
    for wrong in ("short", "whsec_!!!!", "whsec_c2hvcnQ=", f"{'x' * 20} short"):
        with pytest.raises(ConfigError, match="RUNYARD_WEBHOOK_SECRET is not valid") as caught:
            Settings.from_env({"RUNYARD_WEBHOOK_SECRET": wrong})
        assert wrong not in str(caught.value)
    known = Settings.from_env({"RUNYARD_WEBHOOK_SECRET": "x" * 20})
    assert "xxxx" not in repr(known)
    assert "xxxx" not in repr(WebhookPolicy.of({}, known, {}))


def test_the_signature_is_that_of_the_standard_webhooks_specification() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="  # the vector of the specification's own libraries
    assert sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected
    wanted = hmac.new(key, b"a.5.b", hashlib.sha256).digest()
    assert base64.b64decode(sign(key, "a", 5, b"b").removeprefix("v1,")) == wanted


def test_waits_grow_and_are_bounded() -> None:
    waits = [min(backoff_s(attempt) for _ in range(20)) for attempt in range(1, 30)]
    assert 5 <= waits[0] < 7
    assert all(later > earlier for earlier, later in itertools.pairwise(waits[:10]))
    assert LONGEST_WAIT_S <= waits[-1] <= backoff_s(10_000) * 1.25
