"""Policies that this version did not write: what a reader keeps of a later one, and what one may leave out."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledger.errors import ConductNotInPolicy, PolicyInvalid
from ledger.rules.conduct import Conduct
from ledger.rules.jurisdictions import Profile
from ledger.rules.policy.shipped import policy_text, shipped_policy
from ledger.rules.policy.values import Policy, parse_policy, read_policy
from ledger.rules.reports import check_conduct_in_policy, check_intake, parse_body
from ledger.server.stats.policy_draft import draft, values_of
from tests.counts import trials
from tests.rules.test_reports import NOW, body

TEXT = policy_text(1)
"""The first policy, which every ledger began with and which names no profile that was added since."""
POLICY = parse_policy(TEXT)

LATER_CLOCK = '[appeals.clocks.JP]\ndays = 14\nextension_days = 0\ntime_zone = "Asia/Tokyo"\n\n'
OTHER_CLOCK = "[appeals.clocks.BR]\nworking_days = 15\n\n"
LATER = {
    "conduct": ("wardrobing = 1", "wardrobing = 1\nitem_swap_claim = 3"),
    "severity that no conduct had": ("wardrobing = 1", "wardrobing = 1\nitem_swap_claim = 12"),
    "profile": ("[appeals.clocks.US]", f"{LATER_CLOCK}[appeals.clocks.US]"),
    "profile with another kind of clock": ("[appeals.clocks.US]", f"{OTHER_CLOCK}[appeals.clocks.US]"),
    "table": ("[tiers]", "[notice]\nlanguages = 3\n\n[tiers]"),
    "member of the top": ("version = 1", 'version = 1\nname = "later"'),
    "member of tiers": ("credit_half_points = 6", "credit_half_points = 6\nnew_cap_hundredths = 1"),
    "member of weights": ("prior_reports = 10", "prior_reports = 10\nnew_share = 1"),
    "member of intake": ("act_window_days = 7", "act_window_days = 7\nnew_hours = 1"),
    "member of lookup": ("expiry_minutes = 15", 'expiry_minutes = 15\nmore = "x"'),
    "member of erasure": ("after_expiry_days = 60", "after_expiry_days = 60\nmore = 1"),
    "member of appeals": ("reopen_days = 60", "reopen_days = 60\nmore = 1"),
    "member of a clock": ('time_zone = "Asia/Shanghai"', 'time_zone = "Asia/Shanghai"\npauses = false'),
    "longer clock of a known law": ("days = 20\n", "days = 45\n"),
}  # fmt: skip


def changed(*names: str) -> str:
    """The shipped text with these changes of a later version."""
    text = TEXT
    for name in names:
        old, new = LATER[name]
        assert old in text
        text = text.replace(old, new, 1)
    return text.replace("6 = 1095\n", "6 = 1095\n12 = 1100\n") if "severity that no conduct had" in names else text


@pytest.mark.parametrize("name", LATER)
def test_what_is_published_names_only_what_this_version_knows(name: str) -> None:
    with pytest.raises(PolicyInvalid):
        parse_policy(changed(name))
    assert read_policy(changed(name)).version == POLICY.version


def test_a_reader_goes_on_with_all_that_a_later_policy_adds() -> None:
    read = read_policy(changed(*(name for name in LATER if name != "conduct")))
    assert (read.severity["item_swap_claim"], read.retention_days[12]) == (12, 1100)
    assert "item_swap_claim" in read.reportable
    assert read.expiry_day("item_swap_claim", 1000) == 2100
    assert (read.appeals.clocks["JP"].days, read.appeals.clocks["JP"].time_zone) == (14, "Asia/Tokyo")
    assert "BR" not in read.appeals.clocks
    assert read.appeals.clocks[Profile.CN].days == 45
    assert read.tiers == POLICY.tiers
    assert {name: read.severity[name] for name in POLICY.severity} == dict(POLICY.severity)


def test_both_read_the_shipped_policies_alike() -> None:
    for text in (TEXT, shipped_policy()[0]):
        assert read_policy(text) == parse_policy(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[tiers]", "[tears]"),
        ("watch_total_millipoints = 500", "watch_total_millipoints = 2500"),
        ("cooling_hours = 72", "cooling_hours = 71"),
        ("impersonated = 0", "impersonated = 1"),
        ("impersonated = 0", ""),
        ("wardrobing = 1", "wardrobing = -1"),
        ("wardrobing = 1", '"ward robing" = 1'),
        ("at_latest_days = 1826", "at_latest_days = 1827"),
        ("days = 20\n", "hours = 20\n"),
        ("[severity]", "[severity"),
    ],
)
def test_a_reader_still_refuses_what_it_cannot_fold_or_what_is_unfair(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(PolicyInvalid):
        read_policy(TEXT.replace(old, new, 1))


def without(*conducts: Conduct) -> str:
    """The shipped text without these conducts."""
    text = TEXT
    for conduct in conducts:
        text, count = re.subn(rf"^{conduct.value} = \d+.*\n", "", text, count=1, flags=re.M)
        assert count == 1
    return text


def test_a_conduct_that_the_policy_does_not_name_cannot_be_reported() -> None:
    policy = parse_policy(without(Conduct.FRIENDLY_CHARGEBACK))
    assert policy.reportable == set(Conduct) - {Conduct.FRIENDLY_CHARGEBACK}
    sent = body(
        conduct="friendly_chargeback",
        evidence=[
            *({"type": "undisputed_transaction", "sha256": item} for item in ("A" * 43, "E" + "A" * 42)),
            {"type": "ip_match", "sha256": "I" + "A" * 42},
        ],
    )
    check_intake(parse_body(sent), Profile.CN, POLICY, NOW)
    with pytest.raises(ConductNotInPolicy, match="version 1") as refused:
        check_intake(parse_body(sent), Profile.CN, policy, NOW)
    assert refused.value.code == "conduct_not_in_policy"
    assert refused.value.details["conduct"] == "friendly_chargeback"
    assert refused.value.details["known"] == sorted(policy.reportable)
    check_intake(parse_body(body()), Profile.CN, policy, NOW)


def test_reports_from_before_keep_a_severity_that_the_policy_has_a_retention_for() -> None:
    policy = parse_policy(without(Conduct.WARDROBING).replace("1 = 90\n", ""))
    assert policy.severity[Conduct.WARDROBING] == 3, "the smallest that is left"
    assert policy.expiry_day(Conduct.WARDROBING, 1000, 1090) == 1090, "what was recorded is never lengthened"
    policy = parse_policy(without(Conduct.ACCOUNT_FARM))
    assert policy.severity[Conduct.ACCOUNT_FARM] == 6


@given(st.sets(st.sampled_from([conduct for conduct in Conduct if conduct.spec.severity])))
@settings(max_examples=trials(18, 30), deadline=None)
def test_any_conduct_that_protects_nobody_may_be_left_out(gone: set[Conduct]) -> None:
    text = without(*gone)
    left = {POLICY.severity[conduct] for conduct in Conduct if conduct not in gone}
    assume(len(left) > 1)
    for severity in {0, 1, 3, 6} - left:
        text = re.sub(rf"^{severity} = \d+\n", "", text, count=1, flags=re.M)
    policy = parse_policy(text)
    assert policy == read_policy(text)
    assert policy.severity.keys() == set(Conduct)
    for conduct in Conduct:
        assert policy.severity[conduct] in policy.retention_days
        if conduct in gone:
            with pytest.raises(ConductNotInPolicy):
                check_conduct_in_policy(conduct, policy)
        else:
            check_conduct_in_policy(conduct, policy)
            assert policy.severity[conduct] == POLICY.severity[conduct]


def test_a_conduct_that_protects_a_person_is_always_named() -> None:
    with pytest.raises(PolicyInvalid):
        parse_policy(without(Conduct.IMPERSONATED).replace("0 = 365\n", ""))


def test_a_policy_that_does_not_name_a_profile_takes_its_default_clock() -> None:
    assert "clocks.UK" not in TEXT
    assert POLICY.appeals.clocks[Profile.UK] == Profile.UK.spec.clock
    assert POLICY.appeals.clocks.keys() == set(Profile)
    named = parse_policy(f'{TEXT}\n[appeals.clocks.UK]\ndays = 20\nextension_days = 0\ntime_zone = "Europe/London"\n')
    assert (named.appeals.clocks[Profile.UK].days, named.appeals.clocks[Profile.UK].months) == (20, 0)


@pytest.mark.parametrize("profile", Profile)
def test_a_policy_may_only_shorten_a_clock(profile: Profile) -> None:
    limits = profile.spec.limits

    def clock(counts: str, extension: int) -> Policy:
        start = TEXT.index(f"[appeals.clocks.{profile}]") if f"[appeals.clocks.{profile}]" in TEXT else len(TEXT)
        following = TEXT.find("\n[", start + 1)
        rest = TEXT[following:] if following > 0 else ""
        table = f'[appeals.clocks.{profile}]\n{counts}\nextension_days = {extension}\ntime_zone = "Asia/Tokyo"\n'
        return parse_policy(f"{TEXT[:start]}\n{table}{rest}")

    assert clock(f"days = {limits.days}", limits.extension_days).appeals.clocks[profile].days == limits.days
    assert clock("days = 1", 0).appeals.clocks[profile].days == 1
    with pytest.raises(PolicyInvalid):
        clock(f"days = {limits.days + 1}", 0)
    with pytest.raises(PolicyInvalid):
        clock(f"days = {limits.days}", limits.extension_days + 1)
    with pytest.raises(PolicyInvalid):
        clock(f"months = {limits.months + 1}", 0)


def test_a_draft_may_name_a_conduct_that_the_policy_in_effect_lacks() -> None:
    text = without(Conduct.FRIENDLY_CHARGEBACK)
    policy = parse_policy(text)
    assert values_of(policy)["severity.friendly_chargeback"] is None
    assert draft(text, policy, {}).changes == ()
    changed_policy = draft(text, policy, {"severity.friendly_chargeback": "3"})
    assert changed_policy.changes == (("severity.friendly_chargeback", None, 3),)
    assert Conduct.FRIENDLY_CHARGEBACK in changed_policy.policy.reportable
    assert draft(text, policy, {"severity.friendly_chargeback": ""}).changes == ()
