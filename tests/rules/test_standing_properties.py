"""What must hold for every record, on random events: the promises made to people and to members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from ledger.protocol.encoding import from_day, from_hour
from ledger.protocol.identifiers import Kind
from ledger.rules.conduct import Conduct
from ledger.rules.guidance import Advice, Claim, advise
from ledger.rules.policy.shipped import shipped_policy, shipped_version
from ledger.rules.reasons import MAX_REASONS, Reason
from ledger.rules.standing import (
    CLEAN,
    FULL_WEIGHT,
    Counted,
    Event,
    Standing,
    Tier,
    fold,
    group_weight,
    is_strong,
    merge,
    second_group_points,
)
from tests.rules.worked_examples import NOW

POLICY = shipped_policy()[1]
TODAY = 20_780
GROUPS = "ABCD"
RANK = {tier: rank for rank, tier in enumerate(Tier)}
WEAK_SETS = [frozenset({kind}) for kind in (Kind.PHONE, Kind.EMAIL, Kind.DEVICE)]
STRONG_SETS = [frozenset({Kind.PAYMENT}), frozenset({Kind.CN_ID, Kind.PHONE}), frozenset({Kind.PHONE, Kind.EMAIL})]

assert from_day(TODAY) <= NOW < from_day(TODAY + 1)

weights_of_groups = st.fixed_dictionaries(dict.fromkeys(GROUPS, st.sampled_from([0, 8, 10, 20, 30, 35, 38, 40])))


@st.composite
def events_of_a_person(draw: st.DrawFn, *, most: int = 7, groups: str = GROUPS, weak: bool = False) -> list[Event]:
    """Up to `most` reports; acts are often shared between groups and lie within a week, as at intake."""
    events = []
    for number in range(draw(st.integers(0, most) | st.integers(most // 2, most))):
        act = draw(st.integers(0, 4))
        conduct = draw(st.sampled_from([*Conduct, Conduct.EDITED_IMAGE, Conduct.EMPTY_PARCEL]))
        age = draw(st.integers(0, 100)) if draw(st.booleans()) else draw(st.integers(0, 1100))
        act_day = TODAY - age
        expires = POLICY.expiry_day(conduct, act_day) - draw(st.sampled_from([0, 0, 0, 50]))
        flags = draw(st.sampled_from(["", "", "", "disputed", "unconfirmed", "restituted"]))
        events.append(
            Event(
                report_id=number,
                act_id=act,
                control_group=draw(st.sampled_from(groups)),
                conduct=conduct,
                act_day=act_day,
                effective_hour=(act_day + draw(st.integers(3, 6))) * 24,
                expires_day=expires,
                matched=draw(st.sampled_from(WEAK_SETS if weak else [*WEAK_SETS, *STRONG_SETS, *STRONG_SETS])),
                disputed=flags == "disputed",
                unconfirmed=flags == "unconfirmed",
                restituted=flags == "restituted",
                has_statement=draw(st.booleans()),
            )
        )
    return events


def no_better(after: Standing, before: Standing) -> bool:
    return (
        RANK[after.tier] >= RANK[before.tier]
        and after.credit <= before.credit
        and after.points_milli >= before.points_milli
        and after.events >= before.events
        and after.reporters >= before.reporters
    )


@pytest.mark.parametrize("tier", Tier)
def test_the_random_events_reach_every_tier(tier: Tier) -> None:
    """Otherwise much of this file would say nothing."""
    seldom = settings(max_examples=2000, database=None, phases=[Phase.generate])
    example = find(events_of_a_person(), lambda events: fold(events, {}, POLICY, NOW).tier is tier, settings=seldom)
    assert len(example) >= {Tier.CLEAR: 0, Tier.WATCH: 1, Tier.REVIEW: 2, Tier.HIGH: 2}[tier]


@given(st.data(), events_of_a_person(), weights_of_groups)
def test_order_never_matters(data: st.DataObject, events: list[Event], weights: dict[str, int]) -> None:
    shuffled = data.draw(st.permutations(events))
    assert fold(shuffled, weights, POLICY, NOW) == fold(events, weights, POLICY, NOW)


@given(events_of_a_person(), weights_of_groups)
def test_adding_never_improves_and_withdrawing_never_worsens(events: list[Event], weights: dict[str, int]) -> None:
    """The same thing said twice: every report of the record is taken away once."""
    whole = fold(events, weights, POLICY, NOW)
    for left_out in range(len(events)):
        rest = fold(events[:left_out] + events[left_out + 1 :], weights, POLICY, NOW)
        assert no_better(whole, rest)


@given(events_of_a_person(), weights_of_groups, st.sampled_from(["disputed", "unconfirmed", "restituted"]))
def test_dispute_and_restitution_never_worsen(events: list[Event], weights: dict[str, int], flag: str) -> None:
    whole = fold(events, weights, POLICY, NOW)
    for number, event in enumerate(events):
        marked = replace(event, **{flag: True})  # type: ignore[arg-type]
        changed = [*events[:number], marked, *events[number + 1 :]]
        assert no_better(whole, fold(changed, weights, POLICY, NOW))


@given(events_of_a_person(most=20, groups="A"))
def test_one_group_never_exceeds_watch(events: list[Event]) -> None:
    assert fold(events, {}, POLICY, NOW).tier in (Tier.CLEAR, Tier.WATCH)


@given(events_of_a_person(most=12, weak=True))
def test_weak_matches_never_exceed_watch(events: list[Event]) -> None:
    result = fold(events, {}, POLICY, NOW)
    assert result.tier in (Tier.CLEAR, Tier.WATCH)
    assert result.points <= 2.49


@given(events_of_a_person(), events_of_a_person(weak=True), weights_of_groups)
def test_weak_matches_never_lift_anyone_above_watch(
    events: list[Event], weak: list[Event], weights: dict[str, int]
) -> None:
    """Nor do they help strong ones over a threshold of `review` or `high`."""
    alone = fold(events, weights, POLICY, NOW)
    more = [replace(event, report_id=100 + event.report_id) for event in weak]
    assert fold(events + more, weights, POLICY, NOW).tier in (alone.tier, Tier.WATCH)


@given(events_of_a_person(), weights_of_groups, st.frozensets(st.sampled_from(Kind)), st.sampled_from(Kind))
def test_one_more_identifier_in_a_lookup_never_improves(
    events: list[Event], weights: dict[str, int], kinds: frozenset[Kind], more: Kind
) -> None:
    def looked_up_by(known: frozenset[Kind]) -> Standing:
        met = [replace(event, matched=event.matched & known) for event in events if event.matched & known]
        return fold(met, weights, POLICY, NOW)

    assert no_better(looked_up_by(kinds | {more}), looked_up_by(kinds))


@given(events_of_a_person(), weights_of_groups, st.integers(0, 1100 * 24), st.integers(0, 400 * 24))
def test_points_only_fall_once_all_reports_are_in_effect(
    events: list[Event], weights: dict[str, int], start_hours: int, later_hours: int
) -> None:
    start = from_hour(max([event.effective_hour for event in events], default=0) + start_hours)
    before = fold(events, weights, POLICY, start)
    after = fold(events, weights, POLICY, start + timedelta(hours=later_hours))
    assert no_better(before, after)


@given(events_of_a_person(), weights_of_groups)
def test_expired_means_gone(events: list[Event], weights: dict[str, int]) -> None:
    for day in {event.expires_day for event in events}:
        midnight = from_day(day)
        rest = [event for event in events if POLICY.expiry_day(event.conduct, event.act_day, event.expires_day) > day]
        assert fold(events, weights, POLICY, midnight) == fold(rest, weights, POLICY, midnight)


@given(events_of_a_person(), weights_of_groups)
def test_an_act_met_through_several_identifiers_counts_once(events: list[Event], weights: dict[str, int]) -> None:
    rows = [replace(event, matched=frozenset({kind})) for event in events for kind in sorted(event.matched)]
    assert fold(merge(rows), weights, POLICY, NOW) == fold(events, weights, POLICY, NOW)
    assert fold(merge(rows + rows), weights, POLICY, NOW) == fold(events, weights, POLICY, NOW)


@given(events_of_a_person(most=1), st.integers(0, 3))
def test_an_act_reported_by_more_groups_counts_once(events: list[Event], more: int) -> None:
    alike = [
        replace(event, report_id=100 + number, control_group=GROUPS[number])
        for event in events
        for number in range(more + 1)
    ]
    single, several = fold(alike[:1], {}, POLICY, NOW), fold(alike, {}, POLICY, NOW)
    assert (several.tier, several.points_milli, several.credit, several.events) == (
        single.tier,
        single.points_milli,
        single.credit,
        single.events,
    )


@given(events_of_a_person(), weights_of_groups)
def test_whatever_several_groups_report_of_one_act_it_is_one_event_below_review(
    events: list[Event], weights: dict[str, int]
) -> None:
    one_act = [replace(event, act_id=1) for event in events]
    together = fold(one_act, weights, POLICY, NOW)
    alone = [fold([event], weights, POLICY, NOW) for event in one_act]
    assert together.tier in (Tier.CLEAR, Tier.WATCH)
    assert together.points_milli == max((each.points_milli for each in alone), default=0)
    assert together.events == max((each.events for each in alone), default=0)


@pytest.mark.parametrize(("version", "floor", "unit"), [(1, 8, 2), (2, 10, 5)])
@given(overturned=st.integers(0, 500), others=st.integers(0, 500))
def test_a_weight_is_a_step_of_its_policy_and_follows_the_share_of_overturned_reports(
    version: int, floor: int, unit: int, overturned: int, others: int
) -> None:
    policy, cases = shipped_version(version)[1], overturned + others
    before = group_weight(cases, overturned, policy)
    assert group_weight(cases + 1, overturned + 1, policy) <= before, "an overturned report never raises it"
    assert group_weight(cases + 1, overturned, policy) >= before, "an upheld one never lowers it"
    assert before % unit == 0
    assert floor <= before <= FULL_WEIGHT
    exact = FULL_WEIGHT * (1 - Fraction(overturned, cases + 10))
    assert before == floor or before <= exact < before + unit, "rounded down"


def test_the_first_overturned_report_costs_an_eighth() -> None:
    assert [group_weight(number, number, POLICY) for number in range(3)] == [40, 35, 30]


@given(events_of_a_person(), weights_of_groups, st.sampled_from(GROUPS))
def test_less_weight_never_worsens(events: list[Event], weights: dict[str, int], group: str) -> None:
    lower = {**weights, group: max(0, weights[group] - 1)}
    assert no_better(fold(events, weights, POLICY, NOW), fold(events, lower, POLICY, NOW))


@given(events_of_a_person(), weights_of_groups)
def test_shown_points_tell_the_tier(events: list[Event], weights: dict[str, int]) -> None:
    result = fold(events, weights, POLICY, NOW)
    low, high = {
        Tier.CLEAR: (0.0, 0.49),
        Tier.WATCH: (0.5, 2.49),
        Tier.REVIEW: (2.5, 4.99),
        Tier.HIGH: (5.0, 1000.0),
    }[result.tier]
    assert low <= result.points <= high
    assert 0 <= result.credit <= 100
    assert result.credit < 100 or result.points < 0.05  # 0.04 points still round to a clean 100


@given(events_of_a_person(), weights_of_groups, st.sampled_from(Claim))
def test_reasons_and_guidance_fit_what_they_explain(events: list[Event], weights: dict[str, int], claim: Claim) -> None:
    result = fold(events, weights, POLICY, NOW)
    places = [list(Reason).index(reason) for reason in result.reasons]
    assert 1 <= len(places) <= MAX_REASONS
    assert places == sorted(set(places))
    assert (Reason.PROTECTED in result.reasons) == result.protected
    assert (Reason.DISPUTED in result.reasons) == result.disputed
    assert (Reason.NO_RECORD in result.reasons) == (result == CLEAN)
    assert result.tier in (Tier.CLEAR, Tier.WATCH) or Reason.INDEPENDENT in result.reasons
    assert Reason.INDEPENDENT not in result.reasons or result.reporters >= 2
    assert Reason.ONE_REPORTER not in result.reasons or result.reporters == 1
    assert (advise(result, claim) == (Advice.APPROVE,)) == (result.tier is Tier.CLEAR)
    disputed = [replace(event, disputed=True) for event in events]
    assert advise(fold(disputed, weights, POLICY, NOW), claim) == (Advice.APPROVE,)


@given(events_of_a_person(), weights_of_groups)
def test_disputed_unconfirmed_and_protective_events_have_no_weight(
    events: list[Event], weights: dict[str, int]
) -> None:
    counting = [
        event for event in events if not (event.disputed or event.unconfirmed or event.conduct == Conduct.IMPERSONATED)
    ]
    whole, rest = fold(events, weights, POLICY, NOW), fold(counting, weights, POLICY, NOW)
    assert (whole.tier, whole.points_milli, whole.events, whole.reporters) == (
        rest.tier,
        rest.points_milli,
        rest.events,
        rest.reporters,
    )


# --- G2 against all assignments -------------------------------------------------------------------------------


def brute_force(counted: Sequence[Counted], cap: int) -> int:
    """The second-largest group's points, largest over all ways to ascribe each act to one of its groups."""
    acts: dict[int, dict[str, int]] = {}
    for event, points in counted:
        groups = acts.setdefault(event.act_id, {})
        groups[event.control_group] = max(points, groups.get(event.control_group, 0))
    best = 0
    for choice in product(*[list(groups.items()) for groups in acts.values()]):
        sums = dict.fromkeys(GROUPS, 0)
        for group, points in choice:
            sums[group] += points
        best = max(best, sorted(sums.values())[-2])
    return min(best, cap)


@st.composite
def counted_events(draw: st.DrawFn) -> list[Counted]:
    template = Event(0, 0, "A", "edited_image", 0, 0, 9, frozenset({Kind.PAYMENT}))
    reports = draw(
        st.lists(st.tuples(st.integers(0, 5), st.sampled_from(GROUPS), st.integers(1, 1500)), min_size=0, max_size=12)
    )
    return [
        Counted(replace(template, report_id=number, act_id=act, control_group=group), points)
        for number, (act, group, points) in enumerate(reports)
    ]


@given(counted_events(), st.sampled_from([100, 2500, 10_000]))
def test_the_second_group_is_the_best_over_all_assignments(counted: list[Counted], cap: int) -> None:
    assert second_group_points(counted, cap) == brute_force(counted, cap)


@given(events_of_a_person(most=12))
def test_high_takes_two_strong_reporters(events: list[Event]) -> None:
    if fold(events, {}, POLICY, NOW).tier in (Tier.REVIEW, Tier.HIGH):
        assert len({event.control_group for event in events if is_strong(event)}) >= 2
        assert len({event.act_id for event in events if is_strong(event)}) >= 2
