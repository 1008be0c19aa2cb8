"""Encodings of bytes, times and JSON that all parties sign, hash and compare.

Binary values travel as base64url without padding (RFC 4648 section 5). Signed and committed JSON is
canonical: UTF-8, keys sorted by code point, no white space, integers only, strings in Unicode NFC.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.errors import InvalidCanonicalForm, InvalidEncoding, InvalidTime

HOUR_SECONDS = 3600
DAY_SECONDS = 86400
MAX_INTEGER = 2**53 - 1
"""Largest magnitude a canonical integer may have: every JSON reader keeps it exactly (RFC 8259 section 6)."""

_B64URL = re.compile(r"[A-Za-z0-9_-]*\Z")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_PADDING = (b"", b"", b"==", b"=")
_LAST_CHARACTERS = {2: "AQgw", 3: "AEIMQUYcgkosw048"}
"""Last characters without stray bits, by the number of characters in the last, incomplete group of four."""
# The hour stops at 23: newer Pythons read 24:00 as the next day's midnight, which would give one moment two texts.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}Z\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def b64url(data: bytes) -> str:
    """Return `data` as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64url(text: str, length: int | None = None) -> bytes:
    """Decode `b64url` strictly: exactly one text is accepted for each value. `length` is the exact number of bytes
    expected.

    Raises InvalidEncoding for padding, foreign characters, stray trailing bits or a wrong length.
    """
    if not isinstance(text, str) or not _B64URL.match(text):
        raise InvalidEncoding("A binary value must be base64url without padding.")
    left = len(text) % 4
    if left == 1:
        raise InvalidEncoding("A binary value must be base64url without padding.")
    if left and text[-1] not in _LAST_CHARACTERS[left]:
        raise InvalidEncoding("A base64url value has stray trailing bits.")
    data = binascii.a2b_base64(text.encode("ascii").translate(_TO_STANDARD) + _PADDING[left])
    if length is not None and len(data) != length:
        raise InvalidEncoding(f"A binary value must have {length} bytes, not {len(data)}.")
    return data


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON of `value` (its rules are in the module's docstring). Raises InvalidCanonicalForm for
    floats, too large integers, strings that are not NFC or not UTF-8, and keys that are not strings."""
    _check(value, 0)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def canonical_object(first: str, canonical: bytes, rest: Mapping[str, Any]) -> bytes:
    """The canonical bytes of an object whose member `first` has the canonical bytes `canonical`, with the members
    `rest`, of which there is at least one. Raises ValueError unless `first` is the first in canonical order,
    InvalidCanonicalForm as `canonical_json` does for `rest`."""
    if not rest or min(rest) <= first:
        raise ValueError("the spliced member must be the first of several")
    return b"".join((b'{"', first.encode(), b'":', canonical, b",", canonical_json(rest)[1:]))


_MAX_DEPTH = 16


def _check(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidCanonicalForm(f"Canonical JSON nests at most {_MAX_DEPTH} levels.")
    kind = type(value)
    if kind is str:
        if value.isascii():
            return
        if not unicodedata.is_normalized("NFC", value):
            raise InvalidCanonicalForm("Strings must be in Unicode NFC.")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidCanonicalForm("Strings must be valid Unicode.") from error
    elif kind is int:
        if abs(value) > MAX_INTEGER:
            raise InvalidCanonicalForm("Integers must stay within 2^53 - 1.")
    elif kind is dict:
        if value and depth == _MAX_DEPTH:
            raise InvalidCanonicalForm(f"Canonical JSON nests at most {_MAX_DEPTH} levels.")
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidCanonicalForm("Keys must be strings.")
            for part in (key, item):
                if type(part) is not str or not part.isascii():  # most parts are ASCII strings: no call for these
                    _check(part, depth + 1)
    elif kind is list or kind is tuple:
        for item in value:
            _check(item, depth + 1)
    elif value is not None and kind is not bool:
        raise InvalidCanonicalForm("Canonical JSON holds strings, integers, true, false, null, lists and objects only.")


def format_time(moment: datetime) -> str:
    """Return `moment` (aware) as `YYYY-MM-DDTHH:MM:SSZ`, without fractions of a second. Raises InvalidTime for a time
    without a zone."""
    if moment.tzinfo is None:
        raise InvalidTime("A time must carry its zone.")
    # Not strftime: on Linux it writes the year 1 as "1", which `parse_time` refuses.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def parse_time(text: str) -> datetime:
    """Parse a text of `format_time` strictly: UTC, whole seconds, the letter Z. Raises InvalidTime."""
    if not isinstance(text, str) or not _TIME.match(text):
        raise InvalidTime("A time must look like 2026-01-31T23:59:59Z.")
    try:
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidTime("No such date or time.") from error


def unix_seconds(moment: datetime) -> int:
    """Return whole seconds since 1970-01-01T00:00:00Z, rounded down. Raises InvalidTime for a time without a zone."""
    if moment.tzinfo is None:
        raise InvalidTime("A time must carry its zone.")
    return (moment - _EPOCH) // timedelta(seconds=1)


def day_floor(moment: datetime) -> int:
    """Return days since the Unix epoch, rounded down to the UTC day. Raises InvalidTime for a time without a zone."""
    return unix_seconds(moment) // DAY_SECONDS


def day_ceil(moment: datetime) -> int:
    """Return days since the Unix epoch, rounded up to the UTC day (a fraction of a second counts)."""
    return -((_EPOCH - moment) // timedelta(days=1))


def hour_floor(moment: datetime) -> int:
    """Return hours since the Unix epoch, rounded down. Raises InvalidTime for a time without a zone."""
    return unix_seconds(moment) // HOUR_SECONDS


def from_day(day: int) -> datetime:
    """Return midnight UTC of `day` (days since the Unix epoch)."""
    return _EPOCH + timedelta(days=day)


def from_hour(hour: int) -> datetime:
    """Return the start of `hour` (hours since the Unix epoch)."""
    return _EPOCH + timedelta(hours=hour)
