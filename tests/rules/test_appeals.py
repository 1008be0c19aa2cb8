"""The table of appeals: every pair of state and action, who may do what, every clock, and what no sequence may do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import ActionRefused, CaseTaken, ConflictOfInterest, DecisionInvalid
from ledger.rules.appeals import (
    ACTORS,
    EFFECTS,
    TRANSITIONS,
    Action,
    Actor,
    CaseState,
    Outcome,
    is_worse,
    needs_signature,
)
from ledger.rules.case_machine import Case, Staff, due_actions
from ledger.rules.deadlines import due_at, earlier_profile, extended_due_at, window_start
from ledger.rules.policy.values import Profile
from tests.rules.case_kit import ANNA, BEN, CLEO, NOW, POLICY, ZONES, case_in, do

# The table once more, written from docs/appeals.md and not from the code: who may do what where, and what follows.
ALWAYS_OPEN = {
    **dict.fromkeys(("add", "adopt", "concede", "agree", "overdue"), "same"),
    "withdraw": "withdrawn",
    "report_gone": "closed",
}
AGAIN = {"ask_reopening": "same", "grant_reopening": "submitted", "refuse_reopening": "same"}
HELD = {"assign": "same", "note": "same", "extend": "same"}
EXPECTED: dict[str, dict[str, str]] = {
    "submitted": {**ALWAYS_OPEN, "take": "under_review", "assign": "under_review"},
    "under_review": {
        **ALWAYS_OPEN,
        **HELD,
        "hand_back": "submitted",
        "ask_reporter": "awaiting_reporter",
        "ask_subject": "awaiting_subject",
        "propose": "awaiting_signoff",
        "decide": "decided",
    },
    "awaiting_reporter": {
        **ALWAYS_OPEN,
        **HELD,
        "reporter_answered": "under_review",
        "concede": "under_review",
        "reporter_silent": "decided",
    },
    "awaiting_subject": {
        **ALWAYS_OPEN,
        **HELD,
        "subject_answered": "under_review",
        "agree": "under_review",
        "subject_silent": "under_review",
    },
    "awaiting_signoff": {
        **ALWAYS_OPEN,
        **HELD,
        "sign": "decided",
        **dict.fromkeys(("decline", "add", "adopt", "concede", "agree"), "under_review"),
    },
    "decided": {**AGAIN, "reopen": "submitted", "report_gone": "closed", "close": "closed"},
    "withdrawn": {"reopen": "submitted", "report_gone": "closed", "close": "closed"},
    "closed": AGAIN,
}


def attempt(case: Case, action: Action, actor: Actor) -> Case:
    """`action` with everything else as it has to be."""
    now: datetime = NOW
    staff: Staff | None = None
    more: dict[str, object] = {}
    if actor is Actor.STAFF:
        staff = BEN if action in (Action.SIGN, Action.DECLINE, Action.TAKE) else ANNA
        if action is Action.ASSIGN:
            staff, more = CLEO, {"assignee": BEN}
    if action in (Action.OVERDUE, Action.REPORTER_SILENT, Action.SUBJECT_SILENT, Action.CLOSE):
        now = NOW + timedelta(days=100)
    if action is Action.ADOPT:
        case = replace(case, filed_by_subject=False)
    if action is Action.EXTEND:
        case = replace(case, profile=Profile.US, information_at=NOW)
    if action is Action.PROPOSE:
        case, more = replace(case, severity=6), {"outcome": Outcome.UPHELD}
    if action is Action.GRANT_REOPENING:
        case = replace(case, outcome=Outcome.UNCONFIRMED)
    if action is Action.DECIDE:
        more = {"outcome": Outcome.OVERTURNED}
    return do(case, action, actor, now, staff, **more)


@pytest.mark.parametrize(
    ("state", "action"), list(product(CaseState, [action for action in Action if action is not Action.OPEN]))
)
def test_every_pair_of_state_and_action(state: CaseState, action: Action) -> None:
    expected = EXPECTED[state.value].get(action.value)
    for actor in Actor:
        if expected is not None and actor in ACTORS[action]:
            after = attempt(case_in(state), action, actor)
            assert after.state.value == (state.value if expected == "same" else expected)
        else:
            with pytest.raises(ActionRefused):
                attempt(case_in(state), action, actor)


def test_the_table_is_the_one_of_the_design() -> None:
    table = {
        state.value: {action.value: after.value for action, after in row.items()} for state, row in TRANSITIONS.items()
    }
    assert table == {
        state: {action: state if after == "same" else after for action, after in row.items()}
        for state, row in EXPECTED.items()
    }
    assert set(ACTORS) == set(Action)
    assert set(EFFECTS) == set(Outcome)


# --- who decides ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [action for action, actors in ACTORS.items() if actors == {Actor.STAFF}])
def test_nobody_works_on_a_report_of_their_own_group_or_without_the_role(action: Action) -> None:
    states = [state for state in CaseState if action in TRANSITIONS[state]]
    for state, staff in product(states, (Staff(9, "auditor"), Staff(9, "admin"))):
        with pytest.raises(ActionRefused):
            do(case_in(state), action, Actor.STAFF, staff=staff, outcome=Outcome.OVERTURNED, assignee=BEN)
    bound = Staff(9, "supervisor", "acme-group")
    for state in states:
        case = case_in(state, reviewer_id=bound.id)
        with pytest.raises(ConflictOfInterest):
            do(case, action, Actor.STAFF, staff=bound, outcome=Outcome.OVERTURNED, assignee=BEN)


@pytest.mark.parametrize(
    "action", [Action.HAND_BACK, Action.ASK_REPORTER, Action.ASK_SUBJECT, Action.NOTE, Action.PROPOSE, Action.DECIDE]
)
def test_only_who_holds_a_case_works_on_it(action: Action) -> None:
    with pytest.raises(CaseTaken):
        do(case_in(CaseState.UNDER_REVIEW), action, Actor.STAFF, staff=BEN, outcome=Outcome.OVERTURNED)


def test_only_a_supervisor_assigns() -> None:
    for staff, assignee in ((ANNA, BEN), (CLEO, None), (CLEO, Staff(5, "auditor"))):
        with pytest.raises(ActionRefused):
            do(case_in(CaseState.UNDER_REVIEW), Action.ASSIGN, Actor.STAFF, staff=staff, assignee=assignee)
    assert (
        do(case_in(CaseState.UNDER_REVIEW), Action.ASSIGN, Actor.STAFF, staff=CLEO, assignee=BEN).reviewer_id == BEN.id
    )


@pytest.mark.parametrize(("outcome", "severity"), list(product(Outcome, (1, 3, 6))))
def test_two_people_for_what_counts_gravely_again(outcome: Outcome, severity: int) -> None:
    case = case_in(CaseState.UNDER_REVIEW, severity=6)
    signed = severity >= 6 and outcome in (Outcome.UPHELD, Outcome.AMENDED)
    if outcome is not Outcome.AMENDED:
        case = replace(case, severity=severity)
    assert needs_signature(outcome, severity) == signed
    if signed:
        with pytest.raises(DecisionInvalid):
            do(case, Action.DECIDE, Actor.STAFF, staff=ANNA, outcome=outcome, severity=severity)
        case = do(case, Action.PROPOSE, Actor.STAFF, staff=ANNA, outcome=outcome, severity=severity)
        with pytest.raises(ConflictOfInterest):
            do(case, Action.SIGN, Actor.STAFF, staff=ANNA)
        assert do(case, Action.SIGN, Actor.STAFF, staff=BEN).outcome is outcome
    else:
        assert do(case, Action.DECIDE, Actor.STAFF, staff=ANNA, outcome=outcome, severity=severity).outcome is outcome


def test_who_worked_on_a_case_does_not_sign_it() -> None:
    case = case_in(CaseState.SUBMITTED, severity=6)
    case = do(case, Action.TAKE, Actor.STAFF, staff=BEN)
    case = do(case, Action.HAND_BACK, Actor.STAFF, staff=BEN)
    case = do(case, Action.TAKE, Actor.STAFF, staff=ANNA)
    case = do(case, Action.PROPOSE, Actor.STAFF, staff=ANNA, outcome=Outcome.UPHELD)
    with pytest.raises(ConflictOfInterest):
        do(case, Action.SIGN, Actor.STAFF, staff=BEN)
    with pytest.raises(ConflictOfInterest):
        do(case, Action.DECLINE, Actor.STAFF, staff=BEN)
    assert do(case, Action.SIGN, Actor.STAFF, staff=CLEO).state is CaseState.DECIDED


def test_an_amended_report_is_never_graver() -> None:
    case = case_in(CaseState.UNDER_REVIEW)
    for severity in (None, 0, 6):
        with pytest.raises(DecisionInvalid):
            do(case, Action.DECIDE, Actor.STAFF, staff=ANNA, outcome=Outcome.AMENDED, severity=severity)


@pytest.mark.parametrize(("first", "second"), list(product(Outcome, Outcome)))
def test_contesting_again_never_makes_it_worse(first: Outcome, second: Outcome) -> None:
    case = case_in(
        CaseState.UNDER_REVIEW, previous_outcome=first, round=2, severity=3, handlers=frozenset({(2, ANNA.id)})
    )
    if is_worse(second, first):
        with pytest.raises(DecisionInvalid):
            do(case, Action.DECIDE, Actor.STAFF, staff=ANNA, outcome=second, severity=1)
    else:
        after = do(case, Action.DECIDE, Actor.STAFF, staff=ANNA, outcome=second, severity=1)
        assert after.reopen_until is None, "a case is reopened once"


# --- clocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "opened", "due"),
    [
        # 9 March, 23:30 in Shanghai: day 1 is 10 March, day 20 is 29 March, over at midnight there.
        (Profile.CN, "2026-03-09T15:30:00+00:00", "2026-03-29T16:00:00+00:00"),
        # Half an hour later it is 10 March there.
        (Profile.CN, "2026-03-09T16:00:00+00:00", "2026-03-30T16:00:00+00:00"),
        # One month from 31 January ends with 28 February.
        (Profile.EU, "2026-01-31T10:00:00+00:00", "2026-02-28T23:00:00+00:00"),
        # Summer time begins on 29 March 2026: midnight in Brussels is 22:00 UTC then.
        (Profile.EU, "2026-03-15T10:00:00+00:00", "2026-04-15T22:00:00+00:00"),
        (Profile.EU, "2025-12-31T23:30:00+00:00", "2026-02-01T23:00:00+00:00"),
        # The day of receipt is the first of the month (UK GDPR art. 12A(2)), in London: summer time there, too.
        (Profile.UK, "2026-09-03T10:00:00+00:00", "2026-10-02T23:00:00+00:00"),
        (Profile.UK, "2026-05-31T22:59:59+00:00", "2026-06-30T23:00:00+00:00"),
        (Profile.UK, "2026-05-31T23:00:00+00:00", "2026-06-30T23:00:00+00:00"),
        # There is no 31 February: one month that begins with 31 January ends with the last day.
        (Profile.UK, "2026-01-31T10:00:00+00:00", "2026-03-01T00:00:00+00:00"),
        (Profile.UK, "2026-02-28T10:00:00+00:00", "2026-03-28T00:00:00+00:00"),
        # The day of receipt is the first of the thirty (15 U.S.C. 1681i(a)(1)(A)).
        (Profile.US, "2026-05-01T12:00:00+00:00", "2026-05-31T04:00:00+00:00"),
    ],
)
def test_due_dates(profile: Profile, opened: str, due: str) -> None:
    moment = datetime.fromisoformat(opened)
    computed = due_at(moment, profile, POLICY.appeals.clocks[profile], ZONES[profile])
    assert computed == datetime.fromisoformat(due)


moments = st.integers(1_735_689_600, 2_051_222_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
"""2025 to 2035."""


@given(
    opened=moments,
    profile=st.sampled_from(Profile),
)
def test_no_clock_is_longer_than_its_statute(opened: datetime, profile: Profile) -> None:
    zone, clock = ZONES[profile], POLICY.appeals.clocks[profile]
    due = due_at(opened, profile, clock, zone)
    local_open, local_due = opened.astimezone(zone), due.astimezone(zone)
    assert (local_due.hour, local_due.minute, local_due.second) == (0, 0, 0)
    last_day = local_due.date() - timedelta(days=1)
    if profile is Profile.UK:
        first_too_late = local_due.date()  # the corresponding date of the next month, or the 1st where there is none
        assert first_too_late.day == local_open.day or first_too_late.day == 1
        assert 28 <= (first_too_late - local_open.date()).days <= 31
    elif profile is Profile.EU:
        month = (local_open.year * 12 + local_open.month) + 1
        assert last_day.year * 12 + last_day.month == month
        assert last_day.day == local_open.day or (last_day + timedelta(days=1)).month != last_day.month
    else:
        assert (last_day - local_open.date()).days == {Profile.CN: 20, Profile.US: 29}[profile]
    extended = extended_due_at(due, clock, zone).astimezone(zone).date() - timedelta(days=1)
    assert (extended - last_day).days == profile.spec.limits.extension_days


@given(opened=moments)
def test_of_several_clocks_the_shortest_runs(opened: datetime) -> None:
    chosen = earlier_profile(Profile, opened, POLICY, ZONES)
    ends = {profile: due_at(opened, profile, POLICY.appeals.clocks[profile], ZONES[profile]) for profile in Profile}
    assert ends[chosen] == min(ends.values())


def test_the_clock_is_extended_once_only_in_the_us_and_only_after_new_information() -> None:
    case = case_in(CaseState.UNDER_REVIEW, profile=Profile.US)
    with pytest.raises(ActionRefused):
        do(case, Action.EXTEND, Actor.STAFF, staff=ANNA)
    informed = do(case, Action.ADD, Actor.SUBJECT)
    extended = do(informed, Action.EXTEND, Actor.STAFF, staff=ANNA)
    assert extended.due_at - informed.due_at > timedelta(days=14)
    for profile, again in ((Profile.US, extended), (Profile.CN, informed), (Profile.EU, informed)):
        with pytest.raises(ActionRefused):
            do(replace(again, profile=profile), Action.EXTEND, Actor.STAFF, staff=ANNA)
    with pytest.raises(ActionRefused):
        do(replace(informed, overdue=True), Action.EXTEND, Actor.STAFF, staff=ANNA)


def test_questions_have_seven_days_and_do_not_stop_the_clock() -> None:
    case = case_in(CaseState.UNDER_REVIEW)
    asked = do(case, Action.ASK_REPORTER, Actor.STAFF, staff=ANNA)
    assert asked.question_due_at == NOW + timedelta(days=7)
    assert asked.due_at == case.due_at
    assert due_actions(asked, NOW + timedelta(days=7) - timedelta(microseconds=1)) == []
    assert due_actions(asked, NOW + timedelta(days=7)) == [Action.REPORTER_SILENT]
    silent = do(asked, Action.REPORTER_SILENT, Actor.CLOCK, NOW + timedelta(days=7))
    assert (silent.state, silent.outcome) == (CaseState.DECIDED, Outcome.OVERTURNED)
    person = do(case, Action.ASK_SUBJECT, Actor.STAFF, staff=ANNA)
    back = do(person, Action.SUBJECT_SILENT, Actor.CLOCK, NOW + timedelta(days=7))
    assert (back.state, back.question_due_at) == (CaseState.UNDER_REVIEW, None)


def test_reopening_has_its_window() -> None:
    case = case_in(CaseState.DECIDED)
    assert case.reopen_until is not None
    assert do(case, Action.REOPEN, Actor.SUBJECT, case.reopen_until - timedelta(seconds=1)).round == 2
    with pytest.raises(ActionRefused):
        do(case, Action.REOPEN, Actor.SUBJECT, case.reopen_until)
    for outcome in (Outcome.OVERTURNED, Outcome.VICTIM):
        won = do(case_in(CaseState.UNDER_REVIEW), Action.DECIDE, Actor.STAFF, staff=ANNA, outcome=outcome)
        with pytest.raises(ActionRefused):
            do(won, Action.REOPEN, Actor.SUBJECT)


def test_window_start() -> None:
    assert window_start(datetime(2026, 3, 31, 5, tzinfo=UTC), 24) == datetime(2024, 3, 31, 5, tzinfo=UTC)
    assert window_start(datetime(2026, 3, 31, tzinfo=UTC), 1).date() == date(2026, 2, 28)
