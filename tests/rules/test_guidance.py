"""Guidance: all tiers with all claims, and that it never says no."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.catalogue import reason_text
from ledger.rules.guidance import Advice, Claim, advise
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.reasons import CONDUCT_REASON, REASON_TEXTS, Reason
from ledger.rules.standing import CLEAN, Tier

A = Advice


@pytest.mark.parametrize("claim", Claim)
def test_clear_is_approved_also_if_disputed_or_protected(claim: Claim) -> None:
    for standing in (CLEAN, replace(CLEAN, disputed=True), replace(CLEAN, protected=True)):
        assert advise(standing, claim) == (A.APPROVE,)


@pytest.mark.parametrize(
    ("claim", "advice"),
    [
        (Claim.DAMAGED, A.LIVE_RESHOOT),
        (Claim.NOT_AS_DESCRIBED, A.REQUIRE_RETURN),
        (Claim.OTHER, A.REQUIRE_RETURN),
        (Claim.NOT_RECEIVED, A.HUMAN_REVIEW),
        (Claim.RETURNED, A.HUMAN_REVIEW),
    ],
)
def test_watch_asks_for_what_the_buyer_can_do(claim: Claim, advice: Advice) -> None:
    assert advise(replace(CLEAN, tier=Tier.WATCH), claim) == (advice,)


@pytest.mark.parametrize("claim", Claim)
def test_review_and_high_go_to_people(claim: Claim) -> None:
    assert advise(replace(CLEAN, tier=Tier.REVIEW), claim) == (A.HUMAN_REVIEW, A.EXTEND_REVIEW_WINDOW)
    assert advise(replace(CLEAN, tier=Tier.HIGH), claim) == (
        A.HUMAN_REVIEW,
        A.EXTEND_REVIEW_WINDOW,
        A.ACCOUNT_REVIEW,
    )


def test_there_is_no_advice_to_refuse() -> None:
    assert {advice.value for advice in Advice}.isdisjoint({"deny", "refuse", "reject", "block", "decline"})


def test_every_reason_has_a_text_in_both_languages() -> None:
    assert set(REASON_TEXTS) == set(Reason)
    for reason in Reason:
        english, chinese = reason_text(reason, "en"), reason_text(reason, "zh-CN")
        assert english.isascii()
        assert english.endswith(".")
        assert chinese.endswith("。")
        assert len(english) <= 120
        assert "fraudster" not in english.lower()
    with pytest.raises(ValueError, match="nonsense"):
        reason_text("nonsense", "en")


def test_every_conduct_with_points_has_a_reason() -> None:
    severity = shipped_policy()[1].severity
    assert set(CONDUCT_REASON) == {conduct for conduct, points in severity.items() if points}
