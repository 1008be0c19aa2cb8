"""The queue: order, filters and numbers, who sees what, and the next case for somebody who is free."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from ledger.errors import ActionRefused, ConflictOfInterest, InvalidRequest, RoleMissing
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import queue as service
from ledger.server.appeals import staff_actions as desk
from ledger.server.appeals.queue import RequestedFilter, next_case, queue_page, skip
from tests.server.appeals.desk import contest, staff_of
from tests.server.appeals.test_appeals import GRAVE, case_row
from tests.server.conftest import Town

pytestmark = pytest.mark.one_engine


def open_cases(town: Town, number: int, hours: int = 30) -> list[str]:
    """Cases about acme's reports, each opened later than the one before; in that order."""
    made = []
    for person in range(number):
        subjects = town.person(person)
        made += contest(town, subjects, town.report(town.acme, subjects))
        town.clock.moment += timedelta(hours=hours)
    return made


def shown(town: Town, member: Staff, **asked: object) -> list[str]:
    return [line.case for line in queue_page(town.rt.context, member, RequestedFilter(**asked)).lines]  # type: ignore[arg-type]


def test_it_is_in_order_of_the_due_date_and_has_pages(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = staff_of(town, "anna")
    cases = open_cases(town, 5)
    desk.take(town.rt.context, cases[3], anna)
    monkeypatch.setattr(service, "PAGE_ROWS", 2)
    first = queue_page(town.rt.context, anna, RequestedFilter())
    second = queue_page(town.rt.context, anna, RequestedFilter(), first.after)
    third = queue_page(town.rt.context, anna, RequestedFilter(), second.after)
    assert [[line.case for line in page.lines] for page in (first, second, third)] == [cases[:2], cases[2:4], cases[4:]]
    assert third.after is None
    assert [line.reviewer for line in second.lines] == [None, "anna"]
    with pytest.raises(InvalidRequest):
        queue_page(town.rt.context, anna, RequestedFilter(), "nonsense")


def test_cases_of_one_moment_are_not_lost_between_pages(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, person = staff_of(town, "anna"), town.person()
    cases = contest(town, person, *[town.report(town.acme, person, order=f"o{number}") for number in range(3)])
    monkeypatch.setattr(service, "PAGE_ROWS", 1)
    found, after = [], None
    for _ in cases:
        page = queue_page(town.rt.context, anna, RequestedFilter(), after)
        found += [line.case for line in page.lines]
        after = page.after
    assert found == cases
    assert after is None


def test_filters_and_numbers(town: Town) -> None:
    anna, ben = staff_of(town, "anna"), staff_of(town, "ben")
    context = town.rt.context
    light, grave, other = town.person(0), town.person(1), town.person(2)
    (one,) = contest(town, light, town.report(town.acme, light))
    (two,) = contest(town, grave, town.report(town.acme, grave, **GRAVE))
    (three,) = contest(town, other, town.report(town.bolt, other))
    desk.take(context, two, anna)
    desk.decide(context, two, anna, Outcome.UPHELD, "The serial numbers differ.")
    desk.take(context, three, ben)
    assert shown(town, anna, mine=True) == [two]
    assert shown(town, ben, to_sign=True) == [two]
    assert shown(town, anna, to_sign=True) == [], "nobody signs for the second time"
    assert shown(town, anna, state="submitted") == [one]
    assert shown(town, anna, conduct="switched_return") == [two]
    assert shown(town, anna, severity=6) == [two]
    assert shown(town, anna, platform="bolt") == [three]
    assert shown(town, anna, case=three) == [three]
    assert shown(town, anna, profile="US") == []
    page = queue_page(context, ben, RequestedFilter())
    assert (page.totals.open, page.totals.mine, page.totals.to_sign, page.totals.overdue) == (3, 1, 1, 0)
    assert page.totals.states == {"submitted": 1, "awaiting_signoff": 1, "under_review": 1}
    assert page.facets["platform"] == {"acme": 2, "bolt": 1}
    assert page.facets["severity"] == {str(case_row(town, two).severity): 1, str(case_row(town, one).severity): 2}
    with pytest.raises(InvalidRequest):
        queue_page(context, anna, RequestedFilter(state="decided"))


def test_overdue_and_due_soon(town: Town) -> None:
    anna = staff_of(town, "anna")
    first, second = open_cases(town, 2, hours=24 * 5)
    town.clock.moment = case_row(town, first).due_at
    page = queue_page(town.rt.context, anna, RequestedFilter(due_days=0))
    assert [line.case for line in page.lines] == [first]
    assert (page.totals.overdue, page.totals.due_soon) == (1, 0)
    assert shown(town, anna, due_days=6) == [first, second]
    assert queue_page(town.rt.context, anna, RequestedFilter()).lines[0].case == first, "overdue on top"


def test_a_decided_case_leaves_the_queue_and_is_still_found(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    anna, bound = staff_of(town, "anna"), staff_of(town, "bound", group="acme-group")
    cases = open_cases(town, 3)
    for case in cases:
        desk.take(town.rt.context, case, anna)
        desk.decide(town.rt.context, case, anna, Outcome.OVERTURNED, "No delivery scan.")
    page = queue_page(town.rt.context, anna, RequestedFilter())
    assert (page.lines, page.totals.open, page.facets["platform"]) == ([], 0, {})
    assert shown(town, anna, case=cases[0]) == cases[:1]
    monkeypatch.setattr(service, "PAGE_ROWS", 2)
    first = queue_page(town.rt.context, anna, RequestedFilter(state="settled"))
    second = queue_page(town.rt.context, anna, RequestedFilter(state="settled"), first.after)
    assert [line.case for line in (*first.lines, *second.lines)] == cases[::-1], "the newest first"
    assert second.after is None
    assert shown(town, bound, state="settled") == shown(town, bound, case=cases[0]) == []


def test_nobody_meets_a_report_of_their_own_group(town: Town) -> None:
    bound = staff_of(town, "bound", group="acme-group")
    cases = open_cases(town, 2)
    page = queue_page(town.rt.context, bound, RequestedFilter())
    assert (page.lines, page.totals.open, page.facets["platform"]) == ([], 0, {})
    assert next_case(town.rt.context, bound) is None
    with pytest.raises(ConflictOfInterest):
        skip(town.rt.context, cases[0], bound)


def test_roles(town: Town) -> None:
    (case,) = open_cases(town, 1)
    auditor, admin = staff_of(town, "auditor", "auditor"), staff_of(town, "admin", "admin")
    assert shown(town, auditor) == [case]
    with pytest.raises(RoleMissing):
        queue_page(town.rt.context, admin, RequestedFilter())
    for member in (auditor, admin):
        with pytest.raises(RoleMissing):
            next_case(town.rt.context, member)
        with pytest.raises(RoleMissing):
            skip(town.rt.context, case, member)


def test_the_next_case_is_the_most_urgent_one_that_this_person_may_take(town: Town) -> None:
    anna, context = staff_of(town, "anna"), town.rt.context
    cases = open_cases(town, 3, hours=1)
    skip(context, cases[0], anna)
    assert next_case(context, anna) == cases[1]
    assert case_row(town, cases[1]).reviewer_id == anna.id
    with pytest.raises(ActionRefused):
        skip(context, cases[1], anna)
    desk.hand_back(context, cases[1], anna, "I know the buyer.")
    assert next_case(context, anna) == cases[2], "what was handed back is not offered again today"
    assert next_case(context, anna) is None
    ben = staff_of(town, "ben")
    assert [next_case(context, ben), next_case(context, ben)] == cases[:2]


def test_a_skipped_case_comes_back_the_next_day(town: Town) -> None:
    anna = staff_of(town, "anna")
    (case,) = open_cases(town, 1)
    skip(town.rt.context, case, anna)
    assert next_case(town.rt.context, anna) is None
    town.clock.moment += timedelta(days=1)
    assert next_case(town.rt.context, anna) == case


def test_several_who_ask_at_once_get_one_case_each(town: Town) -> None:
    cases = open_cases(town, 4, hours=1)
    people = [staff_of(town, f"reviewer{number}") for number in range(6)]
    got: list[str | None] = []
    barrier = threading.Barrier(len(people))

    def ask(member: Staff) -> None:
        barrier.wait()
        got.append(next_case(town.rt.context, member))

    threads = [threading.Thread(target=ask, args=(member,)) for member in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(case for case in got if case) == sorted(cases)
    assert got.count(None) == 2
