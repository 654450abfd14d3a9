"""Requests that show a JSON Web Token of an OpenID Connect issuer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

from runyard.app.auth.identity import Identity
from runyard.app.auth.jwks import JwkSet
from runyard.app.errors import NotAuthenticated
from runyard.engine.errors import InvalidInput
from runyard.engine.settings import Settings
from runyard.engine.tenancy import shown, stored

#: What must be in every token; a token without an end, or without a subject, is none.
REQUIRED = ("exp", "iss", "aud", "sub")


class TokenCheck:
    """Recognises tokens; one for each process. A token is verified anew for each request: about 0.1 ms."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._algorithms = settings.jwt_algorithm_names
        self._keys = JwkSet(settings.jwt_jwks)

    def identify(self, token: str) -> Identity:
        """Raises NotAuthenticated; KeysUnavailable when the issuer's keys cannot be had."""
        claims = self._verified(token)
        return self._identity(claims)

    def _verified(self, token: str) -> Mapping[str, Any]:
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in self._algorithms:  # before any key is looked at: a token chooses no algorithm
                raise NotAuthenticated(f"The token's algorithm is not among {', '.join(self._algorithms)}.")
            key = self._keys.find(header.get("kid"), algorithm)
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=list(settings.jwt_audiences),
                issuer=settings.jwt_issuer,
                leeway=settings.jwt_skew_s,
                options={"require": list(REQUIRED)},
            )
        except jwt.PyJWTError as error:
            raise NotAuthenticated(f"The token is not valid: {_said(error)}.") from None
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        scopes = _words(_claim(claims, self._settings.jwt_scopes_claim))
        tenant, subject = self._tenant(claims), str(claims["sub"])
        display = next(
            (str(claims[name]) for name in ("name", "preferred_username", "email") if claims.get(name)), subject
        )
        user = {
            "identity": subject,
            "display_name": display,
            "is_authenticated": True,
            "permissions": sorted(scopes),
            "tenant": shown(tenant),
        }
        return Identity(name=f"jwt:{subject[:200]}", tenant=tenant, scopes=scopes, user=user)

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        name = self._settings.jwt_tenant_claim
        if not name:
            return ""
        said = _claim(claims, name)
        try:
            return stored(said if isinstance(said, str) else "")
        except InvalidInput:
            raise NotAuthenticated(f"The token names no tenant in its claim {name!r}.") from None


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by a path with dots into objects: ``realm_access.roles``."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _words(said: Any) -> frozenset[str]:
    if isinstance(said, str):
        return frozenset(said.split())
    return frozenset(each for each in said if isinstance(each, str)) if isinstance(said, list) else frozenset()


#: What a client is told; the library's own sentences name keys and internals.
_SENTENCES: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidAudienceError, "it is for another audience"),
    (jwt.InvalidIssuerError, "it is from another issuer"),
    (jwt.MissingRequiredClaimError, f"it lacks one of the claims {', '.join(REQUIRED)}"),
    (jwt.InvalidSignatureError, "its signature is wrong"),
)


def _said(error: jwt.PyJWTError) -> str:
    return next((said for kind, said in _SENTENCES if isinstance(error, kind)), "it cannot be read")
