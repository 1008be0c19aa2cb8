"""Passwords and one-time codes of staff: argon2id (RFC 9106), TOTP (RFC 6238), and the rules for a new password.

Every check costs the same whether there is an account or not. At most `SLOTS` hashes are computed at a time in a
process, because each takes 64 MiB for a tenth of a second: a flood of logins must not use up the memory that lookups
need.
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
"""The length of SHA-1's output (RFC 4226 section 4)."""

RandomBytes = Callable[[int], bytes]

hasher = PasswordHasher()
slots = BoundedSemaphore(SLOTS)


@contextmanager
def working() -> Iterator[None]:
    """Hold one of the process's `SLOTS` for computing a hash until the block ends. Raises TooManyAttempts if none
    becomes free within `WAIT_SECONDS`."""
    if not slots.acquire(timeout=WAIT_SECONDS):
        raise TooManyAttempts("Too many people are signing in. Try again.", retry_after_seconds=2)
    try:
        yield
    finally:
        slots.release()


def normal(password: str) -> str:
    """Return the password in the form that is hashed (NFKC), so that the same characters typed on another keyboard or
    system are the same password (NIST SP 800-63B section 5.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password. Raises TooManyAttempts."""
    with working():
        return hasher.hash(normal(password))


def matches(stored: str | None, password: str) -> bool:
    """True if `stored` is the hash of `password`. None takes as long as a hash and never matches. Call it inside
    `working`."""
    try:
        hasher.verify(_decoy_hash() if stored is None else stored, normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


@cache
def _decoy_hash() -> str:
    """Return the hash that is compared if there is no account."""
    return hasher.hash("the password of nobody")


def check_new_password(password: str, name: str) -> None:
    """Check a new password. Raises StaffInvalid if it is too short or too long, is the account's name, or has fewer
    than four different characters."""
    text = normal(password)
    if not MIN_CHARS <= len(text) <= MAX_CHARS:
        raise StaffInvalid(f"A password has {MIN_CHARS} to {MAX_CHARS} characters.")
    if text.casefold() == name.casefold() or len(set(text)) < 4:
        raise StaffInvalid("This password is too easy to guess.")


def initial_password(random_bytes: RandomBytes) -> str:
    """Return a random password of 120 bits that can be read aloud: four groups of six characters."""
    text = base64.b32encode(random_bytes(15)).decode().lower()
    return "-".join(text[at : at + 6] for at in range(0, 24, 6))


def totp_uri(seed: bytes, name: str, service: str) -> str:
    """Return the otpauth:// address that an authenticator app scans. It contains the seed: show it once, never log
    it."""
    return str(_totp(seed).provisioning_uri(name=name, issuer_name=service))


def code_step(seed: bytes | None, code: str, now: datetime) -> int | None:
    """Return the time step (RFC 6238) that this code belongs to: the current one or one of its neighbours; None if the
    code belongs to none of them. The seed None takes as long and never matches."""
    typed = code.strip().replace(" ", "").encode()
    totp = _totp(bytes(SEED_BYTES) if seed is None else seed)
    current = int(now.timestamp()) // STEP_SECONDS
    matching: int | None = None
    for step in (current - 1, current, current + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), typed):
            matching = step
    return None if seed is None else matching


def _totp(seed: bytes) -> pyotp.TOTP:
    return pyotp.TOTP(base64.b32encode(seed).decode())
