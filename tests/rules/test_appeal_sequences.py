"""Whatever happens in whatever order, an open case has a next step and a deadline."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LedgerError
from ledger.rules.appeals import ACTORS, OPEN_STATES, Action, Actor, CaseState, Outcome, needs_signature
from ledger.rules.case_machine import Case, Staff, allowed, due_actions
from ledger.rules.deadlines import due_at
from ledger.rules.policy.values import Profile
from tests.rules.case_kit import ANNA, BEN, NOW, PEOPLE, POLICY, ZONES, case_in, do, next_deadline

AGAIN = {Action.ASK_REOPENING, Action.GRANT_REOPENING, Action.REFUSE_REOPENING}
"""All that a closed case knows: its reporter may have new evidence."""

steps = st.lists(
    st.tuples(
        st.sampled_from([action for action in Action if action is not Action.OPEN]),
        st.sampled_from(PEOPLE),
        st.sampled_from(Outcome),
        st.integers(0, 9 * 24),
    ),
    max_size=40,
)


def after_rounds(case: Case, now: datetime) -> Case:
    """The case when rounds of the clock change it no further: one decides it by silence, and the next closes a decision
    that cannot be contested."""
    for _ in range(2):
        for action in due_actions(case, now):
            case = do(case, action, Actor.CLOCK, now)
    assert due_actions(case, now) == []
    return case


def test_silence_of_the_reporter_closes_the_case_in_two_rounds() -> None:
    asked = do(case_in(CaseState.UNDER_REVIEW), Action.ASK_REPORTER, Actor.STAFF, staff=ANNA)
    later = NOW + timedelta(days=8)
    assert due_actions(asked, later) == [Action.REPORTER_SILENT]
    decided = do(asked, Action.REPORTER_SILENT, Actor.CLOCK, later)
    assert (decided.state, due_actions(decided, later)) == (CaseState.DECIDED, [Action.CLOSE])
    assert after_rounds(asked, later).state is CaseState.CLOSED


@given(steps=steps, severity=st.sampled_from([1, 3, 6]), profile=st.sampled_from(Profile))
def test_no_sequence_leaves_a_case_without_a_next_step_or_a_deadline(
    steps: list[tuple[Action, Staff, Outcome, int]], severity: int, profile: Profile
) -> None:
    now = NOW
    due = due_at(now, profile, POLICY.appeals.clocks[profile], ZONES[profile])
    case = Case(CaseState.SUBMITTED, 1, profile, severity, "acme-group", due)
    decisions = 0
    for action, staff, outcome, hours in steps:
        now += timedelta(hours=hours)
        case = after_rounds(case, now)
        before = case
        for actor in ACTORS[action]:
            try:
                case = do(case, action, actor, now, staff, outcome=outcome, severity=1, assignee=BEN)
            except LedgerError:
                continue
            decisions += case.state is CaseState.DECIDED and before.state is not CaseState.DECIDED
            break
        assert case.rounds_used <= 2
        assert decisions <= 2 + (case.reporter_round is not None)
        assert due_actions(case, now) == [] or case.state is not before.state
        if case.state in OPEN_STATES:
            assert case.outcome is None
            assert any(allowed(case, actor) for actor in (Actor.STAFF, Actor.REPORTER, Actor.SUBJECT))
            assert case.overdue or (deadline := next_deadline(case)) is None or deadline > now
            assert case.overdue or next_deadline(case) is not None
            assert (case.question_due_at is None) == (
                case.state not in (CaseState.AWAITING_REPORTER, CaseState.AWAITING_SUBJECT)
            )
        elif case.state is CaseState.CLOSED:
            assert not any(allowed(case, actor) - AGAIN for actor in Actor)
            assert case.closed_at is not None
        if case.state is CaseState.DECIDED:
            assert case.outcome is not None
            if needs_signature(case.outcome, 1 if case.outcome is Outcome.AMENDED else severity):
                people = {handler for number, handler in case.handlers if number == case.round}
                assert len(people) >= 2, "four eyes"
        assert all(handler not in (4, 5, 6) for _, handler in case.handlers), "conflict or role"
        for handler in {handler for _, handler in case.handlers}:
            assert len({number for number, item in case.handlers if item == handler}) == 1, "somebody new decides"
