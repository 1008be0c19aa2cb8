"""Recipients of referrals, and which parts each of them gets: data minimisation as one table.

`docs/referral.md` shows the same table; a test compares the two. No referral ever contains identifiers, tags, elements,
subject salts, standings or reports of other platforms, so these have no row.
"""

from __future__ import annotations

from enum import StrEnum


class Audience(StrEnum):
    """The recipient of a referral."""

    MERCHANT = "merchant"
    AI_PROVIDER = "ai-provider"
    AUTHORITY = "authority"


class Part(StrEnum):
    """A part of a referral."""

    ACT = "act"
    FINDINGS = "findings"
    APPEAL_STATE = "appeal_state"
    EVIDENCE = "evidence"
    DECISION = "decision"
    MONEY = "money"
    ORDER = "order"
    STATEMENTS = "statements"
    LAW = "law"
    WHOLE_RECEIPT = "whole_receipt"
    REFERENCES = "references"


_ALL = frozenset(Audience)
_NOT_THE_PROVIDER = frozenset({Audience.MERCHANT, Audience.AUTHORITY})

GIVEN: dict[Part, frozenset[Audience]] = {
    Part.ACT: _ALL,
    Part.FINDINGS: _ALL,
    Part.APPEAL_STATE: _ALL,
    Part.EVIDENCE: _NOT_THE_PROVIDER,
    Part.DECISION: _NOT_THE_PROVIDER,
    Part.MONEY: _NOT_THE_PROVIDER,
    Part.ORDER: _NOT_THE_PROVIDER,
    Part.STATEMENTS: _NOT_THE_PROVIDER,
    Part.LAW: _NOT_THE_PROVIDER,
    Part.WHOLE_RECEIPT: _NOT_THE_PROVIDER,
    Part.REFERENCES: frozenset({Audience.AUTHORITY}),
}


def gets(audience: Audience, part: Part) -> bool:
    """True if `audience` gets `part`."""
    return audience in GIVEN[part]
