"""Acts that two groups report, and accounts that a report links: what belongs together, and what falls together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from ledger.errors import LinkedReportInvalid
from ledger.protocol.encoding import format_time
from ledger.server.db.engine import reading
from ledger.server.db.tables.ledger import LogEntry, Report
from ledger.server.reports.reports import get_report
from tests.server.conftest import Subjects, Town
from tests.support import evidence

pytestmark = pytest.mark.one_engine


def count(town: Town, table: Any) -> int:
    with reading(town.rt.engine) as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def acts(town: Town) -> dict[int, int]:
    with reading(town.rt.engine) as connection:
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
def test_another_groups_report_of_the_same_act_joins_it(town: Town, changes: dict[str, Any], joins: bool) -> None:
    changes = dict(changes)
    days = changes.pop("days", 0)
    first = town.report(town.acme, town.person())
    ended = town.clock() - timedelta(days=6 + days)
    second = town.report(town.bolt, town.person()[:1], act_ended_at=format_time(ended), **changes)
    assert (acts(town)[second["entry_index"]] == first["entry_index"]) is joins
    assert town.lookup(town.person())["events"] == (1 if joins else 2)


def test_one_group_or_another_person_never_joins(town: Town) -> None:
    first = town.report(town.acme, town.person())
    same_group = town.report(town.acme2, town.person())
    other_person = town.report(town.bolt, town.person(1))
    found = acts(town)
    assert [found[one["entry_index"]] for one in (first, same_group, other_person)] == [
        one["entry_index"] for one in (first, same_group, other_person)
    ]


def test_the_reporter_cannot_tell_that_another_platform_reported_the_act(town: Town) -> None:
    alone = town.report(town.bolt, town.person(1))
    town.report(town.acme, town.person())
    joined = town.report(town.bolt, town.person())
    assert alone.keys() == joined.keys()
    views = [get_report(town.rt.context, town.bolt.member(), one["id"]) for one in (alone, joined)]
    differing = {name for name in views[0] if views[0][name] != views[1][name]}
    assert differing <= {"id", "entry_index", "order_ref", "receipt_url", "effective_from"}


def farm(town: Town, linked: list[str], subjects: Subjects, **changes: Any) -> dict[str, Any]:
    items = evidence(*["linked_instrument"] * len(linked))
    for item, report_id in zip(items, linked, strict=True):
        item["report_id"] = report_id
    return town.report(town.acme, subjects, conduct="account_farm", evidence=items, **changes)


def test_an_account_farm_falls_with_a_report_it_rests_on(town: Town) -> None:
    linked = [town.report(town.acme, town.person(n))["id"] for n in (1, 2)]
    report = farm(town, linked, town.person(3))
    assert town.lookup(town.person(3))["events"] == 1
    entries = count(town, LogEntry)
    town.withdraw(town.acme, linked[1])
    view = get_report(town.rt.context, town.acme.member(), report["id"])
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "linked_report_void")
    assert count(town, LogEntry) == entries + 2
    assert town.lookup(town.person(3))["tier"] == "clear"


def test_an_account_farm_needs_counting_reports_of_its_own_about_two_accounts(town: Town) -> None:
    mine = [town.report(town.acme, town.person(n))["id"] for n in (1, 2)]
    theirs = town.report(town.bolt, town.person(4))["id"]
    same_account = town.report(town.acme, town.person(1))["id"]
    cooling = town.report(town.acme, town.person(5), notice_sent_at=format_time(town.clock()))["id"]
    gone = town.report(town.acme, town.person(6))["id"]
    town.withdraw(town.acme, gone)
    for bad in (theirs, same_account, cooling, gone):
        with pytest.raises(LinkedReportInvalid):
            farm(town, [mine[0], bad], town.person(3))
    farm(town, mine, town.person(3))


def test_one_groups_two_orders_stay_two_acts_beside_another_groups_report(town: Town) -> None:
    before = [town.report(town.acme, town.person(n))["entry_index"] for n in (0, 0)]
    theirs = town.report(town.bolt, town.person())["entry_index"]
    after = town.report(town.acme2, town.person())["entry_index"]
    found = acts(town)
    assert [found[one] for one in (*before, theirs, after)] == [before[0], before[1], before[0], after]
    assert town.lookup(town.person())["events"] == 3


def test_a_correction_stays_in_the_act_it_was_in(town: Town) -> None:
    theirs = town.report(town.bolt, town.person())
    mine = town.report(town.acme, town.person(), order="A-1")
    corrected = town.report(town.acme, town.person(), order="A-1", replaces=mine["id"], **town.told_now())
    found = acts(town)
    assert found[mine["entry_index"]] == found[corrected["entry_index"]] == theirs["entry_index"]


def test_an_account_farm_cannot_rest_on_the_report_it_replaces(town: Town) -> None:
    linked = [town.report(town.acme, town.person(n), order=f"A-{n}")["id"] for n in (1, 2)]
    with pytest.raises(LinkedReportInvalid):
        farm(town, linked, town.person(3), order="A-1", replaces=linked[0], **town.told_now())
