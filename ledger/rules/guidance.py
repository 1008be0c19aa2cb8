"""Advice for the human step before a refund. There is no advice to refuse, and there will be none.

An automatic refusal on the strength of a score is unlawful: PIPL art. 24, Order 116 of SAMR and CAC, GDPR art. 22 and
CJEU C-634/21 (SCHUFA), under which the score itself is already the decision if the platform leans on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from ledger.rules.standing import Standing, Tier


def _(message: str) -> str:
    """Mark a text for the catalogue. It is translated when it is shown."""
    return message


class Claim(StrEnum):
    """What the buyer says happened."""

    DAMAGED = "damaged"
    NOT_RECEIVED = "not_received"
    NOT_AS_DESCRIBED = "not_as_described"
    RETURNED = "returned"
    OTHER = "other"


class Advice(StrEnum):
    """What a platform may do next; always something the buyer can pass."""

    APPROVE = "approve"
    LIVE_RESHOOT = "live_reshoot"
    REQUIRE_RETURN = "require_return"
    HUMAN_REVIEW = "human_review"
    EXTEND_REVIEW_WINDOW = "extend_review_window"
    ACCOUNT_REVIEW = "account_review"


ADVICE_TEXTS: Mapping[Advice, str] = {
    Advice.APPROVE: _("Nothing on record speaks against the refund. Decide it as you would any other."),
    Advice.LIVE_RESHOOT: _("Ask the buyer for a new photo or video of the damage, taken in your app."),
    Advice.REQUIRE_RETURN: _("Refund after the item has come back and has been looked at."),
    Advice.HUMAN_REVIEW: _("Have a person look at this refund before it is decided."),
    Advice.EXTEND_REVIEW_WINDOW: _("Allow more time for the review than usual, and tell the buyer so."),
    Advice.ACCOUNT_REVIEW: _("Have a person look at the account's other refunds too."),
}
"""In English; `ledger.catalogue.advice_text` gives them in every language."""

_WATCH: dict[Claim, tuple[Advice, ...]] = {
    Claim.DAMAGED: (Advice.LIVE_RESHOOT,),
    Claim.NOT_AS_DESCRIBED: (Advice.REQUIRE_RETURN,),
    Claim.OTHER: (Advice.REQUIRE_RETURN,),
    # Nothing can be sent back that never came or is on its way back already: a person reads the carrier's record.
    Claim.NOT_RECEIVED: (Advice.HUMAN_REVIEW,),
    Claim.RETURNED: (Advice.HUMAN_REVIEW,),
}
_REVIEW = (Advice.HUMAN_REVIEW, Advice.EXTEND_REVIEW_WINDOW)
_HIGH = (*_REVIEW, Advice.ACCOUNT_REVIEW)


def advise(standing: Standing, claim: Claim) -> tuple[Advice, ...]:
    """Return advice for a refund with this `claim` by a person with this `standing`, most useful first, never empty.

    Only what counts matters: with nothing but disputed reports or a protective note, the advice is `approve`.
    """
    if standing.tier is Tier.CLEAR:
        return (Advice.APPROVE,)
    if standing.tier is Tier.WATCH:
        return _WATCH[claim]
    return _REVIEW if standing.tier is Tier.REVIEW else _HIGH
