"""Items of evidence: their files' digests, origins and confirmations, and their JSON."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger.client.choices import IssuerVerdict
from ledger.client.inputs import (
    check_digest,
    check_text,
    check_time,
)
from ledger.errors import EvidenceInvalid
from ledger.protocol.encoding import b64url, format_time, parse_time
from ledger.rules.conduct import (
    EVIDENCE_MEMBERS,
    Evidence,
    EvidenceType,
    Finding,
    Inspection,
    parse_item,
    parse_type,
)
from ledger.rules.provenance import (
    Confirmation,
    Origin,
    OriginSource,
    Verdict,
    confirmation_json,
    origin_json,
)


def evidence(
    type: str,
    *,
    file: str | Path | None = None,
    sha256: bytes | None = None,
    pdq: str | None = None,
    finding: Finding | None = None,
    report_id: str | None = None,
    pdq_quality: int | None = None,
    inspection: Inspection | None = None,
    origin: Origin | None = None,
    confirmation: Confirmation | None = None,
) -> Evidence:
    """Return an item of evidence: its type, and the SHA-256 of a `file` (read here, never sent) or given as 32 bytes.

    For pictures, pass `pdq` and `pdq_quality`; without them the picture is not searchable. `inspected_evidence` makes
    the items of a file with all of it.

    An `original_file` counts only with an `origin` made by `claim_upload`; an `issuer_confirmation` is the file of the
    issuer's answer, with what it says as `confirmation` (made by `issuer_answer`).

    Raises EvidenceInvalid for an unknown type or when not exactly one of `file` and `sha256` is given.
    """
    try:
        kind = EvidenceType(type)
    except ValueError as error:
        raise EvidenceInvalid(
            f"type must be one of: {', '.join(sorted(EvidenceType))}.", field="type", known=sorted(EvidenceType)
        ) from error
    if (file is None) == (sha256 is None):
        raise EvidenceInvalid("An item of evidence needs either its file or its SHA-256.")
    if file is not None:
        if not isinstance(file, str | Path):
            raise EvidenceInvalid("file must be the path of a file; give a digest as sha256.", field="file")
        digest = _digest(Path(file))
    else:
        check_digest("sha256", sha256)
        digest = sha256 or b""
    return Evidence(kind, digest, pdq, finding, report_id, pdq_quality, inspection, origin, confirmation)


def claim_upload(received_at: datetime) -> Origin:
    """Return the origin of a file that the claimant uploaded to your own form, received at that time (aware). Raises
    InvalidTime."""
    check_time("received_at", received_at)
    return Origin(OriginSource.CLAIM_UPLOAD, _whole_seconds(received_at))


def handed_in_by_merchant(received_at: datetime | None = None) -> Origin:
    """Return the origin of a file that a merchant handed in. It counts for no minimum, because the merchant may have
    changed it. Raises InvalidTime."""
    if received_at is not None:
        check_time("received_at", received_at)
    return Origin(OriginSource.HANDED_IN_BY_MERCHANT, None if received_at is None else _whole_seconds(received_at))


def issuer_answer(issuer: str, answered_at: datetime, verdict: IssuerVerdict, file_sha256: bytes) -> Confirmation:
    """Return the answer of a provider of an AI service about the file of this SHA-256 (32 bytes): its name, the time
    (aware) and the verdict `generated`, `edited`, `not_issued` or `unknown`.

    Raises EvidenceInvalid for another verdict, a name that is no text or another digest; InvalidTime.
    """
    try:
        known = Verdict(verdict)
    except ValueError as error:
        raise EvidenceInvalid(
            f"verdict must be one of: {', '.join(sorted(Verdict))}.", field="verdict", known=sorted(Verdict)
        ) from error
    check_text("issuer", issuer, EvidenceInvalid)
    check_time("answered_at", answered_at)
    check_digest("file_sha256", file_sha256)
    return Confirmation(issuer, _whole_seconds(answered_at), known, file_sha256)


def _whole_seconds(moment: datetime) -> datetime:
    """Return a time as reports write it, in UTC. Raises InvalidTime if it has no zone."""
    return parse_time(format_time(moment))


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except (OSError, ValueError):  # ValueError: a name with NUL, or that is no Unicode
        raise EvidenceInvalid("An evidence file cannot be read.") from None


def evidence_json(item: Evidence) -> dict[str, Any]:
    """Return an item as the JSON of the signed body."""
    value: dict[str, Any] = {"type": item.type.value, "sha256": b64url(item.sha256)}
    if item.pdq is not None:
        value["pdq"] = item.pdq
    if item.pdq_quality is not None:
        value["pdq_quality"] = item.pdq_quality
    if item.inspection is not None:
        value["inspection"] = inspection_json(item.inspection)
    if item.finding is not None:
        finding = item.finding
        value["finding"] = {
            "code": finding.code,
            "strength": finding.strength.value,
            "tool_version": finding.tool_version,
        }
        if finding.trust is not None:
            value["finding"]["trust"] = finding.trust.value
    if item.origin is not None:
        value["origin"] = origin_json(item.origin)
    if item.confirmation is not None:
        value["confirmation"] = confirmation_json(item.confirmation)
    if item.report_id is not None:
        value["report_id"] = item.report_id
    return value


def inspection_json(inspection: Inspection) -> dict[str, Any]:
    """Return an inspection as the JSON of the signed body."""
    value: dict[str, Any] = {
        "receipt_sha256": b64url(inspection.receipt_sha256),
        "tool": inspection.tool,
        "findings": list(inspection.findings),
    }
    return value if inspection.trust is None else {**value, "trust": inspection.trust.value}


_MEMBERS = EVIDENCE_MEMBERS | {"file"}


def evidence_from_json(item: object) -> Evidence:
    """Return an item of evidence from the JSON of a report file: as in the signed body, or with the path of a `file`
    in place of `sha256`. Raises EvidenceInvalid, EvidenceRefused, InvalidTime, InvalidEncoding."""
    if not isinstance(item, dict) or item.keys() - _MEMBERS or not isinstance(item.get("file", ""), str):
        raise EvidenceInvalid(f"An item of evidence has {', '.join(sorted(_MEMBERS))}, and nothing else.")
    if ("file" in item) == ("sha256" in item):
        raise EvidenceInvalid("An item of evidence needs either its file or its SHA-256.")
    members = {name: value for name, value in item.items() if name != "file"}
    if "file" in item:
        parse_type(item.get("type"))  # before a file is read for nothing
        members["sha256"] = b64url(_digest(Path(item["file"])))
    return parse_item(members)
