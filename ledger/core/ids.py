"""Public ids: internal integers in a form that shows neither how many there are nor which came first.

hashids hides the counter from the casual eye and catches most typing errors. It is not encryption and no
secret: whoever knows the service id can decode an id. Nothing is ever authorised by knowing one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from hashids import Hashids  # type: ignore[import-untyped]

from ledger.errors import InvalidRequest

Prefix = Literal["rp", "lk", "ap"]
"""rp: report, lk: lookup, ap: appeal."""

MAX_ID_NUMBER = 2**63 - 1
"""Largest internal integer: a signed 64-bit database key."""

MAX_ID_CHARS = 32
_MIN_LENGTH = 8


@lru_cache(maxsize=64)
def _hashids(prefix: str, service: str) -> Hashids:
    return Hashids(salt=f"refund-ledger:{service}:{prefix}", min_length=_MIN_LENGTH)


def encode_id(prefix: Prefix, number: int, service: str) -> str:
    """The public id of internal integer `number` (0 to 2^63 - 1) at service id `service`, e.g. `rp_Xk3mPq9a`.

    Raises InvalidRequest for a number out of range.
    """
    if not 0 <= number <= MAX_ID_NUMBER:
        raise InvalidRequest("An internal id must lie between 0 and 2^63 - 1.")
    return f"{prefix}_{_hashids(prefix, service).encode(number)}"


def decode_id(prefix: Prefix, text: str, service: str) -> int:
    """Inverse of `encode_id`: exactly one text is accepted for each number.

    Raises InvalidRequest for another prefix, another service's id or anything malformed. That the number names
    something that exists is for the store to find out.
    """
    if not isinstance(text, str) or len(text) > MAX_ID_CHARS or not text.startswith(f"{prefix}_"):
        raise InvalidRequest(f"An id of this sort starts with {prefix}_ and has at most {MAX_ID_CHARS} characters.")
    numbers = _hashids(prefix, service).decode(text[len(prefix) + 1 :])
    if len(numbers) != 1 or numbers[0] > MAX_ID_NUMBER:
        raise InvalidRequest(f"This is not a valid {prefix}_ id of this service.")
    return int(numbers[0])
