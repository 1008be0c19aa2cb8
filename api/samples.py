"""Examples of the OpenAPI description, with the right form and arbitrary elements, salts and signatures."""

from __future__ import annotations

from typing import Any

REPORT: dict[str, Any] = {
    "body": {
        "v": 1,
        "service": "refund-ledger.local",
        "platform": "acme",
        "kid": "acme-1",
        "epoch": 1,
        "subjects": [{"kind": "phone", "c": "jUQxk1cHcJPTaR5aR3mSg3hBRZ3rYDvVt4G2o7mLhXk"}],
        "order_ref": "2l0mMdmJmsyjzc1pq3pEh1U5kQGZlqzTnAY0f2Tt2vE",
        "conduct": "fake_return_tracking",
        "evidence": [{"type": "carrier_record", "sha256": "fK9lU0nYtq8C2d6rQZp1iJ3xw5yB7vA4mG0hN8kT2sE"}],
        "amount_minor": 12900,
        "currency": "CNY",
        "outcome": "refund_refused",
        "act_ended_at": "2026-01-24T10:30:00Z",
        "notice_sent_at": "2026-01-26T08:00:00Z",
        "notice_ref": "notice-88213",
        "decided_by": "agent-7",
        "consent_ref": "separate-consent-2026-11-03-8842",
    },
    "signature": "A" * 86,
    "subjects": [
        {
            "kind": "phone",
            "element": "4vR5gHnWmA2BLkT0GPDSRWXJT1vXkRNsSgEH7BTyeD4",
            "salt": "Qd0s9pL2mX7cT4vB8nK1jH6gF3zR5yWqE0uI9oPa1sM",
        }
    ],
}

REPORT_VIEW: dict[str, Any] = {
    "id": "rp_Xk3mPq9a",
    "entry_index": 1042,
    "status": "counting",
    "conduct": "fake_return_tracking",
    "order_ref": "2l0mMdmJmsyjzc1pq3pEh1U5kQGZlqzTnAY0f2Tt2vE",
    "amount_minor": 12900,
    "currency": "CNY",
    "outcome": "refund_refused",
    "act_ended_at": "2026-01-24T10:30:00Z",
    "notice_sent_at": "2026-01-26T08:00:00Z",
    "recorded_at": "2026-01-31T12:00:00Z",
    "effective_from": "2026-01-31T12:00:00Z",
    "expires_at": "2027-01-24T00:00:00Z",
    "replaces": None,
    "replaced_by": None,
    "restitution": None,
    "withdrawal": None,
    "appeal": None,
    "hold": None,
    "former_label": False,
    "receipt_url": "/v1/reports/rp_Xk3mPq9a/receipt",
}
