"""Acts that two groups report, and accounts that a report links: what belongs together, and what falls together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from ledger.errors import LinkedReportInvalid
from ledger.protocol.encoding import format_time
from ledger.server.db.engine import reading
from ledger.server.db.tables.log import LogEntry
from ledger.server.db.tables.reports import Report
from ledger.server.reports.reports import get_report
from tests.server.conftest import LedgerFixture, Subjects
from tests.support import evidence

pytestmark = pytest.mark.one_engine


def count(ledger: LedgerFixture, table: Any) -> int:
    with reading(ledger.rt.engine) as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def acts(ledger: LedgerFixture) -> dict[int, int]:
    with reading(ledger.rt.engine) as connection:
        return {row.id: row.act_id for row in connection.execute(select(Report.id, Report.act_id))}


@pytest.mark.parametrize(
    ("changes", "joins"),
    [
        ({}, True),
        ({"amount_minor": 12_901}, False),
        ({"currency": "EUR"}, False),
        ({"days": 7}, True),
        ({"days": 8}, False),
    ],
)
def test_another_groups_report_of_the_same_act_joins_it(
    ledger: LedgerFixture, changes: dict[str, Any], joins: bool
) -> None:
    changes = dict(changes)
    days = changes.pop("days", 0)
    first = ledger.report(ledger.acme, ledger.person())
    ended = ledger.clock() - timedelta(days=6 + days)
    second = ledger.report(ledger.bolt, ledger.person()[:1], act_ended_at=format_time(ended), **changes)
    assert (acts(ledger)[second["entry_index"]] == first["entry_index"]) is joins
    assert ledger.lookup(ledger.person())["events"] == (1 if joins else 2)


def test_one_group_or_another_person_never_joins(ledger: LedgerFixture) -> None:
    first = ledger.report(ledger.acme, ledger.person())
    same_group = ledger.report(ledger.acme2, ledger.person())
    other_person = ledger.report(ledger.bolt, ledger.person(1))
    found = acts(ledger)
    assert [found[one["entry_index"]] for one in (first, same_group, other_person)] == [
        one["entry_index"] for one in (first, same_group, other_person)
    ]


def test_the_reporter_cannot_tell_that_another_platform_reported_the_act(ledger: LedgerFixture) -> None:
    alone = ledger.report(ledger.bolt, ledger.person(1))
    ledger.report(ledger.acme, ledger.person())
    joined = ledger.report(ledger.bolt, ledger.person())
    assert alone.keys() == joined.keys()
    views = [get_report(ledger.rt.context, ledger.bolt.member(), one["id"]) for one in (alone, joined)]
    differing = {name for name in views[0] if views[0][name] != views[1][name]}
    assert differing <= {"id", "entry_index", "order_ref", "receipt_url", "effective_from"}


def farm(ledger: LedgerFixture, linked: list[str], subjects: Subjects, **changes: Any) -> dict[str, Any]:
    items = evidence(*["linked_instrument"] * len(linked))
    for item, report_id in zip(items, linked, strict=True):
        item["report_id"] = report_id
    return ledger.report(ledger.acme, subjects, conduct="account_farm", evidence=items, **changes)


def test_an_account_farm_falls_with_a_report_it_rests_on(ledger: LedgerFixture) -> None:
    linked = [ledger.report(ledger.acme, ledger.person(n))["id"] for n in (1, 2)]
    report = farm(ledger, linked, ledger.person(3))
    assert ledger.lookup(ledger.person(3))["events"] == 1
    entries = count(ledger, LogEntry)
    ledger.withdraw(ledger.acme, linked[1])
    view = get_report(ledger.rt.context, ledger.acme.member(), report["id"])
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "linked_report_void")
    assert count(ledger, LogEntry) == entries + 2
    assert ledger.lookup(ledger.person(3))["tier"] == "clear"


def test_an_account_farm_needs_counting_reports_of_its_own_about_two_accounts(ledger: LedgerFixture) -> None:
    mine = [ledger.report(ledger.acme, ledger.person(n))["id"] for n in (1, 2)]
    theirs = ledger.report(ledger.bolt, ledger.person(4))["id"]
    same_account = ledger.report(ledger.acme, ledger.person(1))["id"]
    cooling = ledger.report(ledger.acme, ledger.person(5), notice_sent_at=format_time(ledger.clock()))["id"]
    gone = ledger.report(ledger.acme, ledger.person(6))["id"]
    ledger.withdraw(ledger.acme, gone)
    for bad in (theirs, same_account, cooling, gone):
        with pytest.raises(LinkedReportInvalid):
            farm(ledger, [mine[0], bad], ledger.person(3))
    farm(ledger, mine, ledger.person(3))


def test_one_groups_two_orders_stay_two_acts_beside_another_groups_report(ledger: LedgerFixture) -> None:
    before = [ledger.report(ledger.acme, ledger.person(n))["entry_index"] for n in (0, 0)]
    theirs = ledger.report(ledger.bolt, ledger.person())["entry_index"]
    after = ledger.report(ledger.acme2, ledger.person())["entry_index"]
    found = acts(ledger)
    assert [found[one] for one in (*before, theirs, after)] == [before[0], before[1], before[0], after]
    assert ledger.lookup(ledger.person())["events"] == 3


def test_a_correction_stays_in_the_act_it_was_in(ledger: LedgerFixture) -> None:
    theirs = ledger.report(ledger.bolt, ledger.person())
    mine = ledger.report(ledger.acme, ledger.person(), order="A-1")
    corrected = ledger.report(ledger.acme, ledger.person(), order="A-1", replaces=mine["id"], **ledger.told_now())
    found = acts(ledger)
    assert found[mine["entry_index"]] == found[corrected["entry_index"]] == theirs["entry_index"]


def test_an_account_farm_cannot_rest_on_the_report_it_replaces(ledger: LedgerFixture) -> None:
    linked = [ledger.report(ledger.acme, ledger.person(n), order=f"A-{n}")["id"] for n in (1, 2)]
    with pytest.raises(LinkedReportInvalid):
        farm(ledger, linked, ledger.person(3), order="A-1", replaces=linked[0], **ledger.told_now())
