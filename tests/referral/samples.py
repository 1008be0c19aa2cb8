"""Referrals made with the core alone: a small log, signed reports in it, and what the ledger would say of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.client.identity.suite import Service, Suite
from ledger.client.models.appeals import Appeal, AppealEvent
from ledger.client.models.reports import ReportAppeal, ReportView
from ledger.client.reports.evidence import inspection_json
from ledger.client.verify.receipts import VerifiedReceipt
from ledger.evidence.findings import finding
from ledger.evidence.receipt import InspectionReceipt
from ledger.protocol.encoding import b64url, canonical_json
from ledger.referral.audience import Audience
from ledger.referral.facts import Referral, ReportSources, make_referral
from ledger.referral.inspections import Receipts
from ledger.rules.findings import FindingCode
from ledger.rules.reports import sign as sign_body
from ledger.tlog import merkle
from ledger.tlog.checkpoint import Checkpoint, sign, verifier_key
from ledger.tlog.entries import commitment, event_leaf, report_entry
from ledger.tlog.proof import format_receipt, open_receipt
from tests.oracles import root_of

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
ORIGIN = "ledger.example/log"
LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PLATFORM = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
LOG_PUBLIC = LOG.public_key().public_bytes_raw()
LOG_KEY = verifier_key(ORIGIN, LOG_PUBLIC)
PLATFORM_PEM = PLATFORM.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
CLAIM = b"the photo of the claim"
PRODUCE_ID = "20261118-7f3c9a52"


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def suite(profile: str = "CN", environment: str = "live") -> Suite:
    service = Service("ledger.example", environment, "ristretto255-SHA512", (), ORIGIN, LOG_KEY, "1")
    return Suite("https://ledger.example", "acme", "east", profile, "acme-1", service)


def inspection(data: bytes = CLAIM, captured: bool = False, trust: str = "listed") -> InspectionReceipt:
    """The receipt of an inspection that found China's label, or a camera's word by a signer of this trust."""
    if captured:
        camera = {"signer": "Camera Works", "source_type": "digitalCapture", "trust": trust}
        label = finding(FindingCode.C2PA_CAPTURED, "jpeg:C2PA", **camera)
    else:
        label = finding(
            FindingCode.AIGC_GENERATED,
            "png:iTXt xmp",
            label="1",
            producer="001191110102MACQD9K64010000",
            credit_code="91110102MACQD9K640",
            produce_id=PRODUCE_ID,
            value="a free text that names Wang Xiaoming",
        )
    return InspectionReceipt(
        "refund-ledger/0.1.0 inspect/2", digest(data), len(data), "image/png", 64, 48, (label,), ()
    )


def evidence_json(receipt: InspectionReceipt | None, data: bytes = CLAIM) -> list[dict[str, Any]]:
    """Evidence of an AI-made photo; with the inspection in it, if there is one."""
    label: dict[str, Any] = {"type": "ai_label", "sha256": b64url(digest(data))}
    if receipt is not None:
        label["inspection"] = inspection_json(receipt.in_report())
    origin = {"source": "claim_upload", "received_at": "2026-11-09T08:00:00Z"}
    return [
        {"type": "original_file", "sha256": b64url(digest(data)), "origin": origin},
        label,
        {"type": "physical_contradiction", "sha256": b64url(digest(b"intake"))},
    ]


def body(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A signed body."""
    return {
        "v": 1,
        "service": "ledger.example",
        "platform": "acme",
        "kid": "acme-1",
        "epoch": 1,
        "subjects": [{"kind": "phone", "c": b64url(digest(b"c%d" % number))}],
        "order_ref": b64url(digest(b"order%d" % number)),
        "conduct": "ai_fabricated_image",
        "evidence": evidence_json(inspection()),
        "amount_minor": 12_900,
        "currency": "CNY",
        "outcome": "refund_suffered",
        "act_ended_at": "2026-11-10T02:15:00Z",
        "notice_sent_at": "2026-11-12T08:00:00Z",
        "notice_ref": "notice-4711",
        "decided_by": "agent-7",
        "consent_ref": "separate-consent-2026-11-03-8842",
        **changes,
    }


def source(
    number: int = 1,
    *,
    status: str = "counting",
    restituted: bool = False,
    appeal: ReportAppeal | None = None,
    timeline: tuple[AppealEvent, ...] = (),
    order: str | None = None,
    view: Mapping[str, Any] | None = None,
    **changes: Any,
) -> ReportSources:
    """A report in the log, as the second of three leaves, and as the ledger shows it."""
    signed, report_id = body(number, **changes), f"rp_Xk3mPq9{number:03d}"
    recorded = NOW - timedelta(days=7)
    entry = report_entry(
        report_id=report_id,
        platform="acme",
        control_group="east",
        recorded_at=recorded,
        effective_from=recorded + timedelta(days=3),
        expires_at=recorded + timedelta(days=1000),
        policy_version=1,
        body=canonical_json(signed),
        signature=sign_body(signed, PLATFORM),
    )
    salt = digest(b"salt%d" % number)
    leaves = [event_leaf(place, recorded, commitment(salt, b"other%d" % place)) for place in range(3)]
    leaves[1] = event_leaf(1, recorded, commitment(salt, entry))
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    tiles = merkle.grow(0, {}, hashes).tiles
    path = merkle.inclusion_proof(1, 3, lambda level, place: tiles[level, place])
    note = sign(Checkpoint(ORIGIN, 3, root_of(hashes)), LOG)
    text = format_receipt(index=1, hashes=path, checkpoint_note=note, body=entry, hour=recorded, salt=salt)
    shown = ReportView(
        id=report_id,
        entry_index=1,
        status=status,
        conduct=signed["conduct"],
        order_ref=signed["order_ref"],
        amount_minor=signed["amount_minor"],
        currency=signed["currency"],
        outcome=signed["outcome"],
        act_ended_at=datetime.fromisoformat(signed["act_ended_at"]),
        notice_sent_at=datetime.fromisoformat(signed["notice_sent_at"]),
        recorded_at=recorded,
        effective_from=recorded + timedelta(days=3),
        expires_at=recorded + timedelta(days=1000),
        replaces=None,
        replaced_by=None,
        restituted_at=NOW - timedelta(days=1) if restituted else None,
        withdrawal_reason=None,
        receipt_url="",
        **{"appeal": appeal, **(view or {})},
    )
    case = None if appeal is None else Appeal(appeal.id, appeal.state, NOW, appeal.due_at, False, timeline=timeline)
    verified = VerifiedReceipt(report_id, text, open_receipt(text, ORIGIN, LOG_PUBLIC), PLATFORM.public_key())
    return ReportSources(shown, verified, case, order)


STATEMENT = "I photographed it with my own camera. 我没有用任何软件修改过照片。"


def disputed(number: int = 2, **changes: Any) -> ReportSources:
    """A report that the person contests, with what both sides said."""
    appeal = ReportAppeal("ap_Xk3mPq9a", "under_review", NOW + timedelta(days=12), None, None)
    timeline = (
        AppealEvent(NOW - timedelta(days=3), "open", "person", "submitted", STATEMENT, 7),
        AppealEvent(NOW - timedelta(days=2), "take", "reviewer", "under_review", None, None),
        AppealEvent(NOW - timedelta(days=1), "add", "reporter", "under_review", "The intake photo is attached.", None),
    )
    return source(number, status="disputed", appeal=appeal, timeline=timeline, **changes)


def receipts(*full: InspectionReceipt) -> Receipts:
    """Full receipts, as `read_receipts` gives them."""
    return {item.sha256: item.to_json() for item in full}


def referred(audience: Audience, *sources: ReportSources, profile: str = "CN", **changes: Any) -> Referral:
    """A referral of these sources, with the facts of the labelled photo."""
    known = changes.pop("known", receipts(inspection()))
    return make_referral(suite(profile, **changes), audience, sources, known, NOW)
