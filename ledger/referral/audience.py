"""Who a referral is for, and which parts of it they get: data minimisation as one table.

`docs/referral.md` shows the table, and a test keeps the two equal. What is never in any referral, and so has no row:
identifiers, tags, elements and subject salts, standings, and whatever other platforms reported.
"""

from __future__ import annotations

from enum import StrEnum


class Audience(StrEnum):
    """The recipient."""

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
    """Whether `part` goes to `audience`."""
    return audience in GIVEN[part]
