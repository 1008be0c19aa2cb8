"""The origin of a file of evidence, and the answer of an issuer about a file.

Both are statements of the reporter, signed with the report, so that the platform is accountable for them.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from ledger.errors import EvidenceInvalid, InvalidEncoding, InvalidTime
from ledger.protocol.encoding import b64url, format_time, parse_time, unb64url

MAX_ISSUER_CHARS = 128


class OriginSource(StrEnum):
    """How an original file reached the platform."""

    CLAIM_UPLOAD = "claim_upload"
    """The claimant uploaded it to the platform's own form, which kept it as it came."""
    HANDED_IN_BY_MERCHANT = "handed_in_by_merchant"
    """The merchant provided it, and may have saved or changed it: it counts for no minimum."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file came from, and when the platform received it (UTC; always known of an upload)."""

    source: OriginSource
    received_at: datetime | None = None


class Verdict(StrEnum):
    """What an issuer says of a file that it was asked about."""

    GENERATED = "generated"
    """Its service made the whole of it."""
    EDITED = "edited"
    """Its service changed a part of it."""
    NOT_ISSUED = "not_issued"
    """Its service did not make it."""
    UNKNOWN = "unknown"
    """It cannot tell, or did not say."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """An issuer's answer to a referral: who answered and when (UTC), what it says, and of which file (SHA-256, 32
    bytes). The answer itself stays at the platform; the item of evidence carries its digest."""

    issuer: str
    answered_at: datetime
    verdict: Verdict
    file_sha256: bytes


_SOURCES: dict[object, OriginSource] = {source.value: source for source in OriginSource}
_VERDICTS: dict[object, Verdict] = {verdict.value: verdict for verdict in Verdict}


def parse_origin(value: Any) -> Origin:
    """Return the origin in a report's body. Raises EvidenceInvalid."""
    if type(value) is not dict or not {"source"} <= value.keys() <= {"source", "received_at"}:
        raise EvidenceInvalid("An origin has only the members source and received_at.")
    name = value["source"]
    source = _SOURCES.get(name) if isinstance(name, str) else None
    if source is None:
        raise EvidenceInvalid("Unknown source of a file.", known=sorted(OriginSource))
    received_at = _time(value["received_at"], "An origin's received_at") if "received_at" in value else None
    if source is OriginSource.CLAIM_UPLOAD and received_at is None:
        raise EvidenceInvalid("A claim_upload says when it was received, in received_at.")
    return Origin(source, received_at)


def origin_json(origin: Origin) -> dict[str, Any]:
    """Return the form of an origin in a report's body."""
    value: dict[str, Any] = {"source": origin.source.value}
    return value if origin.received_at is None else {**value, "received_at": format_time(origin.received_at)}


def parse_confirmation(value: Any) -> Confirmation:
    """Return the confirmation in a report's body. Raises EvidenceInvalid."""
    if type(value) is not dict or value.keys() != {"issuer", "answered_at", "verdict", "file_sha256"}:
        raise EvidenceInvalid("A confirmation has exactly issuer, answered_at, verdict and file_sha256.")
    issuer, name = value["issuer"], value["verdict"]
    if not isinstance(issuer, str) or not 1 <= len(issuer) <= MAX_ISSUER_CHARS or not issuer.isprintable():
        raise EvidenceInvalid(f"A confirmation's issuer has 1 to {MAX_ISSUER_CHARS} printable characters.")
    if issuer != issuer.strip() or not unicodedata.is_normalized("NFC", issuer):
        raise EvidenceInvalid("A confirmation's issuer is in Unicode NFC, without blanks at its ends.")
    verdict = _VERDICTS.get(name) if isinstance(name, str) else None
    if verdict is None:
        raise EvidenceInvalid("Unknown verdict of an issuer.", known=sorted(Verdict))
    answered_at = _time(value["answered_at"], "A confirmation's answered_at")
    try:
        return Confirmation(issuer, answered_at, verdict, unb64url(value["file_sha256"], 32))
    except InvalidEncoding as error:
        raise EvidenceInvalid("A confirmation's file_sha256 is 32 bytes as base64url without padding.") from error


def confirmation_json(confirmation: Confirmation) -> dict[str, Any]:
    """Return the form of a confirmation in a report's body."""
    return {
        "issuer": confirmation.issuer,
        "answered_at": format_time(confirmation.answered_at),
        "verdict": confirmation.verdict.value,
        "file_sha256": b64url(confirmation.file_sha256),
    }


def _time(value: Any, what: str) -> datetime:
    try:
        return parse_time(value)
    except InvalidTime as error:
        raise EvidenceInvalid(f"{what} looks like 2026-01-31T23:59:59Z.") from error
