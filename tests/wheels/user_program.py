"""A platform's program as its author would write it: it is type-checked and run against the installed wheel."""

from __future__ import annotations

import sys
from datetime import datetime

from ledger.client import Buyer, Lookup, Query, Refund, RefundLedger, Strength, Tier, evidence
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


def report(ledger: RefundLedger, buyer: Buyer, now: datetime) -> str | None:
    """Return the id of a new report, None if it waits in the outbox."""
    result = ledger.reports.create(
        buyer,
        conduct="empty_parcel",
        evidence=[evidence("intake_photo", sha256=bytes(32))],
        order="A-1",
        amount_minor=12900,
        currency="CNY",
        outcome="denied",
        act_ended_at=now,
        notice_sent_at=now,
        notice_ref="notice-1",
        decided_by="reviewer-7",
    )
    return None if result.report is None else result.report.id


def main() -> None:
    """Use what needs neither a ledger nor an extra."""
    photo = evidence("original_file", sha256=bytes(32))
    stored: list[tuple[str, str]] = [(Kind.PHONE.value, "A" * 43)]
    buyer = Buyer.from_tags(1, stored)
    sys.stdout.write(f"{buyer.epoch} {photo.type.value} {Strength.INDICATES.value}\n")


if __name__ == "__main__":
    main()
