"""Authentication of member platforms by self-signed EdDSA tokens (docs/api.md, RFC 7519, RFC 8725).

A token is verified once and cached by its hash until it expires (BLAKE2b, which is built into Python: OpenSSL's SHA-256
is several times as slow for short inputs). The cache saves the signature check only: key, platform and scopes are read
from the members' snapshot at every request, so that a revocation or suspension stops a cached token too.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.requests import Request

from ledger.errors import InvalidToken, PlatformSuspended, ScopeMissing, TokenExpired, Unauthenticated, UnknownKey
from ledger.server.platforms.members import Member, MemberKey, Members

MAX_TOKEN_CHARS = 4096
MAX_LIFETIME_SECONDS = 900
LEEWAY_SECONDS = 60
MAX_REMEMBERED = 10_000
_ALGORITHM = "EdDSA"


@dataclass(frozen=True, slots=True)
class Verified:
    """The content of a verified token: the platform whose key signed it, its expiry (Unix seconds), the scopes it is
    limited to."""

    kid: str
    platform: str
    expires_at: float
    scopes: frozenset[str] | None


class Authenticator:
    """Checks tokens against the members' snapshot; `service` is the audience that they must name."""

    def __init__(self, members: Members, service: str, now: Callable[[], datetime]) -> None:
        self._members = members
        self._service = service
        self._now = now
        self._remembered: dict[bytes, Verified] = {}
        self._lock = threading.Lock()

    def member(self, authorization: str | None, *scopes: str) -> Member:
        """Return the platform of an `Authorization` header, which must have one of `scopes`.

        Raises Unauthenticated, InvalidToken, TokenExpired, UnknownKey, ScopeMissing, PlatformSuspended, and
        DatabaseUnavailable if the snapshot is too old to authenticate any platform.
        """
        token = bearer_token(authorization)
        digest = hashlib.blake2b(token.encode(), digest_size=32).digest()
        now = self._now().timestamp()
        verified = self._remembered.get(digest)
        if verified is None:
            verified = self._verify(token, now)
            self._remember(digest, verified)
        elif now >= verified.expires_at + LEEWAY_SECONDS:
            with self._lock:
                self._remembered.pop(digest, None)
            raise TokenExpired("The token has expired. Sign a new one.")
        key, member = self._members.holder(verified.kid, verified.platform)
        _check_key(key)
        if member is None:
            raise UnknownKey("The token's key belongs to no platform.")
        if member.suspended:
            raise PlatformSuspended("This platform is suspended.")
        held = member.scopes if verified.scopes is None else member.scopes & verified.scopes
        if held.isdisjoint(scopes):
            raise ScopeMissing(f"This needs the scope {' or '.join(scopes)}.", scope=" ".join(scopes))
        return member

    def _remember(self, digest: bytes, verified: Verified) -> None:
        with self._lock:
            self._remembered[digest] = verified
            if len(self._remembered) > MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]  # the oldest, which expires among the first

    def _verify(self, token: str, now: float) -> Verified:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise InvalidToken("The token is not a signed JWT.") from error
        if not isinstance(kid, str):
            raise InvalidToken("The token's header must name its key in `kid`.")
        key = _check_key(self._members.key(kid))
        claims = self._claims(token, key)
        if "body" in claims:  # a key holder may have the ledger's id, and must not be able to use its tokens here
            raise InvalidToken("This token is bound to one request to a key holder.")
        issued_at, expires_at = _time(claims["iat"]), _time(claims["exp"])
        if expires_at - issued_at > MAX_LIFETIME_SECONDS or expires_at <= issued_at:
            raise InvalidToken(f"A token lives at most {MAX_LIFETIME_SECONDS} seconds: exp must be close after iat.")
        if issued_at > now + LEEWAY_SECONDS or _time(claims.get("nbf", issued_at)) > now + LEEWAY_SECONDS:
            raise InvalidToken("The token is not valid yet. Check the clock.")
        if now >= expires_at + LEEWAY_SECONDS:
            raise TokenExpired("The token has expired. Sign a new one.")
        return Verified(kid, key.platform, expires_at, _scopes(claims))

    def _claims(self, token: str, key: MemberKey) -> dict[str, Any]:
        """Return the claims of a token with a valid signature. `_verify` checks the times against the service's own
        clock."""
        try:
            return jwt.decode(
                token,
                Ed25519PublicKey.from_public_bytes(key.public_key),
                algorithms=[_ALGORITHM],
                audience=self._service,
                issuer=key.platform,
                options={
                    "require": ["iss", "aud", "iat", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "strict_aud": True,
                },
            )
        except jwt.InvalidAudienceError as error:
            raise InvalidToken("The token's `aud` must be this service's id.") from error
        except jwt.InvalidIssuerError as error:
            raise InvalidToken("The token's `iss` must be the platform that the key belongs to.") from error
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken("A token needs the claims iss, aud, iat and exp.") from error
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise InvalidToken("The token's signature or form is wrong.") from error


def authenticate(request: Request, *scopes: str) -> Member:
    """Return the platform that sent `request`, which must have one of `scopes`. Raises as `Authenticator.member`
    does."""
    gate: Authenticator = request.app.state.authenticator
    member = gate.member(request.headers.get("authorization"), *scopes)
    request.scope["state"]["platform"] = member.platform
    return member


def _check_key(key: MemberKey | None) -> MemberKey:
    if key is None or key.revoked:
        raise UnknownKey("The token's `kid` names no active key.")
    return key


def bearer_token(authorization: str | None) -> str:
    """Return the token of an `Authorization` header. Raises Unauthenticated without a token, InvalidToken for one that
    is too long or not ASCII."""
    if not authorization:
        raise Unauthenticated("Send a token: `Authorization: Bearer <JWT>`.")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send a token: `Authorization: Bearer <JWT>`.")
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise InvalidToken(f"A token has at most {MAX_TOKEN_CHARS} characters, all ASCII.")
    return token


def _time(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < 2**53:  # type: ignore[operator]
        raise InvalidToken("The token's times must be numbers of seconds.")
    return float(value)  # type: ignore[arg-type]


def _scopes(claims: dict[str, Any]) -> frozenset[str] | None:
    scope = claims.get("scope")
    if scope is None:
        return None
    if not isinstance(scope, str):
        raise InvalidToken("The token's `scope` must be a string of scopes separated by spaces.")
    return frozenset(scope.split())
