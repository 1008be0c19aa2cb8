"""The allowed values of the SDK's arguments, as types.

A value of a closed set is its text or, where the rules have an enum for the set, a member of that enum. Each call
checks its values, so a program may `cast` a text that it reads from elsewhere. Values in answers are `str`, because a
later ledger may have further ones. Conducts, types of evidence, languages and types of webhook events are `str` in
arguments too, because each version may add some.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NotRequired, TypedDict

from ledger.rules.appeals import CaseState, Grounds
from ledger.rules.conduct import Evidence
from ledger.rules.guidance import Claim
from ledger.rules.provenance import Verdict
from ledger.rules.reports import RefundOutcome
from ledger.tlog.entries import WithdrawalReason

Purpose = Literal["refund_review", "appeal"]
"""Why a platform looks a buyer up."""
RefundClaim = Claim | Literal["damaged", "not_received", "not_as_described", "returned", "other"]
"""The buyer's reason for a refund."""
ReportOutcome = RefundOutcome | Literal["refund_refused", "refund_recovered", "refund_suffered"]
"""What happened to the money of a reported refund."""
ReasonForWithdrawal = (
    Literal[
        WithdrawalReason.WRONG_PERSON, WithdrawalReason.WRONG_FACTS, WithdrawalReason.DUPLICATE, WithdrawalReason.OTHER
    ]
    | Literal["wrong_person", "wrong_facts", "duplicate", "other"]
)
"""The reasons for which a platform withdraws a report; the ledger has further ones of its own."""
IssuerVerdict = Verdict | Literal["generated", "edited", "not_issued", "unknown"]
"""The answer of a provider of an AI service about a file."""
AppealGrounds = Grounds | Literal["not_me", "wrong_facts", "evidence_wrong", "paid_back", "not_told", "other"]
"""Why a person contests a report."""
AppealParty = Literal["subject", "reporter"]
"""The party for which a platform acts in a case: its customer, or itself as the reporter."""
AppealRole = Literal["filed", "reported"]
"""The cases in a list: those that the platform filed, or those about its reports."""
AppealState = (
    CaseState
    | Literal[
        "submitted",
        "under_review",
        "awaiting_reporter",
        "awaiting_subject",
        "awaiting_signoff",
        "decided",
        "closed",
        "withdrawn",
    ]
)
"""The state of a case."""
LetterKind = Literal["received", "question", "overdue", "decided"]
"""The occasion of a letter to the person."""


class ReportArguments(TypedDict):
    """The arguments of `reports.create` besides the buyer, for `reports.create_many`, `validate` and `content_key`."""

    conduct: str
    evidence: Sequence[Evidence]
    order: str
    amount_minor: int
    currency: str
    outcome: ReportOutcome
    act_ended_at: datetime
    notice_sent_at: datetime
    notice_ref: str
    decided_by: str
    consent_ref: NotRequired[str | None]
    replaces: NotRequired[str | None]
    idempotency_key: NotRequired[str | None]
