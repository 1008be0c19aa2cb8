"""What the staff do in a case: only what they have seen changes, and the audit log has each thing done, once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from ledger.errors import ActionRefused, CaseTaken, ConflictOfInterest
from ledger.rules.appeals import Outcome
from ledger.server.appeals import queue, staff_actions
from ledger.server.db.engine import reading, writing
from ledger.server.records import case_queries as store
from ledger.server.staff import queries as staff_store
from ledger.server.staff.audit import EventFilter, page
from tests.server.appeals.contested import staff_of
from tests.server.appeals.test_appeals import ANNA, BEN, CLEO, GRAVE, case_row, contest
from tests.server.conftest import LedgerFixture

pytestmark = pytest.mark.one_engine


def contested(ledger: LedgerFixture, person: int = 0) -> str:
    """A case about a new report of bolt."""
    subjects = ledger.person(person)
    report = ledger.report(ledger.bolt, subjects, **GRAVE)
    ledger.clock.moment += timedelta(hours=1)
    (case,) = contest(ledger, subjects, report)
    return case


def newest(ledger: LedgerFixture, case: str) -> int:
    with reading(ledger.rt.engine) as connection:
        return store.newest_event(connection, case_row(ledger, case).id)


def audited(ledger: LedgerFixture, case: str) -> list[tuple[str, int | None, str | None]]:
    """What the audit log says was done in the case, the oldest first."""
    events = page(ledger.rt.engine, EventFilter(object_id=case), None).events
    return [(event.action, event.staff_id, event.detail) for event in reversed(events)]


def test_who_has_not_seen_the_newest_changes_nothing(ledger: LedgerFixture) -> None:
    case = contested(ledger)
    before = newest(ledger, case)
    staff_actions.take(ledger.rt.context, case, ANNA, seen=before)
    after, row = newest(ledger, case), case_row(ledger, case)
    assert after > before
    acts: list[Callable[[], object]] = [
        lambda: staff_actions.note(ledger.rt.context, case, ANNA, "Late.", seen=before),
        lambda: staff_actions.decide(ledger.rt.context, case, ANNA, Outcome.OVERTURNED, "Late.", seen=before),
        lambda: staff_actions.hand_back(ledger.rt.context, case, ANNA, seen=0),
        lambda: staff_actions.assign(ledger.rt.context, case, CLEO, BEN, seen=after + 1),
    ]
    for act in acts:
        with pytest.raises(ActionRefused, match="moved on"):
            act()
    assert (newest(ledger, case), case_row(ledger, case)) == (after, row)
    assert audited(ledger, case) == [("case_take", ANNA.id, None)], "what was refused was not done"


@pytest.mark.both_engines
def test_of_two_forms_of_one_view_one_is_taken(ledger: LedgerFixture) -> None:
    case = contested(ledger)
    staff_actions.take(ledger.rt.context, case, ANNA)
    for _ in range(5):
        before = newest(ledger, case)

        def noted(number: int, seen: int = before) -> bool:
            try:
                staff_actions.note(ledger.rt.context, case, ANNA, f"Note {number}.", seen=seen)
            except ActionRefused:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(noted, range(4))) == [False, False, False, True]


def test_the_audit_log_has_each_thing_done(ledger: LedgerFixture) -> None:
    case, context = contested(ledger), ledger.rt.context
    queue.skip(context, case, BEN)
    staff_actions.take(context, case, ANNA)
    staff_actions.decide(context, case, ANNA, Outcome.UPHELD, "The record shows it.")
    with pytest.raises(CaseTaken):
        queue.skip(context, case, BEN)
    staff_actions.decline(context, case, BEN, "Look at the scale again.")
    staff_actions.decide(context, case, ANNA, Outcome.UPHELD, "The scale shows it.")
    staff_actions.sign(context, case, CLEO)
    assert audited(ledger, case) == [
        ("case_skip", BEN.id, None),
        ("case_take", ANNA.id, None),
        ("case_propose", ANNA.id, None),
        ("case_decline", BEN.id, None),
        ("case_propose", ANNA.id, None),
        ("case_sign", CLEO.id, "upheld"),
    ]


def test_two_accounts_of_one_admin_never_give_both_signatures(ledger: LedgerFixture) -> None:
    case, context = contested(ledger), ledger.rt.context
    first, second = staff_of(ledger, "first"), staff_of(ledger, "second")
    with writing(ledger.rt.engine) as connection:
        for member in (first, second):
            staff_store.update_staff(connection, member.id, enrolled_by=77)
    staff_actions.take(context, case, first)
    staff_actions.decide(context, case, first, Outcome.UPHELD, "The record shows it.")
    with pytest.raises(ConflictOfInterest, match="same admin"):
        staff_actions.sign(context, case, second)
    assert case_row(ledger, case).state == "awaiting_signoff"
    with writing(ledger.rt.engine) as connection:
        staff_store.update_staff(connection, first.id, confirmed_by=78)
    staff_actions.sign(context, case, second)
    assert case_row(ledger, case).state == "decided"
