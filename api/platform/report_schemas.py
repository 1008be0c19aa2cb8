"""Schemas of reports. They describe in JSON Schema the rules of `ledger.rules.reports.parse_body`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from api.common_schemas import (
    AmountMinor,
    Bytes32,
    Bytes64,
    Currency,
    FindingCodeText,
    Kind,
    Problem,
    Reference,
    ReportId,
    Time,
    Wire,
)
from api.samples import REPORT_VIEW
from ledger.protocol.currencies import MINOR_DIGITS
from ledger.protocol.encoding import MAX_INTEGER
from ledger.protocol.public_ids import id_pattern
from ledger.rules.appeals import MAX_TEXT_CHARS, CaseState
from ledger.rules.appeals import Outcome as AppealOutcome
from ledger.rules.conduct import (
    MAX_EVIDENCE_ITEMS,
    MAX_INSPECTION_FINDINGS,
    MAX_QUALITY,
    PDQ_PATTERN,
    Conduct,
    EvidenceType,
)
from ledger.rules.findings import Strength, Trust
from ledger.rules.provenance import OriginSource, Verdict
from ledger.rules.reports import RefundOutcome, Status
from ledger.tlog.entries import LEDGER_REASONS, WithdrawalReason

MAX_BATCH = 1000
MAX_SUBJECTS = 8
PAGE_LIMIT = 100
PAGE_DEFAULT = 50

Code = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+/ -]{0,63}$")]
IdempotencyKey = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{1,255}$"),
    Field(description="1 to 255 visible ASCII characters, made by the client, one for each thing to be done."),
]


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]
IsoCurrency = Annotated[str, Field(description="ISO 4217 code.", json_schema_extra={"enum": sorted(MINOR_DIGITS)})]


class Inspection(Wire):
    """The receipt of `refund-ledger inspect` on the file: its digest, and the codes of its findings.

    The receipt itself stays with the file. What each code means, and how far it goes, is the same for every file.
    """

    receipt_sha256: Annotated[Bytes32, Field(description="SHA-256 of the receipt without what depends on the day.")]
    tool: Code
    findings: Annotated[
        list[FindingCodeText],
        Field(max_length=MAX_INSPECTION_FINDINGS, json_schema_extra={"uniqueItems": True}),
    ]
    trust: Annotated[
        Trust,
        Field(description="The weakest trust in a signer that a signed finding rests on. Absent: nothing is signed."),
    ] = None  # type: ignore[assignment]  # optional means absent, never null


class Finding(Wire):
    """A finding of another tool in an item of evidence."""

    code: Code
    strength: Annotated[Strength, Field(description="`identifies` needs the trust `listed` or `interim`.")]
    tool_version: Code
    trust: Trust = None  # type: ignore[assignment]  # optional means absent, never null


class FileOrigin(Wire):
    """Where an original file came from. Only what was uploaded with the claim counts for a minimum."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"source": {"const": "claim_upload"}}},
            "then": {"required": ["received_at"]},
        }
    )

    source: OriginSource
    received_at: Annotated[Time, Field(description="When the platform received it.")] = ""


class IssuerConfirmation(Wire):
    """The answer of a provider of an AI service to a referral. The item's `sha256` is that of the answer."""

    issuer: Annotated[str, StringConstraints(pattern=r"^[^\u0000-\u001f\u007f-\u009f]{1,128}$")]
    answered_at: Time
    verdict: Annotated[Verdict, Field(description="`generated` counts for a minimum, like a label that identifies.")]
    file_sha256: Annotated[Bytes32, Field(description="The `original_file` of the report that the answer is about.")]


class EvidenceItem(Wire):
    """One item of evidence. The file stays at the platform; only its digest is sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"type": {"const": "linked_instrument"}}},
                    "then": {"required": ["report_id"]},
                    "else": {"properties": {"report_id": False}},
                },
                {
                    "if": {"properties": {"type": {"const": "issuer_confirmation"}}},
                    "then": {"required": ["confirmation"]},
                    "else": {"properties": {"confirmation": False}},
                },
                {
                    "if": {"properties": {"type": {"const": "original_file"}}},
                    "else": {"properties": {"origin": False}},
                },
            ],
            "dependentRequired": {"pdq_quality": ["pdq"]},
        }
    )

    type: EvidenceType
    sha256: Bytes32
    pdq: Annotated[
        str,
        StringConstraints(pattern=f"^{PDQ_PATTERN}$"),
        Field(description="PDQ hash of the picture, highest bit first."),
    ] = ""
    pdq_quality: Annotated[
        int, Field(ge=0, le=MAX_QUALITY, description="Quality of `pdq`. Others find it from 50 on, without it never.")
    ] = 0
    inspection: Inspection = None  # type: ignore[assignment]  # optional means absent, never null
    finding: Finding = None  # type: ignore[assignment]  # optional means absent, never null
    report_id: Annotated[ReportId, Field(description="With `linked_instrument`, and only there.")] = ""
    origin: FileOrigin = None  # type: ignore[assignment]  # optional means absent, never null
    confirmation: IssuerConfirmation = None  # type: ignore[assignment]  # optional means absent, never null


class SignedSubject(Wire):
    """A subject as signed: a commitment HMAC-SHA256(salt, epoch || kind || element)."""

    kind: Kind
    c: Bytes32


class OpenedSubject(Wire):
    """The opening of a commitment. It is stored in an erasable row, never in the log."""

    kind: Kind
    element: Bytes32
    salt: Bytes32


class ReportSubmission(Wire):
    """A signed report and the openings of its subjects, in the order of `body.subjects`."""

    body: ReportBody
    signature: Annotated[Bytes64, Field(description="Ed25519 over the canonical body.")]
    subjects: Annotated[list[OpenedSubject], Field(min_length=1, max_length=MAX_SUBJECTS)]


class BatchItem(ReportSubmission):
    """A report of a batch with its own idempotency key."""

    idempotency_key: IdempotencyKey


class ReportBatch(Wire):
    """1 to 1000 reports. Each succeeds or fails on its own."""

    reports: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_BATCH)]


class BatchItems(Wire):
    """A batch before its items are parsed."""

    reports: Annotated[list[Any], Field(min_length=1, max_length=MAX_BATCH)]


class ReportAccepted(Wire):
    """The report is durable and has its place in the log."""

    id: ReportId
    entry_index: Annotated[int, Field(ge=0)]
    status: Annotated[
        Literal["counting", "cooling", "held"],
        Field(description="`held`: it may repeat a contested report; explain why it is another order."),
    ]
    effective_from: Annotated[Time, Field(description="From then on lookups show it.")]
    expires_at: Time
    receipt_url: Annotated[str, Field(examples=["/v1/reports/rp_Xk3mPq9a/receipt"])]
    order_ref: Annotated[Bytes32, Field(description="That of your report.")]
    body_sha256: Annotated[Bytes32, Field(description="SHA-256 of the canonical signed body.")]


class BatchAccepted(Wire):
    """A report of the batch that was recorded."""

    status: Literal[201]
    idempotency_key: IdempotencyKey
    report: ReportAccepted


class BatchRefused(Wire):
    """A report of the batch that was refused; the others are unaffected. The key is null if the item had no valid
    one."""

    status: Annotated[int, Field(ge=400, le=599)]
    idempotency_key: IdempotencyKey | None
    problem: Problem


class ReportBatchResult(Wire):
    """One result for each report, in order."""

    results: list[BatchAccepted | BatchRefused]


class Restituted(Wire):
    """The buyer paid the full amount back."""

    received_at: Time
    entry_index: Annotated[int, Field(ge=0)]


class Withdrawn(Wire):
    """The report was withdrawn. The last three reasons are those of the ledger itself."""

    reason: WithdrawalReason
    recorded_at: Time
    entry_index: Annotated[int, Field(ge=0)]


class ReportAppeal(Wire):
    """The appeal against a report. `conduct` is the one of an `amended` decision."""

    id: Annotated[str, Field(pattern=f"^{id_pattern('ap')}$")]
    state: CaseState
    due_at: Time
    outcome: AppealOutcome | None
    conduct: Conduct | None


class Hold(Wire):
    """Why a report is or was held: it may be about the matter of `case`. Without a release it is void at `void_at`."""

    case: Annotated[str, Field(pattern=f"^{id_pattern('ap')}$", description="A case about an earlier report.")]
    void_at: Time
    explanation: Annotated[str | None, Field(description="Your reason why it is another order.")]
    explained_at: Time | None
    released_at: Time | None
    refused_at: Time | None
    reasons: Annotated[str | None, Field(description="Why it was released or refused.")]


class Explanation(Wire):
    """The reporter's explanation that a held report is about another order than the case that holds it."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARS)]


class ReportView(Wire):
    """A report as the platform that made it sees it."""

    model_config = ConfigDict(json_schema_extra={"examples": [REPORT_VIEW]})

    id: ReportId
    entry_index: Annotated[int, Field(ge=0)]
    status: Status
    conduct: Conduct
    order_ref: Bytes32
    amount_minor: AmountMinor
    currency: Currency
    outcome: RefundOutcome
    act_ended_at: Time
    notice_sent_at: Time
    recorded_at: Time
    effective_from: Time
    expires_at: Time
    replaces: ReportId | None
    replaced_by: ReportId | None
    restitution: Restituted | None
    withdrawal: Withdrawn | None
    appeal: ReportAppeal | None
    hold: Hold | None
    former_label: Annotated[
        bool,
        Field(
            description="The report has a label that identified its file by the rules of its time, and does not by "
            "those for new reports: it is not signed under a trust list. Its standing has not changed."
        ),
    ]
    receipt_url: str


class ReportPage(Wire):
    """Newest first. Get the next page with `starting_after` = the last id while `has_more`."""

    data: list[ReportView]
    has_more: bool


class Withdrawal(Wire):
    """The reason of a withdrawal."""

    reason: Literal[*[reason.value for reason in WithdrawalReason if reason not in LEDGER_REASONS]]  # type: ignore[valid-type]


class RestitutionRequest(Wire):
    """The full amount was paid back. Partial repayments are not recorded."""

    received_at: Time
    amount_minor: AmountMinor
    currency: Currency


class ReportBody(Wire):
    """The body that the platform's key signs, in canonical form: sorted keys, integers only, NFC (docs/protocol.md)."""

    v: Literal[1]
    service: Annotated[Name, Field(description="Service id of the ledger it is for.")]
    platform: Annotated[Name, Field(description="Your platform.")]
    kid: Annotated[Name, Field(description="Id of the key that signs.")]
    epoch: Annotated[int, Field(ge=1, le=MAX_INTEGER, description="Key epoch of the elements.")]
    subjects: Annotated[list[SignedSubject], Field(min_length=1, max_length=MAX_SUBJECTS)]
    order_ref: Bytes32
    conduct: Conduct
    evidence: Annotated[list[EvidenceItem], Field(min_length=1, max_length=MAX_EVIDENCE_ITEMS)]
    amount_minor: AmountMinor
    currency: IsoCurrency
    outcome: RefundOutcome
    act_ended_at: Time
    notice_sent_at: Time
    notice_ref: Annotated[Reference, Field(description="Identifies the notice that told the person.")]
    decided_by: Annotated[Reference, Field(description="Opaque reference to the human who confirmed the fraud.")]
    consent_ref: Annotated[Reference, Field(description="Required where the profile asks for consent (CN).")] = ""
    replaces: Annotated[ReportId, Field(description="The report that this one corrects.")] = ""
