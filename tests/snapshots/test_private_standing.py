"""The events that a snapshot has for a tag, and the standing from several identifiers together. Random ledgers: the
tests of agreement next to this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import SnapshotExpired
from ledger.protocol.encoding import from_day, from_hour
from ledger.protocol.identifiers import Kind
from ledger.rules.conduct import Conduct
from ledger.rules.policy.shipped import shipped_policy
from ledger.rules.reasons import Reason
from ledger.rules.standing import CLEAN, FULL_WEIGHT, Event, Standing, Tier, fold, merge
from ledger.server.lookups.queries import ListingRow
from ledger.snapshots.private_standing import PrivateStanding, listed_events, standing_of
from ledger.snapshots.sealed import SealedEvent, act_pseudonym, snapshot_keys
from tests.snapshots.entries import to_sealed

POLICY = shipped_policy()[1]
TODAY = 20_780
AS_OF = from_day(TODAY) + timedelta(hours=10, minutes=20)
NOT_AFTER = AS_OF + timedelta(hours=24)
HOUR = TODAY * 24 + 10
KEYS = snapshot_keys(bytes(32), bytes(16))
PHONE, EMAIL, PAYMENT, CN_ID, OTHER_PHONE = (bytes([number]) * 32 for number in range(5))
KINDS = {PHONE: Kind.PHONE, EMAIL: Kind.EMAIL, PAYMENT: Kind.PAYMENT, CN_ID: Kind.CN_ID, OTHER_PHONE: Kind.PHONE}
MONTH_OLD = Event(1, 1, "A", Conduct.EDITED_IMAGE, TODAY - 30, HOUR - 99, TODAY + 1065, frozenset({Kind.PAYMENT}))


def report(number: int, group: str, conduct: str = Conduct.EDITED_IMAGE, *, act: int = 0, age: int = 30) -> Event:
    """A report in effect; of an act of its own unless `act` is given."""
    expires = POLICY.expiry_day(conduct, TODAY - age)
    return replace(
        MONTH_OLD,
        report_id=number,
        act_id=act or number,
        control_group=group,
        conduct=conduct,
        act_day=TODAY - age,
        expires_day=expires,
    )


def told(event: Event, weights: Mapping[str, int] | None = None) -> bool:
    return listed_events([event], weights or {}, POLICY, AS_OF) == [event]


def sealed(
    events: Sequence[Event], tag: bytes = PAYMENT, weights: Mapping[str, int] | None = None
) -> list[SealedEvent]:
    chosen = listed_events(events, weights or {}, POLICY, AS_OF)
    return to_sealed(chosen, weights or {}, POLICY, KEYS, tag, AS_OF)


def private(
    met: Mapping[bytes, Sequence[Event]], weights: Mapping[str, int] | None = None, now: datetime = AS_OF
) -> PrivateStanding:
    """What a client makes of the reports that each tag met."""
    return standing_of([(KINDS[tag], tag, sealed(met[tag], tag, weights)) for tag in met], POLICY, AS_OF, now)


def direct(
    met: Mapping[bytes, Sequence[Event]], weights: Mapping[str, int] | None = None, now: datetime = AS_OF
) -> Standing:
    events = [replace(event, matched=frozenset({KINDS[tag]})) for tag in met for event in met[tag]]
    return fold(merge(events), weights or {}, POLICY, now)


# --- listed events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("as_of", "last_hour"),
    [
        (from_hour(HOUR + 5), HOUR + 5),
        (from_hour(HOUR + 5) - timedelta(microseconds=1), HOUR + 4),
        (from_hour(HOUR + 6) - timedelta(microseconds=1), HOUR + 5),
        (from_hour(HOUR + 5).astimezone(timezone(timedelta(hours=5, minutes=30))), HOUR + 5),
    ],
)
def test_what_still_cools_at_the_cut_is_not_told(as_of: datetime, last_hour: int) -> None:
    events = [replace(MONTH_OLD, effective_hour=HOUR + number) for number in range(-2, 9)]
    hours = [event.effective_hour for event in listed_events(events, {}, POLICY, as_of)]
    assert hours == list(range(HOUR - 2, last_hour + 1))


def test_what_has_expired_is_not_told() -> None:
    assert not told(replace(MONTH_OLD, expires_day=TODAY))
    assert told(replace(MONTH_OLD, expires_day=TODAY + 1))
    kept = POLICY.retention_days[6]
    assert not told(replace(MONTH_OLD, act_day=TODAY - kept, expires_day=TODAY + 9))  # the policy was shortened
    assert told(replace(MONTH_OLD, act_day=TODAY - kept + 1, expires_day=TODAY + 9))


def test_what_a_lookup_is_silent_about_is_not_told() -> None:
    protective = replace(MONTH_OLD, conduct=Conduct.IMPERSONATED)
    assert not told(replace(MONTH_OLD, unconfirmed=True))
    assert not told(replace(protective, unconfirmed=True))
    assert told(replace(MONTH_OLD, disputed=True, unconfirmed=True))  # a dispute is shown all the same
    assert not told(MONTH_OLD, {"A": 0})
    assert not told(replace(MONTH_OLD, disputed=True), {"A": 0})
    assert told(protective, {"A": 0})
    assert told(MONTH_OLD, {"A": 10, "B": 0})


def test_a_sealed_event_says_what_was_recorded_and_no_more() -> None:
    event = replace(MONTH_OLD, disputed=True, restituted=True, has_statement=True)
    (first,) = sealed([event], weights={"A": 15})
    act = act_pseudonym(KEYS, 1)
    assert first == SealedEvent(
        act, first.group, event.conduct, event.act_day, event.effective_hour, 15, True, True, True, False, 6
    )
    (plain,) = sealed([MONTH_OLD])
    assert (plain.weight, plain.disputed, plain.restituted, plain.has_statement) == (FULL_WEIGHT, False, False, False)


def test_rows_of_the_listing_are_sealed_as_they_are() -> None:
    fields = {name: getattr(MONTH_OLD, name) for name in ListingRow._fields if hasattr(MONTH_OLD, name)}
    rows = listed_events([ListingRow(tag=PAYMENT, kind=Kind.PAYMENT, **fields)], {}, POLICY, AS_OF)
    assert to_sealed(rows, {}, POLICY, KEYS, PAYMENT, AS_OF) == sealed([MONTH_OLD])


@given(recorded=st.integers(-1, 4), kept=st.integers(-1, 4), minutes=st.integers(0, 24 * 60 - 1))
def test_one_bit_is_enough_for_the_expiry(recorded: int, kept: int, minutes: int) -> None:
    """At every moment of the lifetime, whichever of the two expiries comes first."""
    act_day = TODAY + kept - POLICY.retention_days[6]
    event = replace(MONTH_OLD, act_day=act_day, expires_day=TODAY + recorded)
    result = sealed([event])
    assert all(item.expires_next_day == (recorded == 1 < kept) for item in result)
    now = AS_OF + timedelta(minutes=minutes)
    assert private({PAYMENT: [event]}, now=now) == PrivateStanding(direct({PAYMENT: [event]}, now=now), bounded=False)


def test_an_expiry_at_the_midnight_of_the_lifetime_ends_what_is_said() -> None:
    met = {PAYMENT: [replace(MONTH_OLD, expires_day=TODAY + 1)]}
    midnight = from_day(TODAY + 1)
    assert private(met, now=midnight - timedelta(microseconds=1)).standing.tier is Tier.WATCH
    assert private(met, now=midnight).standing == CLEAN


def test_after_a_second_midnight_nothing_is_said() -> None:
    with pytest.raises(SnapshotExpired):
        private({PAYMENT: [MONTH_OLD]}, now=from_day(TODAY + 2))
    assert private({PAYMENT: [MONTH_OLD]}, now=from_day(TODAY + 2) - timedelta(seconds=1)).standing != CLEAN


def test_a_slow_clock_is_taken_for_as_of() -> None:
    cooled = replace(MONTH_OLD, effective_hour=HOUR)
    late = private({PAYMENT: [cooled]}, now=AS_OF - timedelta(hours=11))
    assert late == private({PAYMENT: [cooled]}, now=AS_OF)
    assert late.standing.tier is Tier.WATCH


# --- one identifier -----------------------------------------------------------------------------------------

ONE_TAG: dict[str, tuple[list[Event], dict[str, int], Tier, set[Reason]]] = {
    "three groups": (
        [report(1, "A"), report(2, "B"), report(3, "C"), report(4, "C", act=2), report(5, "B", act=1)],
        {"A": 35, "B": 20, "C": 10},
        Tier.HIGH,
        {Reason.INDEPENDENT},
    ),
    "two groups and one act": ([report(1, "A"), report(2, "B", act=1)], {}, Tier.WATCH, {Reason.FALSE_IMAGE}),
    "only protected": ([report(1, "A", Conduct.IMPERSONATED)], {"A": 0}, Tier.CLEAR, {Reason.PROTECTED}),
    "only disputed": (
        [replace(report(1, "A"), disputed=True), replace(report(2, "B"), disputed=True)],
        {},
        Tier.CLEAR,
        {Reason.DISPUTED},
    ),
    "three acts of one group": (
        [report(number, "A", Conduct.EMPTY_PARCEL) for number in (1, 2, 3)],
        {},
        Tier.WATCH,
        {Reason.REPEATED},
    ),
    "restituted": ([replace(report(1, "A"), restituted=True)], {"A": 35}, Tier.WATCH, {Reason.RESTITUTED}),
    "suspended": ([report(1, "A")], {"A": 0}, Tier.CLEAR, {Reason.NO_RECORD}),
    "nothing": ([], {}, Tier.CLEAR, {Reason.NO_RECORD}),
}


@pytest.mark.parametrize("name", ONE_TAG)
def test_one_identifier_gets_the_direct_answer(name: str) -> None:
    events, weights, tier, reasons = ONE_TAG[name]
    answer = private({PAYMENT: events}, weights)
    assert answer == PrivateStanding(direct({PAYMENT: events}, weights), bounded=False)
    assert answer.standing.tier is tier
    assert reasons <= set(answer.standing.reasons)


def test_an_identifier_that_is_given_twice_is_one() -> None:
    result = (Kind.PAYMENT, PAYMENT, sealed([report(1, "A"), report(2, "B")]))
    assert standing_of([result, result], POLICY, AS_OF, AS_OF) == standing_of([result], POLICY, AS_OF, AS_OF)


# --- several identifiers ------------------------------------------------------------------------------------


def test_one_that_counts_among_several_is_exact() -> None:
    """A report that counts under one tag would count under the other; so the others met other reports."""
    met = {
        PAYMENT: [report(1, "A"), report(2, "B")],
        PHONE: [replace(report(3, "C"), disputed=True, has_statement=True), report(4, "B", Conduct.IMPERSONATED)],
        EMAIL: [],
    }
    answer = private(met)
    assert answer == PrivateStanding(direct(met), bounded=False)
    assert answer.standing.matched_kinds == ("payment", "phone")
    assert (answer.standing.tier, answer.standing.reporters) == (Tier.HIGH, 2)


def test_it_becomes_exact_once_one_is_left_that_counts() -> None:
    met = {PAYMENT: [report(1, "A")], CN_ID: [replace(report(2, "B"), expires_day=TODAY + 1)]}
    assert private(met).bounded
    midnight = from_day(TODAY + 1)
    assert private(met, now=midnight) == PrivateStanding(direct(met, now=midnight), bounded=False)


def test_two_tags_do_not_make_two_reporters() -> None:
    """They look alike whether one group reported both acts or two groups one each: the milder answer is given."""
    by_one, by_two = ({PAYMENT: [report(1, "A")], CN_ID: [report(2, other)]} for other in "AB")
    assert (direct(by_one).tier, direct(by_two).tier) == (Tier.WATCH, Tier.HIGH)
    for met in (by_one, by_two):
        answer = private(met)
        assert answer.bounded
        assert (answer.standing.tier, answer.standing.reporters, answer.standing.events) == (Tier.WATCH, 1, 2)
        assert answer.standing.reasons == (Reason.FALSE_IMAGE,)


def test_an_act_that_two_tags_met_counts_once_with_its_most() -> None:
    grave, light = report(1, "A"), report(2, "B", Conduct.WARDROBING, act=1, age=80)
    answer = private({PAYMENT: [light], CN_ID: [grave]})
    assert answer.standing.events == 1
    assert answer.standing.points_milli == direct({PAYMENT: [light], CN_ID: [grave]}).points_milli
    old = report(3, "C", Conduct.WARDROBING, act=1, age=85)
    exact = direct({PAYMENT: [light], CN_ID: [old]})
    assert private({PAYMENT: [light], CN_ID: [old]}).standing.points_milli == exact.points_milli == 291


def test_what_one_tag_shows_holds_for_the_person() -> None:
    """A second group under one strong tag, and enough points with those of another: `review` is certain."""
    small = [report(1, "A", Conduct.EMPTY_PARCEL, age=150), report(2, "B", Conduct.EMPTY_PARCEL, age=150)]
    more = [report(3, "C", Conduct.WARDROBING, age=0)]
    weights = {"A": 25, "B": 30}
    assert private({PAYMENT: small}, weights).standing.tier is Tier.WATCH
    answer = private({PAYMENT: small, CN_ID: more}, weights)
    assert answer == PrivateStanding(replace(direct({PAYMENT: small, CN_ID: more}, weights), reporters=2), bounded=True)
    assert answer.standing.tier is Tier.REVIEW
    # Under a weak tag the same points do not count towards `review`.
    assert private({PAYMENT: small, PHONE: more}, weights).standing.tier is Tier.WATCH


def test_three_acts_of_a_group_are_told_where_one_tag_met_them() -> None:
    three = [report(number, "A", Conduct.EMPTY_PARCEL) for number in (1, 2, 3)]
    assert Reason.REPEATED in private({PAYMENT: three, CN_ID: three[:1]}).standing.reasons
    split = private({PAYMENT: three[:2], CN_ID: three[2:]})
    assert Reason.REPEATED in direct({PAYMENT: three[:2], CN_ID: three[2:]}).reasons
    assert Reason.REPEATED not in split.standing.reasons


def test_a_weak_match_is_told_where_it_is_certain() -> None:
    first, other = report(1, "A"), report(2, "B", age=31)
    weak = Reason.WEAK_MATCH
    apart = {PHONE: [first], EMAIL: [other]}
    assert weak in private(apart).standing.reasons
    assert weak in direct(apart).reasons
    # The same report through two kinds is a strong match; it cannot be distinguished from two equal reports.
    together = {PHONE: [first], EMAIL: [first]}
    assert weak not in direct(together).reasons
    assert weak not in private(together).standing.reasons
    alike = {PHONE: [first], EMAIL: [replace(first, report_id=2, control_group="B")]}
    assert weak in direct(alike).reasons
    assert weak not in private(alike).standing.reasons
    # Two numbers are of one kind, whatever they met; and a payment instrument is strong.
    assert weak in private({PHONE: [first], OTHER_PHONE: [first]}).standing.reasons
    assert weak not in private({PHONE: [first], PAYMENT: [other]}).standing.reasons


@pytest.mark.parametrize(
    "differently",
    [
        {"act_id": 2},
        {"conduct": Conduct.AI_FABRICATED_IMAGE},
        {"effective_hour": HOUR - 98},
        {"expires_day": TODAY + 1},
        {"restituted": True},
        {"has_statement": True},
        {"control_group": "less weight"},
    ],
)
def test_entries_that_differ_are_not_one_report(differently: dict[str, object]) -> None:
    response = report(1, "A")
    apart = {PHONE: [response], EMAIL: [replace(response, report_id=2, **differently)]}  # type: ignore[arg-type]
    assert Reason.WEAK_MATCH in private(apart, {"less weight": 10}).standing.reasons


def test_a_pseudonym_means_nothing_under_another_tag() -> None:
    """Of 2^32 pseudonyms, two tags may have the same one by chance."""
    three = [replace(item, group=b"same") for item in sealed([report(number, "A") for number in (1, 2, 3)])]
    results = [
        (Kind.PAYMENT, PAYMENT, three[:1]),
        (Kind.CN_ID, CN_ID, [replace(each, weight=10) for each in three[1:]]),
    ]
    apart = [(kind, tag, [replace(event, group=tag[:4]) for event in events]) for kind, tag, events in results]
    assert standing_of(results, POLICY, AS_OF, AS_OF) == standing_of(apart, POLICY, AS_OF, AS_OF)


def test_the_time_zone_of_the_clock_does_not_matter() -> None:
    met = {PAYMENT: [replace(MONTH_OLD, expires_day=TODAY + 1)]}
    for hours in (0, 13, 14):
        now = datetime(2026, 11, 23, 10, 20, tzinfo=UTC) + timedelta(hours=hours)
        there = now.astimezone(timezone(timedelta(hours=8)))
        assert private(met, now=there) == private(met, now=now)
