"""A report: its signed body, what is checked at intake, and the state it is in.

The platform signs the canonical body, so a report proves "this platform asserts it", and no other party can
forge one. The body has subjects only as commitments; the elements are sent beside it and can be erased.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature as _BadSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import (
    AlreadyExpired,
    ConductNotInPolicy,
    EvidenceInvalid,
    InvalidEncoding,
    InvalidReport,
    InvalidSignature,
    NoticeInvalid,
    SubjectsInvalid,
    UnknownConduct,
)
from ledger.protocol.currencies import MINOR_DIGITS
from ledger.protocol.encoding import (
    HOUR_SECONDS,
    MAX_INTEGER,
    canonical_json,
    day_ceil,
    day_floor,
    hour_floor,
    parse_time,
    unb64url,
    unix_seconds,
)
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import is_id
from ledger.rules.conduct import Conduct, Evidence, check_evidence, parse_evidence
from ledger.rules.consent import check_consent, fault_of_reference, shows_nothing
from ledger.rules.policy.values import Policy, Profile, is_expired

BODY_VERSION = 1
MAX_SUBJECTS = 8
MAX_ID_CHARS = 64
SIGNATURE_DOMAIN = b"refund-ledger report v1\n"
_ORDER_DOMAIN = "refund-ledger order v1:"
_HOURS_A_DAY = 24


class RefundOutcome(StrEnum):
    """The result of the refund claim: refused, recovered, or paid and lost."""

    REFUND_REFUSED = "refund_refused"
    REFUND_RECOVERED = "refund_recovered"
    REFUND_SUFFERED = "refund_suffered"


class Status(StrEnum):
    """The state of a report as its reporter and the person see it."""

    COOLING = "cooling"
    COUNTING = "counting"
    HELD = "held"
    """Recorded, and not in effect before it is released (`rules.order_lines`)."""
    DISPUTED = "disputed"
    UNCONFIRMED = "unconfirmed"
    WITHDRAWN = "withdrawn"
    OVERTURNED = "overturned"
    VICTIM = "victim"
    EXPIRED = "expired"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class SubjectRef:
    """A subject in the signed body: its kind and a 32-byte commitment to its element."""

    kind: Kind
    commitment: bytes


@dataclass(frozen=True, slots=True)
class ReportBody:
    """The signed body, checked. `order_ref` has 32 bytes; times are UTC; money is in minor units."""

    service: str
    platform: str
    kid: str
    epoch: int
    subjects: tuple[SubjectRef, ...]
    order_ref: bytes
    conduct: Conduct
    evidence: tuple[Evidence, ...]
    amount_minor: int
    currency: str
    outcome: RefundOutcome
    act_ended_at: datetime
    notice_sent_at: datetime
    notice_ref: str
    decided_by: str
    consent_ref: str | None = None
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """What the ledger derives from an accepted body: hours and days since the Unix epoch (UTC), points.

    The report may be shown from the start of `effective_hour` and is gone at midnight of `expires_day`.
    """

    effective_hour: int
    expires_day: int
    act_day: int
    severity: int


_REQUIRED = frozenset(
    {
        *("v", "service", "platform", "kid", "epoch", "subjects", "order_ref", "conduct", "evidence"),
        *("amount_minor", "currency", "outcome", "act_ended_at", "notice_sent_at", "notice_ref", "decided_by"),
    }
)
BODY_MEMBERS = _REQUIRED | {"consent_ref", "replaces"}
"""The members that a body may have."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}\Z")
_KINDS: dict[object, Kind] = {kind.value: kind for kind in Kind}
_CONDUCTS: dict[object, Conduct] = {conduct.value: conduct for conduct in Conduct}
_OUTCOMES: dict[object, RefundOutcome] = {outcome.value: outcome for outcome in RefundOutcome}


def parse_body(data: Mapping[str, Any]) -> ReportBody:
    """Return the checked form of a signed body. Strict: unknown keys are refused, nothing is coerced or trimmed.

    Raises InvalidReport or one of its leaves (UnknownConduct, SubjectsInvalid, EvidenceInvalid, EvidenceRefused),
    InvalidTime. Whether the evidence suffices and the times fit is for `check_intake`.
    """
    if not isinstance(data, dict):
        raise InvalidReport("A report's body must be an object.")
    if not (data.keys() >= _REQUIRED and data.keys() <= BODY_MEMBERS):
        _explain_keys(data)
    if type(data["v"]) is not int or data["v"] != BODY_VERSION:
        raise InvalidReport(f"A report's body must have version {BODY_VERSION}.")
    conduct = data["conduct"]
    if not isinstance(conduct, str) or conduct not in _CONDUCTS:
        raise UnknownConduct("Unknown conduct.", known=sorted(Conduct))
    currency, outcome = data["currency"], data["outcome"]
    if not isinstance(currency, str) or currency not in MINOR_DIGITS:
        raise InvalidReport("currency must be an ISO 4217 code in capital letters, such as CNY.")
    if not isinstance(outcome, str) or outcome not in _OUTCOMES:
        raise InvalidReport("Unknown outcome.", known=sorted(RefundOutcome))
    replaces = data.get("replaces")
    if "replaces" in data and not is_id("rp", replaces):
        raise InvalidReport("replaces must be a report id: rp_ and letters and digits.")
    return ReportBody(
        service=_id(data, "service"),
        platform=_id(data, "platform"),
        kid=_id(data, "kid"),
        epoch=_integer(data, "epoch", 1),
        subjects=_subjects(data["subjects"]),
        order_ref=_bytes32(data, "order_ref"),
        conduct=_CONDUCTS[conduct],
        evidence=parse_evidence(data["evidence"]),
        amount_minor=_integer(data, "amount_minor", 0),
        currency=currency,
        outcome=_OUTCOMES[outcome],
        act_ended_at=parse_time(data["act_ended_at"]),
        notice_sent_at=parse_time(data["notice_sent_at"]),
        notice_ref=_ref(data, "notice_ref"),
        decided_by=_ref(data, "decided_by"),
        consent_ref=_ref(data, "consent_ref") if "consent_ref" in data else None,
        replaces=replaces,
    )


def _explain_keys(data: Mapping[str, Any]) -> None:
    missing = sorted(_REQUIRED - data.keys())
    if missing:
        raise InvalidReport(f"A report's body lacks: {', '.join(missing)}.", missing=missing)
    raise InvalidReport("A report's body has unknown keys.", known=sorted(BODY_MEMBERS))


def _subjects(items: object) -> tuple[SubjectRef, ...]:
    if type(items) is not list or not 1 <= len(items) <= MAX_SUBJECTS:
        raise SubjectsInvalid(f"A report needs a list of 1 to {MAX_SUBJECTS} subjects.")
    refs = []
    for item in items:
        if type(item) is not dict or item.keys() != {"kind", "c"}:
            raise SubjectsInvalid("A subject in the body has exactly kind and c.")
        name = item["kind"]
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            raise SubjectsInvalid("Unknown kind of subject.", known=sorted(Kind))
        try:
            refs.append(SubjectRef(kind, unb64url(item["c"], 32)))
        except InvalidEncoding as error:
            raise SubjectsInvalid("c must be 32 bytes as base64url without padding.") from error
    if len({ref.commitment for ref in refs}) != len(refs):
        raise SubjectsInvalid("Two subjects have the same commitment.")
    return tuple(refs)


def _id(data: Mapping[str, Any], key: str) -> str:
    value = data[key]
    if not isinstance(value, str) or not _ID.match(value):
        raise InvalidReport(
            f"{key} must have 1 to {MAX_ID_CHARS} letters, digits or signs of ._:/- and begin with a letter or digit."
        )
    return value


def _ref(data: Mapping[str, Any], key: str) -> str:
    value = data[key]
    fault = fault_of_reference(value)
    if fault is not None:
        raise InvalidReport(f"{key} {fault}")
    assert isinstance(value, str)
    return value


def _integer(data: Mapping[str, Any], key: str, least: int) -> int:
    value = data[key]
    if type(value) is not int or not least <= value <= MAX_INTEGER:
        raise InvalidReport(f"{key} must be an integer from {least} to 2^53 - 1.")
    return value


def _bytes32(data: Mapping[str, Any], key: str) -> bytes:
    try:
        return unb64url(data[key], 32)
    except InvalidEncoding as error:
        raise InvalidReport(f"{key} must be 32 bytes as base64url without padding.") from error


# --- signature and order reference --------------------------------------------------------------------------


def signed_bytes(body: Mapping[str, Any]) -> bytes:
    """Return the bytes that the platform signs: a domain line, then the canonical body. Raises InvalidCanonicalForm."""
    return SIGNATURE_DOMAIN + canonical_json(body)


def sign(body: Mapping[str, Any], private_key: Ed25519PrivateKey) -> bytes:
    """Return the 64-byte Ed25519 signature (RFC 8032) of `body`. Raises InvalidCanonicalForm."""
    return private_key.sign(signed_bytes(body))


def verify_signature(body: Mapping[str, Any], signature: bytes, public_key: Ed25519PublicKey) -> None:
    """Raises InvalidSignature unless `signature` is the holder of `public_key` signing exactly this `body`."""
    verify_canonical(canonical_json(body), signature, public_key)


def verify_canonical(canonical: bytes, signature: bytes, public_key: Ed25519PublicKey) -> None:
    """Verify the signature of a body's canonical bytes, as `verify_signature`. Raises InvalidSignature."""
    try:
        public_key.verify(signature, SIGNATURE_DOMAIN + canonical)
    except _BadSignature as error:
        raise InvalidSignature("The report's signature does not fit its body and the platform's key.") from error


def order_ref(order_key: bytes, order_id: str) -> bytes:
    """Return the 32-byte blind reference of an order: HMAC-SHA256 under a key that only the platform's services share,
    so that order numbers, which are easy to guess, stay at the platform. The id is hashed in its normal form (see
    `normal_order_id`). Raises InvalidEncoding for a short key, InvalidReport for an id that has no normal form."""
    return _hashed_order(order_key, normal_order_id(order_id))


def former_order_ref(order_key: bytes, order_id: str) -> bytes | None:
    """Return the reference that earlier versions made of this order id (NFC and nothing else), where it differs from
    `order_ref`; else None. Raises InvalidEncoding, InvalidReport."""
    former = unicodedata.normalize("NFC", order_id)
    return None if former == normal_order_id(order_id) else _hashed_order(order_key, former)


def normal_order_id(order_id: str) -> str:
    """Return the one form in which an order id is hashed: Unicode NFKC, without invisible characters anywhere, and
    without blanks at its ends.

    Invisible are format characters (category Cf, the byte order mark among them) and the default-ignorable characters
    of UAX 44 that have another category, such as variation selectors and Hangul fillers. Blanks inside stay, and so do
    capitals: a shop may distinguish "a1" and "A1". Raises InvalidReport for an id that is empty then, has control
    characters inside, or is not valid Unicode.
    """
    text = unicodedata.normalize("NFKC", order_id)
    text = "".join([character for character in text if not _is_invisible(character)])
    # A mark that an invisible character separated may compose now.
    text = unicodedata.normalize("NFKC", text).strip(_BLANKS)
    if not text:
        raise InvalidReport("An order needs an id.")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidReport("An order's id must be valid Unicode without control characters.")
    return text


_BLANKS = "".join([chr(code) for code in range(0x3001) if chr(code).isspace()]) + "\u2800"
"""What is blank at an end: Unicode's white space, line ends among it, and the empty braille pattern."""

_IGNORABLE = (
    *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065), (0x3164, 0x3164)),
    *((0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF)),
)
"""Ranges of UAX 44 Default_Ignorable_Code_Point that are not of category Cf."""


def _is_invisible(character: str) -> bool:
    if character.isascii():
        return False
    code = ord(character)
    return unicodedata.category(character) == "Cf" or any(first <= code <= last for first, last in _IGNORABLE)


def _hashed_order(order_key: bytes, normal: str) -> bytes:
    if len(order_key) < 32:
        raise InvalidEncoding("An order key needs at least 32 bytes.")
    return hmac.digest(order_key, (_ORDER_DOMAIN + normal).encode("utf-8"), hashlib.sha256)


# --- intake and status --------------------------------------------------------------------------------------


def check_intake(body: ReportBody, profile: Profile, policy: Policy, now: datetime) -> Intake:
    """Check everything in a parsed body that depends on the `profile` of the platform, the `policy` or the time `now`.

    Raises InvalidReport, ConductNotInPolicy, NoticeInvalid, ConsentMissing, EvidenceInsufficient, EvidenceInvalid or
    AlreadyExpired. The rounding of `effective_hour` is explained in docs/decisions/0002-effective-from.md.
    """
    check_conduct_in_policy(body.conduct, policy)
    if not body.act_ended_at <= body.notice_sent_at:
        raise NoticeInvalid("The notice must be sent to the person after the act ended, not before.")
    if body.notice_sent_at > now + timedelta(minutes=policy.intake.clock_skew_minutes):
        raise NoticeInvalid("The notice is dated in the future: send the notice first, then report.")
    for name, text in (("notice_ref", body.notice_ref), ("decided_by", body.decided_by)):
        if shows_nothing(text):
            raise InvalidReport(f"{name} shows nothing: it must name where the platform keeps it.")
    required = profile.spec.consent_for_reports
    check_consent(body.consent_ref, profile=profile.value, required=required, of="report", unfit=InvalidReport)
    check_evidence(body.conduct, body.evidence)
    act_day = day_floor(body.act_ended_at)
    expires_day = policy.expiry_day(body.conduct, act_day)
    effective_hour = effective_from_hour(body.notice_sent_at, now, policy.intake.cooling_hours)
    if is_expired(expires_day, now) or effective_hour >= expires_day * _HOURS_A_DAY:
        acted, kept_until = _day_text(act_day), _day_text(expires_day)
        counts_from = _day_text(effective_hour // _HOURS_A_DAY)
        raise AlreadyExpired(
            "The act is past its retention, or would be before the report could count: "
            f"{body.conduct.value} of {acted} is kept until {kept_until}, and the report would count from "
            f"{counts_from}.",
            act_ended_on=acted,
            kept_until=kept_until,
            counts_from=counts_from,
        )
    _check_evidence_times(body, now + timedelta(minutes=policy.intake.clock_skew_minutes))
    return Intake(effective_hour, expires_day, act_day, policy.severity[body.conduct])


def check_conduct_in_policy(conduct: Conduct, policy: Policy) -> None:
    """Raises ConductNotInPolicy for a conduct that `policy` does not name: nothing may be reported or amended to it."""
    if conduct not in policy.reportable:
        raise ConductNotInPolicy(
            f"The policy in effect (version {policy.version}) does not name the conduct {conduct.value}.",
            conduct=conduct.value,
            known=sorted(policy.reportable & set(Conduct)),
        )


def _day_text(day: int) -> str:
    """Return a day (since the Unix epoch) as `YYYY-MM-DD`."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def _check_evidence_times(body: ReportBody, latest: datetime) -> None:
    for item in body.evidence:
        received_at = item.origin.received_at if item.origin is not None else None
        if received_at is not None and received_at > body.notice_sent_at:
            raise EvidenceInvalid("A file of the claim is received before the notice is sent to the person, not after.")
        if item.confirmation is not None and item.confirmation.answered_at > latest:
            raise EvidenceInvalid("An issuer's answer is dated in the future.")


def effective_from_hour(notice_sent_at: datetime, recorded_at: datetime, cooling_hours: int) -> int:
    """Return the hour (since the Unix epoch) from which a report counts: the UTC midnight at or after notice plus
    cooling, or the hour in which it was recorded if that is later."""
    cooled = day_ceil(notice_sent_at + timedelta(hours=cooling_hours)) * _HOURS_A_DAY
    return max(cooled, hour_floor(recorded_at))


def status(
    now: datetime,
    *,
    effective_hour: int,
    expires_day: int,
    disputed: bool = False,
    unconfirmed: bool = False,
    held: bool = False,
    reversal: Status | None = None,
    erased: bool = False,
) -> Status:
    """Return the state of a report at `now`. `reversal` is how it was reversed, at most once: withdrawn, overturned or
    victim. `expires_day` is the one the policy in force leaves (`Policy.expiry_day`).

    What ended a report for good wins over what is under way: a withdrawn report stays withdrawn once expired.
    """
    if erased:
        return Status.ERASED
    if reversal is not None:
        return reversal
    if is_expired(expires_day, now):
        return Status.EXPIRED
    if disputed:
        return Status.DISPUTED
    if unconfirmed:
        return Status.UNCONFIRMED
    if held:
        return Status.HELD
    cooling = unix_seconds(now) < effective_hour * HOUR_SECONDS
    return Status.COOLING if cooling else Status.COUNTING
