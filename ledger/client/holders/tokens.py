"""Tokens for key holders: EdDSA JWTs of one request each, which name the holder, the ledger's log and the digest of the
body.

A holder takes a token once and accepts it for a minute, so a token that is seen by another party is of no use: not at
this holder again, not at another one (also not at one of the same id in another ledger), and not with other elements. A
clock that is off is corrected as `ledger.client.identity.tokens` explains, for each holder by that holder's own time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.identity.tokens import MAX_CORRECTION_SECONDS, SKEW_FLOOR_SECONDS, skew_in_words
from ledger.client.transport.event_log import log_event
from ledger.errors import InvalidEncoding, InvalidToken, LedgerError, TokenExpired, TokenUsed, UnknownKey
from ledger.protocol.encoding import b64url, unb64url

TOKEN_SECONDS = 60
"""Lifetime of a token, from `iat` to `exp`; a holder refuses more."""
BACKDATE_SECONDS = 10
"""Seconds before now at which a token is dated, so that a clock slightly ahead is accepted."""
JTI_BYTES = 16


class HolderTokens:
    """Signs the tokens of one platform for one holder. Thread-safe. `correctable`: whether the holder's time may be
    believed when it refuses a token's."""

    def __init__(
        self,
        key: Ed25519PrivateKey,
        *,
        kid: str,
        platform: str,
        holder: str,
        log_key: str,
        now: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        correctable: bool,
    ) -> None:
        self._key = key
        self._kid = kid
        self._platform = platform
        self._holder = holder
        self._log_key = log_key
        self._now = now
        self._random_bytes = random_bytes
        self._correctable = correctable
        self._correction = 0
        header = {"alg": "EdDSA", "kid": kid, "typ": "JWT"}
        self._header = b64url(json.dumps(header, separators=(",", ":")).encode())

    def token(self, content: bytes | None) -> str:
        """Return a token for one request with this body."""
        issued_at = int(self._now().timestamp()) + self._correction - BACKDATE_SECONDS
        claims = {
            "iss": self._platform,
            "aud": self._holder,
            "log": self._log_key,
            "iat": issued_at,
            "exp": issued_at + TOKEN_SECONDS,
            "jti": b64url(self._random_bytes(JTI_BYTES)),
            "body": b64url(hashlib.sha256(content or b"").digest()),
        }
        signed = f"{self._header}.{b64url(json.dumps(claims, separators=(',', ':')).encode())}"
        return f"{signed}.{b64url(self._key.sign(signed.encode()))}"

    def refused(self, error: LedgerError, token: str, answered_at: datetime | None, again: bool) -> LedgerError | None:
        """Return the error to raise after an answer that refused `token`, or None: ask again with a new one.

        `answered_at` is the time that the answer was dated; `again` says that this was the second attempt.
        """
        if isinstance(error, UnknownKey):
            return UnknownKey(
                f"The key holder {self._holder} has admitted no key {self._kid} of this platform.",
                **{**error.details, "kid": self._kid},
            )
        if isinstance(error, TokenUsed) and not again:
            return None  # something between resent the request
        if not isinstance(error, InvalidToken | TokenExpired) or answered_at is None:
            return error
        skew = round((answered_at - self._now()).total_seconds())
        off = round(answered_at.timestamp()) - _issued_at(token) - BACKDATE_SECONDS
        if abs(off) <= SKEW_FLOOR_SECONDS:
            return error
        if again or not self._correctable or abs(skew) > MAX_CORRECTION_SECONDS:
            text = f"The key holder {self._holder} refused the token for its time."
            return type(error)(f"{text} {skew_in_words(skew)} Set it right.", **{**error.details, "skew_seconds": skew})
        self._correction = skew
        log_event("clock_corrected", skew_seconds=skew, holder=self._holder)
        return None


def _issued_at(token: str) -> int:
    try:
        return int(json.loads(unb64url(token.split(".")[1]))["iat"])
    except (InvalidEncoding, IndexError, KeyError, ValueError, TypeError):
        return 0
