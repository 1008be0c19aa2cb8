"""Device cookies: browsers in which a member of staff has signed in before have their own count of failed attempts.

A login stores a device cookie in the browser (OWASP, "Slow down online guessing attacks with device cookies"): a random
nonce, the time, and a MAC over them, the login name and the account's one-time-code seed. An attempt with such a cookie
is counted for that browser. All other attempts are counted together for the account. When the account is locked, the
browser with the cookie is not. So an attacker who knows a login name can lock out new browsers, but not the browsers
that the person uses already.

The cookie does not authenticate the person: name, password and code are needed with it and without it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.protocol.encoding import b64url
from ledger.server.db.engine import reading
from ledger.server.staff import audit_queries as events
from ledger.server.staff import queries as store
from ledger.server.staff.passwords import RandomBytes
from ledger.server.staff.queries import StaffRow

LIFETIME = timedelta(days=180)
TRIES = 5
"""Number of refused attempts with one device cookie after which it is not accepted any longer. A login gives a new
cookie."""
NONCE_BYTES = 16

_COOKIE = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})\Z")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}\Z")


@dataclass(frozen=True, slots=True)
class Device:
    """A browser with a valid cookie for one account. `id` is the digest that the audit log holds of it."""

    id: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to sign in, before its password and code are compared.

    `device` is the browser if its cookie is valid for the name. `may_succeed` is False if there is no such account, or
    if it is disabled or locked for browsers without a cookie; no password needs to be compared then.
    """

    device: Device | None
    may_succeed: bool


def cookie_suffix(sealing_key: bytes, name: str) -> str:
    """Return the end of the cookie's name for this login name, so that people who share a browser have one cookie
    each."""
    return hmac.digest(_key(sealing_key), b"suffix " + name.encode(), hashlib.sha256).hex()[:12]


def attempt(engine: Engine, sealing_key: bytes, name: str, cookie: str | None, now: datetime) -> Attempt:
    """Return the attempt to sign in as `name` with this device cookie. Raises DatabaseUnavailable."""
    if not _NAME.match(name):
        return Attempt(None, False)
    with reading(engine) as connection:
        row = store.read_by_name(connection, name)
        device = None if row is None else _device(sealing_key, row, cookie, now)
        if device is not None and events.count_refusals(connection, device.id) >= TRIES:
            device = None
    return Attempt(device, row is not None and may_succeed(row, device, now))


def may_succeed(row: StaffRow, device: Device | None, now: datetime) -> bool:
    """True if a person can sign in to the account from this browser at this time."""
    if row.disabled_at is not None or row.link_hash is not None or row.awaits_confirmation:
        return False
    return device is not None or row.locked_until is None or now >= row.locked_until


def new_cookie(engine: Engine, sealing_key: bytes, name: str, now: datetime, random_bytes: RandomBytes) -> str | None:
    """Return a device cookie for a browser in which `name` has just signed in; None if there is no such account any
    longer. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        row = store.read_by_name(connection, name)
    if row is None:
        return None
    issued, nonce = str(int(now.timestamp())), b64url(random_bytes(NONCE_BYTES))
    return f"{issued}.{nonce}.{_mac(sealing_key, row, issued, nonce)}"


def _device(sealing_key: bytes, row: StaffRow, cookie: str | None, now: datetime) -> Device | None:
    match = _COOKIE.match(cookie or "")
    if match is None:
        return None
    issued, nonce, mac = match.groups()
    if not hmac.compare_digest(mac, _mac(sealing_key, row, issued, nonce)):
        return None
    if not 0 <= now.timestamp() - int(issued) < LIFETIME.total_seconds():
        return None
    return Device(hashlib.sha256(b"device " + nonce.encode()).hexdigest()[:32])


def _mac(sealing_key: bytes, row: StaffRow, issued: str, nonce: str) -> str:
    """Return the MAC of a cookie. It depends on the seed, so a reset of the account ends all its device cookies."""
    seed = hashlib.sha256(row.totp_secret).digest()
    text = b"\n".join((row.name.encode(), issued.encode(), nonce.encode(), seed))
    return b64url(hmac.digest(_key(sealing_key), b"cookie " + text, hashlib.sha256))


def _key(sealing_key: bytes) -> bytes:
    return hmac.digest(sealing_key, b"refund-ledger device cookies v1", hashlib.sha256)
