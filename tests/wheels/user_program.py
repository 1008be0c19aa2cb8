"""A platform's program as its author would write it: it is type-checked and run against the installed wheel."""

from __future__ import annotations

import sys
from datetime import datetime

from ledger.client import Buyer, Lookup, Query, Refund, RefundLedger, ReportResult, Strength, Tier, evidence
from ledger.errors import LedgerError, Unavailable
from ledger.protocol.identifiers import Kind


def decide(ledger: RefundLedger, phone: str, order: str) -> str:
    """Return the next step for a refund."""
    standing: Lookup = ledger.lookup(
        {"phone": phone},
        order=order,
        refund=Refund(amount_minor=12900, currency="CNY", claim="damaged"),
        consent_ref="consent-1",
    )
    tier: Tier = standing.tier
    if not standing.available:
        return "normal process"
    reasons: list[str] = [reason.text("zh-CN") for reason in standing.reasons]
    return f"{tier}: {', '.join(reasons)}"


def many(ledger: RefundLedger, buyers: list[Buyer]) -> list[str]:
    """Return a tier, or an error's code, for each buyer."""
    queries = [Query(buyer, order=f"A-{number}", consent_ref="consent-1") for number, buyer in enumerate(buyers)]
    answers: list[Lookup | LedgerError] = ledger.lookup_many(queries)
    return [answer.code if isinstance(answer, LedgerError) else answer.tier for answer in answers]


def newest(ledger: RefundLedger, buyer: Buyer) -> datetime | None:
    """Return the time of the newest snapshot that can be had, None in an outage."""
    try:
        return ledger.check(buyer, policy="private", consent_ref="consent-1").as_of
    except Unavailable:
        return None


def confirmed(ledger: RefundLedger, buyer: Buyer, order: str, at: datetime) -> str | None:
    """Report a confirmed fraud, and return the report's id; None while it waits in the outbox."""
    result: ReportResult = ledger.reports.create(
        buyer,
        conduct="fake_return_tracking",
        evidence=[evidence("carrier_record", sha256=bytes(32))],
        order=order,
        amount_minor=12900,
        currency="CNY",
        outcome="refund_refused",
        act_ended_at=at,
        notice_sent_at=at,
        notice_ref="notice-1",
        decided_by="agent-7",
    )
    waiting: list[str] = [item.idempotency_key for item in ledger.outbox.list("pending")]
    if result.report is None or result.idempotency_key in waiting:
        return None
    former: list[str] = [item.idempotency_key for item in ledger.outbox()]  # a name of version 0.2.0
    return None if former else result.report.id


def main() -> None:
    """Use what needs neither a ledger nor an extra."""
    photo = evidence("original_file", sha256=bytes(32))
    stored: list[tuple[str, str]] = [(Kind.PHONE.value, "A" * 43)]
    buyer = Buyer.from_tags(1, stored)
    sys.stdout.write(f"{buyer.epoch} {photo.type.value} {Strength.INDICATES.value}\n")


if __name__ == "__main__":
    main()
