"""A report before it meets the ledger: its signed body, the checks it can be given alone, and its status.

The body is canonical JSON that the platform signs (Ed25519, RFC 8032): a report proves "this platform asserts it", and
neither the operator nor a rival can invent one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature as BadSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.core.conduct import Conduct, Evidence, check_evidence, parse_evidence
from ledger.core.currencies import CURRENCIES
from ledger.core.encoding import MAX_INTEGER, canonical_json, day_ceil, day_floor, from_day, hour_floor, parse_time, unb64url
from ledger.core.identifiers import Kind
from ledger.core.policy import Policy
from ledger.errors import (
    AlreadyExpired,
    ConsentMissing,
    InvalidReport,
    InvalidSignature,
    NoticeInvalid,
    SubjectsInvalid,
    UnknownConduct,
)

SIGNATURE_DOMAIN = b"refund-ledger report v1\n"
ORDER_DOMAIN = b"refund-ledger order v1:"
MAX_SUBJECTS = 8
MAX_REF_CHARS = 128
PROFILES_WITH_CONSENT = frozenset({"CN"})
"""PIPL art. 23 and Credit Reporting Industry Regulation art. 13 and 18 want the person's consent."""


class Outcome(StrEnum):
    """What became of the refund."""

    REFUND_REFUSED = "refund_refused"
    REFUND_RECOVERED = "refund_recovered"
    REFUND_SUFFERED = "refund_suffered"


class Status(StrEnum):
    """Where a report stands."""

    COOLING = "cooling"
    COUNTING = "counting"
    DISPUTED = "disputed"
    UNCONFIRMED = "unconfirmed"
    WITHDRAWN = "withdrawn"
    OVERTURNED = "overturned"
    VICTIM = "victim"
    EXPIRED = "expired"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class SubjectCommitment:
    """A subject as the body has it: the kind, and the 32-byte commitment `c` to the element."""

    kind: Kind
    c: bytes


@dataclass(frozen=True, slots=True)
class ReportBody:
    """The signed body, parsed. Times are aware UTC, the amount is in minor units of `currency`."""

    service: str
    platform: str
    kid: str
    epoch: int
    subjects: tuple[SubjectCommitment, ...]
    order_ref: bytes
    conduct: Conduct
    evidence: tuple[Evidence, ...]
    amount_minor: int
    currency: str
    outcome: Outcome
    act_ended_at: datetime
    notice_sent_at: datetime
    notice_ref: str
    decided_by: str
    consent_ref: str | None
    replaces: str | None


@dataclass(frozen=True, slots=True)
class Intake:
    """What intake fixes for good: days and hours since the Unix epoch, and the severity at that time."""

    act_day: int
    effective_hour: int
    expires_day: int
    severity: int


_NEEDED = frozenset(
    {
        "v", "service", "platform", "kid", "epoch", "subjects", "order_ref", "conduct", "evidence", "amount_minor",
        "currency", "outcome", "act_ended_at", "notice_sent_at", "notice_ref", "decided_by",
    }
)  # fmt: skip
_OPTIONAL = frozenset({"consent_ref", "replaces"})
_SERVICE = re.compile(r"[a-z0-9.-]{1,64}\Z")
_PLATFORM = re.compile(r"[a-z0-9][a-z0-9-]{1,31}\Z")
_KID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_REPORT_ID = re.compile(r"rp_[A-Za-z0-9]{8,29}\Z")
_KINDS: dict[object, Kind] = {kind.value: kind for kind in Kind}
_CONDUCTS: dict[object, Conduct] = {conduct.value: conduct for conduct in Conduct}
_OUTCOMES: dict[object, Outcome] = {outcome.value: outcome for outcome in Outcome}


def parse_body(data: Mapping[str, Any]) -> ReportBody:
    """The body as a value, strictly: nothing unknown, nothing missing, nothing guessed.

    Raises InvalidReport and its kin (SubjectsInvalid, UnknownConduct, EvidenceInvalid, EvidenceRefused),
    InvalidEncoding, InvalidTime.
    """
    keys = data.keys()
    if not keys <= _NEEDED | _OPTIONAL or not keys >= _NEEDED:
        missing = sorted(_NEEDED - keys)
        raise InvalidReport(
            f"The report body lacks {', '.join(missing)}." if missing else "The report body has unknown fields.",
            missing=missing,
        )
    if type(data["v"]) is not int or data["v"] != 1:
        raise InvalidReport("Only version 1 of the report body is known.")
    conduct = _pick(_CONDUCTS, data["conduct"])
    if conduct is None:
        raise UnknownConduct("Unknown conduct.", known=sorted(Conduct))
    outcome = _pick(_OUTCOMES, data["outcome"])
    if outcome is None:
        raise InvalidReport("`outcome` is refund_refused, refund_recovered or refund_suffered.")
    currency = data["currency"]
    if not isinstance(currency, str) or currency not in CURRENCIES:
        raise InvalidReport("`currency` must be a currency of ISO 4217.")
    return ReportBody(
        service=_match(_SERVICE, data["service"], "service"),
        platform=_match(_PLATFORM, data["platform"], "platform"),
        kid=_match(_KID, data["kid"], "kid"),
        epoch=_integer(data["epoch"], "epoch", 1, 2**31 - 1),
        subjects=_subjects(data["subjects"]),
        order_ref=unb64url(data["order_ref"], 32),
        conduct=conduct,
        evidence=parse_evidence(data["evidence"]),
        amount_minor=_integer(data["amount_minor"], "amount_minor", 0, MAX_INTEGER),
        currency=currency,
        outcome=outcome,
        act_ended_at=parse_time(data["act_ended_at"]),
        notice_sent_at=parse_time(data["notice_sent_at"]),
        notice_ref=_ref(data["notice_ref"], "notice_ref"),
        decided_by=_ref(data["decided_by"], "decided_by"),
        consent_ref=_ref(data["consent_ref"], "consent_ref") if "consent_ref" in data else None,
        replaces=_match(_REPORT_ID, data["replaces"], "replaces") if "replaces" in data else None,
    )


def signed_bytes(body: Mapping[str, Any]) -> bytes:
    """What the platform's key signs. Raises InvalidCanonicalForm."""
    return SIGNATURE_DOMAIN + canonical_json(body)


def sign(body: Mapping[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The 64-byte signature over `body`."""
    return key.sign(signed_bytes(body))


def verify_signature(body: Mapping[str, Any], signature: bytes, public_key: bytes) -> None:
    """Nothing if `signature` (64 bytes) is `public_key`'s (32 bytes) over `body`. Raises InvalidSignature."""
    message = signed_bytes(body)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (BadSignature, ValueError) as error:
        raise InvalidSignature("The signature does not fit the report body and the key.") from error


def order_ref(order_key: bytes, order_id: str) -> bytes:
    """The 32-byte reference to an order: HMAC-SHA256 under a key that the platform's services share.

    Raises InvalidReport for an empty order id or a key under 16 bytes.
    """
    text = unicodedata.normalize("NFC", order_id)
    if not text.strip():
        raise InvalidReport("An order id must not be empty.")
    if len(order_key) < 16:
        raise InvalidReport("An order key has at least 16 bytes.")
    return hmac.digest(order_key, ORDER_DOMAIN + text.encode("utf-8"), hashlib.sha256)


def check_intake(body: ReportBody, profile: str, policy: Policy, now: datetime) -> Intake:
    """Every check of a report that needs no other report; `now` becomes its time of recording.

    Raises EvidenceInsufficient, NoticeInvalid, ConsentMissing, AlreadyExpired.
    """
    check_evidence(body.conduct, body.evidence)
    if body.act_ended_at > body.notice_sent_at:
        raise NoticeInvalid("The notice cannot have been sent before the act ended.")
    if body.notice_sent_at > now + timedelta(minutes=policy.notice_ahead_minutes):
        raise NoticeInvalid("The notice must have been sent before the report is made.")
    if profile in PROFILES_WITH_CONSENT and body.consent_ref is None:
        raise ConsentMissing(f"Under the {profile} profile a report needs `consent_ref`.")
    act_day = day_floor(body.act_ended_at)
    expires_day = act_day + policy.retention_of(body.conduct)
    if now >= from_day(expires_day):
        raise AlreadyExpired("The act lies so far back that its record would have expired.")
    return Intake(
        act_day=act_day,
        effective_hour=effective_hour(body.notice_sent_at, now, policy),
        expires_day=expires_day,
        severity=policy.severity[body.conduct],
    )


def effective_hour(notice_sent_at: datetime, recorded_at: datetime, policy: Policy) -> int:
    """When others may first see the event, in hours since the Unix epoch (docs/decisions/0002-effective-from.md):
    72 hours after the notice, rounded up to the UTC day, but not before the hour of recording."""
    cooled = day_ceil(notice_sent_at + timedelta(hours=policy.cooling_hours)) * 24
    return max(cooled, hour_floor(recorded_at))


def status(
    *,
    effective_hour: int,
    expires_day: int,
    now: datetime,
    withdrawn: bool = False,
    disputed: bool = False,
    unconfirmed: bool = False,
) -> Status:
    """Where a recorded report stands at `now`. What was taken back stays so, whatever the clock says."""
    if withdrawn:
        return Status.WITHDRAWN
    if now >= from_day(expires_day):
        return Status.EXPIRED
    if disputed:
        return Status.DISPUTED
    if unconfirmed:
        return Status.UNCONFIRMED
    return Status.COOLING if hour_floor(now) < effective_hour else Status.COUNTING


def _subjects(items: Any) -> tuple[SubjectCommitment, ...]:
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_SUBJECTS:
        raise SubjectsInvalid(f"A report is about 1 to {MAX_SUBJECTS} subjects.")
    subjects = []
    for item in items:
        if not isinstance(item, dict) or item.keys() != {"kind", "c"}:
            raise SubjectsInvalid("A subject in the body is {kind, c}.")
        kind = _pick(_KINDS, item["kind"])
        if kind is None:
            raise SubjectsInvalid("Unknown kind of identifier.", known=sorted(Kind))
        subjects.append(SubjectCommitment(kind, unb64url(item["c"], 32)))
    if len({subject.c for subject in subjects}) != len(subjects):
        raise SubjectsInvalid("The same commitment stands twice in one report.")
    return tuple(subjects)


def _pick(table: Mapping[object, Any], value: object) -> Any:
    return table.get(value) if isinstance(value, str) else None


def _match(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise InvalidReport(f"`{name}` is not well-formed.")
    return value


def _integer(value: Any, name: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidReport(f"`{name}` must be a whole number from {least} to {most}.")
    return value


def _ref(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_REF_CHARS or not value.isprintable():
        raise InvalidReport(f"`{name}` must be printable text of 1 to {MAX_REF_CHARS} characters.")
    return value


