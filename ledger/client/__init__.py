"""The SDK for platforms: tag, look up, report, prove. See `docs/sdk.md`."""

from ledger.client.client import RefundLedger
from ledger.client.identity.suite import Suite, load_suite
from ledger.client.lookups.request import Query, Refund
from ledger.client.models.appeals import (
    Appeal,
    AppealConcession,
    AppealDecision,
    AppealEvent,
    AppealLetter,
    AppealPage,
    AppealQuestion,
    AppealSummary,
    Attachment,
    FiledAppeal,
    LetterParagraph,
    PersonStatement,
    RecordLink,
    ReopeningRequest,
)
from ledger.client.models.lookups import Check, Lookup, Reason, Tier
from ledger.client.models.pictures import PictureHash, PictureReuse
from ledger.client.models.reports import (
    AcceptedReport,
    ChangeResult,
    Delivery,
    ReportAppeal,
    ReportHold,
    ReportPage,
    ReportResult,
    ReportView,
)
from ledger.client.models.webhook_events import (
    AppealDecided,
    AppealEnded,
    AppealOpened,
    AppealQuestionAsked,
    KeyRotated,
    ReportVoided,
    SnapshotPublished,
    WebhookEvent,
    WebhookTest,
)
from ledger.client.models.webhooks import DeliveryPage, WebhookDelivery, WebhookEndpoint
from ledger.client.outbox.store import Waiting
from ledger.client.reports.evidence import claim_upload, evidence, handed_in_by_merchant, issuer_answer
from ledger.client.reports.inspection import inspect, inspected_evidence, match_picture, picture_hash, verify_inspection
from ledger.client.subjects import Buyer, Identifiers, SubjectIds, buyers
from ledger.client.verify.receipts import VerifiedReceipt
from ledger.client.webhooks import verify_webhook
from ledger.protocol.identifiers import Kind
from ledger.rules.conduct import Conduct, Evidence, EvidenceType, Finding, Inspection
from ledger.rules.findings import Strength, Trust
from ledger.rules.provenance import Confirmation, Origin

__all__ = [
    "AcceptedReport",
    "Appeal",
    "AppealConcession",
    "AppealDecided",
    "AppealDecision",
    "AppealEnded",
    "AppealEvent",
    "AppealLetter",
    "AppealOpened",
    "AppealPage",
    "AppealQuestion",
    "AppealQuestionAsked",
    "AppealSummary",
    "Attachment",
    "Buyer",
    "ChangeResult",
    "Check",
    "Conduct",
    "Confirmation",
    "Delivery",
    "DeliveryPage",
    "Evidence",
    "EvidenceType",
    "FiledAppeal",
    "Finding",
    "Identifiers",
    "Inspection",
    "KeyRotated",
    "Kind",
    "LetterParagraph",
    "Lookup",
    "Origin",
    "PersonStatement",
    "PictureHash",
    "PictureReuse",
    "Query",
    "Reason",
    "RecordLink",
    "Refund",
    "RefundLedger",
    "ReopeningRequest",
    "ReportAppeal",
    "ReportHold",
    "ReportPage",
    "ReportResult",
    "ReportView",
    "ReportVoided",
    "SnapshotPublished",
    "Strength",
    "SubjectIds",
    "Suite",
    "Tier",
    "Trust",
    "VerifiedReceipt",
    "Waiting",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookTest",
    "buyers",
    "claim_upload",
    "evidence",
    "handed_in_by_merchant",
    "inspect",
    "inspected_evidence",
    "issuer_answer",
    "load_suite",
    "match_picture",
    "picture_hash",
    "verify_inspection",
    "verify_webhook",
]
