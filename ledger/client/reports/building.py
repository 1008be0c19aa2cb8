"""Build a report: subject commitments with fresh salts, the canonical body and its signature; arguments from JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.choices import ReportOutcome
from ledger.client.identity.suite import Suite
from ledger.client.inputs import (
    check_idempotency_key,
    check_report,
    check_reported_buyer,
    nearest,
)
from ledger.client.reports.evidence import evidence_from_json, evidence_json
from ledger.client.subjects import Buyer
from ledger.errors import EvidenceInvalid, InvalidReport, InvalidTime, SubjectsInvalid
from ledger.protocol.encoding import b64url, format_time, parse_time
from ledger.protocol.tags import SALT_BYTES, subject_commitment
from ledger.rules import reports as core_reports
from ledger.rules.conduct import Evidence, check_evidence
from ledger.rules.jurisdictions import Profile
from ledger.rules.policy.values import Policy


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
    outcome: ReportOutcome,
    act_ended_at: datetime,
    notice_sent_at: datetime,
    notice_ref: str,
    decided_by: str,
    consent_ref: str | None = None,
    replaces: str | None = None,
) -> dict[str, Any]:
    """Return {body, signature, subjects}, ready to send. The report is checked first as far as possible without the
    ledger, by `policy`, the one in effect (None: not known).

    The caller checks that the ledger takes reports under the buyer's epoch. Raises SubjectsInvalid (tags without
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
    """Return keyword arguments of `reports.create` (all but `buyer`) from JSON: for report files and batches.

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
    arguments["evidence"] = [evidence_from_json(item) for item in arguments["evidence"]]
    for name in ("act_ended_at", "notice_sent_at"):
        try:
            arguments[name] = parse_time(arguments[name])
        except InvalidTime as error:
            raise InvalidTime(f"{name}: {error}", field=name) from None
    return arguments


def check_fields(arguments: Mapping[str, Any]) -> None:
    """Check that a report has all required arguments and no unknown one. Raises InvalidReport, with the known name most
    similar to an unknown one."""
    missing, unknown = sorted(_REQUIRED - arguments.keys()), sorted(map(str, arguments.keys() - _REQUIRED - _OPTIONAL))
    if not (missing or unknown):
        return
    shown = [name if _FIELD.fullmatch(name) else "(a name of another form)" for name in unknown]
    named = [f"{name}{_suggestion(name)}" for name in shown]
    problems = [f"{what}: {', '.join(names)}" for what, names in (("unknown", named), ("missing", missing)) if names]
    raise InvalidReport(f"Fields of the report are wrong; {'; '.join(problems)}.", unknown=shown, missing=missing)


def _suggestion(name: str) -> str:
    known = nearest(name, FIELDS)
    return "" if known is None else f" (did you mean {known}?)"


_FIELD = re.compile(r"[A-Za-z][A-Za-z_]{0,39}")
"""Names that a message may repeat. A name with digits or an @ may be a person's number or address."""
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
