"""Tokens for a key holder: EdDSA JWTs (RFC 7519, RFC 8037) that live for a minute, are bound to one request body, and
are taken once.

    header   alg EdDSA, kid: the id of a key that the holder admitted for the platform
    claims   iss the platform, aud the holder's id, iat, exp (at most 60 s after iat), jti (16 to 64 characters),
             body: base64url of the SHA-256 of the exact bytes of the request's body; and, if the platform wants its
             tokens to be refused by a holder of this id in another ledger, log: the verifier key of the ledger's log
"""

from __future__ import annotations

import hmac
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.types import Options

from ledger.errors import InvalidToken, NotAdmitted, PlatformSuspended, TokenExpired, UnknownKey
from ledger.holder.state import AdmittedMember, AdmittedMemberKey, HolderSnapshot
from ledger.protocol.encoding import b64url

MAX_LIFETIME_SECONDS = 60
LEEWAY_SECONDS = 60
"""How far a platform's clock may be ahead. There is no leeway at the end of a token."""
KEPT_SECONDS = 3600
"""How long a used token is kept after its end: a clock that is set back by less lets no token be used again."""

_TOKEN_ID = re.compile(r"[!-~]{16,64}\Z")
_UNVERIFIED: Options = {"verify_signature": False}
_SIGNED: Options = {
    "require": ["iss", "aud", "iat", "exp", "jti", "body"],
    "strict_aud": True,
    "verify_exp": False,  # `verify` checks the times against the holder's clock
    "verify_iat": False,
    "verify_nbf": False,
}


@dataclass(frozen=True, slots=True)
class HolderToken:
    """A verified token: the platform that signed it, its key, the digest by which its use is recorded, and its expiry
    (Unix seconds, rounded up)."""

    member: AdmittedMember
    kid: str
    digest: bytes
    expires_at: int

    @property
    def use(self) -> tuple[bytes, int]:
        """The values to record when it is used."""
        return self.digest, self.expires_at


class TokenVerifier:
    """Checks tokens against a snapshot of the admitted platforms; `holder` is the audience that they must name, and
    `log_key` the log that they may name."""

    def __init__(self, holder: str, log_key: str, now: Callable[[], datetime]) -> None:
        self._holder, self._log_key, self._now = holder, log_key, now

    def verify(self, snapshot: HolderSnapshot, token: str, body: bytes) -> HolderToken:
        """Return the verified token. Whether it was used before is checked when its use is recorded.

        Raises InvalidToken, TokenExpired, UnknownKey, NotAdmitted, PlatformSuspended.
        """
        key = self._key(snapshot, token)
        claims = self._claims(token, key)
        issued_at, expires_at = _time(claims["iat"]), _time(claims["exp"])
        now = self._now().timestamp()
        if not 0 < expires_at - issued_at <= MAX_LIFETIME_SECONDS:
            raise InvalidToken(
                f"A token for a key holder lives at most {MAX_LIFETIME_SECONDS} seconds: exp must be close after iat."
            )
        if max(issued_at, _time(claims.get("nbf", issued_at))) > now + LEEWAY_SECONDS:
            raise InvalidToken("The token is not valid yet. Check the clock.")
        if now >= expires_at:
            raise TokenExpired("The token has expired. Sign a new one for each request.")
        if claims.get("log", self._log_key) != self._log_key:
            raise InvalidToken("The token is for a key holder of another ledger.")
        token_id, digest = claims["jti"], claims["body"]
        if not isinstance(token_id, str) or not _TOKEN_ID.match(token_id):
            raise InvalidToken("The token's `jti` must be 16 to 64 printable ASCII characters.")
        expected = b64url(sha256(body).digest())
        if not isinstance(digest, str) or not digest.isascii() or not hmac.compare_digest(digest, expected):
            raise InvalidToken("The token's `body` must be the SHA-256 of the request's body in base64url.")
        member = snapshot.members[key.platform]
        if member.suspended:
            raise PlatformSuspended("This platform is suspended.")
        used = sha256(f"{key.platform}\0{token_id}".encode()).digest()
        return HolderToken(member, key.kid, used, math.ceil(expires_at))

    @staticmethod
    def _key(snapshot: HolderSnapshot, token: str) -> AdmittedMemberKey:
        """Return the key that the token names, before its signature is checked. Raises as `verify`."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            platform = jwt.decode(token, options=_UNVERIFIED).get("iss")
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise InvalidToken("The token is not a signed JWT.") from error
        if not isinstance(kid, str) or not isinstance(platform, str):
            raise InvalidToken("The token must name its key in the header's `kid` and its platform in `iss`.")
        if platform not in snapshot.members:
            raise NotAdmitted("This key holder has not admitted the platform.")
        key = snapshot.keys.get((platform, kid))
        if key is None or key.revoked:
            raise UnknownKey("The token's `kid` names no active key of the platform here.")
        return key

    def _claims(self, token: str, key: AdmittedMemberKey) -> Mapping[str, Any]:
        """Return the claims of a token with a valid signature; `verify` checks the times against the holder's clock.
        Raises InvalidToken."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                Ed25519PublicKey.from_public_bytes(key.public_key),
                algorithms=["EdDSA"],
                audience=self._holder,
                issuer=key.platform,
                options=_SIGNED,
            )
        except jwt.InvalidAudienceError as error:
            raise InvalidToken("The token's `aud` must be this key holder's id.") from error
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken("The token needs iss, aud, iat, exp, jti and body.") from error
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise InvalidToken("The token's signature or claims are not acceptable.") from error
        return claims


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise InvalidToken("The token's times must be numbers of seconds.")
    return float(value)
