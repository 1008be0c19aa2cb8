"""The SDK for platforms: tag, look up, report, prove. See `docs/sdk.md`."""

from ledger.client.appeals import Appeals
from ledger.client.choices import (
    AppealGrounds,
    AppealParty,
    AppealRole,
    AppealState,
    IssuerVerdict,
    LetterKind,
    Purpose,
    ReasonForWithdrawal,
    RefundClaim,
    ReportArguments,
    ReportOutcome,
)
from ledger.client.client import RefundLedger
from ledger.client.identity.suite import Suite, load_suite
from ledger.client.lookups.local_standing import CheckPolicy
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
    EarlierLetter,
    FiledAppeal,
    LetterParagraph,
    PersonStatement,
    RecordLink,
    ReopeningRequest,
)
from ledger.client.models.key_holders import KeyHolder, KeyHolders
from ledger.client.models.lookups import Check, Lookup, Reason, Tier
from ledger.client.models.pictures import PictureHash, PictureReuse
from ledger.client.models.reports import (
    AcceptedReport,
    ChangeResult,
    Delivery,
    DeliveryState,
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
from ledger.client.models.webhooks import DeliveryPage, EndpointWithSecret, WebhookDelivery, WebhookEndpoint
from ledger.client.outbox.queue import OutboxQueue
from ledger.client.outbox.store import Item, ItemState, Waiting
from ledger.client.pictures import Pictures
from ledger.client.reports.evidence import claim_upload, evidence, handed_in_by_merchant, issuer_answer
from ledger.client.reports.inspection import inspect, inspected_evidence, match_picture, picture_hash, verify_inspection
from ledger.client.reports.reports import Reports
from ledger.client.subjects import Buyer, Canonical, Identifiers, SubjectIds, buyers
from ledger.client.verify.receipts import VerifiedReceipt
from ledger.client.webhooks import Webhooks, verify_webhook
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
    "AppealGrounds",
    "AppealLetter",
    "AppealOpened",
    "AppealPage",
    "AppealParty",
    "AppealQuestion",
    "AppealQuestionAsked",
    "AppealRole",
    "AppealState",
    "AppealSummary",
    "Appeals",
    "Attachment",
    "Buyer",
    "Canonical",
    "ChangeResult",
    "Check",
    "CheckPolicy",
    "Conduct",
    "Confirmation",
    "Delivery",
    "DeliveryPage",
    "DeliveryState",
    "EarlierLetter",
    "EndpointWithSecret",
    "Evidence",
    "EvidenceType",
    "FiledAppeal",
    "Finding",
    "Identifiers",
    "Inspection",
    "IssuerVerdict",
    "Item",
    "ItemState",
    "KeyHolder",
    "KeyHolders",
    "KeyRotated",
    "Kind",
    "LetterKind",
    "LetterParagraph",
    "Lookup",
    "Origin",
    "OutboxQueue",
    "PersonStatement",
    "PictureHash",
    "PictureReuse",
    "Pictures",
    "Purpose",
    "Query",
    "Reason",
    "ReasonForWithdrawal",
    "RecordLink",
    "Refund",
    "RefundClaim",
    "RefundLedger",
    "ReopeningRequest",
    "ReportAppeal",
    "ReportArguments",
    "ReportHold",
    "ReportOutcome",
    "ReportPage",
    "ReportResult",
    "ReportView",
    "ReportVoided",
    "Reports",
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
    "Webhooks",
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
