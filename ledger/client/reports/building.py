"""Making a report: evidence items, subject commitments with fresh salts, the canonical body and its signature."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.identity.suite import Suite
from ledger.client.inputs import (
    check_digest,
    check_idempotency_key,
    check_report,
    check_reported_buyer,
    check_text,
    check_time,
    nearest,
)
from ledger.client.subjects import Buyer
from ledger.errors import EvidenceInvalid, InvalidReport, InvalidTime, SubjectsInvalid
from ledger.protocol.encoding import b64url, format_time, parse_time, unb64url
from ledger.protocol.tags import SALT_BYTES, subject_commitment
from ledger.rules import reports as core_reports
from ledger.rules.conduct import Evidence, EvidenceType, Finding, Inspection, check_evidence, parse_inspection
from ledger.rules.findings import Strength, Trust
from ledger.rules.jurisdictions import Profile
from ledger.rules.policy.values import Policy
from ledger.rules.provenance import (
    Confirmation,
    Origin,
    OriginSource,
    Verdict,
    confirmation_json,
    origin_json,
    parse_confirmation,
    parse_origin,
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
    """An item of evidence: its type, and the SHA-256 of a `file` (read here, never sent) or given as 32 bytes; of a
    picture also its PDQ hash and the hash's quality, without which nobody finds it again. `inspected_evidence` makes
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
    """The origin of a file that the claimant uploaded to your own form, received at that time (aware). Raises
    InvalidTime."""
    check_time("received_at", received_at)
    return Origin(OriginSource.CLAIM_UPLOAD, _whole_seconds(received_at))


def handed_in_by_merchant(received_at: datetime | None = None) -> Origin:
    """The origin of a file that a merchant handed in. It counts for no minimum: the merchant may have changed it.
    Raises InvalidTime."""
    if received_at is not None:
        check_time("received_at", received_at)
    return Origin(OriginSource.HANDED_IN_BY_MERCHANT, None if received_at is None else _whole_seconds(received_at))


def issuer_answer(issuer: str, answered_at: datetime, verdict: str, file_sha256: bytes) -> Confirmation:
    """What a provider of an AI service answered about the file of this SHA-256 (32 bytes): who, when (aware), and the
    verdict `generated`, `edited`, `not_issued` or `unknown`. Raises EvidenceInvalid for another verdict."""
    try:
        said = Verdict(verdict)
    except ValueError as error:
        raise EvidenceInvalid(
            f"verdict must be one of: {', '.join(sorted(Verdict))}.", field="verdict", known=sorted(Verdict)
        ) from error
    check_text("issuer", issuer, EvidenceInvalid)
    check_time("answered_at", answered_at)
    check_digest("file_sha256", file_sha256)
    return Confirmation(issuer, _whole_seconds(answered_at), said, file_sha256)


def _whole_seconds(moment: datetime) -> datetime:
    """A time as reports write it, in UTC. Raises InvalidTime if it has no zone."""
    return parse_time(format_time(moment))


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except (OSError, ValueError):  # ValueError: a name with NUL, or that is no Unicode
        raise EvidenceInvalid("An evidence file cannot be read.") from None


def evidence_json(item: Evidence) -> dict[str, Any]:
    """An item as it stands in the signed body."""
    value: dict[str, Any] = {"type": item.type.value, "sha256": b64url(item.sha256)}
    if item.pdq is not None:
        value["pdq"] = item.pdq
    if item.pdq_quality is not None:
        value["pdq_quality"] = item.pdq_quality
    if item.inspection is not None:
        value["inspection"] = inspection_json(item.inspection)
    if item.finding is not None:
        found = item.finding
        value["finding"] = {"code": found.code, "strength": found.strength.value, "tool_version": found.tool_version}
        if found.trust is not None:
            value["finding"]["trust"] = found.trust.value
    if item.origin is not None:
        value["origin"] = origin_json(item.origin)
    if item.confirmation is not None:
        value["confirmation"] = confirmation_json(item.confirmation)
    if item.report_id is not None:
        value["report_id"] = item.report_id
    return value


def inspection_json(inspection: Inspection) -> dict[str, Any]:
    """An inspection as it stands in the signed body."""
    value: dict[str, Any] = {
        "receipt_sha256": b64url(inspection.receipt_sha256),
        "tool": inspection.tool,
        "findings": list(inspection.findings),
    }
    return value if inspection.trust is None else {**value, "trust": inspection.trust.value}


def build_report(
    suite: Suite,
    key: Ed25519PrivateKey,
    order_key: bytes,
    random_bytes: Callable[[int], bytes],
    now: datetime,
    policy: Policy | None,
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
    """{body, signature, subjects}, ready to send. What can be checked without the ledger is checked first, by `policy`,
    the one in effect, where it is known (None: it is not).

    Whether reports under the buyer's epoch are taken is for the caller to know. Raises SubjectsInvalid (tags without
    elements), and what `rules.reports.parse_body` and `check_intake` raise.
    """
    check_reported_buyer(buyer)
    check_report(
        {
            "conduct": conduct, "evidence": evidence, "order": order, "amount_minor": amount_minor,
            "currency": currency, "outcome": outcome, "act_ended_at": act_ended_at, "notice_sent_at": notice_sent_at,
            "notice_ref": notice_ref, "decided_by": decided_by, "consent_ref": consent_ref, "replaces": replaces,
        }
    )  # fmt: skip
    epoch = buyer.epoch
    signed_subjects, sent_subjects = [], []
    for subject in buyer.subjects:
        if subject.element is None:
            raise SubjectsInvalid("A report needs the buyer's identifiers; tags alone are for lookups.")
        salt = random_bytes(SALT_BYTES)
        commitment = subject_commitment(salt, epoch, subject.kind, subject.element)
        signed_subjects.append({"kind": subject.kind.value, "c": b64url(commitment)})
        sent_subjects.append({"kind": subject.kind.value, "element": b64url(subject.element), "salt": b64url(salt)})
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
    # The policy is not known, or the platform is under a law that this version does not know.
    if policy is None or suite.profile not in set(Profile):
        check_evidence(parsed.conduct, parsed.evidence)
    else:
        core_reports.check_intake(parsed, Profile(suite.profile), policy, now)
    return {"body": body, "signature": b64url(core_reports.sign(body, key)), "subjects": sent_subjects}


def arguments_from_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `RefundLedger.report` (all but `buyer`) from JSON: for report files and batches.

    `evidence` is a list of {type, file | sha256, pdq?, pdq_quality?, inspection?, finding?, report_id?, origin?,
    confirmation?}, sha256 as base64url; `inspect --json` prints these members of a file as `evidence`.
    Times look like `2026-01-31T23:59:59Z`.

    Raises InvalidReport (unknown or missing names, in the details too; a text that is none), InvalidTime,
    EvidenceInvalid, InvalidRequest (an unfit idempotency key).
    """
    arguments = dict(value)
    check_fields(arguments)
    for name in _TEXTS & arguments.keys():
        if not isinstance(arguments[name], str):
            raise InvalidReport(f"{name} must be text.", field=name)
    if "idempotency_key" in arguments:
        check_idempotency_key(arguments["idempotency_key"])
    if not isinstance(arguments["evidence"], list):
        raise EvidenceInvalid("`evidence` must be a list of objects.")
    arguments["evidence"] = [_evidence_from_json(item) for item in arguments["evidence"]]
    for name in ("act_ended_at", "notice_sent_at"):
        try:
            arguments[name] = parse_time(arguments[name])
        except InvalidTime as error:
            raise InvalidTime(f"{name}: {error}", field=name) from None
    return arguments


def check_fields(arguments: Mapping[str, Any]) -> None:
    """Raises InvalidReport when a required argument of a report is missing or there is an unknown one, with the known
    name that it is most like."""
    missing, unknown = sorted(_REQUIRED - arguments.keys()), sorted(map(str, arguments.keys() - _REQUIRED - _OPTIONAL))
    if not (missing or unknown):
        return
    shown = [name if _FIELD.fullmatch(name) else "(a name of another form)" for name in unknown]
    told = [f"{name}{_suggestion(name)}" for name in shown]
    problems = [f"{what}: {', '.join(names)}" for what, names in (("unknown", told), ("missing", missing)) if names]
    raise InvalidReport(f"Fields of the report are wrong; {'; '.join(problems)}.", unknown=shown, missing=missing)


def _suggestion(name: str) -> str:
    known = nearest(name, FIELDS)
    return "" if known is None else f" (did you mean {known}?)"


_FIELD = re.compile(r"[A-Za-z][A-Za-z_]{0,39}")
"""Names that a message may repeat. A name with digits or an @ may be somebody's number or address."""
_REQUIRED = frozenset(
    {
        "conduct", "evidence", "order", "amount_minor", "currency", "outcome", "act_ended_at", "notice_sent_at",
        "notice_ref", "decided_by",
    }
)  # fmt: skip
_OPTIONAL = frozenset({"consent_ref", "replaces", "idempotency_key"})
_TEXTS = (_REQUIRED | _OPTIONAL) - {"evidence", "amount_minor", "idempotency_key"}
FIELDS = tuple(sorted(_REQUIRED | _OPTIONAL))
"""The fields of a report in a report file, besides `buyer`."""


_EVIDENCE = frozenset(
    {
        *("type", "file", "sha256", "pdq", "pdq_quality", "inspection", "finding", "report_id", "origin"),
        "confirmation",
    }
)


def _evidence_from_json(item: object) -> Evidence:
    if not isinstance(item, dict) or item.keys() - _EVIDENCE or not isinstance(item.get("file", ""), str):
        raise EvidenceInvalid(f"An item of evidence has {', '.join(sorted(_EVIDENCE))}, no more.")
    return evidence(
        str(item.get("type")),
        file=item.get("file"),
        sha256=unb64url(item["sha256"], 32) if "sha256" in item else None,
        pdq=item.get("pdq"),
        finding=_finding(item["finding"]) if "finding" in item else None,
        report_id=item.get("report_id"),
        pdq_quality=item.get("pdq_quality"),
        inspection=parse_inspection(item["inspection"]) if "inspection" in item else None,
        origin=parse_origin(item["origin"]) if "origin" in item else None,
        confirmation=parse_confirmation(item["confirmation"]) if "confirmation" in item else None,
    )


def _finding(value: object) -> Finding:
    if not isinstance(value, dict) or value.keys() - {"trust"} != {"code", "strength", "tool_version"}:
        raise EvidenceInvalid("A finding has code, strength, tool_version and optionally trust.")
    try:
        trust = Trust(value["trust"]) if "trust" in value else None
        return Finding(value["code"], Strength(value["strength"]), value["tool_version"], trust)
    except ValueError as error:
        raise EvidenceInvalid("A finding's strength or trust is none that there is.", known=sorted(Trust)) from error
