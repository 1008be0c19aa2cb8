"""Self-signed tokens: EdDSA JWTs that name the platform (RFC 7519, RFC 8037) and are valid for ten minutes.

A machine's clock may be wrong. A token is dated one minute back, so that a clock up to two minutes ahead is accepted.
If the ledger refuses a token's times, the SDK corrects its clock by the difference to the answer's `Date` and sends the
request again, once. The corrected time is used for tokens only, so that a ledger cannot change the times in reports. A
difference is accepted up to 24 hours, and only over TLS or from this machine, because a token with a later date is
valid at that later time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.transport.event_log import log_event
from ledger.client.transport.forks import ForkLock
from ledger.errors import InvalidToken, LedgerError, TokenExpired, UnknownKey

TOKEN_SECONDS = 600
"""Lifetime of a token, from `iat` to `exp`; the service refuses more than 900."""
BACKDATE_SECONDS = 60
"""Seconds before now at which a token is dated. The service allows 60 seconds more."""
RENEW_SECONDS = 60
"""A token this close to its end is replaced, so that none expires on its way."""
SKEW_FLOOR_SECONDS = 30
"""A smaller difference of clocks is not the reason why a token was refused."""
MAX_CORRECTION_SECONDS = 24 * 3600
"""A larger difference is reported and not corrected."""
NEW_KEY_SECONDS = 5
"""A key that the operator adds is known to every server process after this time."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """A token and its times (Unix seconds); one value, so that a child process never finds half of it."""

    token: str
    signed_at: int
    expires_at: int


class TokenSource:
    """Signs tokens for one platform and reuses each until shortly before it expires. Thread-safe.

    `correctable`: whether the ledger's time may be believed when it refuses a token's.
    """

    def __init__(
        self,
        key: Ed25519PrivateKey,
        *,
        kid: str,
        platform: str,
        service: str,
        now: Callable[[], datetime],
        scopes: Iterable[str] | None = None,
        correctable: bool = False,
    ) -> None:
        self._key = key
        self._kid = kid
        self._claims: dict[str, object] = {"iss": platform, "aud": service}
        if scopes is not None:
            self._claims["scope"] = " ".join(sorted(scopes))
        self._now = now
        self._correctable = correctable
        self._correction = 0
        self._lock = ForkLock()
        self._signed = _Signed("", 0, 0)

    def token(self, _content: bytes | None = None) -> str:
        """Return a token with at least `RENEW_SECONDS` left, if the clock runs forward. It is for any request, whatever
        its content."""
        with self._lock:
            now = int(self._now().timestamp()) + self._correction
            # A clock set back would make the kept token one from the future, so it counts as worn out too.
            signed = self._signed
            if not signed.signed_at <= now < signed.expires_at - RENEW_SECONDS:
                issued_at = now - BACKDATE_SECONDS
                expires_at = issued_at + TOKEN_SECONDS
                claims = {**self._claims, "iat": issued_at, "exp": expires_at}
                token = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._kid})
                signed = self._signed = _Signed(token, now, expires_at)
            return signed.token

    def refused(self, error: LedgerError, token: str, answered_at: datetime | None, again: bool) -> LedgerError | None:
        """Return the error to raise after an answer that refused `token`, or None: ask again with a new one.

        `answered_at` is the time that the answer was dated; `again` says that this was the second attempt.
        """
        if isinstance(error, UnknownKey):
            return UnknownKey(
                f"The ledger knows no active key {self._kid} of this platform. A new key is effective within "
                f"{NEW_KEY_SECONDS} seconds after `refund-ledger platform add`. If it was revoked or replaced, use the "
                "newer key and suite file.",
                **{**error.details, "kid": self._kid},
            )
        if not isinstance(error, InvalidToken | TokenExpired):
            return error
        if answered_at is None:
            return _worded(error, "Check this machine's clock." if isinstance(error, TokenExpired) else "")
        with self._lock:
            skew = round((answered_at - self._now()).total_seconds())
            if not again and self._signed.token != token:
                return None  # another thread has corrected the clock meanwhile
            wrong = abs(skew - self._correction) > SKEW_FLOOR_SECONDS
            if wrong and not again and self._correctable and abs(skew) <= MAX_CORRECTION_SECONDS:
                self._correction = skew
                self._signed = _Signed("", 0, 0)
                corrected = True
            else:
                corrected = False
        if corrected:
            log_event("clock_corrected", skew_seconds=skew)
            return None
        if abs(skew) <= SKEW_FLOOR_SECONDS:
            return error
        return _worded(error, f"{skew_in_words(skew)} Set it right.", skew_seconds=skew)


def skew_in_words(seconds: int) -> str:
    """Return a sentence about a clock that is `seconds` behind the ledger's, or ahead of it if negative."""
    minutes = max(1, round(abs(seconds) / 60))
    unit = "minute" if minutes == 1 else "minutes"
    return f"This machine's clock is {minutes} {unit} {'behind' if seconds > 0 else 'ahead of'} the ledger's."


def _worded(error: LedgerError, words: str, **details: object) -> LedgerError:
    if not words:
        return error
    text = "The ledger refused the token for its time" if details or isinstance(error, TokenExpired) else str(error)
    return type(error)(f"{text.rstrip('.')}. {words}", **{**error.details, **details})
