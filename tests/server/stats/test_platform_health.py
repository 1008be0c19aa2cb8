"""Figures of platforms, and the actions of supervisors and admins on them, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from ledger.errors import ConflictOfInterest, InvalidRequest, NotFound, RoleMissing
from ledger.protocol.encoding import day_floor
from ledger.rules.appeals import Action, Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import case_changes, participants, staff_actions
from ledger.server.appeals.case_changes import run_clocks
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.log import GovernanceEntry
from ledger.server.log import queries as log_store
from ledger.server.lookups.queries import count_lookups
from ledger.server.oprf.budgets import deduct
from ledger.server.staff import audit
from ledger.server.staff.accounts import StaffMember
from ledger.server.staff.audit import EventFilter
from ledger.server.stats import platform_health as service
from ledger.server.stats.platform_health import PlatformHealth, question_answers, rank
from ledger.server.stats.platform_health_queries import QuestionEvent
from ledger.tlog.entries import GovernanceType, parse_leaf
from tests.server.appeals.contested import add_message as add_message_to
from tests.server.appeals.test_appeals import contest
from tests.server.conftest import LedgerFixture

pytestmark = pytest.mark.one_engine

ANNA = Staff(1, "reviewer")
SUE = StaffMember(3, "sue", "supervisor", None, "en")
ADA = StaffMember(4, "ada", "admin", None, "en")
AUDITOR = StaffMember(5, "tom", "auditor", None, "en")
BOUND = StaffMember(6, "eve", "supervisor", "bolt-group", "en")


def health(ledger: LedgerFixture, name: str) -> PlatformHealth:
    return service.platform(ledger.rt.engine, ledger.rt.policy, ledger.rt.settings, ledger.clock(), name)


def case_number(ledger: LedgerFixture, case: str) -> int:
    return case_changes.case_number(ledger.rt.context, case)


def decided(ledger: LedgerFixture, number: int, outcome: Outcome) -> None:
    """Have acme report a person who appeals, and decide the case with this outcome."""
    person = ledger.person(number)
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    staff_actions.take(ledger.rt.context, case, ANNA)
    staff_actions.decide(ledger.rt.context, case, ANNA, outcome, "As the documents show.")


def test_a_platform_that_did_nothing_has_no_figures(ledger: LedgerFixture) -> None:
    bolt = health(ledger, "bolt")
    assert bolt.reports == (0, 0, 0, 0, 0, None)
    assert bolt.outcomes.overturned_share is None
    assert bolt.outcomes.interval == (0.0, 1.0)
    assert (bolt.answers.asked, bolt.answers.median_hours) == (0, None)
    assert (bolt.weight.stored, bolt.weight.effective, bolt.weight.follows) == (40, 40, 40)
    assert [key.kid for key in bolt.keys] == ["bolt-1"]
    assert bolt.quota == ledger.rt.settings.oprf_daily_quota_elements
    with pytest.raises(NotFound):
        health(ledger, "nobody")


def test_reports_by_age_and_what_is_contested(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person(1))
    ledger.clock.moment += timedelta(days=45)
    kept = ledger.report(ledger.acme, ledger.person(2))
    ledger.withdraw(ledger.acme, kept["id"])
    ledger.clock.moment += timedelta(days=1)
    last = ledger.clock.moment
    contest(ledger, ledger.person(3), ledger.report(ledger.acme, ledger.person(3)))
    figures = health(ledger, "acme").reports
    assert figures == (2, 3, 2, 3, 1, last)


def test_outcomes_and_how_the_weight_follows(ledger: LedgerFixture) -> None:
    outcomes = [Outcome.UPHELD, Outcome.UPHELD, Outcome.OVERTURNED, Outcome.UNCONFIRMED]
    for number, outcome in enumerate(outcomes):
        decided(ledger, number, outcome)
    acme = health(ledger, "acme")
    assert (acme.outcomes.upheld, acme.outcomes.overturned, acme.outcomes.nothing) == (2, 1, 1)
    assert acme.outcomes.overturned_share == pytest.approx(1 / 3)
    weight = acme.weight
    assert (weight.resolved, weight.overturned, weight.prior, weight.floor) == (3, 1, 10, 10)
    assert weight.rate == 12 / 13
    assert (weight.effective, weight.stored, weight.follows) == (40, 40, 35), "taken anew at the next UTC midnight"
    ledger.clock.moment += timedelta(days=1)
    after = health(ledger, "acme").weight
    assert (after.effective, after.stored, after.follows, after.rate) == (35, 35, 35, 12 / 13)
    twin = health(ledger, "acme2")
    assert twin.outcomes.resolved == 0, "the other platform of the group"
    assert twin.weight == after, "the weight is the group's"
    assert twin.group_members == ("acme", "acme2")


def test_how_questions_are_answered(ledger: LedgerFixture) -> None:
    cases = []
    for number in range(3):
        person = ledger.person(number)
        (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
        staff_actions.take(ledger.rt.context, case, ANNA)
        staff_actions.ask_reporter(ledger.rt.context, case, ANNA, "Which scan?")
        cases.append(case_number(ledger, case))
    participant = participants.Participant(participants.Party.REPORTER, "acme", "acme-group")
    ledger.clock.moment += timedelta(hours=10)
    add_message_to(ledger.rt.context, cases[0], participant, "The scan of Tuesday.")
    ledger.clock.moment += timedelta(hours=20)
    add_message_to(ledger.rt.context, cases[1], participant, "None.")
    ledger.clock.moment += timedelta(days=8)
    while run_clocks(ledger.rt.context):
        pass
    acme = health(ledger, "acme")
    assert (acme.answers.asked, acme.answers.answered, acme.answers.silent) == (3, 2, 1)
    assert acme.answers.median_hours == pytest.approx(10, abs=0.01)
    assert acme.answers.ninth_decile_hours == pytest.approx(30, abs=0.01)
    assert acme.outcomes.overturned == 1, "silence overturns"


def test_questions_pair_within_their_case() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)

    def at(hours: int, case: int, action: Action) -> QuestionEvent:
        return QuestionEvent("acme", case, start + timedelta(hours=hours), action.value)

    events = [
        at(5, 1, Action.REPORTER_ANSWERED),  # asked before the window
        at(6, 1, Action.ASK_REPORTER),
        at(8, 1, Action.REPORTER_ANSWERED),
        at(9, 1, Action.ASK_REPORTER),
        at(0, 2, Action.ASK_REPORTER),
        at(90, 2, Action.REPORTER_SILENT),
    ]
    answers = question_answers(events)["acme"]
    assert (answers.asked, answers.answered, answers.silent, answers.median_hours) == (3, 1, 1, 2.0)


@pytest.mark.parametrize(
    ("values", "median", "ninth"), [([], None, None), ([4], 4, 4), ([3, 1], 1, 3), (list(range(1, 11)), 5, 9)]
)
def test_nearest_rank(values: list[float], median: float | None, ninth: float | None) -> None:
    assert (rank(values, 0.5), rank(values, 0.9)) == (median, ninth)


def test_use_of_today(ledger: LedgerFixture) -> None:
    today = day_floor(ledger.clock())
    deduct(ledger.rt.oprf, ledger.bolt.member(), 40, ledger.clock())
    with writing(ledger.rt.engine) as connection:
        count_lookups(connection, {("bolt", today): (7, 2), ("bolt", today - 29): (1, 0), ("bolt", today - 30): (9, 9)})
    bolt = health(ledger, "bolt")
    assert bolt.elements_today == 40
    assert (bolt.lookups_clean, bolt.lookups_disclosed) == (8, 2)
    assert (bolt.lookups[0], bolt.lookups[-1], len(bolt.lookups)) == ((today, 7, 2), (today - 29, 1, 0), 30)
    ledger.clock.moment += timedelta(days=1)
    assert health(ledger, "bolt").elements_today == 0


# --- acting ----------------------------------------------------------------------------------------------------


def newest_states(ledger: LedgerFixture) -> list[str]:
    """Return the states of bolt in the public log, in order."""
    with reading(ledger.rt.engine) as connection:
        places = connection.scalars(
            select(GovernanceEntry.entry_index)
            .where(GovernanceEntry.sort == GovernanceType.PLATFORM_STATUS.value)
            .order_by(GovernanceEntry.entry_index)
        )
        leaves = [log_store.read_leaf(connection, place) for place in list(places)]
    bodies = [parse_leaf(leaf).body for leaf in leaves if leaf is not None]
    return [str(body["status"]) for body in bodies if body is not None and body["platform"] == "bolt"]


def audited(ledger: LedgerFixture) -> list[tuple[str, str | None, str | None]]:
    rows = audit.page(ledger.rt.engine, EventFilter(), None).events
    return [(row.action, row.object_id, row.detail) for row in reversed(rows)]


def test_suspending_is_in_both_logs_and_takes_the_weight(ledger: LedgerFixture) -> None:
    person = ledger.person()
    ledger.report(ledger.bolt, person)
    assert service.suspend(ledger.rt.engine, SUE, "bolt", "Keys were  stolen.", ledger.clock())
    assert not service.suspend(ledger.rt.engine, SUE, "bolt", "Once more.", ledger.clock()), "nothing new"
    bolt = health(ledger, "bolt")
    assert bolt.suspended
    assert (bolt.weight.effective, bolt.weight.stored) == (40, 40)
    ledger.rt.members.refresh()
    assert ledger.lookup(person)["tier"] == "watch", "its weight goes at the next UTC midnight"
    ledger.clock.moment += timedelta(days=1)
    assert (health(ledger, "bolt").weight.effective, health(ledger, "bolt").weight.stored) == (0, 40)
    assert ledger.lookup(person)["tier"] == "clear", "without reading anything again"
    assert service.resume(ledger.rt.engine, SUE, "bolt", "New keys.", ledger.clock())
    assert newest_states(ledger) == ["active", "suspended", "active"]
    assert audited(ledger) == [
        ("platform_suspended", "bolt", "Keys were stolen."),
        ("platform_resumed", "bolt", "New keys."),
    ]
    assert not health(ledger, "bolt").suspended


def test_an_urgent_suspension_takes_the_weight_at_once(ledger: LedgerFixture) -> None:
    person = ledger.person()
    ledger.report(ledger.bolt, person)
    assert service.suspend(ledger.rt.engine, SUE, "bolt", "Keys were stolen.", ledger.clock())
    assert service.suspend(ledger.rt.engine, SUE, "bolt", "It reports at random.", ledger.clock(), urgent=True)
    assert not service.suspend(ledger.rt.engine, SUE, "bolt", "Once more.", ledger.clock(), urgent=True)
    assert newest_states(ledger) == ["active", "suspended"], "the log says once that it is suspended"
    assert audited(ledger)[-1] == ("platform_suspended", "bolt", "urgent: It reports at random.")
    ledger.rt.members.refresh()
    assert ledger.lookup(person)["tier"] == "clear"
    assert service.resume(ledger.rt.engine, SUE, "bolt", "A mistake.", ledger.clock())
    ledger.rt.members.refresh()
    assert ledger.lookup(person)["tier"] == "clear"
    ledger.clock.moment += timedelta(days=1)
    assert ledger.lookup(person)["tier"] == "watch", "from the next UTC midnight on"


def test_a_quota_changes_in_the_audit_log_only(ledger: LedgerFixture) -> None:
    service.change_quota(ledger.rt.engine, ADA, "bolt", 5000, "Small shop.", ledger.clock())
    assert health(ledger, "bolt").quota == 5000
    service.change_quota(ledger.rt.engine, ADA, "bolt", None, "As usual.", ledger.clock())
    assert health(ledger, "bolt").quota == ledger.rt.settings.oprf_daily_quota_elements
    assert audited(ledger) == [
        ("quota_changed", "bolt", "default -> 5000: Small shop."),
        ("quota_changed", "bolt", "5000 -> default: As usual."),
    ]
    assert newest_states(ledger) == ["active"]


def _suspend(ledger: LedgerFixture, staff: StaffMember, name: str = "bolt", reason: str = "A reason.") -> None:
    service.suspend(ledger.rt.engine, staff, name, reason, ledger.clock())


def _quota(ledger: LedgerFixture, staff: StaffMember, quota: int = 1) -> None:
    service.change_quota(ledger.rt.engine, staff, "bolt", quota, "A reason.", ledger.clock())


def test_what_is_refused_leaves_no_trace(ledger: LedgerFixture) -> None:
    attempts: list[tuple[Callable[[], None], type[Exception]]] = [
        (lambda: _suspend(ledger, AUDITOR), RoleMissing),
        (lambda: _suspend(ledger, BOUND), ConflictOfInterest),
        (lambda: _suspend(ledger, BOUND, "acme"), ConflictOfInterest),
        (lambda: _suspend(ledger, SUE, "nobody"), NotFound),
        (lambda: _suspend(ledger, SUE, reason=" x "), InvalidRequest),
        (lambda: _suspend(ledger, SUE, reason="x" * 151), InvalidRequest),
        (lambda: _suspend(ledger, SUE, reason="a\u202e\u200bb"), InvalidRequest),
        (lambda: _quota(ledger, SUE), RoleMissing),
        (lambda: _quota(ledger, StaffMember(7, "b", "admin", "acme-group", "en")), ConflictOfInterest),
        (lambda: _quota(ledger, ADA, -1), InvalidRequest),
    ]
    for attempt, error in attempts:
        with pytest.raises(error):
            attempt()
    assert audited(ledger) == []
    assert newest_states(ledger) == ["active"]
    assert health(ledger, "bolt").row.oprf_daily_quota_elements is None
    assert [service.may_act(staff) for staff in (SUE, ADA, AUDITOR, BOUND)] == [True, True, False, False]
