"""The request of a lookup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger.client.choices import Purpose, RefundClaim
from ledger.client.subjects import Buyer
from ledger.protocol.encoding import b64url


@dataclass(frozen=True, slots=True)
class Refund:
    """The refund that the buyer asks for. `claim`: damaged, not_received, not_as_described, returned or other."""

    amount_minor: int
    currency: str
    claim: RefundClaim


@dataclass(frozen=True, slots=True)
class Query:
    """One lookup. `purpose` is refund_review or appeal."""

    buyer: Buyer
    order: str
    refund: Refund | None = None
    purpose: Purpose = "refund_review"
    consent_ref: str | None = None
    min_index: int | None = None


def query_json(query: Query, reference: bytes) -> dict[str, Any]:
    """Return the request for `query`, under its buyer's epoch; `reference` is its 32-byte order_ref."""
    body: dict[str, Any] = {
        "epoch": query.buyer.epoch,
        "subjects": [{"kind": subject.kind.value, "tag": b64url(subject.tag)} for subject in query.buyer.subjects],
        "purpose": query.purpose,
        "order_ref": b64url(reference),
    }
    if query.refund is not None:
        amount, currency, claim = query.refund.amount_minor, query.refund.currency, str(query.refund.claim)
        body["refund"] = {"amount_minor": amount, "currency": currency, "claim": claim}
    if query.consent_ref is not None:
        body["consent_ref"] = query.consent_ref
    if query.min_index is not None:
        body["min_index"] = query.min_index
    return body
