"""Advice for the human step before a refund. There is no advice to refuse, and there will be none.

An automatic refusal on the strength of a score is unlawful: PIPL art. 24, Order 116 of SAMR and CAC, GDPR art. 22 and
CJEU C-634/21 (SCHUFA), under which the score itself is already the decision if the platform leans on it.
"""

from __future__ import annotations

from enum import StrEnum

from ledger.core.reasons import Locale
from ledger.core.standing import Standing, Tier


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


ADVICE_TEXTS: dict[Advice, dict[Locale, str]] = {
    Advice.APPROVE: {
        "en": "Nothing on record speaks against the refund. Decide it as you would any other.",
        "zh-CN": "没有不利于退款的记录。请按正常流程处理。",
    },
    Advice.LIVE_RESHOOT: {
        "en": "Ask the buyer for a new photo or video of the damage, taken in your app.",
        "zh-CN": "请买家在应用内重新拍摄货损的照片或视频。",
    },
    Advice.REQUIRE_RETURN: {
        "en": "Refund after the item has come back and has been looked at.",
        "zh-CN": "请在商品退回并查验之后再退款。",
    },
    Advice.HUMAN_REVIEW: {
        "en": "Have a person look at this refund before it is decided.",
        "zh-CN": "请在作出决定之前由人工审核此笔退款。",
    },
    Advice.EXTEND_REVIEW_WINDOW: {
        "en": "Allow more time for the review than usual, and tell the buyer so.",
        "zh-CN": "请适当延长审核时间，并告知买家。",
    },
    Advice.ACCOUNT_REVIEW: {
        "en": "Have a person look at the account's other refunds too.",
        "zh-CN": "请由人工一并审核该账户的其他退款。",
    },
}

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
    """Advice for a refund with this `claim` by a person with this `standing`, most useful first, never empty.

    Only what counts matters: with nothing but disputed reports or a protective note, the advice is `approve`.
    """
    if standing.tier is Tier.CLEAR:
        return (Advice.APPROVE,)
    if standing.tier is Tier.WATCH:
        return _WATCH[claim]
    return _REVIEW if standing.tier is Tier.REVIEW else _HIGH


def advice_text(code: str, locale: Locale) -> str:
    """The plain text of advice `code` in `locale`. Raises ValueError for a code that does not exist."""
    return ADVICE_TEXTS[Advice(code)][locale]
