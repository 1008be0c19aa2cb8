"""Making a report: evidence items, subject commitments with fresh salts, the canonical body and its signature."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.subjects import Buyer
from ledger.client.suite import Suite
from ledger.core import reports as core_reports
from ledger.core.conduct import Evidence, EvidenceType, Finding, check_evidence
from ledger.core.encoding import b64url, format_time
from ledger.core.tags import SALT_BYTES, subject_commitment
from ledger.errors import EvidenceInvalid, StaleEpoch, SubjectsInvalid

_CHUNK_BYTES = 1 << 20


def evidence(
    type: str,
    *,
    file: str | Path | None = None,
    sha256: bytes | None = None,
    pdq: str | None = None,
    finding: Finding | None = None,
    report_id: str | None = None,
) -> Evidence:
    """An item of evidence: its type, and the SHA-256 of a `file` (read here, never sent) or given as 32 bytes.

    Raises EvidenceInvalid for an unknown type or when not exactly one of `file` and `sha256` is given.
    """
    try:
        kind = EvidenceType(type)
    except ValueError as error:
        raise EvidenceInvalid("Unknown type of evidence.", known=sorted(EvidenceType)) from error
    if (file is None) == (sha256 is None):
        raise EvidenceInvalid("An item of evidence needs either its file or its SHA-256.")
    return Evidence(kind, _digest(Path(file)) if file is not None else sha256 or b"", pdq, finding, report_id)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError as error:
        raise EvidenceInvalid("An evidence file cannot be read.") from error


def evidence_json(item: Evidence) -> dict[str, Any]:
    """An item as it stands in the signed body."""
    value: dict[str, Any] = {"type": item.type.value, "sha256": b64url(item.sha256)}
    if item.pdq is not None:
        value["pdq"] = item.pdq
    if item.finding is not None:
        found = item.finding
        value["finding"] = {"code": found.code, "strength": found.strength.value, "tool_version": found.tool_version}
    if item.report_id is not None:
        value["report_id"] = item.report_id
    return value


def build_report(
    suite: Suite,
    key: Ed25519PrivateKey,
    order_key: bytes,
    random_bytes: Callable[[int], bytes],
    *,
    buyer: Buyer,
    conduct: str,
    evidence: Sequence[Evidence],
    order: str,
    amount_minor: int,
    currency: str,
    outcome: str,
    act_ended_at: datetime,
    notice_sent_at: datetime,
    notice_ref: str,
    decided_by: str,
    consent_ref: str | None = None,
    replaces: str | None = None,
) -> dict[str, Any]:
    """{body, signature, subjects}, ready to send. What can be checked without the ledger is checked first.

    Raises SubjectsInvalid (tags without elements), StaleEpoch (a buyer of another epoch), and what
    `core.reports.parse_body` and `core.conduct.check_evidence` raise.
    """
    epoch = suite.current.epoch
    if buyer.epoch != epoch:
        raise StaleEpoch("This buyer was blinded under another key epoch. Blind again.")
    signed_subjects, sent_subjects = [], []
    for subject in buyer.subjects:
        if subject.element is None:
            raise SubjectsInvalid("A report needs the buyer's identifiers; tags alone are for lookups.")
        salt = random_bytes(SALT_BYTES)
        commitment = subject_commitment(salt, epoch, subject.kind, subject.element)
        signed_subjects.append({"kind": subject.kind.value, "c": b64url(commitment)})
        sent_subjects.append(
            {"kind": subject.kind.value, "element": b64url(subject.element), "salt": b64url(salt)}
        )
    body: dict[str, Any] = {
        "v": 1,
        "service": suite.pinned.service,
        "platform": suite.platform,
        "kid": suite.kid,
        "epoch": epoch,
        "subjects": signed_subjects,
        "order_ref": b64url(core_reports.order_ref(order_key, order)),
        "conduct": str(conduct),
        "evidence": [evidence_json(item) for item in evidence],
        "amount_minor": amount_minor,
        "currency": currency,
        "outcome": str(outcome),
        "act_ended_at": format_time(act_ended_at),
        "notice_sent_at": format_time(notice_sent_at),
        "notice_ref": notice_ref,
        "decided_by": decided_by,
    }
    if consent_ref is not None:
        body["consent_ref"] = consent_ref
    if replaces is not None:
        body["replaces"] = replaces
    parsed = core_reports.parse_body(body)
    check_evidence(parsed.conduct, parsed.evidence)
    return {"body": body, "signature": b64url(core_reports.sign(body, key)), "subjects": sent_subjects}


def report_from_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `RefundLedger.report` (all but `buyer`) from JSON; for the command line.

    `evidence` is a list of {type, file | sha256, pdq?, finding?, report_id?}; times are `2026-01-31T23:59:59Z`.
    Raises InvalidReport, InvalidTime, EvidenceInvalid, InvalidEncoding.
    """
    return _arguments(value)


def _arguments(value: Mapping[str, Any]) -> dict[str, Any]:
    from ledger.core.encoding import parse_time, unb64url

    arguments = dict(value)
    items = arguments.get("evidence")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise EvidenceInvalid("`evidence` must be a list of objects.")
    made = []
    for item in items:
        extra = item.keys() - {"type", "file", "sha256", "pdq", "finding", "report_id"}
        if extra:
            raise EvidenceInvalid("An item of evidence has type, file or sha256, pdq, finding and report_id, no more.")
        digest = item.get("sha256")
        made.append(
            evidence(
                str(item.get("type")),
                file=item.get("file"),
                sha256=None if digest is None else unb64url(digest, 32),
                pdq=item.get("pdq"),
                finding=None if item.get("finding") is None else _finding(item["finding"]),
                report_id=item.get("report_id"),
            )
        )
    arguments["evidence"] = made
    for name in ("act_ended_at", "notice_sent_at"):
        if name in arguments:
            arguments[name] = parse_time(arguments[name])
    return arguments


def _finding(value: object) -> Finding:
    from ledger.core.conduct import Strength

    if not isinstance(value, dict) or value.keys() != {"code", "strength", "tool_version"}:
        raise EvidenceInvalid("A finding has exactly code, strength and tool_version.")
    try:
        return Finding(value["code"], Strength(value["strength"]), value["tool_version"])
    except ValueError as error:
        raise EvidenceInvalid("A finding's strength is identifies, indicates or hint.") from error
