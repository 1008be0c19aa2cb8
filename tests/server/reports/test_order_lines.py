"""What an order remembers: neither an appeal nor a decision is undone by reporting the order again."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from ledger.errors import (
    AlreadyExpired,
    AlreadyReversed,
    LedgerError,
    LinkedReportInvalid,
    NotFound,
    NoticeOutdated,
    OrderDecided,
    ReplacementInvalid,
    ReportDisputed,
)
from ledger.protocol.encoding import format_time
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.rules.appeals import Outcome
from ledger.rules.conduct import Conduct
from ledger.server.appeals import staff_actions as desk
from ledger.server.appeals import subject
from ledger.server.appeals.clock import run_clocks
from ledger.server.db.engine import reading
from ledger.server.db.tables.ledger import Report
from ledger.server.db.tables.orders import OrderClosure
from ledger.server.reports.erasure import erase_due
from ledger.server.reports.reports import get_report, submit_report, withdraw_report
from tests.server.appeals.test_appeals import ANNA, contest, session_of
from tests.server.conftest import Founding, Subjects, Town
from tests.server.reports.lines import (
    PLACES,
    Street,
    decide,
    farm,
    lost,
    points,
    record,
    shared_town,
    somebody,
    street,
)
from tests.support import evidence, opened, report_payload


@pytest.fixture(scope="module", params=PLACES)
def city(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, founding: Founding
) -> Iterator[Town]:
    yield from shared_town(request, tmp_path_factory.mktemp("city"), founding)


@pytest.fixture
def town(city: Town) -> Street:
    """This test's part of the ledger that all tests here share."""
    return street(city)


def again(town: Street, person: Subjects, report: dict[str, Any], order: str, *, replace: bool, **more: Any) -> Any:
    """Report the order again, with a new notice and new evidence."""
    changes = {**town.told_now(), **more}
    if replace:
        changes["replaces"] = report["id"]
    return town.report(town.acme, person, order=order, **changes)


def test_a_contested_report_is_not_replaced_and_its_withdrawal_costs_and_closes(town: Street) -> None:
    """The order of the log decides, also within one batch of the appender."""
    before = lost(town)
    for attempt in range(3):
        person, order = somebody(), f"A-{attempt}"
        report = town.report(town.acme, person, order=order)
        (case,) = contest(town, person, report)
        with pytest.raises(ReportDisputed) as disputed:
            again(town, person, report, order, replace=True)
        assert disputed.value.details == {"case": case}
        member, told = town.acme.member(), town.told_now()
        payloads = [report_payload(town.rt, town.acme, person, order=town.order(order), **told) for _ in range(2)]
        futures = [
            withdraw_report(town.rt.reports, member, report["id"], "wrong_facts", secrets.token_hex(8)),
            *[submit_report(town.rt.reports, member, payload, secrets.token_hex(8)) for payload in payloads],
        ]
        assert futures[0].result(10).status == 200
        for future in futures[1:]:
            with pytest.raises(OrderDecided) as closed:
                future.result(10)
            assert closed.value.details == {"case": case}
        assert record(town, person)[report["id"]]["case"]["state"] == "closed"
        town.clock.moment += timedelta(days=4)
        assert points(town, person) == 0.0
    assert lost(town) == before + 3


def test_no_report_of_the_order_undoes_a_decision(town: Street) -> None:
    for outcome in Outcome:
        person, order = somebody(), f"A-{outcome}"
        report = town.report(town.acme, person, order=order)
        (case,) = contest(town, person, report)
        decide(town, case, outcome)
        after = town.lookup(person)
        if outcome is Outcome.UPHELD:
            again(town, person, report, order, replace=True)
            continue
        with pytest.raises(OrderDecided) as closed:
            again(town, person, report, order, replace=True)
        assert closed.value.details == {"case": case}
        assert town.lookup(person)["events"] == after["events"]
        if outcome not in (Outcome.OVERTURNED, Outcome.VICTIM):
            town.withdraw(town.acme, report["id"])
        for platform in (town.acme, town.acme2):
            with pytest.raises(OrderDecided) as closed:
                town.report(platform, person, order=order, **town.told_now())
            assert closed.value.details == {"case": case}
        assert town.lookup(person)["points"] == 0.0
    town.report(town.bolt, person, order=order)  # another group's order of that name is another order


def test_after_a_decision_the_reporter_still_withdraws_and_records_restitution(town: Street) -> None:
    person, before = somebody(), lost(town)
    report = town.report(town.acme, person, order="A-1")
    (case,) = contest(town, person, report)
    decide(town, case, Outcome.UNCONFIRMED)
    assert town.restitute(town.acme, report, format_time(town.clock()))["restitution"] is not None
    assert town.withdraw(town.acme, report["id"])["status"] == "withdrawn"
    assert lost(town) == before, "nothing was contested any more"


def test_silence_of_the_reporter_closes_the_order(town: Street) -> None:

    person = somebody()
    report = town.report(town.acme, person, order="A-1")
    (case,) = contest(town, person, report)
    desk.take(town.rt.context, case, ANNA)
    desk.ask_reporter(town.rt.context, case, ANNA, "What happened?")
    town.clock.moment += timedelta(days=8)
    run_clocks(town.rt.context)
    for replace in (True, False):
        with pytest.raises(OrderDecided):
            again(town, person, report, "A-1", replace=replace)


# --- what binds a further report ----------------------------------------------------------------------------------


@pytest.mark.parametrize("replace", [True, False])
def test_a_further_report_has_its_own_notice_cools_again_and_keeps_what_was(town: Street, replace: bool) -> None:
    person, stranger = somebody(), somebody()
    act = town.clock() - timedelta(days=80)
    report = town.report(town.acme, person, order="A-1", act_ended_at=format_time(act))
    town.restitute(town.acme, report, format_time(town.clock()))
    subject.state(town.rt.context, session_of(town, person), report["id"], "It was returned.", "en")
    halved = points(town, person)
    if not replace:
        town.withdraw(town.acme, report["id"])
    later = {"act_ended_at": format_time(town.clock() - timedelta(days=1)), "conduct": "switched_return",
             "evidence": evidence("serial_mismatch", "intake_photo")}  # fmt: skip
    with pytest.raises(NoticeOutdated) as outdated:
        again(town, person, report, "A-1", replace=replace, **later,
              notice_sent_at=format_time(town.clock() - timedelta(seconds=1)))  # fmt: skip
    assert outdated.value.details == {"not_before": format_time(town.clock())}
    second = again(town, person, report, "A-1", replace=replace, **later)
    assert (second["status"], second["expires_at"]) == ("cooling", report["expires_at"])
    assert points(town, person) == 0.0, "the old one stopped at that instant"
    mine = record(town, person)
    assert mine[second["id"]]["restituted"]
    assert mine[second["id"]]["statement"]["text"] == "It was returned."
    if replace:
        assert mine[report["id"]]["replaced_by"] == second["id"]
        assert (mine[second["id"]]["replaces"], mine[report["id"]]["status"]) == (report["id"], "withdrawn")
    assert get_report(town.rt.context, town.acme.member(), second["id"])["restitution"] is not None
    town.clock.moment += timedelta(days=4)
    found = town.lookup(person)
    assert (found["has_statement"], found["events"]) == (True, 1)
    assert "restituted" in found["reasons"]
    assert halved < found["points"] <= 3.0, "six points, halved"
    # Another person's report of the order: the money came back, but the words are not theirs.
    third = again(town, stranger, second, "A-1", replace=True)
    assert record(town, stranger)[third["id"]]["statement"] is None
    assert record(town, stranger)[third["id"]]["restituted"]


def test_an_expired_report_is_not_made_anew(town: Street) -> None:
    person = somebody()
    report = town.report(town.acme, person, order="A-1")
    town.clock.moment += timedelta(days=360)
    assert get_report(town.rt.context, town.acme.member(), report["id"])["status"] == "expired"
    with pytest.raises(AlreadyExpired):
        again(town, person, report, "A-1", replace=True)
    town.withdraw(town.acme, report["id"])
    with pytest.raises(AlreadyExpired):
        again(town, person, report, "A-1", replace=False)


def test_a_replacement_is_about_the_same_order(town: Street) -> None:
    person = somebody()
    report = town.report(town.acme, person, order="A-1")
    with pytest.raises(ReplacementInvalid):
        again(town, person, report, "A-2", replace=True)


def test_a_duplicate_of_an_older_report_is_withdrawn_without_cost(town: Street) -> None:
    person, other, before = somebody(), somebody(), lost(town)
    first = town.report(town.acme, person, order="A-1")
    twice = town.report(town.acme, person, order="A-01")
    single = town.report(town.acme, other, order="A-2")
    contest(town, person, first, twice)
    contest(town, other, single)
    town.withdraw(town.acme, twice["id"], reason="duplicate")
    assert lost(town) == before
    with pytest.raises(OrderDecided):
        again(town, person, twice, "A-01", replace=False)
    town.withdraw(town.acme, first["id"], reason="duplicate")
    assert lost(town) == before + 1, "the older one is no duplicate of the later one"
    town.withdraw(town.acme, single["id"], reason="duplicate")
    assert lost(town) == before + 2, "nor is one without another"


def test_a_closed_order_stays_closed_when_everything_else_is_erased(town: Street) -> None:
    outcomes, made = (Outcome.OVERTURNED, Outcome.UNCONFIRMED, Outcome.UPHELD, None), []
    for outcome in outcomes:
        person, order = somebody(), f"A-{outcome}"
        report = town.report(town.acme, person, order=order)
        made.append(report["entry_index"])
        (case,) = contest(town, person, report)
        if outcome is None:
            town.withdraw(town.acme, report["id"])
        else:
            decide(town, case, outcome)
    free = town.report(town.acme, somebody(), order="A-free")
    town.clock.moment += timedelta(days=500)
    run_clocks(town.rt.context)
    while erase_due(town.rt.context, town.rt.settings):
        pass
    with pytest.raises(NotFound):
        get_report(town.rt.context, town.acme.member(), free["id"])
    with reading(town.rt.engine) as connection:
        assert connection.execute(select(Report.id).where(Report.id.in_(made))).all() == []
        assert {row.control_group for row in connection.execute(select(OrderClosure.control_group))} == {"acme-group"}
    for outcome in outcomes:
        with pytest.raises(OrderDecided) as closed:
            town.report(town.acme, somebody(), order=f"A-{outcome}")
        assert decode_id("ap", str(closed.value.details["case"]), town.rt.settings.service) > 0
    town.report(town.acme, somebody(), order="A-free")


# --- linked reports -----------------------------------------------------------------------------------------------


def linked_pair(town: Street, tag: str) -> tuple[list[Subjects], list[dict[str, Any]]]:
    people = [somebody(), somebody()]
    return people, [town.report(town.acme, one, order=f"{tag}-{n}") for n, one in enumerate(people)]


def test_a_farm_is_disputed_while_a_linked_report_is(town: Street) -> None:
    people, reports = linked_pair(town, "L")
    boss = somebody()
    report = farm(town, [one["id"] for one in reports], boss)
    member = town.acme.member()
    assert points(town, boss) > 0
    (case,) = contest(town, people[0], reports[0])
    found = town.lookup(boss)
    assert (found["points"], found["disputed"]) == (0.0, True)
    assert get_report(town.rt.context, member, report["id"])["status"] == "disputed"
    with pytest.raises(LinkedReportInvalid):
        farm(town, [one["id"] for one in reports], somebody())
    # Its own appeal and its own decision do not make it count while what it rests on is contested.
    (own,) = contest(town, boss, report)
    decide(town, own, Outcome.AMENDED, Conduct.FALSE_NON_RECEIPT)
    assert town.lookup(boss)["disputed"]
    decide(town, case, Outcome.UPHELD)
    assert (town.lookup(boss)["disputed"], points(town, boss) > 0) == (False, True)
    (second,) = contest(town, people[1], reports[1])
    decide(town, second, Outcome.UNCONFIRMED)
    assert points(town, boss) == 0.0, "it rests on what was not confirmed"


def test_a_farm_outlives_the_expiry_of_a_linked_report(town: Street) -> None:
    people, reports = linked_pair(town, "L")
    boss = somebody()
    report = farm(town, [one["id"] for one in reports], boss)
    town.clock.moment += timedelta(days=350)
    contest(town, people[0], reports[0])
    assert town.lookup(boss)["disputed"]
    town.clock.moment += timedelta(days=10)
    run_clocks(town.rt.context)
    assert get_report(town.rt.context, town.acme.member(), reports[0]["id"])["status"] == "expired"
    assert get_report(town.rt.context, town.acme.member(), report["id"])["status"] == "counting"
    assert not town.lookup(boss)["disputed"]


def test_a_farm_falls_when_its_link_is_cut(town: Street) -> None:
    shared, before = somebody(Kind.PAYMENT), lost(town)
    people = [[*somebody(Kind.PHONE), *shared], somebody()]
    reports = [town.report(town.acme, one, order=f"L-{n}") for n, one in enumerate(people)]
    apart, joined = somebody(), [*somebody(Kind.PHONE), *shared]
    stays, falls = [farm(town, [one["id"] for one in reports], who) for who in (apart, joined)]
    (case,) = contest(town, people[0], reports[0])

    desk.take(town.rt.context, case, ANNA)
    desk.decide(town.rt.context, case, ANNA, Outcome.UNLINKED, "The card was passed on.", slots=(1,))
    states = [get_report(town.rt.context, town.acme.member(), one["id"])["status"] for one in (stays, falls)]
    assert states == ["counting", "withdrawn"]
    assert lost(town) == before


def test_a_contested_farm_is_not_taken_out_of_its_appeal_for_free(town: Street) -> None:
    people, reports = linked_pair(town, "L")
    boss, before = somebody(), lost(town)
    report = farm(town, [one["id"] for one in reports], boss, order="F-1")
    (case,) = contest(town, boss, report)
    town.withdraw(town.acme, reports[1]["id"])
    view = get_report(town.rt.context, town.acme.member(), report["id"])
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "linked_report_void")
    assert lost(town) == before + 1
    with pytest.raises(OrderDecided) as closed:
        farm(town, [one["id"] for one in reports], boss, order="F-1", **town.told_now())
    assert closed.value.details == {"case": case}
    # The linked report itself was not contested: it may come back, after a notice of its own.
    anew = again(town, people[1], reports[1], "L-1", replace=False)
    town.clock.moment += timedelta(days=4)
    with pytest.raises(OrderDecided):
        farm(town, [reports[0]["id"], anew["id"]], boss, order="F-1", **town.told_now())
    other = farm(town, [reports[0]["id"], anew["id"]], boss, order="F-2", **town.told_now())
    assert other["status"] == "held"
    assert points(town, boss) == 0.0


def test_one_act_costs_once_however_many_contested_reports_fall(town: Street) -> None:
    people, reports = linked_pair(town, "L")
    bosses, before = [somebody(), somebody()], lost(town)
    farms = [farm(town, [one["id"] for one in reports], boss) for boss in bosses]
    for boss, report in zip(bosses, farms, strict=True):
        contest(town, boss, report)
    (case,) = contest(town, people[0], reports[0])
    town.withdraw(town.acme, reports[0]["id"])
    assert lost(town) == before + 1
    # A decision against a linked report is one decision too.
    people, reports = linked_pair(town, "M")
    report = farm(town, [one["id"] for one in reports], somebody())
    (case,) = contest(town, people[0], reports[0])
    decide(town, case, Outcome.OVERTURNED)
    assert get_report(town.rt.context, town.acme.member(), report["id"])["status"] == "withdrawn"
    assert lost(town) == before + 2


# --- races --------------------------------------------------------------------------------------------------------


def test_the_log_decides_between_an_appeal_and_the_reporter(town: Street) -> None:
    """Two processes: one files appeals, the other replaces or withdraws the same reports and reports the order anew."""
    seen = {"disputed": 0, "replaced": 0, "decided": 0, "reported": 0}
    with opened(town.rt.settings, town.clock) as other:
        for attempt in range(6):
            person, order = somebody(), f"R-{attempt}"
            report = town.report(town.acme, person, order=order)
            session, told = session_of(town, person), town.told_now()
            barrier = threading.Barrier(2)
            filed: list[Any] = []

            def appeal(
                session: Any = session, report: Any = report, barrier: Any = barrier, filed: Any = filed
            ) -> None:
                barrier.wait()
                with contextlib.suppress(NotFound):
                    filed += subject.appeal(town.rt.context, session, [report["id"]], "other", "No.", "en")

            thread = threading.Thread(target=appeal)
            thread.start()
            replaces = {"replaces": report["id"]} if attempt % 2 else {}
            payload = report_payload(other, town.acme, person, order=town.order(order), **told, **replaces)
            barrier.wait()
            if not replaces:
                withdraw_report(other.reports, town.acme.member(), report["id"], "other", secrets.token_hex(8)).result(
                    10
                )
            try:
                submit_report(other.reports, town.acme.member(), payload, secrets.token_hex(8)).result(10)
                seen["replaced" if replaces else "reported"] += 1
                assert filed == [], "nothing followed a case"
            except ReportDisputed:
                thread.join()
                assert filed
                seen["disputed"] += 1
            except OrderDecided:
                thread.join()
                assert filed
                seen["decided"] += 1
            thread.join()
            town.clock.moment += timedelta(days=4)
            if filed:
                assert points(town, person) == 0.0
    assert sum(seen.values()) == 6


def test_what_is_refused_leaves_nothing(town: Street) -> None:
    person = somebody()
    report = town.report(town.acme, person, order="A-1")
    contest(town, person, report)
    with reading(town.rt.engine) as connection:
        before = connection.execute(select(Report.id)).all()
    for replace in (True, False):
        with pytest.raises(LedgerError):
            again(town, person, report, "A-1", replace=replace)
    town.withdraw(town.acme, report["id"], key="one")
    with pytest.raises(AlreadyReversed):
        town.withdraw(town.acme, report["id"], key="two")
    with reading(town.rt.engine) as connection:
        assert connection.execute(select(Report.id)).all() == before
