"""Public ids: internal integers in a form that shows neither their number nor their order.

hashids hides the counter from a casual reader and detects most typing errors. It is not encryption: with the service
id, any id can be decoded. Knowing an id never authorises anything.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple, TypeGuard, get_args

from hashids import Hashids, _reorder  # type: ignore[import-untyped]

from ledger.errors import InvalidRequest

Prefix = Literal["rp", "lk", "ap", "at", "ss", "we", "wm"]
"""rp: report, lk: lookup, ap: appeal, at: attachment, ss: subject session, we: webhook endpoint, wm: its message."""

MAX_ID_NUMBER = 2**63 - 1
"""Largest internal integer: a signed 64-bit database key."""

MAX_ID_CHARS = 32
_MIN_LENGTH = 8


def id_pattern(prefix: Prefix) -> str:
    """Return the regular expression (without anchors) of the form of public ids with this prefix, of any service."""
    return f"{prefix}_[A-Za-z0-9]{{{_MIN_LENGTH},{MAX_ID_CHARS - len(prefix) - 1}}}"


_FORMS: dict[str, re.Pattern[str]] = {prefix: re.compile(id_pattern(prefix)) for prefix in get_args(Prefix)}


def is_id(prefix: Prefix, text: object) -> TypeGuard[str]:
    """True if `text` has the form of a public id with this prefix. Only `decode_id` shows whether it is one."""
    return isinstance(text, str) and _FORMS[prefix].fullmatch(text) is not None


@lru_cache(maxsize=64)
def _hashids(prefix: str, service: str) -> Hashids:
    return Hashids(salt=f"refund-ledger:{service}:{prefix}", min_length=_MIN_LENGTH)


class _EncodingTable(NamedTuple):
    """The shuffled alphabets of hashids for one salt and one remainder of the number modulo 100.

    Nearly all time of `Hashids.encode` goes into computing these. `first` is the letter that encodes the remainder,
    `alphabet` has the digits; `guards`, `before` and `after` pad short ids.
    """

    remainder: int
    first: str
    alphabet: str
    guards: str
    before: str
    after: str


@lru_cache(maxsize=64 * 100)
def _encoding_table(prefix: str, service: str, remainder: int) -> _EncodingTable:
    hashids = _hashids(prefix, service)
    letters = hashids._alphabet
    first = letters[remainder % len(letters)]
    alphabet = _reorder(letters, (first + hashids._salt + letters)[: len(letters)])
    filling = _reorder(alphabet, alphabet)
    half = len(filling) // 2
    return _EncodingTable(remainder, first, alphabet, hashids._guards, filling[half:], filling[:half])


def _encode(table: _EncodingTable, number: int) -> str:
    """Return what `Hashids.encode` returns for one number, in about a tenth of the time.

    A clean lookup takes 95 us and needs one id, for which the library takes 14 us more than this. `make bench ARGS=ids`
    measures both, and a test compares the texts.
    """
    alphabet, guards = table.alphabet, table.guards
    base = len(alphabet)
    digits = ""
    while True:
        number, digit = divmod(number, base)
        digits = alphabet[digit] + digits
        if not number:
            break
    text = table.first + digits
    missing = _MIN_LENGTH - len(text)
    if missing > 0:
        text = guards[(table.remainder + ord(text[0])) % len(guards)] + text
    if missing > 1:
        text += guards[(table.remainder + ord(text[2])) % len(guards)]
    if missing > 2:
        text = table.before + text + table.after
        start = (len(text) - _MIN_LENGTH) // 2
        text = text[start : start + _MIN_LENGTH]
    return text


def encode_id(prefix: Prefix, number: int, service: str) -> str:
    """Return the public id of internal integer `number` (0 to 2^63 - 1) at service id `service`, e.g. `rp_Xk3mPq9a`.

    Raises InvalidRequest for a number out of range.
    """
    if not 0 <= number <= MAX_ID_NUMBER:
        raise InvalidRequest("An internal id must lie between 0 and 2^63 - 1.")
    return f"{prefix}_{_encode(_encoding_table(prefix, service, number % 100), number)}"


def decode_id(prefix: Prefix, text: str, service: str) -> int:
    """Return the internal integer of a public id. Exactly one text is accepted for each number.

    Raises InvalidRequest for another prefix, another service's id or a malformed text. The caller has to check that a
    record with this number exists.
    """
    if not isinstance(text, str) or len(text) > MAX_ID_CHARS or not text.startswith(f"{prefix}_"):
        raise InvalidRequest(f"An id of this sort starts with {prefix}_ and has at most {MAX_ID_CHARS} characters.")
    numbers = _hashids(prefix, service).decode(text[len(prefix) + 1 :])
    if len(numbers) != 1 or numbers[0] > MAX_ID_NUMBER:
        raise InvalidRequest(f"This is not a valid {prefix}_ id of this service.")
    return int(numbers[0])
