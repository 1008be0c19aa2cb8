"""Sealed entries and direct lookups agree, on random ledgers and in both formats: the standing that a client folds from
a snapshot is the direct lookup's of the reports that count at the cut for one identifier, and for several never
stricter. So is "not listed", which is `clear`. What still cools at the cut is nowhere in a snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidBucket
from ledger.protocol.encoding import from_day, from_hour, hour_floor
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import prefix
from ledger.protocol.tags import tag as tag_of
from ledger.rules.conduct import Conduct
from ledger.rules.guidance import Advice, Claim, advise
from ledger.rules.policy.shipped import shipped_version
from ledger.rules.policy.values import Policy, parse_policy
from ledger.rules.reasons import CONDUCT_REASON, MAX_REASONS, Reason
from ledger.rules.standing import CLEAN, Event, Standing, Tier, corroboration_of, fold, merge, visible_events
from ledger.snapshots.fuse_filter import FuseFilter, build
from ledger.snapshots.private_standing import PrivateStanding, listed_events, sealed_format, standing_of, to_packed
from ledger.snapshots.sealed import (
    EVENTS_PER_ENTRY,
    FORMAT_2,
    SealedEvent,
    SnapshotKeys,
    open_bucket,
    pad_bucket,
    seal_packed,
    snapshot_keys,
)
from tests.counts import trials
from tests.snapshots.entries import to_sealed

RANK = {tier: rank for rank, tier in enumerate(Tier)}
TODAY = 20_780
GROUPS = "ABCDE"
VERSION = bytes(range(16))
KEYS = snapshot_keys(bytes(32), VERSION)
SHARED = ("disputed", "protected", "has_statement", "matched_kinds", "events")
"""Fields of a standing that are exact for several identifiers too."""

UNSURE = {Reason.WEAK_MATCH, Reason.REPEATED, Reason.INDEPENDENT, Reason.ONE_REPORTER}
HEAVIEST = {*CONDUCT_REASON.values(), Reason.FADED}
seeds = st.integers(0, 2**64 - 1)


@cache
def policies() -> tuple[Policy, ...]:
    """Both shipped versions, and of each one that keeps for less time, with other severities and thresholds."""
    results = []
    for version in (1, 2):
        text, shipped = shipped_version(version)
        for old, new in {
            f"version = {version}": "version = 3",
            "switched_return = 6": "switched_return = 4",
            "1 = 90": "1 = 5",
            "3 = 365": "3 = 201\n4 = 31",
            "6 = 1095": "6 = 500",
            "watch_total_millipoints = 500": "watch_total_millipoints = 1",
            "review_total_millipoints = 2500": "review_total_millipoints = 4500",
            "review_second_group_millipoints = 1000": "review_second_group_millipoints = 1",
            "watch_cap_hundredths = 249": "watch_cap_hundredths = 400",
        }.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        results += [shipped, parse_policy(text)]
    return tuple(results)


@dataclass(frozen=True)
class Identifier:
    """One identifier of a person. The element is not a point, which only its evaluation would need."""

    kind: Kind
    element: bytes

    @property
    def tag(self) -> bytes:
        return tag_of(self.kind, self.element)


@dataclass(frozen=True)
class World:
    """A cut of a ledger: events by identifier as the listing has them, and the questions that are asked of it."""

    listing: Mapping[Identifier, Sequence[Event]]
    people: Sequence[Sequence[Identifier]]
    weights: Mapping[str, int]
    policy: Policy
    as_of: datetime
    not_after: datetime
    moments: Sequence[datetime]

    def counting_at_the_cut(self, asked: Iterable[Identifier]) -> list[Event]:
        """The events of these identifiers that do not cool any more at the cut."""
        last = hour_floor(self.as_of)
        return [event for identifier in asked for event in self.listing[identifier] if event.effective_hour <= last]

    def direct(self, asked: Sequence[Identifier], now: datetime) -> Standing:
        """As `LookupService` folds what counts at the cut."""
        return fold(merge(self.counting_at_the_cut(asked)), self.weights, self.policy, now)

    def direct_now(self, asked: Sequence[Identifier], now: datetime) -> Standing:
        """As `LookupService` folds what counts at `now`, as far as it was recorded at the cut."""
        return fold(
            merge(event for identifier in asked for event in self.listing[identifier]), self.weights, self.policy, now
        )

    def sealed(self, identifier: Identifier, keys: SnapshotKeys = KEYS) -> list[SealedEvent]:
        """What a snapshot of this cut says of an identifier; nothing if it is not listed."""
        shown = listed_events(self.listing[identifier], self.weights, self.policy, self.as_of)
        return to_sealed(shown, self.weights, self.policy, keys, identifier.tag, self.as_of)

    def packed(self, identifier: Identifier, keys: SnapshotKeys) -> list[bytes]:
        """The same on the way that a build goes."""
        shown = listed_events(self.listing[identifier], self.weights, self.policy, self.as_of)
        return to_packed(shown, self.weights, self.policy, keys, identifier.tag, self.as_of)

    def true_reasons(self, asked: Sequence[Identifier], now: datetime) -> set[Reason]:
        """Whatever holds of how sure the direct answer is; it names four reasons at most, so perhaps not all."""
        events = merge(self.counting_at_the_cut(asked))
        support = corroboration_of(visible_events(events, self.weights, self.policy, now).counting, self.policy)
        held = {
            Reason.WEAK_MATCH: support.weak,
            Reason.REPEATED: support.repeated,
            Reason.INDEPENDENT: support.second > 0,
        }
        return {reason for reason, holds in held.items() if holds}

    def questions(self) -> Iterator[list[Identifier]]:
        """One identifier, all of them, and parts."""
        for person in self.people:
            yield from ([identifier] for identifier in person)
            yield from (list(person[:end]) for end in range(2, len(person) + 1))
            yield list(person[1:])


def world(seed: int) -> World:
    """A random small ledger; the clock stands near the hours and days on which something begins or ends."""
    rng = Random(seed)
    start = from_day(TODAY) + timedelta(
        seconds=rng.choice([0, 86_399, rng.randrange(86_400), 3600 * rng.randrange(24)])
    )
    life = timedelta(seconds=rng.choice([86_400, 86_400, 3600, 1, rng.randint(1, 86_400)]))
    people = [
        [Identifier(rng.choice(list(Kind)), rng.randbytes(32)) for _ in range(rng.choice([1, 2, 3, 5]))]
        for _ in range(2)
    ]
    people[1].append(people[0][0])  # a phone number or a device that two people have
    listing: dict[Identifier, list[Event]] = {identifier: [] for person in people for identifier in person}
    policy = rng.choice(policies())
    number = 0
    for person in people:
        alike = rng.random() < 0.5
        for _ in range(rng.choice([0, 1, 1, 2, 3, 4, 6, 12])):
            number += 1
            event = report(rng, number, policy, start, life, alike=alike)
            for each in rng.sample(person, min(len(person), rng.choice([1, 1, 2, 3, 4]))):
                listing[each].append(replace(event, matched=frozenset({each.kind})))
    unit, steps = (2, [0, 4, 15, 19, 20, 20]) if policy.weights.steps == 20 else (5, [0, 2, 4, 7, 8, 8])
    weights = {group: unit * rng.choice(steps) for group in rng.sample(GROUPS, rng.randint(0, 5))}
    edges = {event.effective_hour for events in listing.values() for event in events}
    moments = {start, start + life - timedelta(microseconds=1), start + life * rng.random(), from_day(TODAY + 1)}
    moments |= {from_hour(hour) for hour in edges} | {from_hour(hour) - timedelta(microseconds=1) for hour in edges}
    inside = sorted(moment for moment in moments if start <= moment < start + life)
    return World(listing, people, weights, policy, start, start + life, rng.sample(inside, min(len(inside), 3)))


def report(rng: Random, number: int, policy: Policy, as_of: datetime, life: timedelta, *, alike: bool) -> Event:
    """A report. Where all are `alike`, several often say the same of the same act, as two reporters of it may."""
    conduct = rng.choice([Conduct.EDITED_IMAGE, Conduct.EMPTY_PARCEL] if alike else list(Conduct))
    kept = shipped_version(1)[1].expiry_day(conduct, 0)
    now_kept = policy.expiry_day(conduct, 0)
    age = rng.choice(
        [1, 4] if alike else [0, 1, 4, 60, rng.randrange(kept), kept - 1, now_kept, now_kept - 1, kept // 2]
    )
    recorded = TODAY - age + kept
    if rng.random() < 0.2:
        recorded = min(recorded, TODAY + rng.choice([-1, 0, 1, 1, 1, 2, 3]))
    hour = hour_floor(as_of) - 5
    if rng.random() < 0.15:
        hour = hour_floor(as_of + life * rng.choice([0, 0.5, 1])) + rng.choice([-1, 0, 1])
    odd = 0.05 if alike else 0.15
    return Event(
        report_id=number,
        act_id=rng.choice([1, 2, 3, number, number]),
        control_group=rng.choice(GROUPS),
        conduct=conduct,
        act_day=TODAY - age,
        effective_hour=hour,
        expires_day=recorded,
        matched=frozenset(),
        disputed=rng.random() < odd,
        unconfirmed=rng.random() < odd,
        restituted=rng.random() < odd,
        has_statement=rng.random() < odd,
    )


def asked_privately(
    of: World, sealed: Mapping[Identifier, Sequence[SealedEvent]], asked: Sequence[Identifier], now: datetime
) -> PrivateStanding:
    return standing_of(
        [(identifier.kind, identifier.tag, sealed[identifier]) for identifier in asked], of.policy, of.as_of, now
    )


def check_never_stricter(private: Standing, direct: Standing) -> None:
    """The tier is no higher, and in the same tier nothing weighs more; what both must say alike is alike."""
    assert RANK[private.tier] <= RANK[direct.tier]
    assert private.points_milli <= direct.points_milli
    assert private.credit >= direct.credit
    assert private.reporters <= direct.reporters
    for name in SHARED:
        assert getattr(private, name) == getattr(direct, name), name
    if private.tier is direct.tier:
        assert (private.points_milli, private.credit) == (direct.points_milli, direct.credit)
    for claim in Claim:
        mild, full = advise(private, claim), advise(direct, claim)
        assert mild == full or private.tier is not direct.tier
        assert mild == (Advice.APPROVE,) or full != (Advice.APPROVE,)
        assert {Advice.ACCOUNT_REVIEW, Advice.EXTEND_REVIEW_WINDOW}.intersection(mild) <= set(full)


def check_reasons(private: Standing, direct: Standing, true: set[Reason]) -> None:
    """No reason is given that is not true, in the usual order; what weighs most is what the direct answer names."""
    assert len(private.reasons) <= MAX_REASONS
    assert list(private.reasons) == sorted(private.reasons, key=list(Reason).index)
    assert UNSURE.intersection(private.reasons) <= true
    for reason in (Reason.PROTECTED, Reason.DISPUTED, Reason.NO_RECORD):
        assert (reason in private.reasons) == (reason in direct.reasons)
    # The direct answer may have no room left for it, after more reasons on how sure it is.
    assert HEAVIEST.intersection(direct.reasons) <= HEAVIEST.intersection(private.reasons)


# --- the agreement ------------------------------------------------------------------------------------------


@settings(max_examples=trials(36, 3000))
@given(seeds)
def test_a_private_answer_is_the_direct_one_or_says_that_it_is_a_bound(seed: int) -> None:
    of = world(seed)
    sealed = {identifier: of.sealed(identifier) for identifier in of.listing}
    for asked in of.questions():
        for now in of.moments:
            private, direct = asked_privately(of, sealed, asked, now), of.direct(asked, now)
            if len(asked) == 1:
                assert not private.bounded
            if private.bounded:
                check_never_stricter(private.standing, direct)
                check_reasons(private.standing, direct, of.true_reasons(asked, now))
            else:
                assert private.standing == direct
            later = of.direct_now(asked, now)
            assert RANK[private.standing.tier] <= RANK[later.tier], "it may miss what began to count since, never add"
            assert private.standing.points_milli <= later.points_milli
            assert private.standing.events <= later.events


def test_the_random_ledgers_hold_what_matters() -> None:
    """Otherwise the test above would say little."""
    seen: Counter[str] = Counter()
    for seed in range(trials(120, 150)):
        of = world(seed)
        seen[f"format {sealed_format(of.policy)}"] += 1
        cools = [
            identifier
            for identifier in of.listing
            if of.listing[identifier] and not of.counting_at_the_cut([identifier])
        ]
        seen["only cools"] += len(cools)
        assert not any(of.sealed(cool) for cool in cools)
        sealed = {each: of.sealed(each) for each in of.listing}
        seen["more than one entry"] += any(len(events) > EVENTS_PER_ENTRY for events in sealed.values())
        seen["expires in the lifetime"] += any(event.expires_next_day for events in sealed.values() for event in events)
        for asked in of.questions():
            last = of.moments[-1]
            seen["counts since the cut"] += len(asked) == 1 and of.direct_now(asked, last) != of.direct(asked, last)
            answers = [(asked_privately(of, sealed, asked, now), of.direct(asked, now)) for now in of.moments]
            seen["one identifier, not the same all the time"] += len(asked) == 1 and len({str(a) for a in answers}) > 1
            for private, direct in answers:
                if len(asked) == 1:
                    seen[f"one: {direct.tier}"] += 1
                elif private.bounded:
                    seen[f"bound: {private.standing.tier} of {direct.tier}"] += 1
                    seen["bound that is exact"] += private.standing == direct
                else:
                    seen[f"several, exact: {direct.tier}"] += 1
                seen["bounded, points below"] += private.standing.points_milli < direct.points_milli
    expected = {f"{how}: {tier}" for how in ("one", "several, exact") for tier in Tier}
    expected |= {f"bound: {tier} of {tier}" for tier in Tier}
    expected |= {"bound: watch of review", "bound: watch of high", "bound: review of high", "bound that is exact"}
    expected |= {"bounded, points below", "more than one entry", "expires in the lifetime"}
    expected |= {
        "one identifier, not the same all the time",
        "format 1",
        "format 2",
        "only cools",
        "counts since the cut",
    }
    assert {name for name in expected if seen[name] < 3} == set()


@settings(max_examples=20)
@given(seeds)
def test_entries_that_were_sealed_and_opened_say_the_same(seed: int) -> None:
    """Through real buckets: what a client finds there with an element, and only that, gives the direct answer."""
    of = world(seed)
    version, bits = Random(seed).randbytes(16), 1
    keys = snapshot_keys(sha256(version).digest(), version)
    entries: dict[int, list[bytes]] = {0: [], 1: []}
    for identifier in of.listing:
        place = prefix(identifier.tag, bits)
        entries[place] += seal_packed(
            identifier.element, identifier.kind, version, place, of.packed(identifier, keys), sealed_format(of.policy)
        )
    buckets = {place: pad_bucket(value, 64, place, keys) for place, value in entries.items()}
    opened = {}
    for identifier in of.listing:
        place = prefix(identifier.tag, bits)
        opened[identifier] = open_bucket(buckets[place], identifier.element, identifier.kind, version, place)
        assert sorted(opened[identifier], key=repr) == sorted(of.sealed(identifier, keys), key=repr)
    for asked in of.questions():
        for now in of.moments:
            private, direct = asked_privately(of, opened, asked, now), of.direct(asked, now)
            check_never_stricter(private.standing, direct)
            assert private.bounded or private.standing == direct


@settings(max_examples=trials(18, 1000))
@given(seeds)
def test_a_conduct_that_a_reader_does_not_know_folds_by_its_severity(seed: int) -> None:
    """A later ledger's snapshot, read by this version: everything but the conduct's reason is what it would be."""
    of = world(seed)
    if sealed_format(of.policy) != FORMAT_2:
        return
    rng = Random(seed)
    sealed = {identifier: of.sealed(identifier) for identifier in of.listing}
    numbers: dict[str, str] = {
        conduct: rng.choice([conduct, f"unknown:{200 + place}"]) for place, conduct in enumerate(Conduct)
    }
    later = {
        value: [replace(event, conduct=numbers[event.conduct]) for event in content]
        for value, content in sealed.items()
    }
    for asked in of.questions():
        for now in of.moments:
            known, read = asked_privately(of, sealed, asked, now), asked_privately(of, later, asked, now)
            assert read.bounded == known.bounded
            assert replace(read.standing, reasons=()) == replace(known.standing, reasons=())
            # Of events with equal points another one may be named.
            assert len(read.standing.reasons) == len(known.standing.reasons)
            for first, other in zip(read.standing.reasons, known.standing.reasons, strict=True):
                assert first == other or (first in HEAVIEST | {Reason.OTHER} and other in HEAVIEST)


def test_a_heaviest_conduct_that_is_not_known_has_a_reason_of_its_own() -> None:
    policy = shipped_version(2)[1]
    sealed_event = SealedEvent(b"act 8888", b"grp4", "unknown:200", TODAY - 10, (TODAY - 6) * 24, 40, severity=6)
    answer = standing_of([(Kind.PAYMENT, bytes(32), [sealed_event])], policy, from_day(TODAY), from_day(TODAY))
    assert answer.standing.reasons == (Reason.ONE_REPORTER, Reason.OTHER)
    assert (answer.standing.tier, answer.standing.events) == (Tier.WATCH, 1)
    protective = replace(sealed_event, severity=0)
    answer = standing_of([(Kind.PAYMENT, bytes(32), [protective])], policy, from_day(TODAY), from_day(TODAY))
    assert (answer.standing.tier, answer.standing.reasons) == (Tier.CLEAR, (Reason.PROTECTED,))


@pytest.mark.parametrize(
    ("version", "changes"),
    [(1, {"severity": 6}), (2, {"severity": None}), (2, {"severity": 5}), (1, {"conduct": "theft"})],
    ids=str,
)
def test_entries_that_do_not_fit_their_policy_are_refused(version: int, changes: dict[str, Any]) -> None:
    sealed_event = SealedEvent(b"act 8888", b"grp4", "edited_image", TODAY - 10, (TODAY - 6) * 24, 40)
    right = sealed_event if version == 1 else replace(sealed_event, severity=6)
    policy, at = shipped_version(version)[1], from_day(TODAY)
    assert standing_of([(Kind.PAYMENT, bytes(32), [right])], policy, at, at).standing.tier is Tier.WATCH
    with pytest.raises(InvalidBucket):
        standing_of([(Kind.PAYMENT, bytes(32), [replace(right, **changes)])], policy, at, at)


@settings(max_examples=20)
@given(seeds)
def test_whoever_is_not_in_the_filter_is_clear(seed: int) -> None:
    of = world(seed)
    listed = [each.tag for each in of.listing if of.sealed(each)]
    opened = FuseFilter.trusted(build(b"".join(listed), KEYS.filter_seed))
    assert all(tag in opened for tag in listed)
    for asked in of.questions():
        if not any(entry.tag in opened for entry in asked):
            assert {of.direct(asked, now) for now in of.moments} == {CLEAN}
    for identifier in of.listing:
        if not of.counting_at_the_cut([identifier]):
            assert identifier.tag not in listed, "what cools is in no filter"
