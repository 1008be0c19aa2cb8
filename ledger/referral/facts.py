"""A referral as values: the platform's own reports, reduced to the parts that the recipient gets. Pure.

The content of a report is read from the body that its platform signed and its log receipt proves. The ledger's answer
adds only the current status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.client.identity.suite import Suite
from ledger.client.models.appeals import Appeal
from ledger.client.models.reports import ReportView
from ledger.client.verify.receipts import VerifiedReceipt
from ledger.errors import LedgerError, NewerFormat, ReportNotReferable, UnexpectedAnswer, UnknownConduct
from ledger.protocol.encoding import b64url, canonical_json, format_time
from ledger.referral.audience import Audience, Part, gets
from ledger.referral.inspections import Receipts, ReferredFinding, ReferredInspection, check_all_used, inspections
from ledger.referral.law import LAWS_OF, Law
from ledger.referral.losses import Loss, Money, losses
from ledger.rules.conduct import EVIDENCE_MEMBERS, Conduct, Evidence, EvidenceType
from ledger.rules.languages import DEFAULT_LOCALE
from ledger.rules.provenance import confirmation_json, origin_json
from ledger.rules.reports import BODY_MEMBERS, BODY_VERSION, ReportBody, Status, parse_body
from ledger.tlog.proof import sealed_receipt

VERSION = 1
REFERABLE = frozenset({Status.COOLING, Status.COUNTING, Status.DISPUTED, Status.UNCONFIRMED})
SPEAKERS = frozenset({"person", "reporter", "reviewer"})


@dataclass(frozen=True, slots=True)
class References:
    """Opaque references of a report: to the order, the consent, and the report that it corrects."""

    order_ref: bytes
    consent_ref: str | None
    replaces: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A text in an appeal: its time, its author (person, reporter or reviewer), the text."""

    at: datetime
    by: str
    text: str


@dataclass(frozen=True, slots=True)
class ReferredAppeal:
    """The appeal against a report, with the statements of both sides, oldest first (None: not for this recipient)."""

    state: str
    outcome: str | None
    due_at: datetime
    statements: tuple[Statement, ...] | None


@dataclass(frozen=True, slots=True)
class ReferredReport:
    """A report as the recipient gets it. None: the recipient does not get this part, or it does not exist.

    `amended_conduct` is the conduct that a decision on an appeal set instead. `receipt` is the text of the log receipt.
    """

    id: str
    status: Status
    conduct: Conduct
    amended_conduct: Conduct | None
    act_ended_at: datetime
    notice_sent_at: datetime
    recorded_at: datetime
    expires_at: datetime
    entry_index: int
    hour: str
    log_size: int
    receipt: str
    evidence: tuple[Evidence, ...]
    inspections: tuple[ReferredInspection, ...]
    appeal: ReferredAppeal | None
    decided_by: str | None
    notice_ref: str | None
    money: Money | None
    order: str | None
    references: References | None


@dataclass(frozen=True, slots=True)
class Referral:
    """The whole referral. `losses` and `laws` are empty if the recipient does not get them or the profile has none."""

    audience: Audience
    made_at: datetime
    platform: str
    profile: str
    url: str
    service: str
    environment: str
    log_origin: str
    log_key: str
    reports: tuple[ReferredReport, ...]
    losses: tuple[Loss, ...]
    laws: tuple[Law, ...]


@dataclass(frozen=True, slots=True)
class ReportSources:
    """The sources about one report: the ledger's answer, the verified receipt, the appeal, the order number in
    clear."""

    view: ReportView
    receipt: VerifiedReceipt
    appeal: Appeal | None = None
    order: str | None = None


def check_referable(view: ReportView) -> None:
    """Check that a report with this status may go into a referral. Raises ReportNotReferable."""
    if view.status not in set(REFERABLE):
        raise ReportNotReferable(
            f"The report {view.id} is {view.status}: it no longer stands, and goes into no referral.",
            report=view.id,
            status=view.status,
        )
    amended = None if view.appeal is None else view.appeal.conduct
    if not {view.conduct, amended} <= {None, *Conduct}:
        raise _unknown_conduct(view)
    if Conduct.IMPERSONATED in (view.conduct, amended):
        raise ReportNotReferable(
            f"The report {view.id} protects a person and accuses none: it goes into no referral.",
            report=view.id,
            status=view.status,
        )


def make_referral(
    suite: Suite, audience: Audience, sources: Sequence[ReportSources], receipts: Receipts, made_at: datetime
) -> Referral:
    """Return the referral of `sources` for `audience`, with the full `receipts` of inspections.

    Raises ReportNotReferable, InspectionMismatch, NewerFormat, and UnexpectedAnswer if the ledger's answer contradicts
    the signed body.
    """
    bodies = [_signed_body(source) for source in sources]
    check_all_used(receipts, [item for body in bodies for item in body.evidence])
    reports = tuple([_report(audience, source, body, receipts) for source, body in zip(sources, bodies, strict=True)])
    moneys = [(report.status, report.money) for report in reports if report.money is not None]
    return Referral(
        audience=audience,
        made_at=made_at,
        platform=suite.platform,
        profile=suite.profile,
        url=suite.url,
        service=suite.pinned.service,
        environment=suite.pinned.environment,
        log_origin=suite.pinned.log_origin,
        log_key=suite.pinned.log_key,
        reports=reports,
        losses=losses(moneys),
        laws=LAWS_OF.get(suite.profile, ()) if gets(audience, Part.LAW) else (),
    )


def _signed_body(source: ReportSources) -> ReportBody:
    view = source.view
    check_referable(view)
    known = _known_members(source.receipt.receipt.entry["body"])
    try:
        body = parse_body(known)
    except UnknownConduct as error:
        raise _unknown_conduct(view) from error
    except LedgerError as error:
        raise UnexpectedAnswer(
            "The log holds a body of this report that this version cannot read. Update the program."
        ) from error
    signed = (body.amount_minor, body.currency, body.outcome, body.act_ended_at, b64url(body.order_ref))
    if signed != (view.amount_minor, view.currency, view.outcome, view.act_ended_at, view.order_ref):
        raise UnexpectedAnswer("The ledger says something else of this report than what was signed.")
    return body


def _known_members(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a signed body without members of a later version, also in its items of evidence. The receipt has already
    proven the whole body. Raises NewerFormat for a body with a higher version number."""
    version, items = body.get("v"), body.get("evidence")
    if type(version) is int and version > BODY_VERSION:
        raise NewerFormat("This report is in a format that this version does not read. Update the program.")
    known = {name: value for name, value in body.items() if name in BODY_MEMBERS}
    if isinstance(items, list):
        known["evidence"] = [
            {name: value for name, value in item.items() if name in EVIDENCE_MEMBERS} if type(item) is dict else item
            for item in items
        ]
    return known


def _unknown_conduct(view: ReportView) -> ReportNotReferable:
    """Return the error for an unknown conduct. It may protect the person, as `impersonated` does, so it is not
    referred."""
    return ReportNotReferable(
        f"The report {view.id} is of a conduct that this version does not know. Update the program.",
        report=view.id,
        status=view.status,
    )


def _report(audience: Audience, source: ReportSources, body: ReportBody, receipts: Receipts) -> ReferredReport:
    view, proven = source.view, source.receipt.receipt
    inspected = inspections(body.evidence, receipts)
    whole = gets(audience, Part.EVIDENCE)
    inspected_files = {inspection.sha256 for inspection in inspected}
    shown = [
        item
        for item in body.evidence
        if whole or item.sha256 in inspected_files or item.finding is not None or item.confirmation is not None
    ]
    amended = view.appeal.conduct if view.appeal is not None else None
    return ReferredReport(
        id=view.id,
        status=Status(view.status),
        conduct=body.conduct,
        amended_conduct=None if amended is None else Conduct(amended),
        act_ended_at=body.act_ended_at,
        notice_sent_at=body.notice_sent_at,
        recorded_at=view.recorded_at,
        expires_at=view.expires_at,
        entry_index=proven.index,
        hour=proven.hour,
        log_size=proven.checkpoint.size,
        receipt=source.receipt.text if gets(audience, Part.WHOLE_RECEIPT) else sealed_receipt(source.receipt.text),
        evidence=tuple(shown),
        inspections=inspected,
        appeal=_appeal(audience, view, source.appeal),
        decided_by=body.decided_by if gets(audience, Part.DECISION) else None,
        notice_ref=body.notice_ref if gets(audience, Part.DECISION) else None,
        money=Money(body.amount_minor, body.currency, body.outcome, view.restituted_at)
        if gets(audience, Part.MONEY)
        else None,
        order=source.order if gets(audience, Part.ORDER) else None,
        references=References(body.order_ref, body.consent_ref, body.replaces)
        if gets(audience, Part.REFERENCES)
        else None,
    )


def _appeal(audience: Audience, view: ReportView, appeal: Appeal | None) -> ReferredAppeal | None:
    if view.appeal is None:
        return None
    statements = None
    if gets(audience, Part.STATEMENTS) and appeal is not None:
        events = [event for event in appeal.timeline if event.by in SPEAKERS]
        statements = tuple([Statement(event.at, event.by, event.text) for event in events if event.text])
    return ReferredAppeal(view.appeal.state, view.appeal.outcome, view.appeal.due_at, statements)


# --- as JSON ------------------------------------------------------------------------------------------------------


def to_json(referral: Referral) -> bytes:
    """Return `referral.json` as canonical JSON. Digests are hexadecimal, as `sha256sum` prints them; absent parts are
    left out. Raises InvalidCanonicalForm for sums beyond 2^53 - 1."""
    value: dict[str, Any] = {
        "v": VERSION,
        "audience": referral.audience.value,
        "made_at": format_time(referral.made_at),
        "platform": referral.platform,
        "profile": referral.profile,
        "service": referral.service,
        "environment": referral.environment,
        "log": {"origin": referral.log_origin, "key": referral.log_key},
        "asserts_no_offence": True,
        "reports": [_report_json(report) for report in referral.reports],
    }
    if gets(referral.audience, Part.MONEY):
        value["losses"] = [_loss_json(loss) for loss in referral.losses]
    if gets(referral.audience, Part.LAW):
        value["law"] = [_law_json(law) for law in referral.laws]
    return canonical_json(value)


def receipt_name(report_id: str) -> str:
    """Return the path of a report's receipt in the bundle."""
    return f"receipts/{report_id}.txt"


def _report_json(report: ReferredReport) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": report.id,
        "status": report.status.value,
        "conduct": report.conduct.value,
        "act_ended_at": format_time(report.act_ended_at),
        "notice_sent_at": format_time(report.notice_sent_at),
        "recorded_at": format_time(report.recorded_at),
        "expires_at": format_time(report.expires_at),
        "evidence": [_evidence_json(item, report.references is not None) for item in report.evidence],
        "inspections": [_inspection_json(inspection) for inspection in report.inspections],
        "receipt": {
            "file": receipt_name(report.id),
            "entry_index": report.entry_index,
            "hour": report.hour,
            "log_size": report.log_size,
        },
    }
    optional = {
        "amended_conduct": None if report.amended_conduct is None else report.amended_conduct.value,
        "appeal": None if report.appeal is None else _appeal_json(report.appeal),
        "decided_by": report.decided_by,
        "notice_ref": report.notice_ref,
        "money": None if report.money is None else _money_json(report.money),
        "order": report.order,
        "references": None if report.references is None else _references_json(report.references),
    }
    return {**value, **_present(optional)}


def _evidence_json(item: Evidence, with_references: bool) -> dict[str, Any]:
    value: dict[str, Any] = {"type": item.type.value, "sha256": item.sha256.hex()}
    if item.finding is not None:
        finding = item.finding
        value["finding"] = {
            "code": finding.code,
            "strength": finding.strength.value,
            "tool_version": finding.tool_version,
        }
        if finding.trust is not None:
            value["finding"]["trust"] = finding.trust.value
    if item.type is EvidenceType.ORIGINAL_FILE:
        value["origin"] = {"source": "unknown"} if item.origin is None else origin_json(item.origin)
    if item.confirmation is not None:
        value["confirmation"] = {
            **confirmation_json(item.confirmation),
            "file_sha256": item.confirmation.file_sha256.hex(),
        }
    if item.report_id is not None and with_references:
        value["report_id"] = item.report_id
    return value


def _inspection_json(inspection: ReferredInspection) -> dict[str, Any]:
    value = {
        "sha256": inspection.sha256.hex(),
        "tool": inspection.tool,
        "receipt_sha256": inspection.receipt_sha256.hex(),
        "in_report": inspection.in_report,
        "findings": [_finding_json(finding) for finding in inspection.findings],
    }
    conclusion = None if inspection.conclusion is None else inspection.conclusion.value
    return {**value, **_present({"conclusion": conclusion, "complete": inspection.complete})}


def _finding_json(finding: ReferredFinding) -> dict[str, Any]:
    strength = None if finding.strength is None else finding.strength.value
    about = None if finding.about is None else finding.about.value
    facts = None if finding.facts is None else dict(finding.facts)
    from ledger.evidence import finding_texts  # needs an extra, which is installed where a referral is made

    trust = None if finding.trust is None else finding.trust.value
    limit = finding_texts.limit(finding.code, DEFAULT_LOCALE, finding.trust) or None
    optional = {
        "strength": strength,
        "about": about,
        "trust": trust,
        "does_not_show": limit,
        "where": finding.where,
        "facts": facts,
    }
    return {"code": finding.code, **_present(optional)}


def _appeal_json(appeal: ReferredAppeal) -> dict[str, Any]:
    said = None
    if appeal.statements is not None:
        said = [{"at": format_time(text.at), "by": text.by, "text": text.text} for text in appeal.statements]
    optional = {"outcome": appeal.outcome, "said": said}
    return {"state": appeal.state, "due_at": format_time(appeal.due_at), **_present(optional)}


def _money_json(money: Money) -> dict[str, Any]:
    restituted_at = None if money.restituted_at is None else format_time(money.restituted_at)
    value = {"amount_minor": money.amount_minor, "currency": money.currency, "outcome": money.outcome.value}
    return {**value, **_present({"restituted_at": restituted_at})}


def _references_json(references: References) -> dict[str, Any]:
    optional = {"consent_ref": references.consent_ref, "replaces": references.replaces}
    return {"order_ref": b64url(references.order_ref), **_present(optional)}


def _loss_json(loss: Loss) -> dict[str, Any]:
    names = ("currency", "loss_minor", "reports_count", "suffered_minor", "restituted_minor")
    return {
        name: getattr(loss, name)
        for name in (*names, "recovered_minor", "refused_minor", "contested_count", "contested_minor")
    }


def _law_json(law: Law) -> dict[str, Any]:
    bands = [
        {"level": band.level, "from_yuan": band.from_yuan, **_present({"to_yuan": band.to_yuan})} for band in law.bands
    ]
    return {"code": law.code, "source": law.source, "since": law.since, "bands": bands}


def _present(optional: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in optional.items() if value is not None}
