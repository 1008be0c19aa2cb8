"""What the staff do in a case: only what they have seen changes, and the audit log has each thing done, once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ledger.errors import ActionRefused, CaseTaken, ConflictOfInterest
from ledger.rules.appeals import Outcome
from ledger.server.appeals import queue
from ledger.server.appeals import staff_actions as desk
from ledger.server.db.engine import reading, writing
from ledger.server.records import case_queries as store
from ledger.server.staff import queries as staff_store
from ledger.server.staff.audit import EventFilter, page
from tests.server.appeals.desk import staff_of
from tests.server.appeals.test_appeals import ANNA, BEN, CLEO, GRAVE, case_row, contest
from tests.server.conftest import Town


def contested(town: Town, person: int = 0) -> str:
    """A case about a new report of bolt."""
    subjects = town.person(person)
    report = town.report(town.bolt, subjects, **GRAVE)
    town.clock.moment += timedelta(hours=1)
    (case,) = contest(town, subjects, report)
    return case


def newest(town: Town, case: str) -> int:
    with reading(town.rt.engine) as connection:
        return store.newest_event(connection, case_row(town, case).id)


def audited(town: Town, case: str) -> list[tuple[str, int | None, str | None]]:
    """What the audit log says was done in the case, the oldest first."""
    events = page(town.rt.engine, EventFilter(object_id=case), None).events
    return [(event.action, event.staff_id, event.detail) for event in reversed(events)]


def test_who_has_not_seen_the_newest_changes_nothing(town: Town) -> None:
    case = contested(town)
    before = newest(town, case)
    desk.take(town.rt.context, case, ANNA, seen=before)
    after, row = newest(town, case), case_row(town, case)
    assert after > before
    acts: list[Callable[[], object]] = [
        lambda: desk.note(town.rt.context, case, ANNA, "Late.", seen=before),
        lambda: desk.decide(town.rt.context, case, ANNA, Outcome.OVERTURNED, "Late.", seen=before),
        lambda: desk.hand_back(town.rt.context, case, ANNA, seen=0),
        lambda: desk.assign(town.rt.context, case, CLEO, BEN, seen=after + 1),
    ]
    for act in acts:
        with pytest.raises(ActionRefused, match="moved on"):
            act()
    assert (newest(town, case), case_row(town, case)) == (after, row)
    assert audited(town, case) == [("case_take", ANNA.id, None)], "what was refused was not done"


def test_of_two_forms_of_one_view_one_is_taken(town: Town) -> None:
    case = contested(town)
    desk.take(town.rt.context, case, ANNA)
    for _ in range(5):
        before = newest(town, case)

        def noted(number: int, seen: int = before) -> bool:
            try:
                desk.note(town.rt.context, case, ANNA, f"Note {number}.", seen=seen)
            except ActionRefused:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(noted, range(4))) == [False, False, False, True]


def test_the_audit_log_has_each_thing_done(town: Town) -> None:
    case, context = contested(town), town.rt.context
    queue.skip(context, case, BEN)
    desk.take(context, case, ANNA)
    desk.decide(context, case, ANNA, Outcome.UPHELD, "The record shows it.")
    with pytest.raises(CaseTaken):
        queue.skip(context, case, BEN)
    desk.decline(context, case, BEN, "Look at the scale again.")
    desk.decide(context, case, ANNA, Outcome.UPHELD, "The scale shows it.")
    desk.sign(context, case, CLEO)
    assert audited(town, case) == [
        ("case_skip", BEN.id, None),
        ("case_take", ANNA.id, None),
        ("case_propose", ANNA.id, None),
        ("case_decline", BEN.id, None),
        ("case_propose", ANNA.id, None),
        ("case_sign", CLEO.id, "upheld"),
    ]


def test_two_accounts_of_one_admin_never_give_both_signatures(town: Town) -> None:
    case, context = contested(town), town.rt.context
    first, second = staff_of(town, "first"), staff_of(town, "second")
    with writing(town.rt.engine) as connection:
        for one in (first, second):
            staff_store.update_staff(connection, one.id, enrolled_by=77)
    desk.take(context, case, first)
    desk.decide(context, case, first, Outcome.UPHELD, "The record shows it.")
    with pytest.raises(ConflictOfInterest, match="same admin"):
        desk.sign(context, case, second)
    assert case_row(town, case).state == "awaiting_signoff"
    with writing(town.rt.engine) as connection:
        staff_store.update_staff(connection, first.id, confirmed_by=78)
    desk.sign(context, case, second)
    assert case_row(town, case).state == "decided"
