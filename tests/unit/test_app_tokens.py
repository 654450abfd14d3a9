"""Tokens: which are believed, and that none talks its way in."""

from __future__ import annotations

import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from runyard.app.auth.jwks import KEEP_S, PAUSE_S, JwkSet, KeysUnavailable
from runyard.app.auth.tokens import TokenCheck
from runyard.app.errors import NotAuthenticated
from runyard.engine.errors import ConfigError
from runyard.engine.settings import Settings

RSA, OTHER, EC = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ec.generate_private_key(ec.SECP256R1()),
)
CLAIMS = {"iss": "https://issuer.dev", "aud": "runyard", "sub": "ann"}
PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    made = (RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, **more}


def token(key: Any = RSA, algorithm: str = "RS256", *, kid: str | None = "rsa", **claims: Any) -> str:
    said = {**CLAIMS, "exp": time.time() + 600, **claims}
    kept = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else {})


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    secret = {"kty": "oct", "kid": "shared", "k": urlsafe_b64encode(b"x" * 32).decode().rstrip("=")}
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(RSA, "rsa"), jwk(EC, "ec"), jwk(OTHER, "enc", use="enc"), secret]}))
    return file


def check(keys: Path, **settings: Any) -> TokenCheck:
    jwts = {"jwt_issuer": CLAIMS["iss"], "jwt_audience": "runyard other", "jwt_jwks": str(keys)}
    return TokenCheck(Settings.from_env({}, auth="jwt", **{**jwts, **settings}))


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec")])
def test_a_token_of_the_issuer_is_believed(keys: Path, key: Any, algorithm: str, kid: str) -> None:
    who = check(keys).identify(token(key, algorithm, kid=kid, scope="runs:read store:read", name="Ann"))
    assert (who.name, who.tenant, who.scopes) == ("jwt:ann", "", {"runs:read", "store:read"})
    assert who.user is not None
    assert who.user["display_name"] == "Ann"


def forged(header: dict[str, Any], signature: str = "") -> str:
    parts = [header, {**CLAIMS, "exp": time.time() + 600}]
    return ".".join([*(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), signature])


def hmac_with_the_public_key() -> str:
    import hashlib
    import hmac

    head = forged({"alg": "HS256", "kid": "rsa"}).rpartition(".")[0]
    signature = hmac.new(PEM, head.encode(), hashlib.sha256).digest()
    return f"{head}.{urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: token(exp=time.time() - 60), "expired"),
        (lambda: token(nbf=time.time() + 600), "not valid yet"),
        (lambda: token(aud="elsewhere"), "audience"),
        (lambda: token(iss="https://evil.dev"), "issuer"),
        (lambda: token(exp=None), "lacks one of the claims"),
        (lambda: token(sub=None), "lacks one of the claims"),
        (lambda: token(OTHER), "signature is wrong"),
        (lambda: token(kid="gone"), "does not publish"),
        (lambda: token(kid=None), "cannot be read|does not publish"),
        (lambda: token(OTHER, kid="enc"), "does not publish"),
        (lambda: token(b"x" * 32, "HS256", kid="shared"), "algorithm"),
        (lambda: token(algorithm="RS512"), "algorithm"),
        (lambda: forged({"alg": "none"}), "algorithm"),
        (lambda: forged({"alg": "None", "kid": "rsa"}), "algorithm"),
        (lambda: forged({"alg": "RS256", "kid": "rsa"}), "signature is wrong"),
        (lambda: forged({"alg": "RS256", "kid": "rsa", "jwk": jwk(OTHER, "rsa")}), "signature is wrong"),
        (hmac_with_the_public_key, "algorithm"),
        (lambda: "a.b.c", "cannot be read"),
        (lambda: "nonsense", "cannot be read"),
        (lambda: token() + "x" * 5, "signature is wrong|cannot be read"),
    ],
)
def test_what_is_wrong_with_a_token_keeps_it_out(keys: Path, made: Any, said: str) -> None:
    with pytest.raises(NotAuthenticated, match=said) as told:
        check(keys).identify(made())
    assert " ann" not in str(told.value)


def test_a_clock_may_be_off_by_the_skew(keys: Path) -> None:
    late = token(exp=time.time() - 20)
    assert check(keys, jwt_skew_s=60).identify(late)
    with pytest.raises(NotAuthenticated, match="expired"):
        check(keys, jwt_skew_s=5).identify(late)


def test_tenant_and_scopes_come_from_the_claims_that_are_set(keys: Path) -> None:
    named = check(keys, jwt_tenant_claim="org.id", jwt_scopes_claim="realm_access.roles")
    who = named.identify(token(org={"id": "org:1"}, realm_access={"roles": ["runs:read", 5]}))
    assert (who.tenant, who.scopes) == ("org%3A1", {"runs:read"})
    for claims in ({}, {"org": {"id": ""}}, {"org": {"id": 5}}, {"org": "x"}, {"org": {"id": "x" * 500}}):
        with pytest.raises(NotAuthenticated, match="names no tenant"):
            named.identify(token(**claims))


@pytest.mark.parametrize(
    "wrong",
    [
        {"RUNYARD_JWT_ALGORITHMS": "HS256"},
        {"RUNYARD_JWT_ALGORITHMS": "none"},
        {"RUNYARD_JWT_JWKS": "http://issuer.dev/jwks"},
        {"RUNYARD_JWT_ISSUER": ""},
        {"RUNYARD_JWT_AUDIENCE": " "},
        {"RUNYARD_AUTH": "jtw"},
    ],
)
def test_settings_that_would_let_anybody_in_are_refused_by_name(wrong: dict[str, str]) -> None:
    right = {"RUNYARD_AUTH": "jwt", "RUNYARD_JWT_ISSUER": "i", "RUNYARD_JWT_AUDIENCE": "a", "RUNYARD_JWT_JWKS": "/f"}
    assert Settings.from_env(right).auth_ways == ("jwt",)
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Settings.from_env({**right, **wrong})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[Any]:
    """Publishes keys at an address, and counts who asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["asked"] += 1
            self.send_response(state["status"])
            self.end_headers()
            self.wfile.write(json.dumps({"keys": state["keys"]}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    state: dict[str, Any] = {"asked": 0, "status": 200, "keys": [jwk(RSA, "one")]}
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state["url"] = f"http://127.0.0.1:{server.server_port}/jwks"
    yield state
    server.shutdown()
    server.server_close()


def test_keys_at_an_address_are_kept_and_looked_at_again_when_they_are_rotated(issuer: Any) -> None:
    clock = Clock()
    keys = JwkSet(issuer["url"], clock=clock)
    for _ in range(5):
        assert keys.find("one", "RS256")
    assert issuer["asked"] == 1
    issuer["keys"] = [jwk(OTHER, "two")]
    for _ in range(5):  # made-up names make nobody ask more often
        with pytest.raises(NotAuthenticated):
            keys.find("two", "RS256")
    assert issuer["asked"] == 1
    clock.now += PAUSE_S + 1
    assert keys.find("two", "RS256")
    with pytest.raises(NotAuthenticated):
        keys.find("one", "RS256")
    assert issuer["asked"] == 2


def test_an_issuer_that_is_away_leaves_the_keys_there_were(issuer: Any) -> None:
    clock = Clock()
    keys = JwkSet(issuer["url"], clock=clock)
    issuer["status"] = 500
    with pytest.raises(KeysUnavailable):
        keys.find("one", "RS256")
    issuer["status"] = 200
    clock.now += PAUSE_S + 1
    assert keys.find("one", "RS256")
    issuer["status"] = 500
    clock.now += KEEP_S + 1
    assert keys.find("one", "RS256")
