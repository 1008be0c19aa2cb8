"""Login, logout, sessions, and change of password.

A failed login does not show the reason: password and code are always both checked, an unknown name costs the same hash
as a known one, and a locked account answers like a wrong password. Attempts are counted *before* they are checked, in a
transaction of their own, so that guesses sent at the same time share one count. Attempts from a browser in which the
person has signed in before are counted for that browser (`ledger.server.staff.devices`): a lock of the account does not
apply to it, and its logins do not end the lock.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.errors import InvalidEncoding, LoginRefused, SessionExpired, StaffInvalid
from ledger.protocol.encoding import b64url, unb64url
from ledger.server.db.engine import reading, writing
from ledger.server.staff import passwords
from ledger.server.staff import queries as store
from ledger.server.staff.accounts import StaffMember, member_of, seed_of
from ledger.server.staff.audit import record
from ledger.server.staff.audit_queries import DEVICE, count_refusals
from ledger.server.staff.devices import TRIES as DEVICE_TRIES
from ledger.server.staff.devices import Device, may_succeed
from ledger.server.staff.passwords import RandomBytes
from ledger.server.staff.queries import StaffRow

TRIES = 5
"""Number of failures in a row after which an account is locked."""

FIRST_LOCK = timedelta(minutes=15)
LONGEST_LOCK = timedelta(hours=24)
SEEN_EVERY = timedelta(minutes=1)
"""Least time between two updates of a session's last use."""

_REFUSED = "Name, password or code is wrong, or the account is locked."


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """The longest time that a session lasts without use (`idle`), and in total (`whole`)."""

    idle: timedelta
    whole: timedelta


class _DeviceAttempts:
    """Attempts of known browsers that this process is checking now. Only refusals are stored, so without this count,
    attempts that are sent at the same time would all read the number from before the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def enter(self, device: Device, refusals: Callable[[], int]) -> bool:
        """Add an attempt, unless the stored refusals and the open attempts together have reached TRIES already; return
        True if it was added. `refusals` reads the number of stored refusals. After True, call `leave` when the outcome
        is stored."""
        with self._lock:
            others = self._open[device.id]
            self._open[device.id] += 1
        # Refusals are read after the open attempts, so an attempt that ends in between is counted twice, never missed.
        if refusals() + others < DEVICE_TRIES:
            return True
        self.leave(device)
        return False

    def leave(self, device: Device) -> None:
        """Remove an attempt that `enter` added."""
        with self._lock:
            self._open[device.id] -= 1
            if not self._open[device.id]:
                del self._open[device.id]


_attempts = _DeviceAttempts()


def lock_time(failed_count: int) -> timedelta | None:
    """Return for how long the account is locked after the failure number `failed_count`. Every fifth failure locks it,
    each time for twice as long; None for the others."""
    if failed_count < TRIES or failed_count % TRIES:
        return None
    times: int = 2 ** min(failed_count // TRIES - 1, 10)
    return min(FIRST_LOCK * times, LONGEST_LOCK)


def login(
    engine: Engine,
    sealing_key: bytes,
    *,
    name: str,
    password: str,
    code: str,
    times: SessionTimes,
    now: datetime,
    random_bytes: RandomBytes,
    replaces: str | None = None,
    device: Device | None = None,
) -> str:
    """Sign in and return the token of the new session, 32 random bytes as base64url. `replaces` is the token that the
    browser had before; its session ends, so that a token which an attacker planted in the browser has no effect.
    `device` is the browser, if `devices.attempt` accepted its cookie for this name.

    Raises LoginRefused whatever is wrong, TooManyAttempts (the process computes as many hashes as it may; the attempt
    is not counted), ConfigurationError (see `accounts.seed_of`), DatabaseUnavailable.
    """
    with ExitStack() as stack:
        with passwords.working():
            row, checked = _charge(engine, name, now, device)
            if checked and device is not None:
                stack.callback(_attempts.leave, device)
            good_password = passwords.matches(row.password_hash if row else None, password)
            step = passwords.code_step(seed_of(sealing_key, row) if row else None, code, now)
            outdated = row is not None and good_password and passwords.hasher.check_needs_rehash(row.password_hash)
            rehashed = passwords.hasher.hash(passwords.normal(password)) if outdated else None
        token = random_bytes(32)
        if row is None or not checked or not good_password or step is None:
            _refused(engine, row if checked else None, now, device)
            raise LoginRefused(_REFUSED)
        with writing(engine) as connection:
            current = store.lock_by_id(connection, row.id)
            # The account may have been disabled or reset since the attempt was counted, or another login used the code.
            good = (
                current is not None
                and current.disabled_at is None
                and not current.awaits_confirmation
                and current.password_hash == row.password_hash
                and current.totp_secret == row.totp_secret
                and store.take_step(connection, row.id, step)
            )
            if good:
                counts = {"failed_count": 0, "locked_until": None} if device is None else {}
                store.update_staff(connection, row.id, last_login_at=now, **counts)
                if rehashed is not None:
                    store.update_staff(connection, row.id, password_hash=rehashed)
                store.delete_old_sessions(connection, now, now - times.idle)
                if replaces is not None:
                    store.delete_session(connection, token_hash(replaces))
                store.insert_session(connection, hashlib.sha256(token).digest(), row.id, now, now + times.whole)
                record(connection, now, row.id, "login")
        if not good:
            _refused(engine, row, now, device)
            raise LoginRefused(_REFUSED)
        return b64url(token)


def session_staff(engine: Engine, token: str | None, times: SessionTimes, now: datetime) -> StaffMember:
    """Return the member of staff who is signed in with `token`. Raises SessionExpired (the token is unknown, the
    session was idle too long or has ended, or the account is disabled) and DatabaseUnavailable."""
    if token is None:
        raise SessionExpired("You are not signed in.")
    digest = token_hash(token)
    with reading(engine) as connection:
        session = store.read_session(connection, digest)
        row = None if session is None else store.read_by_id(connection, session.staff_id)
    ended = (
        session is None
        or row is None
        or row.disabled_at is not None
        or now >= session.expires_at
        or now >= session.seen_at + times.idle
    )
    if ended or session is None or row is None:
        raise SessionExpired("Your session has ended. Sign in again.")
    if now >= session.seen_at + SEEN_EVERY:
        with writing(engine) as connection:
            store.touch_session(connection, digest, now)
    return member_of(row)


def logout(engine: Engine, token: str | None, now: datetime) -> None:
    """End the session of `token`, if there is one. Raises DatabaseUnavailable."""
    if token is None:
        return
    digest = token_hash(token)
    with writing(engine) as connection:
        session = store.read_session(connection, digest)
        if session is not None and store.delete_session(connection, digest):
            record(connection, now, session.staff_id, "logout")


def change_password(engine: Engine, *, staff_id: int, token: str, old: str, new: str, now: datetime) -> None:
    """Change the password of a member of staff, at their own request; all their sessions but that of `token` end.

    A wrong `old` is counted like a failed login. Raises StaffInvalid (the new password is not good enough, or is the
    old one), LoginRefused (the old one is wrong, or the account is locked), SessionExpired (the account was disabled
    or changed meanwhile), TooManyAttempts, DatabaseUnavailable.
    """
    with reading(engine) as connection:
        account = store.read_by_id(connection, staff_id)
    if account is None:
        raise SessionExpired("Your session has ended. Sign in again.")
    passwords.check_new_password(new, account.name)
    if passwords.normal(old) == passwords.normal(new):
        raise StaffInvalid("The new password must not be the old one.")
    with passwords.working():
        row, checked = _charge(engine, account.name, now)
        good = passwords.matches(row.password_hash if row else None, old)
        hashed = passwords.hasher.hash(passwords.normal(new)) if good else None
    if row is None or not checked or hashed is None:
        _refused(engine, row if checked else None, now)
        raise LoginRefused("The current password is wrong, or the account is locked.")
    with writing(engine) as connection:
        current = store.lock_by_id(connection, staff_id)
        if current is None or current.disabled_at is not None or current.password_hash != row.password_hash:
            raise SessionExpired("Your session has ended. Sign in again.")
        changed = {"password_hash": hashed, "must_change_password": False, "failed_count": 0, "locked_until": None}
        store.update_staff(connection, staff_id, **changed)
        store.delete_sessions(connection, staff_id, but=token_hash(token))
        record(connection, now, staff_id, "password_changed")


def token_hash(token: str) -> bytes:
    """Return the hash under which a token is stored. A text that is no token gets a hash that no session has."""
    try:
        return hashlib.sha256(unb64url(token, 32)).digest()
    except InvalidEncoding:
        return hashlib.sha256(b"not a token").digest()


def _charge(engine: Engine, name: str, now: datetime, device: Device | None = None) -> tuple[StaffRow | None, bool]:
    """Count an attempt. Return the account as it was, and whether this attempt may succeed.

    An attempt that may succeed is counted as failed until it has succeeded. The last attempt that is allowed locks the
    account before its password is compared. Attempts of a known browser are counted when they are refused.
    """
    with writing(engine) as connection:
        row = store.lock_by_name(connection, name)
        if row is None or not may_succeed(row, device, now):
            return row, False
        if device is not None:
            # Counted again under the lock of the row, with the attempts that are being checked: many attempts may have
            # started before the first was refused.
            return row, _attempts.enter(device, lambda: count_refusals(connection, device.id))
        failed = row.failed_count + 1
        lock = lock_time(failed)
        store.update_staff(
            connection, row.id, failed_count=failed, locked_until=now + lock if lock is not None else None
        )
        return row, True


def _refused(engine: Engine, row: StaffRow | None, now: datetime, device: Device | None = None) -> None:
    """Write a failure into the audit log. Attempts on unknown, disabled and locked accounts are only in the access log:
    otherwise an attacker could fill the audit log, and a text typed as a name may be a password."""
    if row is None:
        return
    if device is not None:
        with writing(engine) as connection:
            record(connection, now, row.id, "login_refused", DEVICE, device.id)
        return
    lock = lock_time(row.failed_count + 1)
    with writing(engine) as connection:
        record(connection, now, row.id, "login_refused")
        if lock is not None:
            minutes = int(lock.total_seconds()) // 60
            record(connection, now, row.id, "locked", "staff", str(row.id), f"{minutes} min")
