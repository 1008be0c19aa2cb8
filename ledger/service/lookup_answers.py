"""The bytes of a lookup's answer: always `ANSWER_BYTES` of them, hit or miss."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson

from ledger.core.encoding import format_time
from ledger.core.guidance import Claim, advise
from ledger.core.ids import encode_id
from ledger.core.policy import Policy
from ledger.core.reasons import reason_text
from ledger.core.standing import CLEAN, Standing

ANSWER_BYTES = 3072
"""Size of every answer. The longest possible one fits (tests/service/test_lookups.py tries them)."""

_DOTS = b"." * ANSWER_BYTES


class Answers:
    """Writes answers of the service id `service` under `policy`."""

    def __init__(self, service: str, policy: Policy) -> None:
        self._service = service
        self._policy = policy
        self._expiry = timedelta(minutes=policy.lookup_expiry_minutes)
        # A clean answer differs from the next one in four places only; what lies between them is written once.
        marks = ("@id", "@as_of_index", "@as_of", "@expires_at")
        bare = orjson.dumps(self._fields(marks[0], CLEAN, Claim.OTHER, marks[1], marks[2], marks[3]))
        self._parts: list[bytes] = []
        for mark in marks:
            before, _, bare = bare.partition(b'"%s"' % mark.encode())
            self._parts.append(before)
        self._end = bare[:-1] + b',"padding":"'
        self._second: tuple[datetime, bytes] | None = None

    def answer(self, number: int, standing: Standing, claim: str | None, size: int, now: datetime) -> bytes:
        """The answer with the id of `number`: this standing as of the first `size` entries, at `now`."""
        public_id = encode_id("lk", number, self._service)
        times = format_time(now), format_time(now + self._expiry)
        return padded(self._fields(public_id, standing, Claim(claim or Claim.OTHER), size, *times))

    def clean(self, number: int, size: int, now: datetime) -> bytes:
        """`answer` for a standing of somebody who is not listed, the same bytes in a twentieth of the time."""
        before_id, before_size, _, _ = self._parts
        public_id = encode_id("lk", number, self._service).encode()
        head = b'%s"%s"%s%d%s' % (before_id, public_id, before_size, size, self._times(now))
        return head + _DOTS[: ANSWER_BYTES - len(head) - 2] + b'"}'

    def _times(self, now: datetime) -> bytes:
        """From after `as_of_index` up to the padding; the same for all answers of a second."""
        second = now.replace(microsecond=0)
        known = self._second
        if known is None or known[0] != second:
            _, _, before_as_of, before_expiry = self._parts
            times = format_time(second).encode(), format_time(second + self._expiry).encode()
            text = b'%s"%s"%s"%s"%s' % (before_as_of, times[0], before_expiry, times[1], self._end)
            known = self._second = (second, text)
        return known[1]

    def _fields(
        self, public_id: str, standing: Standing, claim: Claim, size: int | str, as_of: str, expires_at: str
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
