"""Checks of arguments before anything is stored or sent. Each gives the checked value or raises a named error that says
which argument is meant, and never repeats its value."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches

from ledger.core.currencies import MINOR_DIGITS
from ledger.core.encoding import MAX_INTEGER, format_time
from ledger.core.entries import LEDGER_REASONS, WithdrawalReason
from ledger.errors import InvalidRequest, InvalidTime

REASONS = tuple(sorted(set(WithdrawalReason) - LEDGER_REASONS))
"""Why a platform may take a report back."""
LIKENESS = 0.5
"""How alike a known name must be to be suggested (`difflib` ratio): `amont` finds `amount_minor`."""


def check_text(name: str, value: object) -> str:
    """`value` if it is Unicode text: a string without lone surrogates. Raises InvalidRequest."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text.", field=name)
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidRequest(f"{name} holds a lone surrogate: it is no Unicode text.", field=name)
    return value


def check_reason(value: object) -> str:
    """`value` if it is a reason for which a platform withdraws a report. Raises InvalidRequest."""
    if not isinstance(value, str) or value not in REASONS:
        raise InvalidRequest(f"reason must be one of: {', '.join(REASONS)}.", field="reason")
    return str(value)


def check_moment(name: str, value: object) -> str:
    """An aware time as the ledger writes it. Raises InvalidTime."""
    if not isinstance(value, datetime):
        raise InvalidTime(f"{name} must be a datetime with its zone.", field=name)
    try:
        return format_time(value)
    except (InvalidTime, OverflowError):
        raise InvalidTime(f"{name} must carry its zone, such as datetime.now(UTC).", field=name) from None


def check_amount(name: str, value: object) -> int:
    """`value` if it is an amount in minor units. Raises InvalidRequest."""
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise InvalidRequest(f"{name} must be an integer from 0 to 2^53 - 1, in minor units.", field=name)
    return value


def check_currency(value: object) -> str:
    """`value` if it is a currency. Raises InvalidRequest."""
    if not isinstance(value, str) or value not in MINOR_DIGITS:
        raise InvalidRequest("currency must be an ISO 4217 code in capital letters, such as CNY.", field="currency")
    return value


def check_sha256(name: str, value: object) -> bytes:
    """`value` if it is a SHA-256 digest of 32 bytes. Raises InvalidRequest."""
    if not isinstance(value, bytes) or len(value) != 32:
        raise InvalidRequest(f"{name} must be the 32 bytes of a SHA-256 digest.", field=name)
    return value


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is most like, if it is like one."""
    found = get_close_matches(name.lower(), known, n=1, cutoff=LIKENESS)
    return found[0] if found else None
