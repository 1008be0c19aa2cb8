"""The SDK for platforms: tag, look up, report, prove. See `docs/sdk.md`."""

from ledger.client.appeals import FiledAppeal, RecordLink
from ledger.client.lookups import Query, Refund
from ledger.client.receipts import VerifiedReceipt
from ledger.client.reports import evidence
from ledger.client.results import (
    AcceptedReport,
    ChangeResult,
    Check,
    Delivery,
    Lookup,
    Reason,
    ReportPage,
    ReportResult,
    ReportView,
    Tier,
)
from ledger.client.sdk import RefundLedger
from ledger.client.subjects import Buyer, Identifiers, SubjectIds
from ledger.client.suite import Suite, load_suite
from ledger.client.webhooks import DeliveryPage, WebhookDelivery, WebhookEndpoint, WebhookEvent, verify_webhook
from ledger.core.conduct import Conduct, Evidence, EvidenceType, Finding, Strength
from ledger.core.identifiers import Kind

__all__ = [
    "AcceptedReport",
    "Buyer",
    "ChangeResult",
    "Check",
    "Conduct",
    "Delivery",
    "DeliveryPage",
    "Evidence",
    "EvidenceType",
    "FiledAppeal",
    "Finding",
    "Identifiers",
    "Kind",
    "Lookup",
    "Query",
    "Reason",
    "RecordLink",
    "Refund",
    "RefundLedger",
    "ReportPage",
    "ReportResult",
    "ReportView",
    "Strength",
    "SubjectIds",
    "Suite",
    "Tier",
    "VerifiedReceipt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "evidence",
    "load_suite",
    "verify_webhook",
]
