"""Self-signed tokens: EdDSA JWTs that say which platform asks (RFC 7519, RFC 8037), good for ten minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.forks import ForkLock

TOKEN_SECONDS = 600
"""Lifetime of a token; the service refuses more than 900."""
RENEW_SECONDS = 60
"""A token this close to its end is replaced, so that none expires on its way."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """A token and its times (Unix seconds); one value, so that a child process never finds half of it."""

    token: str
    issued_at: int
    expires_at: int


class TokenSource:
    """Signs tokens for one platform and reuses each until shortly before it expires. Thread-safe."""

    def __init__(
        self,
        key: Ed25519PrivateKey,
        *,
        kid: str,
        platform: str,
        service: str,
        now: Callable[[], datetime],
        scopes: Iterable[str] | None = None,
    ) -> None:
        self._key = key
        self._kid = kid
        self._claims: dict[str, object] = {"iss": platform, "aud": service}
        if scopes is not None:
            self._claims["scope"] = " ".join(sorted(scopes))
        self._now = now
        self._lock = ForkLock()
        self._signed = _Signed("", 0, 0)

    def token(self) -> str:
        """A token with at least `RENEW_SECONDS` left, if the clock runs forward."""
        now = int(self._now().timestamp())
        with self._lock:
            # A clock set back would make the kept token one from the future, so it counts as worn out too.
            signed = self._signed
            if not signed.issued_at <= now < signed.expires_at - RENEW_SECONDS:
                claims = {**self._claims, "iat": now, "exp": now + TOKEN_SECONDS}
                token = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._kid})
                signed = self._signed = _Signed(token, now, now + TOKEN_SECONDS)
            return signed.token
