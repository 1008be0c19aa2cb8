"""Rights to appeal that no other party can use up, on both engines."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.code_names import conduct_text
from ledger.errors import (
    ActionRefused,
    CaseExists,
    ConflictOfInterest,
    DecisionInvalid,
    LedgerError,
    NotFound,
    QuotaExceeded,
)
from ledger.protocol.encoding import format_time
from ledger.rules.appeals import MAX_WITHDRAWALS, Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.case_changes import run_clocks
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.filing import FILING_PURPOSE
from ledger.server.db.engine import writing
from ledger.server.records import case_queries as store
from ledger.server.reports.reports import get_report
from tests.rotations import on_one_engine
from tests.server.appeals.rights_kit import FOREIGN, Rights, by_platform, cases_of, file_for, play
from tests.server.appeals.test_appeals import ANNA, BEN, CLEO, bodies, case_row, contest, session_of
from tests.server.conftest import LedgerFixture, Subjects
from tests.support import evidence, with_settings

pytestmark = pytest.mark.one_engine

DELTA, EVE, FAY, GUS = FOREIGN
MINOR: dict[str, Any] = {"conduct": "wardrobing", "evidence": evidence("intake_photo", "policy_clause")}


def decided(ledger: LedgerFixture, case: str, outcome: Outcome, staff: Staff = ANNA, **more: Any) -> None:
    staff_actions.take(ledger.rt.context, case, staff)
    staff_actions.decide(ledger.rt.context, case, staff, outcome, f"Reasons of {staff.id}.", **more)


def case_text(conduct: str) -> str:
    """Return the conduct as letters name it."""
    return conduct_text(conduct, "en")


def shown(ledger: LedgerFixture, person: Subjects) -> dict[str, object]:
    """The person's only report in their record."""
    record = own_record(ledger.rt.context, ledger.rt.members.weights(), session_of(ledger, person))
    (report,) = record["reports"]
    return dict(report)


# --- what another party did -----------------------------------------------------------------------------------


def test_a_stranger_cannot_burn_the_right_by_filing_and_withdrawing(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    case = file_for(ledger, DELTA, person, report["id"])
    by_platform(ledger, DELTA, "withdraw", case)
    by_platform(ledger, DELTA, "reopen", case)
    assert not ledger.lookup(person)["disputed"], "one group suspends a report once"
    by_platform(ledger, DELTA, "withdraw", case)
    assert ledger.lookup(person)["tier"] == "watch"
    assert shown(ledger, person)["appealable"]
    file_for(ledger, ledger.bolt, person, report["id"])  # another platform's right is whole as well
    (own,) = contest(ledger, person, report)
    decided(ledger, own, Outcome.UPHELD)
    assert shown(ledger, person)["case"]["can_reopen"]  # type: ignore[index]
    consumer.reopen(ledger.rt.context, session_of(ledger, person), own, "Look again.")


def test_the_accused_group_does_nothing_for_the_person(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    for platform in (ledger.acme, ledger.acme2):
        with pytest.raises(ConflictOfInterest):
            file_for(ledger, platform, person, report["id"])
    assert cases_of(ledger, report) == []
    (case,) = contest(ledger, person, report)
    for platform in (ledger.acme, ledger.acme2):
        for action in ("withdraw", "reopen", "say"):
            with pytest.raises(NotFound):
                by_platform(ledger, platform, action, case)
    assert case_row(ledger, case).state == "submitted"


@on_one_engine
def test_the_accused_group_speaks_in_no_case_that_it_filed_before_this_was_forbidden(ledger: LedgerFixture) -> None:
    """Ledgers of earlier versions hold such cases; the person takes them over."""
    person = ledger.person()
    report = ledger.report(ledger.bolt, person)
    case = file_for(ledger, DELTA, person, report["id"])
    _pretend_filed_by(ledger, case, "bolt", "bolt-group")
    for action in ("withdraw", "reopen", "say"):
        with pytest.raises(ConflictOfInterest):
            by_platform(ledger, ledger.bolt, action, case)
    assert contest(ledger, person, report) == [case]
    assert case_row(ledger, case).filed_by_subject


def _pretend_filed_by(ledger: LedgerFixture, case: str, platform: str, group: str) -> None:
    with writing(ledger.rt.engine) as connection:
        store.save_case(connection, replace(case_row(ledger, case), filed_via=platform, filing_group=group))


@on_one_engine
@pytest.mark.parametrize("outcome", [Outcome.UPHELD, Outcome.UNCONFIRMED, Outcome.AMENDED, Outcome.UNLINKED])
def test_a_platforms_decided_round_closes_its_own_way_only(ledger: LedgerFixture, outcome: Outcome) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    case = file_for(ledger, DELTA, person, report["id"])
    named: dict[Outcome, dict[str, Any]] = {
        Outcome.AMENDED: {"conduct": Conduct.WARDROBING},
        Outcome.UNLINKED: {"slots": [0]},
    }
    decided(ledger, case, outcome, **named.get(outcome, {}))
    by_platform(ledger, DELTA, "reopen", case)
    decided(ledger, case, Outcome.UPHELD if outcome is Outcome.UPHELD else Outcome.UNCONFIRMED, BEN)
    with pytest.raises(CaseExists):
        file_for(ledger, DELTA, person, report["id"])
    (own,) = contest(ledger, person, report)
    assert own != case
    assert ledger.lookup(person)["disputed"]
    row = case_row(ledger, own)
    if outcome is Outcome.AMENDED:
        assert (row.current_conduct, row.severity) == ("wardrobing", 1)
    if outcome is not Outcome.UPHELD:
        staff_actions.take(ledger.rt.context, own, CLEO)
        with pytest.raises(DecisionInvalid):
            staff_actions.decide(ledger.rt.context, own, CLEO, Outcome.UPHELD, "Worse than before.")
        staff_actions.decide(ledger.rt.context, own, CLEO, Outcome.UNCONFIRMED, "As it was.")
    else:
        decided(ledger, own, Outcome.UPHELD, CLEO)
    consumer.reopen(ledger.rt.context, session_of(ledger, person), own, "My own reopening.")
    assert case_row(ledger, own).round == 2


def test_the_person_takes_over_a_platforms_open_case(ledger: LedgerFixture) -> None:
    """Its date stays, no proposal made without the person's words stands, and the platform is out of it."""
    context, person = ledger.rt.context, ledger.person()
    grave: dict[str, Any] = {"conduct": "switched_return", "evidence": evidence("serial_mismatch", "intake_photo")}
    report = ledger.report(ledger.acme, person, **grave)
    case = file_for(ledger, DELTA, person, report["id"])
    due = case_row(ledger, case).due_at
    staff_actions.take(context, case, ANNA)
    staff_actions.decide(context, case, ANNA, Outcome.UPHELD, "Nothing was said against it.")
    assert contest(ledger, person, report, grounds="not_me") == [case]
    row = case_row(ledger, case)
    assert (row.state, row.filed_by_subject, row.filing_group, row.grounds) == ("under_review", True, None, "not_me")
    assert (row.due_at, row.proposer_id, row.suspends) == (due, None, True)
    with pytest.raises(ActionRefused):
        staff_actions.sign(context, case, BEN)
    for action in ("withdraw", "reopen", "say"):
        with pytest.raises(NotFound):
            by_platform(ledger, DELTA, action, case)
    with pytest.raises(CaseExists) as refused:
        contest(ledger, person, report)
    assert refused.value.details["case"] == case
    again = file_for(ledger, DELTA, person, report["id"])  # what was taken over used up nothing of the platform's
    by_platform(ledger, DELTA, "withdraw", again)
    assert ledger.lookup(person)["disputed"], "the person's own round goes on"
    assert [body["case"] for body in bodies(ledger, "dispute")].count(case) == 2


@on_one_engine
def test_a_case_that_a_platform_reopened_is_not_taken_over(ledger: LedgerFixture) -> None:
    """It would leave the person without a reopening of their own."""
    context, person = ledger.rt.context, ledger.person()
    report = ledger.report(ledger.acme, person)
    case = file_for(ledger, DELTA, person, report["id"])
    decided(ledger, case, Outcome.UPHELD)
    by_platform(ledger, DELTA, "reopen", case)
    (own,) = contest(ledger, person, report)
    assert own != case
    assert case_row(ledger, case).filing_group == DELTA.control_group
    decided(ledger, own, Outcome.UPHELD, BEN)
    consumer.reopen(context, session_of(ledger, person), own, "My own reopening.")


@on_one_engine
def test_a_kept_letter_says_what_its_own_round_decided(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    report = ledger.report(ledger.acme, person)
    first, second = (file_for(ledger, platform, person, report["id"]) for platform in (DELTA, EVE))
    decided(ledger, first, Outcome.AMENDED, conduct=Conduct.FRIENDLY_CHARGEBACK)
    letter = consumer.own_letter(context, session_of(ledger, person), first, "decided", "en").to_text()
    decided(ledger, second, Outcome.AMENDED, BEN, conduct=Conduct.WARDROBING)
    by_platform(ledger, DELTA, "reopen", first)
    assert (case_row(ledger, first).current_conduct, case_row(ledger, first).severity) == ("wardrobing", 1)
    kept = consumer.own_letter(context, session_of(ledger, person), first, "decided", "en", 1).to_text()
    assert case_text("friendly_chargeback") in kept
    assert case_text("friendly_chargeback") in letter
    assert case_text("wardrobing") not in kept


@on_one_engine
def test_at_most_three_groups_have_a_round_and_withdrawn_ones_take_no_place(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    first = file_for(ledger, DELTA, person, report["id"])
    for platform in (EVE, FAY):
        file_for(ledger, platform, person, report["id"])
    with pytest.raises(NotFound):
        file_for(ledger, GUS, person, report["id"])
    by_platform(ledger, DELTA, "withdraw", first)
    file_for(ledger, GUS, person, report["id"])
    with pytest.raises(ActionRefused):
        by_platform(ledger, DELTA, "reopen", first)
    assert contest(ledger, person, report)


def test_only_the_first_round_of_platforms_suspends_and_the_next_takes_its_place(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    report = ledger.report(ledger.acme, person)
    first = file_for(ledger, DELTA, person, report["id"])
    second = file_for(ledger, EVE, person, report["id"])
    assert (case_row(ledger, first).suspends, case_row(ledger, second).suspends) == (True, False)
    assert bodies(ledger, "dispute")[-1]["suspends"] is False
    by_platform(ledger, DELTA, "withdraw", first)
    assert case_row(ledger, second).suspends, "a withdrawn round is not the first one"
    assert ledger.lookup(person)["disputed"]
    third = file_for(ledger, FAY, person, report["id"])
    decided(ledger, second, Outcome.UPHELD)
    assert ledger.lookup(person)["tier"] == "watch", "the third round is decided while the report counts"
    due = case_row(ledger, third).due_at
    ledger.clock.moment = due
    run_clocks(context)
    assert case_row(ledger, third).overdue
    assert ledger.lookup(person)["tier"] == "watch"
    letter = consumer.own_letter(context, session_of(ledger, person), third, "overdue", "en").to_text()
    assert "neither shown" not in letter
    assert "contest the report yourself" in letter


@on_one_engine
def test_a_decision_in_one_case_binds_those_beside_it(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    report = ledger.report(ledger.acme, person)
    first, second = (file_for(ledger, platform, person, report["id"]) for platform in (DELTA, EVE))
    staff_actions.take(context, second, BEN)
    decided(ledger, first, Outcome.UNCONFIRMED)
    with pytest.raises(DecisionInvalid):
        staff_actions.decide(context, second, BEN, Outcome.UPHELD, "Worse than what is in force.")
    staff_actions.decide(context, second, BEN, Outcome.OVERTURNED, "The record is wrong.")
    assert [row.state for row in cases_of(ledger, report)] == ["closed", "decided"]
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "overturned"
    ledger.rt.members.refresh()
    ledger.clock.moment += timedelta(days=1)
    assert ledger.rt.members.weights()["acme-group"] == 35, "one report is overturned once"


@on_one_engine
def test_a_victim_does_not_cost_the_reporter_because_of_a_case_beside(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    first, second = (file_for(ledger, platform, person, report["id"]) for platform in (DELTA, EVE))
    decided(ledger, first, Outcome.VICTIM)
    assert case_row(ledger, second).state == "closed"
    ledger.rt.members.refresh()
    ledger.clock.moment += timedelta(days=1)
    assert ledger.rt.members.weights()["acme-group"] == 40
    assert ledger.lookup(person)["protected"]


# --- what the person did -----------------------------------------------------------------------------------------


@on_one_engine
def test_withdrawals_use_up_nothing_and_have_an_end(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    report, session = ledger.report(ledger.acme, person), session_of(ledger, person)
    for _ in range(MAX_WITHDRAWALS):
        (case,) = contest(ledger, person, report)
        consumer.withdraw(context, session, case)
        ledger.clock.moment += timedelta(days=1)
    (case,) = contest(ledger, person, report)
    with pytest.raises(ActionRefused):
        consumer.withdraw(context, session, case)
    assert case_row(ledger, case).state == "submitted", "it will be decided"
    assert not consumer.own_case(context, session_of(ledger, person), case)["can_withdraw"]
    assert [row.state for row in cases_of(ledger, report)] == ["closed"] * MAX_WITHDRAWALS + ["submitted"]


@on_one_engine
def test_a_withdrawn_reopening_may_be_made_again(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    session = session_of(ledger, person)
    decided(ledger, case, Outcome.UNCONFIRMED)
    consumer.reopen(context, session, case, "Again.")
    consumer.withdraw(context, session, case)
    assert (ledger.lookup(person)["tier"], ledger.lookup(person)["disputed"]) == ("clear", False), (
        "unconfirmed, as decided"
    )
    consumer.reopen(context, session, case, "After all.")
    row = case_row(ledger, case)
    assert (row.round, row.previous_outcome) == (2, "unconfirmed")
    with pytest.raises(ConflictOfInterest):
        staff_actions.take(context, case, ANNA)


# --- quota and the record of attempts -------------------------------------------------------------------------------


def test_every_attempt_is_counted_and_shown_to_the_person(ledger: LedgerFixture) -> None:
    person, stranger = ledger.person(), ledger.person(1)
    report = ledger.report(ledger.acme, person)
    rt = with_settings(ledger.rt, ledger.rt.settings.model_copy(update={"appeals_daily_quota": 3}))
    few = replace(ledger, rt=rt)
    with pytest.raises(NotFound):
        file_for(few, DELTA, stranger, report["id"])
    key = secrets.token_hex(8)
    case = file_for(few, DELTA, person, report["id"], key=key)
    with pytest.raises(CaseExists):
        file_for(few, DELTA, person, report["id"])
    with pytest.raises(QuotaExceeded) as refused:
        file_for(few, DELTA, person, report["id"])
    assert 0 < int(str(refused.value.details["retry_after_seconds"])) <= 86_400
    assert file_for(few, DELTA, person, report["id"], key=key) == case, "an answer that was given is given again"
    record = own_record(ledger.rt.context, {}, session_of(ledger, person, "g0"))
    tried = [
        (lookup["asked_by"], lookup["asked_at"], lookup["times"])
        for lookup in record["lookups"]
        if lookup["purpose"] == FILING_PURPOSE
    ]
    assert tried == [("g0", format_time(ledger.clock()), 2)]
    assert own_record(ledger.rt.context, {}, session_of(ledger, person))["lookups"][0]["asked_by"] is None
    nothing = own_record(ledger.rt.context, {}, session_of(ledger, stranger))["lookups"]
    assert nothing == [], "of a person without a record no list of attempts is kept"
    file_for(few, EVE, person, report["id"])  # each platform has its own
    ledger.clock.moment += timedelta(days=1)
    with pytest.raises(CaseExists):
        file_for(few, DELTA, person, report["id"])


def test_the_quota_holds_for_requests_at_once(ledger: LedgerFixture) -> None:
    person = ledger.person()
    rt = with_settings(ledger.rt, ledger.rt.settings.model_copy(update={"appeals_daily_quota": 4}))
    few = replace(ledger, rt=rt)

    def attempt(_: int) -> str:
        try:
            return file_for(few, ledger.bolt, person, "rp_unknown")
        except LedgerError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(attempt, range(12)))
    assert results == ["not_found"] * 4 + ["quota_exceeded"] * 8


# --- dates and letters -----------------------------------------------------------------------------------------------


@on_one_engine
def test_nothing_is_promised_past_the_life_of_the_record(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    session = session_of(ledger, person)
    report = ledger.report(ledger.acme, person, act_ended_at=format_time(ledger.clock() - timedelta(days=60)), **MINOR)
    (case,) = contest(ledger, person, report)
    expires = consumer.own_case(context, session, case)["expires_at"]
    decided(ledger, case, Outcome.UNCONFIRMED)
    row = case_row(ledger, case)
    assert row.reopen_until is not None
    assert format_time(row.reopen_until) == expires < format_time(ledger.clock() + timedelta(days=60))
    letter = consumer.own_letter(context, session, case, "decided", "en").to_text()
    assert letter.count("reopened once, until") == 1
    ledger.clock.moment = row.reopen_until
    with pytest.raises(ActionRefused) as refused:
        consumer.reopen(context, session, case, "Too late.")
    assert refused.value.details["expired"]
    assert case_row(ledger, case).state == "decided", "the decision stays what it was"
    assert not consumer.own_case(context, session, case)["can_reopen"]
    run_clocks(context)
    assert "Reasons of 1." in consumer.own_letter(context, session, case, "decided", "en").to_text()


@on_one_engine
def test_a_case_on_a_record_that_expires_first_says_so(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    report = ledger.report(ledger.acme, person, act_ended_at=format_time(ledger.clock() - timedelta(days=86)), **MINOR)
    (case,) = contest(ledger, person, report)
    session = session_of(ledger, person)
    letter = consumer.own_letter(context, session, case, "received", "en").to_text()
    assert "The record itself is gone on" in letter
    staff_actions.take(context, case, ANNA)
    asked = staff_actions.ask_subject(context, case, ANNA, "Which parcel?")
    assert asked.question_due_at is not None
    assert format_time(asked.question_due_at) == consumer.own_case(context, session, case)["expires_at"]


@on_one_engine
def test_letters_of_all_rounds_stay_readable(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    report = ledger.report(ledger.acme, person, act_ended_at=format_time(ledger.clock() - timedelta(days=60)), **MINOR)
    (case,) = contest(ledger, person, report)
    session = session_of(ledger, person)
    decided(ledger, case, Outcome.UNCONFIRMED)
    first = consumer.own_letter(context, session, case, "decided", "en").to_text()
    received = consumer.own_letter(context, session, case, "received", "en").to_text()
    consumer.reopen(context, session, case, "Again.")
    view = consumer.own_case(context, session, case)
    assert view["letters"] == ["received"]
    assert view["earlier_letters"] == [{"round": 1, "kind": "received"}, {"round": 1, "kind": "decided"}]
    ledger.clock.moment += timedelta(days=31)  # the record expires while the second round is open
    run_clocks(context)
    assert case_row(ledger, case).state == "closed"
    assert consumer.own_letter(context, session, case, "decided", "en").to_text() == first
    assert consumer.own_letter(context, session, case, "received", "en", 1).to_text() == received
    with pytest.raises(NotFound):
        consumer.own_letter(context, session, case, "decided", "en", 2)


@on_one_engine
def test_a_platforms_decision_letter_names_the_persons_own_right(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    case = file_for(ledger, DELTA, person, ledger.report(ledger.acme, person)["id"])
    decided(ledger, case, Outcome.UPHELD)
    for locale, words in (("en", "contest the report yourself as well"), ("zh-CN", "您本人也可以")):
        letter = consumer.own_letter(context, session_of(ledger, person), case, "decided", locale)
        assert words in letter.to_text()


# --- the rule ---------------------------------------------------------------------------------------------------------


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 39)), min_size=5, max_size=12))
def test_nobody_but_the_person_uses_up_the_persons_round(ledger: LedgerFixture, steps: list[tuple[int, int]]) -> None:
    play(ledger, steps)


@on_one_engine
def test_the_model_can_disagree(ledger: LedgerFixture) -> None:
    story = Rights(ledger)
    story.person_files()
    story.own = "unused"
    with pytest.raises(AssertionError):
        story.check()
