"""Rights of a report by the way that appeals come: which round is taken, which one suspends, who takes whose place."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from ledger.rules.appeals import Action, Actor, CaseState, Outcome
from ledger.rules.rounds import (
    MAX_GROUPS,
    Round,
    adoptable,
    blocking,
    has_room,
    next_to_suspend,
    report_marks,
    suspends,
)
from tests.rules.case_kit import NOW, case_in, do

REPORTER = "acme-group"
GROUPS = (None, "g1", "g2", "g3", "g4", REPORTER)

rounds = st.builds(
    Round,
    case_id=st.integers(1, 99),
    group=st.sampled_from(GROUPS),
    state=st.sampled_from(CaseState),
    was_decided=st.booleans(),
    suspends=st.booleans(),
    overdue=st.booleans(),
)
several = st.lists(rounds, max_size=6, unique_by=lambda item: item.case_id)


@given(cases=several, group=st.sampled_from(GROUPS))
def test_a_way_is_closed_by_its_own_rounds_only(cases: list[Round], group: str | None) -> None:
    """Whatever rounds come by other ways, they change nothing; and withdrawn ones never do."""
    mine = [case for case in cases if case.group == group]
    assert blocking(cases, group) == blocking(mine, group)
    withdrawn = [replace(case, state=CaseState.WITHDRAWN, was_decided=False) for case in mine]
    assert blocking(withdrawn, group) is None
    taken = blocking(cases, group)
    assert taken is None or taken.is_open or taken.was_decided


@given(cases=several)
def test_the_person_always_has_room_and_suspends(cases: list[Round]) -> None:
    foreign = [case for case in cases if case.group is not None]
    assert blocking(foreign, None) is None
    assert suspends(cases, None, REPORTER)
    taken_over = adoptable(cases)
    assert (taken_over is None) == (not any(case.is_open and not case.was_decided for case in foreign))
    assert taken_over is None or not taken_over.was_decided, "the person's own reopening is still to come"


@given(order=st.permutations(["g1", "g2", "g3", "g4"]), withdraw=st.lists(st.integers(0, 3), max_size=6))
def test_one_round_of_platforms_suspends_at_a_time_and_each_group_once(order: list[str], withdraw: list[int]) -> None:
    numbers, cases = count(1), list[Round]()
    suspended: list[str | None] = []
    for group, out in zip([*order, *order], [*withdraw, *[9] * 8], strict=False):
        if blocking(cases, group) is None and has_room(cases, group, REPORTER):
            new = Round(next(numbers), group, CaseState.SUBMITTED, suspends=suspends(cases, group, REPORTER))
            suspended += [group] if new.suspends else []
            cases.append(new)
        if out < len(cases) and cases[out].is_open:
            cases[out] = replace(cases[out], state=CaseState.WITHDRAWN)
            follower = next_to_suspend(cases, REPORTER)
            if follower is not None:
                suspended.append(follower.group)
                cases = [replace(case, suspends=True) if case == follower else case for case in cases]
        taken = [case for case in cases if case.uses_up]
        assert len(taken) == len({case.group for case in taken}) <= MAX_GROUPS
        assert sum(case.is_open and case.suspends for case in cases) <= 1
    assert len(suspended) == len(set(suspended))


def test_a_decided_round_of_platforms_was_the_first_one() -> None:
    decided = Round(1, "g1", CaseState.DECIDED, was_decided=True)
    assert not suspends([decided], "g2", REPORTER)
    waiting = Round(2, "g2", CaseState.SUBMITTED, suspends=False)
    assert next_to_suspend([decided, waiting], REPORTER) is None
    old = Round(3, REPORTER, CaseState.DECIDED, was_decided=True)
    assert suspends([old], "g2", REPORTER), "what the reporter's own group once filed is no round of another platform"


@given(cases=several, in_force=st.sampled_from([None, *Outcome]))
def test_marks(cases: list[Round], in_force: Outcome | None) -> None:
    disputed, unconfirmed = report_marks(cases, in_force)
    holding = [case for case in cases if case.is_open and case.suspends]
    assert not (disputed and unconfirmed)
    assert (disputed or unconfirmed) == (bool(holding) or in_force is Outcome.UNCONFIRMED)
    assert disputed == (bool(holding) and not any(case.overdue for case in holding))


def test_what_is_taken_over_is_the_persons_and_loses_its_proposal() -> None:
    before = case_in(CaseState.AWAITING_SIGNOFF, filed_by_subject=False, suspends=False)
    after = do(before, Action.ADOPT, Actor.SUBJECT)
    assert (after.filed_by_subject, after.suspends, after.state, after.proposed) == (
        True,
        True,
        CaseState.UNDER_REVIEW,
        None,
    )
    assert (after.due_at, after.information_at) == (before.due_at, NOW)
