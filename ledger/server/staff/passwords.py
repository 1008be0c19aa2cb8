"""Passwords and one-time codes of staff: argon2id (RFC 9106), TOTP (RFC 6238), and what a good password is.

Every check costs the same whether there is an account or not. At most `SLOTS` run at a time in a process, because
each takes 64 MiB for a tenth of a second: a flood of logins must not take the memory that lookups need.
"""

from __future__ import annotations

import base64
import hmac
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from threading import BoundedSemaphore

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ledger.errors import StaffInvalid, TooManyAttempts

MIN_CHARS, MAX_CHARS = 12, 256
SLOTS = 3
WAIT_SECONDS = 2.0
STEP_SECONDS = 30
SEED_BYTES = 20
"""As long as SHA-1's output (RFC 4226 section 4)."""

RandomBytes = Callable[[int], bytes]

hasher = PasswordHasher()
slots = BoundedSemaphore(SLOTS)


@contextmanager
def working() -> Iterator[None]:
    """One of the process's few places to compute a hash. Raises TooManyAttempts when none becomes free in time."""
    if not slots.acquire(timeout=WAIT_SECONDS):
        raise TooManyAttempts("Too many people are signing in. Try again.", retry_after_seconds=2)
    try:
        yield
    finally:
        slots.release()


def normal(password: str) -> str:
    """The password as it is hashed: the same characters typed on another keyboard or system are the same password
    (NIST SP 800-63B section 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def hash_password(password: str) -> str:
    """The argon2id hash. Raises TooManyAttempts."""
    with working():
        return hasher.hash(normal(password))


def matches(stored: str | None, password: str) -> bool:
    """Whether `password` is the one behind `stored`; None takes as long and is never matched. Call it in `working`."""
    try:
        hasher.verify(_nobodys_hash() if stored is None else stored, normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


@cache
def _nobodys_hash() -> str:
    return hasher.hash("the password of nobody")


def check_new_password(password: str, name: str) -> None:
    """Raises StaffInvalid when `password` is too short or long, or is the account's name."""
    text = normal(password)
    if not MIN_CHARS <= len(text) <= MAX_CHARS:
        raise StaffInvalid(f"A password has {MIN_CHARS} to {MAX_CHARS} characters.")
    if text.casefold() == name.casefold() or len(set(text)) < 4:
        raise StaffInvalid("This password is too easy to guess.")


def initial_password(random_bytes: RandomBytes) -> str:
    """A password of 120 bits that can be read out: four groups of six."""
    text = base64.b32encode(random_bytes(15)).decode().lower()
    return "-".join(text[at : at + 6] for at in range(0, 24, 6))


def totp_uri(seed: bytes, name: str, service: str) -> str:
    """What an authenticator app scans (otpauth://). It holds the seed: show it once, log it never."""
    return str(_totp(seed).provisioning_uri(name=name, issuer_name=service))


def code_step(seed: bytes | None, code: str, now: datetime) -> int | None:
    """The time step whose code this is, of the current one and its neighbours; None if it is of none. None for a seed
    takes as long."""
    given = code.strip().replace(" ", "").encode()
    totp = _totp(bytes(SEED_BYTES) if seed is None else seed)
    current = int(now.timestamp()) // STEP_SECONDS
    found: int | None = None
    for step in (current - 1, current, current + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), given):
            found = step
    return None if seed is None else found


def _totp(seed: bytes) -> pyotp.TOTP:
    return pyotp.TOTP(base64.b32encode(seed).decode())
