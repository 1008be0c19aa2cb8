"""Lines of orders: every state of the case or decision against every act of the reporter, what binds a further report,
and which reports under another order are held."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import AlreadyExpired, DecisionInvalid, NoticeOutdated
from ledger.protocol.encoding import day_floor
from ledger.rules.appeals import Outcome
from ledger.rules.order_lines import (
    ALIKE_DAYS,
    REOPENING_DAYS,
    Act,
    Bound,
    Closed,
    Contested,
    Decided,
    Ended,
    Held,
    LineEvent,
    LineState,
    LineVerdict,
    Opened,
    Permitted,
    Recorded,
    Refused,
    Released,
    ReopeningAsked,
    Repaid,
    ReportMatter,
    Withdrawn,
    alike,
    bound_intake,
    check_conceded,
    held_for,
    judge,
    replay,
)
from ledger.rules.reports import Intake

NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
TODAY = day_floor(NOW)
REPORT, CASE = 7, 70
FIRST = Recorded(REPORT, NOW - timedelta(days=3), TODAY + 300)
OPEN = (FIRST, Opened(REPORT, CASE))


def decided(outcome: Outcome) -> tuple[LineEvent, ...]:
    return (*OPEN, Decided(REPORT, CASE, outcome, NOW - timedelta(days=1)))


STATES: dict[str, tuple[LineEvent, ...]] = {
    "nothing": (),
    "reported": (FIRST,),
    "open": OPEN,
    **{outcome.value: decided(outcome) for outcome in Outcome},
    "appeal taken back": (*OPEN, Ended(CASE)),
    "withdrawn": (FIRST, Withdrawn(REPORT)),
    "withdrawn under dispute": (*OPEN, Withdrawn(REPORT)),
    "upheld, then withdrawn": (*decided(Outcome.UPHELD), Withdrawn(REPORT)),
    "reopened by the person": (*decided(Outcome.AMENDED), Opened(REPORT, CASE)),
    "reopened for the reporter": (*decided(Outcome.UNCONFIRMED), ReopeningAsked(CASE), Opened(REPORT, CASE)),
    "reopened for the reporter, upheld": (
        *decided(Outcome.UNCONFIRMED),
        ReopeningAsked(CASE),
        Opened(REPORT, CASE),
        Decided(REPORT, CASE, Outcome.UPHELD, NOW),
    ),
    "held": (replace(FIRST, held=True),),
    "held and not released": (replace(FIRST, held=True), Withdrawn(REPORT, closes=False)),
    "held, contested and not released": (
        replace(FIRST, held=True),
        Opened(REPORT, CASE),
        Withdrawn(REPORT, closes=False),
    ),
    "expired": (replace(FIRST, expires_day=TODAY),),
    "erased": (Closed(CASE),),
}

BIND = Permitted(Bound(FIRST.recorded_at, FIRST.expires_day, None, (REPORT,)))
FREE, PERMITTED, COSTS = Permitted(), Permitted(), Permitted(costs=True, closes=CASE)
REPORTED, DISPUTED, DECIDED = "order_already_reported", "report_disputed", "order_decided"
REVERSED, NO, LINK, OTHER = "already_reversed", "action_refused", "linked_report_invalid", "replacement_invalid"

# state: (report anew, replace, report one that is linked to it, withdraw, concede, restitution, answer, ask to reopen)
TABLE: dict[str, tuple[Permitted | str, ...]] = {
    "nothing": (FREE, OTHER, LINK, REVERSED, NO, REVERSED, NO, NO),
    "reported": (REPORTED, BIND, PERMITTED, PERMITTED, NO, PERMITTED, NO, NO),
    "open": (REPORTED, DISPUTED, LINK, COSTS, PERMITTED, PERMITTED, PERMITTED, NO),
    "upheld": (REPORTED, BIND, PERMITTED, PERMITTED, NO, PERMITTED, NO, NO),
    "amended": (DECIDED, DECIDED, PERMITTED, PERMITTED, NO, PERMITTED, NO, NO),
    "overturned": (DECIDED, DECIDED, LINK, REVERSED, NO, REVERSED, NO, NO),
    "unconfirmed": (DECIDED, DECIDED, LINK, PERMITTED, NO, PERMITTED, NO, PERMITTED),
    "victim": (DECIDED, DECIDED, LINK, REVERSED, NO, REVERSED, NO, NO),
    "unlinked": (DECIDED, DECIDED, PERMITTED, PERMITTED, NO, PERMITTED, NO, NO),
    "appeal taken back": (REPORTED, BIND, PERMITTED, PERMITTED, NO, PERMITTED, NO, NO),
    "withdrawn": (BIND, BIND, LINK, REVERSED, NO, REVERSED, NO, NO),
    "withdrawn under dispute": (DECIDED, DECIDED, LINK, REVERSED, NO, REVERSED, NO, NO),
    "upheld, then withdrawn": (BIND, BIND, LINK, REVERSED, NO, REVERSED, NO, NO),
    "reopened by the person": (REPORTED, DISPUTED, LINK, COSTS, PERMITTED, PERMITTED, PERMITTED, NO),
    "reopened for the reporter": (REPORTED, DISPUTED, LINK, COSTS, PERMITTED, PERMITTED, PERMITTED, NO),
    "reopened for the reporter, upheld": (REPORTED, BIND, PERMITTED, PERMITTED, NO, PERMITTED, NO, NO),
    "held": (REPORTED, BIND, LINK, PERMITTED, NO, PERMITTED, NO, NO),
    "held and not released": (BIND, BIND, LINK, REVERSED, NO, REVERSED, NO, NO),
    "held, contested and not released": (BIND, BIND, LINK, REVERSED, NO, REVERSED, NO, NO),
    "expired": (REPORTED, BIND, PERMITTED, PERMITTED, NO, PERMITTED, NO, NO),
    "erased": (DECIDED, OTHER, LINK, REVERSED, NO, REVERSED, NO, NO),
}
ACTS = (
    *(Act.REPORT, Act.REPLACE, Act.LINK, Act.WITHDRAW),
    *(Act.CONCEDE, Act.RESTITUTE, Act.ANSWER, Act.ASK_REOPENING),
)


def act_on(line: LineState, act: Act, **more: object) -> LineVerdict:
    report = None if act is Act.REPORT else REPORT
    return judge(line, act, NOW, report_id=report, case_id=CASE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("state", "act"), list(product(STATES, ACTS)))
def test_every_state_and_act(state: str, act: Act) -> None:
    expected = TABLE[state][ACTS.index(act)]
    answer = act_on(replay(STATES[state]), act)
    if isinstance(expected, str):
        assert isinstance(answer, Refused)
        assert answer.error.code == expected
        if expected in (DECIDED, DISPUTED):
            assert answer.case_id == CASE
        if expected == REPORTED:
            assert answer.report_id == REPORT
    else:
        if "expired" in state and isinstance(answer, Permitted) and answer.bound.earlier:
            expected = Permitted(replace(answer.bound, expires_day=TODAY))
        assert answer == expected


def test_the_table_is_complete() -> None:
    assert TABLE.keys() == STATES.keys()
    assert {len(row) for row in TABLE.values()} == {len(ACTS)} == {len(Act)}


def test_a_duplicate_costs_nothing_but_closes() -> None:
    assert act_on(replay(OPEN), Act.WITHDRAW, duplicate=True) == Permitted(costs=False, closes=CASE)


def test_a_repaid_report_is_not_repaid_again() -> None:
    answer = act_on(replay((FIRST, Repaid(REPORT, NOW))), Act.RESTITUTE)
    assert isinstance(answer, Refused)
    assert answer.error.code == "already_restituted"


def test_a_case_is_opened_again_once_in_time_and_for_new_evidence() -> None:
    old = Decided(REPORT, CASE, Outcome.UNCONFIRMED, NOW - timedelta(days=REOPENING_DAYS))
    unconfirmed = decided(Outcome.UNCONFIRMED)
    refused = [
        act_on(replay((*OPEN, old)), Act.ASK_REOPENING),
        act_on(replay((*unconfirmed, ReopeningAsked(CASE))), Act.ASK_REOPENING),
        act_on(replay(unconfirmed), Act.ASK_REOPENING, known_evidence=True),
        act_on(replay((replace(FIRST, expires_day=TODAY), *unconfirmed[1:])), Act.ASK_REOPENING),
        act_on(replay((*unconfirmed, Withdrawn(REPORT))), Act.ASK_REOPENING),
    ]
    assert [type(item) for item in refused] == [Refused] * 5
    just = replace(old, at=NOW - timedelta(days=REOPENING_DAYS) + timedelta(seconds=1))
    assert isinstance(act_on(replay((*OPEN, just)), Act.ASK_REOPENING), Permitted)


def test_several_cases_about_one_report() -> None:
    """Rounds by several ways: any open one holds the report, any decision against it closes the line."""
    other = CASE + 1
    history = (*OPEN, Opened(REPORT, other), Decided(REPORT, CASE, Outcome.UPHELD, NOW))
    still = act_on(replay(history), Act.REPLACE)
    assert isinstance(still, Refused)
    assert (still.error.code, still.case_id) == (DISPUTED, other)
    line = replay((*history, Decided(REPORT, other, Outcome.AMENDED, NOW)))
    assert (line.closed_by, line.stands(TODAY)) == (other, False)
    assert replay((*history, Decided(REPORT, other, Outcome.UPHELD, NOW))).stands(TODAY)


# --- what binds a further report ----------------------------------------------------------------------------------


def intake(expires_day: int = TODAY + 365) -> Intake:
    return Intake(effective_hour=(TODAY + 3) * 24, expires_day=expires_day, act_day=TODAY - 1, severity=3)


def test_a_further_report_needs_a_later_notice_and_expires_no_later() -> None:
    bound = Bound(notice_from=NOW, expires_day=TODAY + 100, earlier=(1,))
    with pytest.raises(NoticeOutdated) as caught:
        bound_intake(intake(), NOW - timedelta(seconds=1), bound)
    assert caught.value.details == {"not_before": "2026-03-10T09:30:00Z"}
    assert bound_intake(intake(), NOW, bound) == intake(TODAY + 100)
    assert bound_intake(intake(TODAY + 50), NOW, bound) == intake(TODAY + 50)
    with pytest.raises(AlreadyExpired):
        bound_intake(intake(), NOW, replace(bound, expires_day=TODAY + 3))
    assert bound_intake(intake(), NOW, Bound()) == intake()


events = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(0, 400), st.booleans()),
        st.tuples(st.just("withdraw"), st.integers(0, 400), st.booleans()),
        st.tuples(st.just("repay"), st.integers(0, 400), st.booleans()),
        st.tuples(st.just("contest"), st.integers(0, 5), st.booleans()),
    ),
    max_size=25,
)


@given(steps=events)
def test_what_is_permitted_on_one_line_never_undoes_anything(steps: list[tuple[str, int, bool]]) -> None:
    """The acts are played as they are judged, with the dates and notices that suit the liar best."""
    history: list[LineEvent] = []
    moment, reports = NOW, 0
    least_expiry: int | None = None
    repaid = closed = False
    for kind, number, flag in steps:
        moment += timedelta(hours=1)
        line = replay(history)
        live = line.live
        if kind == "report":
            verdict = judge(
                line, Act.REPLACE if live else Act.REPORT, moment, report_id=None if live is None else live.report_id
            )
            if not isinstance(verdict, Permitted):
                continue
            assert not closed, "a closed line takes no report"
            assert not line.disputed, "nothing replaces what is contested"
            early = moment - timedelta(days=5) if flag else moment
            try:
                taken = bound_intake(intake(TODAY + number), early, verdict.bound)
            except NoticeOutdated:
                assert flag
                continue
            except AlreadyExpired:
                continue
            assert reports == 0 or not flag, "an old notice is good for the first report only"
            reports += 1
            if live is not None:
                history.append(Withdrawn(live.report_id))
            history.append(Recorded(reports, moment, taken.expires_day))
            if verdict.bound.repaid_at is not None:
                history.append(Repaid(reports, verdict.bound.repaid_at))
            assert least_expiry is None or taken.expires_day <= least_expiry
            assert not repaid or verdict.bound.repaid_at is not None
            least_expiry = taken.expires_day
        elif live is None:
            continue
        elif kind == "withdraw":
            verdict = judge(line, Act.WITHDRAW, moment, report_id=live.report_id)
            assert isinstance(verdict, Permitted), "a withdrawal is always possible"
            assert verdict.costs == (verdict.closes is not None) == bool(line.disputed)
            closed = closed or verdict.closes is not None
            history.append(Withdrawn(live.report_id))
        elif kind == "repay":
            if isinstance(judge(line, Act.RESTITUTE, moment, report_id=live.report_id), Permitted):
                history.append(Repaid(live.report_id, moment))
                repaid = True
        elif not line.disputed:
            case = len(history)
            history.append(Opened(live.report_id, case))
            if flag:
                outcome = tuple(Outcome)[number % 6]
                history.append(Decided(live.report_id, case, outcome, moment))
                closed = closed or outcome is not Outcome.UPHELD


# --- the same matter under another order --------------------------------------------------------------------------

MINE = ReportMatter(b"n" * 32, TODAY, "CNY", 10_000, frozenset({b"e" * 32}), 3)
THEIRS = Contested(7, 7, 70, b"o" * 32, TODAY - 400, "EUR", 1, frozenset({b"f" * 32}), held=False, stands=False)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, False),
        ({"evidence": frozenset({b"e" * 32, b"g" * 32})}, True),
        ({"act_day": TODAY - ALIKE_DAYS}, True),
        ({"act_day": TODAY + ALIKE_DAYS}, True),
        ({"act_day": TODAY - ALIKE_DAYS - 1}, False),
        ({"currency": "CNY", "amount_minor": 8_000}, True),
        ({"currency": "CNY", "amount_minor": 7_999}, False),
        ({"currency": "CNY", "amount_minor": 12_500}, True),
        ({"currency": "CNY", "amount_minor": 12_501}, False),
        ({"currency": "USD", "amount_minor": 10_000}, False),
    ],
)
def test_what_shows_that_it_is_the_same_matter(changes: dict[str, object], same: bool) -> None:
    theirs = replace(THEIRS, **changes)  # type: ignore[arg-type]
    assert alike(MINE, theirs) is same
    assert held_for(MINE, [theirs]) == (theirs if same else None)


def test_who_is_held_and_who_is_not() -> None:
    near = replace(THEIRS, act_day=TODAY)
    assert held_for(MINE, [replace(near, stands=True)]) is None, "an upheld report is no reason"
    assert held_for(replace(MINE, severity=0), [near]) is None, "what protects the person is not held"
    assert held_for(replace(MINE, order_ref=near.order_ref), [near]) is None, "its own line binds it"
    waits = replace(THEIRS, order_ref=MINE.order_ref, held=True)
    assert held_for(MINE, [waits]) == waits, "after a held report of the order, whatever it says"
    assert held_for(MINE, [replace(waits, stands=True)]) is None, "what it was held for was upheld"
    assert held_for(MINE, [replace(near, report_id=9), near]) == near, "the earliest is named"
    verdict = judge(replay(()), Act.REPORT, NOW, matter=MINE, contested=[near])
    assert verdict == Held(Bound(), near)
    assert isinstance(judge(replay(decided(Outcome.VICTIM)), Act.REPORT, NOW, matter=MINE, contested=[near]), Refused)


def test_a_released_report_is_like_any_other() -> None:
    history = (replace(FIRST, held=True), Released(REPORT))
    assert replay(history).stands(TODAY)
    assert not replay(history[:1]).stands(TODAY)
    assert not replay(history).stands(FIRST.expires_day)


# --- concessions --------------------------------------------------------------------------------------------------


def test_a_decision_goes_no_further_than_a_concession() -> None:
    for outcome in Outcome:
        check_conceded(outcome, 6, None)
        if outcome is Outcome.UPHELD:
            with pytest.raises(DecisionInvalid):
                check_conceded(outcome, None, 3)
        elif outcome is Outcome.AMENDED:
            check_conceded(outcome, 3, 3)
            with pytest.raises(DecisionInvalid):
                check_conceded(outcome, 6, 3)
        else:
            check_conceded(outcome, None, 3)
