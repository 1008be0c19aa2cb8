"""Public ids: internal integers encoded so that an id shows neither the number of rows nor their order.

hashids hides the counter from a casual reader and detects most typing errors. It is neither encryption nor a secret:
the service id is enough to decode an id. Knowledge of an id never authorises anything.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from hashids import Hashids, _reorder  # type: ignore[import-untyped]

from ledger.errors import InvalidRequest

Prefix = Literal["rp", "lk", "ap", "at", "ss", "we", "wm"]
"""rp: report, lk: lookup, ap: appeal, at: attachment, ss: subject session, we: webhook endpoint, wm: its message."""

MAX_ID_NUMBER = 2**63 - 1
"""Largest internal integer: a signed 64-bit database key."""

MAX_ID_CHARS = 32
_MIN_LENGTH = 8


@lru_cache(maxsize=64)
def _hashids(prefix: str, service: str) -> Hashids:
    return Hashids(salt=f"refund-ledger:{service}:{prefix}", min_length=_MIN_LENGTH)


class _Wheel(NamedTuple):
    """What hashids makes of one salt and one remainder of the number modulo 100: nearly all of its work. `first` is the
    letter that tells the remainder, `alphabet` has the digits; the rest fills up short ids."""

    remainder: int
    first: str
    alphabet: str
    guards: str
    before: str
    after: str


@lru_cache(maxsize=64 * 100)
def _wheel(prefix: str, service: str, remainder: int) -> _Wheel:
    hashids = _hashids(prefix, service)
    letters = hashids._alphabet
    first = letters[remainder % len(letters)]
    alphabet = _reorder(letters, (first + hashids._salt + letters)[: len(letters)])
    filling = _reorder(alphabet, alphabet)
    half = len(filling) // 2
    return _Wheel(remainder, first, alphabet, hashids._guards, filling[half:], filling[:half])


def _encode(wheel: _Wheel, number: int) -> str:
    """`Hashids.encode` for one number, the same text in a tenth of the time."""
    alphabet, guards = wheel.alphabet, wheel.guards
    base = len(alphabet)
    digits = ""
    while True:
        number, digit = divmod(number, base)
        digits = alphabet[digit] + digits
        if not number:
            break
    text = wheel.first + digits
    missing = _MIN_LENGTH - len(text)
    if missing > 0:
        text = guards[(wheel.remainder + ord(text[0])) % len(guards)] + text
    if missing > 1:
        text += guards[(wheel.remainder + ord(text[2])) % len(guards)]
    if missing > 2:
        text = wheel.before + text + wheel.after
        start = (len(text) - _MIN_LENGTH) // 2
        text = text[start : start + _MIN_LENGTH]
    return text


def encode_id(prefix: Prefix, number: int, service: str) -> str:
    """Return the public id of internal integer `number` (0 to 2^63 - 1) at service id `service`, e.g. `rp_Xk3mPq9a`.

    Raises InvalidRequest for a number out of range.
    """
    if not 0 <= number <= MAX_ID_NUMBER:
        raise InvalidRequest("An internal id must lie between 0 and 2^63 - 1.")
    return f"{prefix}_{_encode(_wheel(prefix, service, number % 100), number)}"


def decode_id(prefix: Prefix, text: str, service: str) -> int:
    """Decode a public id of `encode_id`: exactly one text is accepted for each number.

    Raises InvalidRequest for another prefix, another service's id or anything malformed. It is not checked whether a
    row with this number exists.
    """
    if not isinstance(text, str) or len(text) > MAX_ID_CHARS or not text.startswith(f"{prefix}_"):
        raise InvalidRequest(f"An id of this sort starts with {prefix}_ and has at most {MAX_ID_CHARS} characters.")
    numbers = _hashids(prefix, service).decode(text[len(prefix) + 1 :])
    if len(numbers) != 1 or numbers[0] > MAX_ID_NUMBER:
        raise InvalidRequest(f"This is not a valid {prefix}_ id of this service.")
    return int(numbers[0])
