"""The queue: order, filters and numbers, who sees which cases, and the next case for a free reviewer."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from ledger.errors import ActionRefused, ConflictOfInterest, InvalidRequest, RoleMissing
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import queue as service
from ledger.server.appeals import staff_actions
from ledger.server.appeals.queue import RequestedFilter, next_case, queue_page, skip
from tests.server.appeals.contested import contest, staff_of
from tests.server.appeals.test_appeals import GRAVE, case_row
from tests.server.conftest import LedgerFixture

pytestmark = pytest.mark.one_engine


def open_cases(ledger: LedgerFixture, number: int, hours: int = 30) -> list[str]:
    """Cases about acme's reports, each opened later than the one before; in that order."""
    cases = []
    for person in range(number):
        subjects = ledger.person(person)
        cases += contest(ledger, subjects, ledger.report(ledger.acme, subjects))
        ledger.clock.moment += timedelta(hours=hours)
    return cases


def shown(ledger: LedgerFixture, member: Staff, **asked: object) -> list[str]:
    return [line.case for line in queue_page(ledger.rt.context, member, RequestedFilter(**asked)).lines]  # type: ignore[arg-type]


def test_it_is_in_order_of_the_due_date_and_has_pages(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = staff_of(ledger, "anna")
    cases = open_cases(ledger, 5)
    staff_actions.take(ledger.rt.context, cases[3], anna)
    monkeypatch.setattr(service, "PAGE_ROWS", 2)
    first = queue_page(ledger.rt.context, anna, RequestedFilter())
    second = queue_page(ledger.rt.context, anna, RequestedFilter(), first.after)
    third = queue_page(ledger.rt.context, anna, RequestedFilter(), second.after)
    assert [[line.case for line in page.lines] for page in (first, second, third)] == [cases[:2], cases[2:4], cases[4:]]
    assert third.after is None
    assert [line.reviewer for line in second.lines] == [None, "anna"]
    with pytest.raises(InvalidRequest):
        queue_page(ledger.rt.context, anna, RequestedFilter(), "nonsense")


def test_cases_of_one_moment_are_not_lost_between_pages(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, person = staff_of(ledger, "anna"), ledger.person()
    cases = contest(ledger, person, *[ledger.report(ledger.acme, person, order=f"o{number}") for number in range(3)])
    monkeypatch.setattr(service, "PAGE_ROWS", 1)
    listed, after = [], None
    for _ in cases:
        page = queue_page(ledger.rt.context, anna, RequestedFilter(), after)
        listed += [line.case for line in page.lines]
        after = page.after
    assert listed == cases
    assert after is None


def test_filters_and_numbers(ledger: LedgerFixture) -> None:
    anna, ben = staff_of(ledger, "anna"), staff_of(ledger, "ben")
    context = ledger.rt.context
    light, grave, other = ledger.person(0), ledger.person(1), ledger.person(2)
    (case,) = contest(ledger, light, ledger.report(ledger.acme, light))
    (two,) = contest(ledger, grave, ledger.report(ledger.acme, grave, **GRAVE))
    (three,) = contest(ledger, other, ledger.report(ledger.bolt, other))
    staff_actions.take(context, two, anna)
    staff_actions.decide(context, two, anna, Outcome.UPHELD, "The serial numbers differ.")
    staff_actions.take(context, three, ben)
    assert shown(ledger, anna, mine=True) == [two]
    assert shown(ledger, ben, to_sign=True) == [two]
    assert shown(ledger, anna, to_sign=True) == [], "nobody signs for the second time"
    assert shown(ledger, anna, state="submitted") == [case]
    assert shown(ledger, anna, conduct="switched_return") == [two]
    assert shown(ledger, anna, severity=6) == [two]
    assert shown(ledger, anna, platform="bolt") == [three]
    assert shown(ledger, anna, case=three) == [three]
    assert shown(ledger, anna, profile="US") == []
    page = queue_page(context, ben, RequestedFilter())
    assert (page.totals.open, page.totals.mine, page.totals.to_sign, page.totals.overdue) == (3, 1, 1, 0)
    assert page.totals.states == {"submitted": 1, "awaiting_signoff": 1, "under_review": 1}
    assert page.facets["platform"] == {"acme": 2, "bolt": 1}
    assert page.facets["severity"] == {str(case_row(ledger, two).severity): 1, str(case_row(ledger, case).severity): 2}
    with pytest.raises(InvalidRequest):
        queue_page(context, anna, RequestedFilter(state="decided"))


def test_overdue_and_due_soon(ledger: LedgerFixture) -> None:
    anna = staff_of(ledger, "anna")
    first, second = open_cases(ledger, 2, hours=24 * 5)
    ledger.clock.moment = case_row(ledger, first).due_at
    page = queue_page(ledger.rt.context, anna, RequestedFilter(due_days=0))
    assert [line.case for line in page.lines] == [first]
    assert (page.totals.overdue, page.totals.due_soon) == (1, 0)
    assert shown(ledger, anna, due_days=6) == [first, second]
    assert queue_page(ledger.rt.context, anna, RequestedFilter()).lines[0].case == first, "overdue on top"


def test_a_decided_case_leaves_the_queue_and_is_still_found(
    ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, bound = staff_of(ledger, "anna"), staff_of(ledger, "bound", group="acme-group")
    cases = open_cases(ledger, 3)
    for case in cases:
        staff_actions.take(ledger.rt.context, case, anna)
        staff_actions.decide(ledger.rt.context, case, anna, Outcome.OVERTURNED, "No delivery scan.")
    page = queue_page(ledger.rt.context, anna, RequestedFilter())
    assert (page.lines, page.totals.open, page.facets["platform"]) == ([], 0, {})
    assert shown(ledger, anna, case=cases[0]) == cases[:1]
    monkeypatch.setattr(service, "PAGE_ROWS", 2)
    first = queue_page(ledger.rt.context, anna, RequestedFilter(state="settled"))
    second = queue_page(ledger.rt.context, anna, RequestedFilter(state="settled"), first.after)
    assert [line.case for line in (*first.lines, *second.lines)] == cases[::-1], "the newest first"
    assert second.after is None
    assert shown(ledger, bound, state="settled") == shown(ledger, bound, case=cases[0]) == []


def test_nobody_meets_a_report_of_their_own_group(ledger: LedgerFixture) -> None:
    bound = staff_of(ledger, "bound", group="acme-group")
    cases = open_cases(ledger, 2)
    page = queue_page(ledger.rt.context, bound, RequestedFilter())
    assert (page.lines, page.totals.open, page.facets["platform"]) == ([], 0, {})
    assert next_case(ledger.rt.context, bound) is None
    with pytest.raises(ConflictOfInterest):
        skip(ledger.rt.context, cases[0], bound)


def test_roles(ledger: LedgerFixture) -> None:
    (case,) = open_cases(ledger, 1)
    auditor, admin = staff_of(ledger, "auditor", "auditor"), staff_of(ledger, "admin", "admin")
    assert shown(ledger, auditor) == [case]
    with pytest.raises(RoleMissing):
        queue_page(ledger.rt.context, admin, RequestedFilter())
    for member in (auditor, admin):
        with pytest.raises(RoleMissing):
            next_case(ledger.rt.context, member)
        with pytest.raises(RoleMissing):
            skip(ledger.rt.context, case, member)


def test_the_next_case_is_the_most_urgent_one_that_this_person_may_take(ledger: LedgerFixture) -> None:
    anna, context = staff_of(ledger, "anna"), ledger.rt.context
    cases = open_cases(ledger, 3, hours=1)
    skip(context, cases[0], anna)
    assert next_case(context, anna) == cases[1]
    assert case_row(ledger, cases[1]).reviewer_id == anna.id
    with pytest.raises(ActionRefused):
        skip(context, cases[1], anna)
    staff_actions.hand_back(context, cases[1], anna, "I know the buyer.")
    assert next_case(context, anna) == cases[2], "what was handed back is not offered again today"
    assert next_case(context, anna) is None
    ben = staff_of(ledger, "ben")
    assert [next_case(context, ben), next_case(context, ben)] == cases[:2]


def test_a_skipped_case_comes_back_the_next_day(ledger: LedgerFixture) -> None:
    anna = staff_of(ledger, "anna")
    (case,) = open_cases(ledger, 1)
    skip(ledger.rt.context, case, anna)
    assert next_case(ledger.rt.context, anna) is None
    ledger.clock.moment += timedelta(days=1)
    assert next_case(ledger.rt.context, anna) == case


def test_several_who_ask_at_once_get_one_case_each(ledger: LedgerFixture) -> None:
    cases = open_cases(ledger, 4, hours=1)
    people = [staff_of(ledger, f"reviewer{number}") for number in range(6)]
    got: list[str | None] = []
    barrier = threading.Barrier(len(people))

    def ask(member: Staff) -> None:
        barrier.wait()
        got.append(next_case(ledger.rt.context, member))

    threads = [threading.Thread(target=ask, args=(member,)) for member in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(case for case in got if case) == sorted(cases)
    assert got.count(None) == 2
