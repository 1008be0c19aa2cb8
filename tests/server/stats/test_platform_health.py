"""Figures of platforms, and what supervisors and admins do to them, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from ledger.errors import ConflictOfInterest, InvalidRequest, NotFound, RoleMissing
from ledger.protocol.encoding import day_floor
from ledger.rules.appeals import Action, Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import parties, transaction
from ledger.server.appeals import staff_actions as desk
from ledger.server.appeals.clock import run_clocks
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.ledger import GovernanceEntry
from ledger.server.log import queries as log_store
from ledger.server.lookups.queries import count_lookups
from ledger.server.oprf.evaluation import deduct
from ledger.server.staff import audit
from ledger.server.staff.accounts import StaffMember
from ledger.server.staff.audit import EventFilter
from ledger.server.stats import platform_health as service
from ledger.server.stats.platform_health import PlatformHealth, question_answers, rank
from ledger.server.stats.platform_health_queries import QuestionEvent
from ledger.tlog.entries import GovernanceType, parse_leaf
from tests.server.appeals.test_appeals import contest
from tests.server.conftest import Town

pytestmark = pytest.mark.one_engine

ANNA = Staff(1, "reviewer")
SUE = StaffMember(3, "sue", "supervisor", None, "en")
ADA = StaffMember(4, "ada", "admin", None, "en")
AUDITOR = StaffMember(5, "tom", "auditor", None, "en")
BOUND = StaffMember(6, "eve", "supervisor", "bolt-group", "en")


def health(town: Town, name: str) -> PlatformHealth:
    return service.platform(town.rt.engine, town.rt.policy, town.rt.settings, town.clock(), name)


def case_number(town: Town, case: str) -> int:
    return transaction.case_number(town.rt.context, case)


def decided(town: Town, number: int, outcome: Outcome) -> None:
    """acme reports somebody, who appeals; decided like that."""
    person = town.person(number)
    (case,) = contest(town, person, town.report(town.acme, person))
    desk.take(town.rt.context, case, ANNA)
    desk.decide(town.rt.context, case, ANNA, outcome, "As the documents show.")


def test_a_platform_that_did_nothing_has_no_figures(town: Town) -> None:
    found = health(town, "bolt")
    assert found.reports == (0, 0, 0, 0, 0, None)
    assert found.outcomes.overturned_share is None
    assert found.outcomes.interval == (0.0, 1.0)
    assert (found.answers.asked, found.answers.median_hours) == (0, None)
    assert (found.weight.stored, found.weight.effective, found.weight.follows) == (40, 40, 40)
    assert [key.kid for key in found.keys] == ["bolt-1"]
    assert found.quota == town.rt.settings.oprf_daily_quota_elements
    with pytest.raises(NotFound):
        health(town, "nobody")


def test_reports_by_age_and_what_is_contested(town: Town) -> None:
    town.report(town.acme, town.person(1))
    town.clock.moment += timedelta(days=45)
    kept = town.report(town.acme, town.person(2))
    town.withdraw(town.acme, kept["id"])
    town.clock.moment += timedelta(days=1)
    last = town.clock.moment
    contest(town, town.person(3), town.report(town.acme, town.person(3)))
    found = health(town, "acme").reports
    assert found == (2, 3, 2, 3, 1, last)


def test_outcomes_and_how_the_weight_follows(town: Town) -> None:
    outcomes = [Outcome.UPHELD, Outcome.UPHELD, Outcome.OVERTURNED, Outcome.UNCONFIRMED]
    for number, outcome in enumerate(outcomes):
        decided(town, number, outcome)
    found = health(town, "acme")
    assert (found.outcomes.upheld, found.outcomes.overturned, found.outcomes.nothing) == (2, 1, 1)
    assert found.outcomes.overturned_share == pytest.approx(1 / 3)
    weight = found.weight
    assert (weight.resolved, weight.overturned, weight.prior, weight.floor) == (3, 1, 10, 10)
    assert weight.rate == 12 / 13
    assert (weight.effective, weight.stored, weight.follows) == (40, 40, 35), "taken anew at the next UTC midnight"
    town.clock.moment += timedelta(days=1)
    after = health(town, "acme").weight
    assert (after.effective, after.stored, after.follows, after.rate) == (35, 35, 35, 12 / 13)
    twin = health(town, "acme2")
    assert twin.outcomes.resolved == 0, "the other platform of the group"
    assert twin.weight == after, "the weight is the group's"
    assert twin.group_members == ("acme", "acme2")


def test_how_questions_are_answered(town: Town) -> None:
    cases = []
    for number in range(3):
        person = town.person(number)
        (case,) = contest(town, person, town.report(town.acme, person))
        desk.take(town.rt.context, case, ANNA)
        desk.ask_reporter(town.rt.context, case, ANNA, "Which scan?")
        cases.append(case_number(town, case))
    speaker = parties.Speaker(parties.Party.REPORTER, "acme", "acme-group")
    town.clock.moment += timedelta(hours=10)
    parties.in_case(town.rt.context, cases[0], speaker, "The scan of Tuesday.")
    town.clock.moment += timedelta(hours=20)
    parties.in_case(town.rt.context, cases[1], speaker, "None.")
    town.clock.moment += timedelta(days=8)
    while run_clocks(town.rt.context):
        pass
    found = health(town, "acme")
    assert (found.answers.asked, found.answers.answered, found.answers.silent) == (3, 2, 1)
    assert found.answers.median_hours == pytest.approx(10, abs=0.01)
    assert found.answers.ninth_decile_hours == pytest.approx(30, abs=0.01)
    assert found.outcomes.overturned == 1, "silence overturns"


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
    found = question_answers(events)["acme"]
    assert (found.asked, found.answered, found.silent, found.median_hours) == (3, 1, 1, 2.0)


@pytest.mark.parametrize(
    ("values", "median", "ninth"), [([], None, None), ([4], 4, 4), ([3, 1], 1, 3), (list(range(1, 11)), 5, 9)]
)
def test_nearest_rank(values: list[float], median: float | None, ninth: float | None) -> None:
    assert (rank(values, 0.5), rank(values, 0.9)) == (median, ninth)


def test_use_of_today(town: Town) -> None:
    today = day_floor(town.clock())
    deduct(town.rt.oprf, town.bolt.member(), 40, town.clock())
    with writing(town.rt.engine) as connection:
        count_lookups(connection, {("bolt", today): (7, 2), ("bolt", today - 29): (1, 0), ("bolt", today - 30): (9, 9)})
    found = health(town, "bolt")
    assert found.elements_today == 40
    assert (found.lookups_clean, found.lookups_disclosed) == (8, 2)
    assert (found.lookups[0], found.lookups[-1], len(found.lookups)) == ((today, 7, 2), (today - 29, 1, 0), 30)
    town.clock.moment += timedelta(days=1)
    assert health(town, "bolt").elements_today == 0


# --- acting ----------------------------------------------------------------------------------------------------


def newest_states(town: Town) -> list[str]:
    """The states of bolt in the public log, in order."""
    with reading(town.rt.engine) as connection:
        places = connection.scalars(
            select(GovernanceEntry.entry_index)
            .where(GovernanceEntry.sort == GovernanceType.PLATFORM_STATUS.value)
            .order_by(GovernanceEntry.entry_index)
        )
        leaves = [log_store.read_leaf(connection, place) for place in list(places)]
    bodies = [parse_leaf(leaf).body for leaf in leaves if leaf is not None]
    return [str(body["status"]) for body in bodies if body is not None and body["platform"] == "bolt"]


def audited(town: Town) -> list[tuple[str, str | None, str | None]]:
    rows = audit.page(town.rt.engine, EventFilter(), None).events
    return [(row.action, row.object_id, row.detail) for row in reversed(rows)]


def test_suspending_is_in_both_logs_and_takes_the_weight(town: Town) -> None:
    person = town.person()
    town.report(town.bolt, person)
    assert service.suspend(town.rt.engine, SUE, "bolt", "Keys were  stolen.", town.clock())
    assert not service.suspend(town.rt.engine, SUE, "bolt", "Once more.", town.clock()), "nothing new"
    found = health(town, "bolt")
    assert found.suspended
    assert (found.weight.effective, found.weight.stored) == (40, 40)
    town.rt.members.refresh()
    assert town.lookup(person)["tier"] == "watch", "its weight goes at the next UTC midnight"
    town.clock.moment += timedelta(days=1)
    assert (health(town, "bolt").weight.effective, health(town, "bolt").weight.stored) == (0, 40)
    assert town.lookup(person)["tier"] == "clear", "without reading anything again"
    assert service.resume(town.rt.engine, SUE, "bolt", "New keys.", town.clock())
    assert newest_states(town) == ["active", "suspended", "active"]
    assert audited(town) == [
        ("platform_suspended", "bolt", "Keys were stolen."),
        ("platform_resumed", "bolt", "New keys."),
    ]
    assert not health(town, "bolt").suspended


def test_an_urgent_suspension_takes_the_weight_at_once(town: Town) -> None:
    person = town.person()
    town.report(town.bolt, person)
    assert service.suspend(town.rt.engine, SUE, "bolt", "Keys were stolen.", town.clock())
    assert service.suspend(town.rt.engine, SUE, "bolt", "It reports at random.", town.clock(), urgent=True)
    assert not service.suspend(town.rt.engine, SUE, "bolt", "Once more.", town.clock(), urgent=True)
    assert newest_states(town) == ["active", "suspended"], "the log says once that it is suspended"
    assert audited(town)[-1] == ("platform_suspended", "bolt", "urgent: It reports at random.")
    town.rt.members.refresh()
    assert town.lookup(person)["tier"] == "clear"
    assert service.resume(town.rt.engine, SUE, "bolt", "A mistake.", town.clock())
    town.rt.members.refresh()
    assert town.lookup(person)["tier"] == "clear"
    town.clock.moment += timedelta(days=1)
    assert town.lookup(person)["tier"] == "watch", "from the next UTC midnight on"


def test_a_quota_changes_in_the_audit_log_only(town: Town) -> None:
    service.change_quota(town.rt.engine, ADA, "bolt", 5000, "Small shop.", town.clock())
    assert health(town, "bolt").quota == 5000
    service.change_quota(town.rt.engine, ADA, "bolt", None, "As usual.", town.clock())
    assert health(town, "bolt").quota == town.rt.settings.oprf_daily_quota_elements
    assert audited(town) == [
        ("quota_changed", "bolt", "default -> 5000: Small shop."),
        ("quota_changed", "bolt", "5000 -> default: As usual."),
    ]
    assert newest_states(town) == ["active"]


def _suspend(town: Town, staff: StaffMember, name: str = "bolt", reason: str = "A reason.") -> None:
    service.suspend(town.rt.engine, staff, name, reason, town.clock())


def _quota(town: Town, staff: StaffMember, quota: int = 1) -> None:
    service.change_quota(town.rt.engine, staff, "bolt", quota, "A reason.", town.clock())


def test_what_is_refused_leaves_no_trace(town: Town) -> None:
    attempts: list[tuple[Callable[[], None], type[Exception]]] = [
        (lambda: _suspend(town, AUDITOR), RoleMissing),
        (lambda: _suspend(town, BOUND), ConflictOfInterest),
        (lambda: _suspend(town, BOUND, "acme"), ConflictOfInterest),
        (lambda: _suspend(town, SUE, "nobody"), NotFound),
        (lambda: _suspend(town, SUE, reason=" x "), InvalidRequest),
        (lambda: _suspend(town, SUE, reason="x" * 151), InvalidRequest),
        (lambda: _suspend(town, SUE, reason="a\u202e\u200bb"), InvalidRequest),
        (lambda: _quota(town, SUE), RoleMissing),
        (lambda: _quota(town, StaffMember(7, "b", "admin", "acme-group", "en")), ConflictOfInterest),
        (lambda: _quota(town, ADA, -1), InvalidRequest),
    ]
    for attempt, error in attempts:
        with pytest.raises(error):
            attempt()
    assert audited(town) == []
    assert newest_states(town) == ["active"]
    assert health(town, "bolt").row.oprf_daily_quota_elements is None
    assert [service.may_act(one) for one in (SUE, ADA, AUDITOR, BOUND)] == [True, True, False, False]
