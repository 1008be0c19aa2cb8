"""The policy file: the shipped one, and everything that may be wrong with another."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ledger.errors import PolicyInvalid
from ledger.protocol.encoding import from_day
from ledger.rules.conduct import Conduct
from ledger.rules.policy.shipped import SHIPPED_VERSION, policy_text, shipped_policy, shipped_version
from ledger.rules.policy.values import Profile, Weights, check_in_effect, is_expired, parse_policy

TEXT, POLICY = shipped_policy()
FIRST_TEXT, FIRST = shipped_version(1)


def test_the_shipped_numbers() -> None:
    assert POLICY.version == 2
    assert dict(POLICY.severity) == {
        "ai_fabricated_image": 6,
        "edited_image": 6,
        "tampered_video": 6,
        "false_non_receipt": 3,
        "empty_parcel": 3,
        "switched_return": 6,
        "fake_return_tracking": 3,
        "wardrobing": 1,
        "friendly_chargeback": 3,
        "account_farm": 6,
        "impersonated": 0,
    }
    assert dict(POLICY.retention_days) == {0: 365, 1: 90, 3: 365, 6: 1095}
    assert (POLICY.intake.cooling_hours, POLICY.intake.clock_skew_minutes, POLICY.intake.act_window_days) == (72, 5, 7)
    assert POLICY.lookup_expiry_minutes == 15
    assert (POLICY.erasure.after_expiry_days, POLICY.erasure.at_latest_days) == (60, 1826)
    assert POLICY.weights == Weights(steps=8, floor_steps=2, prior_reports=10, window_months=24)
    assert POLICY.weights.daily
    clocks = POLICY.appeals.clocks
    assert (clocks[Profile.CN].days, clocks[Profile.EU].months, clocks[Profile.US].days) == (20, 1, 30)
    assert [clocks[profile].extension_days for profile in Profile] == [0, 0, 0, 15]
    assert clocks[Profile.CN].time_zone == "Asia/Shanghai"


def test_the_first_policy_differs_in_its_weights_and_asks_for_no_consent() -> None:
    assert FIRST.weights == Weights(steps=20, floor_steps=4, prior_reports=10, window_months=24)
    assert not FIRST.weights.daily
    assert FIRST.consent_for_lookups == frozenset()
    assert POLICY.consent_for_lookups == {"CN"}
    assert replace(POLICY, version=1, weights=FIRST.weights, consent_for_lookups=frozenset()) == FIRST


def test_a_text_that_was_shipped_never_changes() -> None:
    """The log pins its digest: another comment would be another policy."""
    digests = [hashlib.sha256(policy_text(version).encode()).hexdigest() for version in range(1, SHIPPED_VERSION + 1)]
    assert digests == [
        "de8bafa3990597bdeaba2eedabaaeecd9afbb3f80f1bafb2e9dd16f133b12b67",
        "6a11ec71d0b948b361d2b1394fdbede3d577a4479391ac022a107c922ff46b10",
    ]


def test_a_policy_cannot_be_changed_in_place() -> None:
    with pytest.raises(TypeError):
        POLICY.severity["wardrobing"] = 6  # type: ignore[index]


def test_a_policy_shortens_and_never_lengthens() -> None:
    assert POLICY.expiry_day(Conduct.WARDROBING, 1000) == 1090
    assert POLICY.expiry_day(Conduct.WARDROBING, 1000, 1030) == 1030
    assert POLICY.expiry_day(Conduct.WARDROBING, 1000, 1200) == 1090


def test_expiry_is_at_midnight() -> None:
    midnight = from_day(20_000)
    assert midnight.tzinfo is UTC
    assert is_expired(20_000, midnight)
    assert not is_expired(20_000, midnight - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 2", "version = 0"),
        ("version = 2", "version = true"),
        ("version = 2", 'version = "1"'),
        ("version = 2", "version = 1\nsecret = 2"),
        ("version = 2", ""),
        ("wardrobing = 1", ""),
        ("wardrobing = 1", "wardrobing = 1\nrudeness = 1"),
        ("wardrobing = 1", "wardrobing = 2"),
        ("wardrobing = 1", "wardrobing = 0"),
        ("wardrobing = 1", "wardrobing = 1.5"),
        ("impersonated = 0", "impersonated = 1"),
        ("1 = 90", ""),
        ("1 = 90", "2 = 90"),
        ("1 = 90", "x = 90"),
        ("1 = 90", "1 = 1827"),
        ("watch_total_millipoints = 500", "watch_total_millipoints = 2500"),
        ("watch_total_millipoints = 500", ""),
        ("review_second_group_millipoints = 1000", "review_second_group_millipoints = 0"),
        ("review_second_group_millipoints = 1000", "review_second_group_millipoints = 2501"),
        ("watch_cap_hundredths = 249", "watch_cap_hundredths = 250"),
        ("watch_cap_hundredths = 249", "watch_cap_hundredths = 49"),
        ("review_cap_hundredths = 499", "review_cap_hundredths = 500"),
        ("review_cap_hundredths = 499", "review_cap_hundredths = 240"),
        ("floor_eighths = 2", "floor_eighths = 9"),
        ("floor_eighths = 2", "floor_eighths = 0"),
        ("floor_eighths = 2", "floor_twentieths = 21"),
        ("floor_eighths = 2", "floor_eighths = 2\nfloor_twentieths = 4"),
        ("floor_eighths = 2", "floor = 2"),
        ("prior_reports = 10", "prior_reports = 0"),
        ("window_months = 24", ""),
        ("cooling_hours = 72", "cooling_hours = 71"),
        ("clock_skew_minutes = 5", "clock_skew_minutes = 61"),
        ("expiry_minutes = 15", "expiry_minutes = 0"),
        ("[lookup]", "[lookups]"),
        ("expiry_minutes = 15", "expiry_minutes = 15\nmore = 1"),
        ("at_latest_days = 1826", "at_latest_days = 1827"),
        ("at_latest_days = 1826", "at_latest_days = 1154"),
        ("after_expiry_days = 60", "after_expiry_days = 732"),
        ("6 = 1095", "6 = 1767"),
        ("question_days = 7", "question_days = 0"),
        ("days = 20\n", "days = 21\n"),
        ("days = 20\n", "months = 1\n"),
        ("months = 1\n", "months = 2\n"),
        ("extension_days = 15", "extension_days = 16"),
        ('"Asia/Shanghai"', '"+08:00"'),
        ('"Asia/Shanghai"', "8"),
        ("[appeals.clocks.US]", "[appeals.clocks.UK]"),
        ("[severity]", "[severity"),
    ],
)
def test_bad_policies_are_refused(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(PolicyInvalid):
        parse_policy(TEXT.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("review_second_group_millipoints = 1000", "review_second_group_millipoints = 2500"),
        ("floor_eighths = 2", "floor_eighths = 8"),
        ("floor_eighths = 2", "floor_twentieths = 20"),
        ("clock_skew_minutes = 5", "clock_skew_minutes = 60"),
        ("cooling_hours = 72", "cooling_hours = 96"),
        ("watch_cap_hundredths = 249", "watch_cap_hundredths = 50"),
        ("review_cap_hundredths = 499", "review_cap_hundredths = 250"),
        ("after_expiry_days = 60", "after_expiry_days = 731"),
        ("6 = 1095", "6 = 1766"),
    ],
)
def test_the_limits_themselves_are_allowed(old: str, new: str) -> None:
    assert parse_policy(TEXT.replace(old, new, 1)) != POLICY


def test_tables_must_be_tables() -> None:
    with pytest.raises(PolicyInvalid, match=r"Expected a table, got `int` - at `\$\.lookup`"):
        parse_policy("lookup = 15\n" + TEXT.replace("[lookup]\nexpiry_minutes = 15\n", ""))


def test_the_eu_clock_may_count_days() -> None:
    assert parse_policy(TEXT.replace("months = 1\n", "days = 30\n")).appeals.clocks[Profile.EU].days == 30


def test_a_change_waits_seven_days() -> None:
    published = datetime(2026, 1, 1, tzinfo=UTC)
    check_in_effect(published, published + timedelta(days=7))
    with pytest.raises(PolicyInvalid):
        check_in_effect(published, published + timedelta(days=7, seconds=-1))
