"""Which policy is in effect when, and what may be published as the next one."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import (
    PolicyAlreadyPublished,
    PolicyInvalid,
    PolicyOvertaken,
    PolicyTimeInvalid,
    PolicyUnreadable,
    PolicyVersionNotNext,
)
from ledger.protocol.encoding import b64url
from ledger.rules.policy.timeline import (
    KNOWN_AHEAD,
    MAX_POLICY_BYTES,
    MAX_PUBLICATION_DAYS,
    PolicyTimeline,
    PublishedPolicy,
    check_publication,
    first_allowed,
    published_policy,
)
from ledger.rules.policy.values import MIN_PUBLICATION_DAYS, parse_policy
from ledger.tlog.entries import GovernanceType, governance_leaf, policy_body
from tests.counts import trials
from tests.policies import changed_policy

BEGIN = datetime(2026, 3, 1, 10, 30, 15, tzinfo=UTC)
WEEK = timedelta(days=MIN_PUBLICATION_DAYS)


def entry(version: int, in_effect_at: datetime, text: str | None = None) -> PublishedPolicy:
    text = changed_policy(version) if text is None else text
    digest = hashlib.sha256(text.encode()).digest()
    published_at = in_effect_at - WEEK if version > 1 else in_effect_at
    return PublishedPolicy(version, digest, published_at, in_effect_at, version * 10, text, parse_policy(text))


def midnight(day: int) -> datetime:
    """Midnight of the `day`-th day after the first policy's."""
    return datetime.combine(BEGIN.date(), time(), UTC) + timedelta(days=day)


FIRST = entry(1, BEGIN)
TWO = PolicyTimeline([FIRST, entry(2, midnight(20)), entry(3, midnight(21))])


@pytest.mark.parametrize(
    ("moment", "version"),
    [
        (BEGIN - timedelta(days=1), 1),
        (BEGIN, 1),
        (midnight(20) - timedelta(microseconds=1), 1),
        (midnight(20), 2),
        (midnight(21) - timedelta(seconds=1), 2),
        (midnight(21), 3),
        (midnight(4000), 3),
    ],
)
def test_a_policy_is_in_effect_from_its_moment_to_the_next(moment: datetime, version: int) -> None:
    assert TWO.at(moment).version == TWO.entry_at(moment).version == version
    announced = [item.version for item in TWO.announced(moment)]
    assert announced == list(range(version + 1, 4))
    following = TWO.next_after(moment)
    assert (None if following is None else following.version) == (version + 1 if version < 3 else None)


def test_a_timeline_is_complete_for_seven_days() -> None:
    """Whatever is published later, the answer for a moment within 7 days of reading stays."""
    read_at = midnight(3)
    known = PolicyTimeline([FIRST])
    for hours in range(24):
        published_at = read_at + timedelta(hours=hours)
        later = PolicyTimeline([FIRST, entry(2, first_allowed(known, published_at))])
        latest = read_at + KNOWN_AHEAD - timedelta(seconds=1)
        assert later.entry_at(latest) is known.entry_at(latest)


@settings(max_examples=trials(30, 1000))
@given(seconds=st.integers(0, 400 * 86_400), last=st.integers(0, 500))
def test_the_first_moment_that_is_allowed_is_accepted_and_none_before(seconds: int, last: int) -> None:
    now = BEGIN + timedelta(seconds=seconds)
    timeline = PolicyTimeline([FIRST, entry(2, midnight(last + 1))])
    moment = first_allowed(timeline, now)
    assert moment.time() == time()
    if moment - now <= timedelta(days=MAX_PUBLICATION_DAYS):
        assert check_publication(timeline, changed_policy(3), now, moment).version == 3
    with pytest.raises((PolicyTimeInvalid, PolicyOvertaken)):
        check_publication(timeline, changed_policy(3), now, moment - timedelta(days=1))


def test_what_is_refused() -> None:
    now = midnight(1)
    timeline, good = PolicyTimeline([FIRST]), midnight(8)
    assert check_publication(timeline, changed_policy(2), now, good).version == 2
    with pytest.raises(PolicyAlreadyPublished, match="version 1"):
        check_publication(timeline, FIRST.text or "", now, good)
    for version in (1, 3, 7):
        text = changed_policy(version) + "# another text\n"
        with pytest.raises(PolicyVersionNotNext) as refused:
            check_publication(timeline, text, now, good)
        assert refused.value.details == {"expected": 2}
    for moment in (good + timedelta(hours=8), good + timedelta(seconds=1), good - timedelta(days=1)):
        with pytest.raises(PolicyTimeInvalid):
            check_publication(timeline, changed_policy(2), now, moment)
    with pytest.raises(PolicyTimeInvalid, match="7 days"):
        check_publication(timeline, changed_policy(2), now + timedelta(seconds=1), good)
    with pytest.raises(PolicyTimeInvalid, match="92 days"):
        check_publication(timeline, changed_policy(2), now, now + timedelta(days=MAX_PUBLICATION_DAYS + 1))
    with pytest.raises(PolicyInvalid, match="thresholds must rise"):
        check_publication(timeline, changed_policy(2, tiers__watch_total_millipoints=2600), now, good)
    with pytest.raises(PolicyInvalid, match="bytes"):
        check_publication(timeline, changed_policy(2) + "#" * MAX_POLICY_BYTES, now, good)


def test_no_announced_policy_is_overtaken() -> None:
    timeline = PolicyTimeline([FIRST, entry(2, midnight(30))])
    for day in (20, 30):
        with pytest.raises(PolicyOvertaken) as refused:
            check_publication(timeline, changed_policy(3), midnight(10), midnight(day))
        assert refused.value.details == {"version": 2}
    assert check_publication(timeline, changed_policy(3), midnight(10), midnight(31)).version == 3
    assert first_allowed(timeline, midnight(10)) == midnight(31)


def leaf_of(text: str, version: int = 1) -> bytes:
    digest = hashlib.sha256(text.encode()).digest()
    body = policy_body(version=version, toml_sha256=digest, published_at=BEGIN, in_effect_at=BEGIN)
    return governance_leaf(5, GovernanceType.POLICY, BEGIN.replace(minute=0, second=0), body)


def test_an_entry_is_read_with_its_text() -> None:
    text = changed_policy(1)
    digest = hashlib.sha256(text.encode()).digest()
    read = published_policy(leaf_of(text), {digest: text})
    assert (read.version, read.entry_index, read.in_effect_at) == (1, 5, BEGIN)
    assert read.policy == parse_policy(text)
    assert PolicyTimeline([read]).at(BEGIN) == read.policy


@pytest.mark.parametrize(
    ("texts", "why"),
    [({}, "not in the database"), (None, "cannot read it")],
    ids=["no text", "a form that this program does not know"],
)
def test_what_cannot_be_read_is_an_error_only_while_it_is_in_effect(texts: dict[bytes, str] | None, why: str) -> None:
    text = changed_policy(2) + "]["
    given_texts = {hashlib.sha256(text.encode()).digest(): text} if texts is None else texts
    unreadable = published_policy(leaf_of(text, 2), given_texts)
    assert unreadable.policy is None
    timeline = PolicyTimeline([FIRST, entry_without_policy(unreadable, midnight(9))])
    assert timeline.at(midnight(9) - timedelta(seconds=1)) == FIRST.policy
    with pytest.raises(PolicyUnreadable, match=why) as refused:
        timeline.at(midnight(9))
    assert refused.value.details["version"] == 2
    after = entry(3, midnight(10))
    assert PolicyTimeline([*timeline.published, after]).at(midnight(10)) == after.policy


def entry_without_policy(entry: PublishedPolicy, moment: datetime) -> PublishedPolicy:
    return PublishedPolicy(entry.version, entry.sha256, entry.published_at, moment, entry.entry_index, entry.text, None)


def test_a_timeline_of_one_policy_never_changes() -> None:
    policy = parse_policy(changed_policy(4))
    timeline = PolicyTimeline.of(policy)
    assert timeline.at(datetime(1970, 1, 1, tzinfo=UTC)) is policy
    assert timeline.next_after(midnight(0)) is None
    assert timeline.timeline is timeline
    assert len(b64url(timeline.newest.sha256)) == 43
    with pytest.raises(ValueError, match="at least one"):
        PolicyTimeline([])
