"""The bytes of a lookup's answer: always `ANSWER_BYTES` of them, hit or miss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from ledger.core.encoding import day_floor, format_time
from ledger.core.guidance import Claim, advise
from ledger.core.policy import Policy
from ledger.core.reasons import reason_text
from ledger.core.standing import CLEAN, Standing

ANSWER_BYTES = 3072
"""Size of every answer. The longest possible one fits (tests/service/test_lookups.py tries them)."""

_DOTS = b"." * ANSWER_BYTES


class _Second(NamedTuple):
    """What all clean answers of a second share: its UTC day, and the text from after `as_of_index` to the padding."""

    moment: datetime
    day: int
    text: bytes


class Answers:
    """Writes answers under `policy`."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._expiry = timedelta(minutes=policy.lookup_expiry_minutes)
        # A clean answer differs from the next one in four places only; what lies between them is written once.
        bare = orjson.dumps(self._fields("@id", CLEAN, Claim.OTHER, -1, "@as_of", "@expires_at"))
        self._before_id, _, bare = bare.partition(b"@id")
        self._before_size, _, bare = bare.partition(b"-1")
        self._before_as_of, _, bare = bare.partition(b"@as_of")
        self._before_expires_at, _, bare = bare.partition(b"@expires_at")
        self._before_padding = bare[:-1] + b',"padding":"'
        self._second = self._at(datetime.fromtimestamp(0, UTC))

    def answer(self, public_id: str, standing: Standing, claim: str | None, size: int, now: datetime) -> bytes:
        """The answer `public_id`: this standing as of the first `size` entries, at `now`."""
        times = format_time(now), format_time(now + self._expiry)
        return padded(self._fields(public_id, standing, Claim(claim or Claim.OTHER), size, *times))

    def clean(self, public_id: str, size: int, now: datetime) -> tuple[bytes, int]:
        """`answer` for somebody who is not listed, the same bytes in a tenth of the time; and the UTC day of `now`."""
        second = self._second
        if now.replace(microsecond=0) != second.moment:
            second = self._second = self._at(now.replace(microsecond=0))
        head = b"".join((self._before_id, public_id.encode(), self._before_size, str(size).encode(), second.text))
        return b"".join((head, _DOTS[: ANSWER_BYTES - len(head) - 2], b'"}')), second.day

    def _at(self, moment: datetime) -> _Second:
        as_of, expires_at = format_time(moment).encode(), format_time(moment + self._expiry).encode()
        text = b"".join((self._before_as_of, as_of, self._before_expires_at, expires_at, self._before_padding))
        return _Second(moment, day_floor(moment), text)

    def _fields(
        self, public_id: str, standing: Standing, claim: Claim, size: int, as_of: str, expires_at: str
    ) -> dict[str, Any]:
        return {
            "id": public_id,
            "tier": standing.tier,
            "credit": standing.credit,
            "points": standing.points,
            "events": standing.events,
            "reporters": standing.reporters,
            "disputed": standing.disputed,
            "protected": standing.protected,
            "has_statement": standing.has_statement,
            "reasons": [{"code": code, **_text(code)} for code in standing.reasons],
            "guidance": list(advise(standing, claim)),
            "matched_kinds": list(standing.matched_kinds),
            "policy": self._policy.version,
            "as_of_index": size,
            "as_of": as_of,
            "expires_at": expires_at,
        }


def padded(answer: dict[str, Any]) -> bytes:
    """`answer` as JSON of exactly `ANSWER_BYTES` bytes."""
    bare = orjson.dumps({**answer, "padding": ""})
    missing = ANSWER_BYTES - len(bare)
    if missing < 0:
        raise AssertionError("a lookup answer outgrew ANSWER_BYTES")
    return bare[:-2] + _DOTS[:missing] + bare[-2:]


def _text(code: str) -> dict[str, str]:
    return {"en": reason_text(code, "en"), "zh_cn": reason_text(code, "zh-CN")}
