"""Guidance: advice for a human step, from a standing and what the buyer claims.

It never says "deny". An automatic denial on the strength of a score would be unlawful (PRC Personal Information
Protection Law art. 24; GDPR art. 22 as the CJEU reads it in C-634/21, SCHUFA).
"""

from __future__ import annotations

from enum import StrEnum

from ledger.core.standing import Standing, Tier


class Claim(StrEnum):
    """What the buyer says is wrong."""

    DAMAGED = "damaged"
    NOT_RECEIVED = "not_received"
    NOT_AS_DESCRIBED = "not_as_described"
    RETURNED = "returned"
    OTHER = "other"


class Guidance(StrEnum):
    """Steps that leave the decision to a person."""

    APPROVE = "approve"
    LIVE_RESHOOT = "live_reshoot"
    REQUIRE_RETURN = "require_return"
    HUMAN_REVIEW = "human_review"
    EXTEND_REVIEW_WINDOW = "extend_review_window"
    ACCOUNT_REVIEW = "account_review"


def advise(standing: Standing, claim: str | None = None) -> tuple[Guidance, ...]:
    """What to do next. Raises ValueError for an unknown claim."""
    claimed = None if claim is None else Claim(claim)
    if standing.tier is Tier.CLEAR:
        return (Guidance.APPROVE,)
    if standing.tier is Tier.WATCH:
        # A new photo settles a claim of damage; for the rest the goods themselves do.
        return (Guidance.LIVE_RESHOOT if claimed is Claim.DAMAGED else Guidance.REQUIRE_RETURN,)
    steps = (Guidance.HUMAN_REVIEW, Guidance.EXTEND_REVIEW_WINDOW)
    return (*steps, Guidance.ACCOUNT_REVIEW) if standing.tier is Tier.HIGH else steps
