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
from ledger.server.appeals import consumer, staff_actions
from ledger.server.appeals.case_changes import run_clocks
from ledger.server.db.engine import reading
from ledger.server.db.tables.orders import OrderClosure
from ledger.server.db.tables.reports import Report
from ledger.server.reports.erasure import erase_due
from ledger.server.reports.reports import get_report, submit_report, withdraw_report
from tests.counts import trials
from tests.server.appeals.test_appeals import ANNA, contest, session_of
from tests.server.conftest import LedgerFixture, LedgerSeed, Subjects
from tests.server.reports.lines import (
    PLACES,
    LedgerPart,
    decide,
    farm,
    ledger_part,
    lost,
    points,
    record,
    shared_ledger,
    somebody,
)
from tests.support import evidence, opened, report_payload

pytestmark = pytest.mark.one_engine


@pytest.fixture(scope="module", params=PLACES)
def base_ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seed: LedgerSeed
) -> Iterator[LedgerFixture]:
    yield from shared_ledger(request, tmp_path_factory.mktemp("ledger"), seed)


@pytest.fixture
def ledger(base_ledger: LedgerFixture) -> LedgerPart:
    """This test's part of the ledger that all tests here share."""
    return ledger_part(base_ledger)


def again(
    ledger: LedgerPart, person: Subjects, report: dict[str, Any], order: str, *, replace: bool, **more: Any
) -> Any:
    """Report the order again, with a new notice and new evidence."""
    changes = {**ledger.told_now(), **more}
    if replace:
        changes["replaces"] = report["id"]
    return ledger.report(ledger.acme, person, order=order, **changes)


def test_a_contested_report_is_not_replaced_and_its_withdrawal_costs_and_closes(ledger: LedgerPart) -> None:
    """The order of the log decides, also within one batch of the appender."""
    before = lost(ledger)
    for attempt in range(3):
        person, order = somebody(), f"A-{attempt}"
        report = ledger.report(ledger.acme, person, order=order)
        (case,) = contest(ledger, person, report)
        with pytest.raises(ReportDisputed) as disputed:
            again(ledger, person, report, order, replace=True)
        assert disputed.value.details == {"case": case}
        member, told = ledger.acme.member(), ledger.told_now()
        payloads = [report_payload(ledger.rt, ledger.acme, person, order=ledger.order(order), **told) for _ in range(2)]
        futures = [
            withdraw_report(ledger.rt.reports, member, report["id"], "wrong_facts", secrets.token_hex(8)),
            *[submit_report(ledger.rt.reports, member, payload, secrets.token_hex(8)) for payload in payloads],
        ]
        assert futures[0].result(60).status == 200
        for future in futures[1:]:
            with pytest.raises(OrderDecided) as closed:
                future.result(60)
            assert closed.value.details == {"case": case}
        assert record(ledger, person)[report["id"]]["case"]["state"] == "closed"
        ledger.clock.moment += timedelta(days=4)
        assert points(ledger, person) == 0.0
    assert lost(ledger) == before + 3


def test_no_report_of_the_order_undoes_a_decision(ledger: LedgerPart) -> None:
    for outcome in Outcome:
        person, order = somebody(), f"A-{outcome}"
        report = ledger.report(ledger.acme, person, order=order)
        (case,) = contest(ledger, person, report)
        decide(ledger, case, outcome)
        after = ledger.lookup(person)
        if outcome is Outcome.UPHELD:
            again(ledger, person, report, order, replace=True)
            continue
        with pytest.raises(OrderDecided) as closed:
            again(ledger, person, report, order, replace=True)
        assert closed.value.details == {"case": case}
        assert ledger.lookup(person)["events"] == after["events"]
        if outcome not in (Outcome.OVERTURNED, Outcome.VICTIM):
            ledger.withdraw(ledger.acme, report["id"])
        for platform in (ledger.acme, ledger.acme2):
            with pytest.raises(OrderDecided) as closed:
                ledger.report(platform, person, order=order, **ledger.told_now())
            assert closed.value.details == {"case": case}
        assert ledger.lookup(person)["points"] == 0.0
    ledger.report(ledger.bolt, person, order=order)  # another group's order of that name is another order


def test_after_a_decision_the_reporter_still_withdraws_and_records_restitution(ledger: LedgerPart) -> None:
    person, before = somebody(), lost(ledger)
    report = ledger.report(ledger.acme, person, order="A-1")
    (case,) = contest(ledger, person, report)
    decide(ledger, case, Outcome.UNCONFIRMED)
    assert ledger.restitute(ledger.acme, report, format_time(ledger.clock()))["restitution"] is not None
    assert ledger.withdraw(ledger.acme, report["id"])["status"] == "withdrawn"
    assert lost(ledger) == before, "nothing was contested any more"


def test_silence_of_the_reporter_closes_the_order(ledger: LedgerPart) -> None:

    person = somebody()
    report = ledger.report(ledger.acme, person, order="A-1")
    (case,) = contest(ledger, person, report)
    staff_actions.take(ledger.rt.context, case, ANNA)
    staff_actions.ask_reporter(ledger.rt.context, case, ANNA, "What happened?")
    ledger.clock.moment += timedelta(days=8)
    run_clocks(ledger.rt.context)
    for replace in (True, False):
        with pytest.raises(OrderDecided):
            again(ledger, person, report, "A-1", replace=replace)


# --- what binds a further report ----------------------------------------------------------------------------------


@pytest.mark.parametrize("replace", [True, False])
def test_a_further_report_has_its_own_notice_cools_again_and_keeps_what_was(ledger: LedgerPart, replace: bool) -> None:
    person, stranger = somebody(), somebody()
    act = ledger.clock() - timedelta(days=80)
    report = ledger.report(ledger.acme, person, order="A-1", act_ended_at=format_time(act))
    ledger.restitute(ledger.acme, report, format_time(ledger.clock()))
    consumer.add_statement(ledger.rt.context, session_of(ledger, person), report["id"], "It was returned.", "en")
    halved = points(ledger, person)
    if not replace:
        ledger.withdraw(ledger.acme, report["id"])
    later = {"act_ended_at": format_time(ledger.clock() - timedelta(days=1)), "conduct": "switched_return",
             "evidence": evidence("serial_mismatch", "intake_photo")}  # fmt: skip
    with pytest.raises(NoticeOutdated) as outdated:
        again(ledger, person, report, "A-1", replace=replace, **later,
              notice_sent_at=format_time(ledger.clock() - timedelta(seconds=1)))  # fmt: skip
    assert outdated.value.details == {"not_before": format_time(ledger.clock())}
    second = again(ledger, person, report, "A-1", replace=replace, **later)
    assert (second["status"], second["expires_at"]) == ("cooling", report["expires_at"])
    assert points(ledger, person) == 0.0, "the old one stopped at that instant"
    mine = record(ledger, person)
    assert mine[second["id"]]["restituted"]
    assert mine[second["id"]]["statement"]["text"] == "It was returned."
    if replace:
        assert mine[report["id"]]["replaced_by"] == second["id"]
        assert (mine[second["id"]]["replaces"], mine[report["id"]]["status"]) == (report["id"], "withdrawn")
    assert get_report(ledger.rt.context, ledger.acme.member(), second["id"])["restitution"] is not None
    ledger.clock.moment += timedelta(days=4)
    found = ledger.lookup(person)
    assert (found["has_statement"], found["events"]) == (True, 1)
    assert "restituted" in found["reasons"]
    assert halved < found["points"] <= 3.0, "six points, halved"
    # Another person's report of the order: the money came back, but the words are not theirs.
    third = again(ledger, stranger, second, "A-1", replace=True)
    assert record(ledger, stranger)[third["id"]]["statement"] is None
    assert record(ledger, stranger)[third["id"]]["restituted"]


def test_an_expired_report_is_not_made_anew(ledger: LedgerPart) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person, order="A-1")
    ledger.clock.moment += timedelta(days=360)
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "expired"
    with pytest.raises(AlreadyExpired):
        again(ledger, person, report, "A-1", replace=True)
    ledger.withdraw(ledger.acme, report["id"])
    with pytest.raises(AlreadyExpired):
        again(ledger, person, report, "A-1", replace=False)


def test_a_replacement_is_about_the_same_order(ledger: LedgerPart) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person, order="A-1")
    with pytest.raises(ReplacementInvalid):
        again(ledger, person, report, "A-2", replace=True)


def test_a_duplicate_of_an_older_report_is_withdrawn_without_cost(ledger: LedgerPart) -> None:
    person, other, before = somebody(), somebody(), lost(ledger)
    first = ledger.report(ledger.acme, person, order="A-1")
    twice = ledger.report(ledger.acme, person, order="A-01")
    single = ledger.report(ledger.acme, other, order="A-2")
    contest(ledger, person, first, twice)
    contest(ledger, other, single)
    ledger.withdraw(ledger.acme, twice["id"], reason="duplicate")
    assert lost(ledger) == before
    with pytest.raises(OrderDecided):
        again(ledger, person, twice, "A-01", replace=False)
    ledger.withdraw(ledger.acme, first["id"], reason="duplicate")
    assert lost(ledger) == before + 1, "the older one is no duplicate of the later one"
    ledger.withdraw(ledger.acme, single["id"], reason="duplicate")
    assert lost(ledger) == before + 2, "nor is one without another"


@pytest.mark.both_engines
def test_a_closed_order_stays_closed_when_everything_else_is_erased(ledger: LedgerPart) -> None:
    outcomes, made = (Outcome.OVERTURNED, Outcome.UNCONFIRMED, Outcome.UPHELD, None), []
    for outcome in outcomes:
        person, order = somebody(), f"A-{outcome}"
        report = ledger.report(ledger.acme, person, order=order)
        made.append(report["entry_index"])
        (case,) = contest(ledger, person, report)
        if outcome is None:
            ledger.withdraw(ledger.acme, report["id"])
        else:
            decide(ledger, case, outcome)
    free = ledger.report(ledger.acme, somebody(), order="A-free")
    ledger.clock.moment += timedelta(days=500)
    run_clocks(ledger.rt.context)
    while erase_due(ledger.rt.context, ledger.rt.settings):
        pass
    with pytest.raises(NotFound):
        get_report(ledger.rt.context, ledger.acme.member(), free["id"])
    with reading(ledger.rt.engine) as connection:
        assert connection.execute(select(Report.id).where(Report.id.in_(made))).all() == []
        assert {row.control_group for row in connection.execute(select(OrderClosure.control_group))} == {"acme-group"}
    for outcome in outcomes:
        with pytest.raises(OrderDecided) as closed:
            ledger.report(ledger.acme, somebody(), order=f"A-{outcome}")
        assert decode_id("ap", str(closed.value.details["case"]), ledger.rt.settings.service) > 0
    ledger.report(ledger.acme, somebody(), order="A-free")


# --- linked reports -----------------------------------------------------------------------------------------------


def linked_pair(ledger: LedgerPart, tag: str) -> tuple[list[Subjects], list[dict[str, Any]]]:
    people = [somebody(), somebody()]
    return people, [ledger.report(ledger.acme, one, order=f"{tag}-{n}") for n, one in enumerate(people)]


def test_a_farm_is_disputed_while_a_linked_report_is(ledger: LedgerPart) -> None:
    people, reports = linked_pair(ledger, "L")
    boss = somebody()
    report = farm(ledger, [one["id"] for one in reports], boss)
    member = ledger.acme.member()
    assert points(ledger, boss) > 0
    (case,) = contest(ledger, people[0], reports[0])
    found = ledger.lookup(boss)
    assert (found["points"], found["disputed"]) == (0.0, True)
    assert get_report(ledger.rt.context, member, report["id"])["status"] == "disputed"
    with pytest.raises(LinkedReportInvalid):
        farm(ledger, [one["id"] for one in reports], somebody())
    # Its own appeal and its own decision do not make it count while what it rests on is contested.
    (own,) = contest(ledger, boss, report)
    decide(ledger, own, Outcome.AMENDED, Conduct.FALSE_NON_RECEIPT)
    assert ledger.lookup(boss)["disputed"]
    decide(ledger, case, Outcome.UPHELD)
    assert (ledger.lookup(boss)["disputed"], points(ledger, boss) > 0) == (False, True)
    (second,) = contest(ledger, people[1], reports[1])
    decide(ledger, second, Outcome.UNCONFIRMED)
    assert points(ledger, boss) == 0.0, "it rests on what was not confirmed"


def test_a_farm_outlives_the_expiry_of_a_linked_report(ledger: LedgerPart) -> None:
    people, reports = linked_pair(ledger, "L")
    boss = somebody()
    report = farm(ledger, [one["id"] for one in reports], boss)
    ledger.clock.moment += timedelta(days=350)
    contest(ledger, people[0], reports[0])
    assert ledger.lookup(boss)["disputed"]
    ledger.clock.moment += timedelta(days=10)
    run_clocks(ledger.rt.context)
    assert get_report(ledger.rt.context, ledger.acme.member(), reports[0]["id"])["status"] == "expired"
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "counting"
    assert not ledger.lookup(boss)["disputed"]


def test_a_farm_falls_when_its_link_is_cut(ledger: LedgerPart) -> None:
    shared, before = somebody(Kind.PAYMENT), lost(ledger)
    people = [[*somebody(Kind.PHONE), *shared], somebody()]
    reports = [ledger.report(ledger.acme, one, order=f"L-{n}") for n, one in enumerate(people)]
    apart, joined = somebody(), [*somebody(Kind.PHONE), *shared]
    stays, falls = [farm(ledger, [one["id"] for one in reports], who) for who in (apart, joined)]
    (case,) = contest(ledger, people[0], reports[0])

    staff_actions.take(ledger.rt.context, case, ANNA)
    staff_actions.decide(ledger.rt.context, case, ANNA, Outcome.UNLINKED, "The card was passed on.", slots=(1,))
    states = [get_report(ledger.rt.context, ledger.acme.member(), one["id"])["status"] for one in (stays, falls)]
    assert states == ["counting", "withdrawn"]
    assert lost(ledger) == before


def test_a_contested_farm_is_not_taken_out_of_its_appeal_for_free(ledger: LedgerPart) -> None:
    people, reports = linked_pair(ledger, "L")
    boss, before = somebody(), lost(ledger)
    report = farm(ledger, [one["id"] for one in reports], boss, order="F-1")
    (case,) = contest(ledger, boss, report)
    ledger.withdraw(ledger.acme, reports[1]["id"])
    view = get_report(ledger.rt.context, ledger.acme.member(), report["id"])
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "linked_report_void")
    assert lost(ledger) == before + 1
    with pytest.raises(OrderDecided) as closed:
        farm(ledger, [one["id"] for one in reports], boss, order="F-1", **ledger.told_now())
    assert closed.value.details == {"case": case}
    # The linked report itself was not contested: it may come back, after a notice of its own.
    anew = again(ledger, people[1], reports[1], "L-1", replace=False)
    ledger.clock.moment += timedelta(days=4)
    with pytest.raises(OrderDecided):
        farm(ledger, [reports[0]["id"], anew["id"]], boss, order="F-1", **ledger.told_now())
    other = farm(ledger, [reports[0]["id"], anew["id"]], boss, order="F-2", **ledger.told_now())
    assert other["status"] == "held"
    assert points(ledger, boss) == 0.0


def test_one_act_costs_once_however_many_contested_reports_fall(ledger: LedgerPart) -> None:
    people, reports = linked_pair(ledger, "L")
    bosses, before = [somebody(), somebody()], lost(ledger)
    farms = [farm(ledger, [one["id"] for one in reports], boss) for boss in bosses]
    for boss, report in zip(bosses, farms, strict=True):
        contest(ledger, boss, report)
    (case,) = contest(ledger, people[0], reports[0])
    ledger.withdraw(ledger.acme, reports[0]["id"])
    assert lost(ledger) == before + 1
    # A decision against a linked report is one decision too.
    people, reports = linked_pair(ledger, "M")
    report = farm(ledger, [one["id"] for one in reports], somebody())
    (case,) = contest(ledger, people[0], reports[0])
    decide(ledger, case, Outcome.OVERTURNED)
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "withdrawn"
    assert lost(ledger) == before + 2


# --- races --------------------------------------------------------------------------------------------------------


@pytest.mark.both_engines
def test_the_log_decides_between_an_appeal_and_the_reporter(ledger: LedgerPart) -> None:
    """Two processes: one files appeals, the other replaces or withdraws the same reports and reports the order anew."""
    seen = {"disputed": 0, "replaced": 0, "decided": 0, "reported": 0}
    with opened(ledger.rt.settings, ledger.clock) as other:
        attempts = trials(4, 6)
        for attempt in range(attempts):
            person, order = somebody(), f"R-{attempt}"
            report = ledger.report(ledger.acme, person, order=order)
            session, told = session_of(ledger, person), ledger.told_now()
            barrier = threading.Barrier(2)
            filed: list[Any] = []

            def appeal(
                session: Any = session, report: Any = report, barrier: Any = barrier, filed: Any = filed
            ) -> None:
                barrier.wait()
                with contextlib.suppress(NotFound):
                    filed += consumer.open_cases(ledger.rt.context, session, [report["id"]], "other", "No.", "en")

            thread = threading.Thread(target=appeal)
            thread.start()
            replaces = {"replaces": report["id"]} if attempt % 2 else {}
            payload = report_payload(other, ledger.acme, person, order=ledger.order(order), **told, **replaces)
            barrier.wait()
            if not replaces:
                withdraw_report(
                    other.reports, ledger.acme.member(), report["id"], "other", secrets.token_hex(8)
                ).result(60)
            try:
                submit_report(other.reports, ledger.acme.member(), payload, secrets.token_hex(8)).result(60)
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
            ledger.clock.moment += timedelta(days=4)
            if filed:
                assert points(ledger, person) == 0.0
    assert sum(seen.values()) == attempts


def test_what_is_refused_leaves_nothing(ledger: LedgerPart) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person, order="A-1")
    contest(ledger, person, report)
    with reading(ledger.rt.engine) as connection:
        before = connection.execute(select(Report.id)).all()
    for replace in (True, False):
        with pytest.raises(LedgerError):
            again(ledger, person, report, "A-1", replace=replace)
    ledger.withdraw(ledger.acme, report["id"], key="one")
    with pytest.raises(AlreadyReversed):
        ledger.withdraw(ledger.acme, report["id"], key="two")
    with reading(ledger.rt.engine) as connection:
        assert connection.execute(select(Report.id)).all() == before
