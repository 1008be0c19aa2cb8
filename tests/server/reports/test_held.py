"""Held reports: what may be the matter of a contested order under another number waits, and nobody but the person, its
reporter and the staff learns of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from ledger.errors import (
    ActionRefused,
    ConflictOfInterest,
    LinkedReportInvalid,
    NotFound,
    OrderAlreadyReported,
    ReportDisputed,
    RoleMissing,
)
from ledger.protocol.encoding import format_time
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.server.appeals import consumer
from ledger.server.db.engine import reading
from ledger.server.db.tables.reports import Listing, Report
from ledger.server.lookups import queries as lookup_store
from ledger.server.lookups.listed_tags import tags_since
from ledger.server.reports import held
from ledger.server.reports.reports import get_report, submit_reports
from tests.server.appeals.test_appeals import ANNA, BEN, bodies, contest, session_of
from tests.server.conftest import LedgerFixture, LedgerSeed, Subjects
from tests.server.reports.lines import (
    HEAD,
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
from tests.support import evidence, report_payload

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


OWN = Staff(9, "supervisor", "acme-group")
GRAVE: dict[str, Any] = {"conduct": "switched_return"}


def overturned(ledger: LedgerPart, person: Subjects, **changes: Any) -> tuple[dict[str, Any], str]:
    """A report of acme's that was contested and overturned, and its case."""
    report = ledger.report(ledger.acme, person, **changes)
    (case,) = contest(ledger, person, report)
    decide(ledger, case, Outcome.OVERTURNED)
    return report, case


def far(ledger: LedgerPart, **changes: Any) -> dict[str, Any]:
    """What shares nothing with `ledger.report`'s report: another day, currency, amount and evidence."""
    return {
        "act_ended_at": format_time(ledger.clock() - timedelta(days=60)),
        "currency": "EUR",
        "amount_minor": 77,
        **changes,
    }


def explain(ledger: LedgerFixture, report: dict[str, Any], text: str = "Another purchase.") -> dict[str, Any]:
    done = held.explain(ledger.rt.reports, ledger.acme.member(), report["id"], text, secrets.token_hex(8))
    return dict(json.loads(done.body))


def listed(ledger: LedgerPart, report: dict[str, Any]) -> int:
    with reading(ledger.rt.engine) as connection:
        return len(connection.execute(select(Listing.tag).where(Listing.report_id == report["entry_index"])).all())


def test_what_shares_a_subject_and_a_mark_of_the_matter_is_held(ledger: LedgerPart) -> None:
    items = evidence("carrier_record")
    person = somebody()
    _, case = overturned(ledger, person, evidence=items)
    alike: list[dict[str, Any]] = [
        far(ledger, evidence=items),
        far(ledger, act_ended_at=format_time(ledger.clock() - timedelta(days=6 + 30))),
        far(ledger, currency="CNY", amount_minor=12_900 * 4 // 5),
        far(ledger, currency="CNY", amount_minor=12_900 * 5 // 4),
    ]
    for subjects in (person[:1], [*somebody(Kind.EMAIL), person[1]]):
        for changes in alike:
            report = ledger.report(ledger.acme, subjects, **changes)
            assert report["status"] == "held"
            view = get_report(ledger.rt.context, ledger.acme.member(), report["id"])
            assert (view["status"], view["hold"]["case"]) == ("held", case)
            ledger.withdraw(ledger.acme, report["id"])
    assert points(ledger, person) == 0.0
    # Not held: another matter, another person, another group, and what protects the person.
    fresh = somebody()
    _, _ = overturned(ledger, fresh, evidence=evidence("carrier_record"))
    assert ledger.report(ledger.acme, fresh, **far(ledger))["status"] == "counting"
    assert ledger.report(ledger.acme, somebody(), **alike[1])["status"] == "counting"
    assert ledger.report(ledger.bolt, person, **alike[1])["status"] == "counting"
    assert ledger.report(ledger.acme, fresh, conduct="impersonated")["status"] == "counting"


def test_a_matter_is_passed_on_through_what_was_held(ledger: LedgerPart) -> None:
    """The liar names fewer and other identifiers each time; also within one batch."""
    person = somebody()
    other = somebody(Kind.EMAIL)
    overturned(ledger, person)
    chain = [[person[0], *other], other]
    payloads = [
        report_payload(ledger.rt, ledger.acme, subjects, order=ledger.order(f"C-{n}"))
        for n, subjects in enumerate(chain)
    ]
    items = [{"idempotency_key": secrets.token_hex(8), **payload} for payload in payloads]
    outcomes = submit_reports(ledger.rt.reports, ledger.acme.member(), items)
    answers = [json.loads(one.result(60).body) for one in outcomes]  # type: ignore[union-attr]
    assert [one["status"] for one in answers] == ["held", "held"]
    # A held report is not shed by a further one of its order that looks different.
    with pytest.raises(OrderAlreadyReported):
        ledger.report(ledger.acme, other, order="C-1", **far(ledger))
    told = far(ledger, **ledger.told_now())
    replaced = ledger.report(ledger.acme, other, order="C-1", replaces=answers[1]["id"], **told)
    ledger.withdraw(ledger.acme, replaced["id"])
    anew = ledger.report(ledger.acme, other, order="C-1", **told)
    assert (replaced["status"], anew["status"]) == ("held", "held")


def test_while_a_case_is_open_and_after_a_contested_report_went_the_matter_is_held_too(ledger: LedgerPart) -> None:
    person = somebody()
    report = ledger.report(ledger.acme, person, order="A-1")
    (case,) = contest(ledger, person, report)
    assert ledger.report(ledger.acme, person, order="A-2")["status"] == "held"
    assert ledger.report(ledger.acme, person, order="A-3")["status"] == "held"
    decide(ledger, case, Outcome.UPHELD)
    assert ledger.report(ledger.acme, person, order="A-4")["status"] == "counting", "it stands: a further claim"
    ledger.withdraw(ledger.acme, report["id"])
    assert ledger.report(ledger.acme, person, order="A-5")["status"] == "held"
    third = somebody()
    report = ledger.report(ledger.acme, third, order="B-1")
    (case,) = contest(ledger, third, report)
    consumer.withdraw(ledger.rt.context, session_of(ledger, third), case)
    assert ledger.report(ledger.acme, third, order="B-2")["status"] == "counting"


def test_a_held_report_is_disclosed_nowhere_but_to_the_person_and_its_reporter(ledger: LedgerPart) -> None:
    person = somebody()
    overturned(ledger, person)
    pdq = {"pdq": "0123456789abcdef" * 4, "pdq_quality": 90}
    items = [*evidence("carrier_record"), {**evidence("original_file")[0], **pdq}]
    report = ledger.report(ledger.acme, person, evidence=items)
    assert (report["status"], listed(ledger, report)) == ("held", 0)
    found = ledger.lookup(person)
    assert (found["tier"], found["events"], found["disputed"]) == ("clear", 0, False)
    theirs = ledger.report(ledger.bolt, person)  # the same amount on the same day: the act would be one
    with reading(ledger.rt.engine) as connection:
        acts = dict(connection.execute(select(Report.id, Report.act_id)).all())
        assert lookup_store.listings(connection, [tag for _, tag in session_of(ledger, person).subjects]).keys()
        assert tags_since(connection, report["entry_index"]) != []
    assert acts[theirs["entry_index"]] == theirs["entry_index"]
    ledger.withdraw(ledger.bolt, theirs["id"])
    linked = ledger.report(ledger.acme, somebody())
    with pytest.raises(LinkedReportInvalid):
        farm(ledger, [linked["id"], report["id"]], somebody())
    mine = record(ledger, person)[report["id"]]
    assert (mine["status"], mine["appealable"]) == ("held", True)
    assert mine["held_until"] == get_report(ledger.rt.context, ledger.acme.member(), report["id"])["hold"]["void_at"]
    assert [body["id"] for body in bodies(ledger, "report") if "held_for" in body][-1] == report["id"]
    with pytest.raises(NotFound):
        get_report(ledger.rt.context, ledger.bolt.member(), report["id"])


def test_a_supervisor_outside_the_group_releases_it_on_the_reporters_reason(ledger: LedgerPart) -> None:
    context, person = ledger.rt.context, somebody()
    first, _ = overturned(ledger, person)
    theirs = ledger.report(ledger.bolt, person)
    report = ledger.report(ledger.acme, person)
    waiting = next(one for one in held.held_queue(context, HEAD) if one.report_id == report["id"])
    assert (waiting.report_id, waiting.shares, waiting.needs_signature) == (report["id"], ("days", "amount"), False)
    assert waiting.like is not None
    assert waiting.like.id == first["entry_index"]
    with pytest.raises(ActionRefused):
        held.release(context, report["id"], HEAD, "It is another order.", seen=0)
    view = explain(ledger, report, "A second purchase.")
    assert (view["status"], view["hold"]["explanation"]) == ("held", "A second purchase.")
    with pytest.raises(NotFound):
        held.explain(ledger.rt.reports, ledger.bolt.member(), report["id"], "x", "k")
    with pytest.raises(ActionRefused):
        held.release(context, report["id"], HEAD, "It is another order.", seen=0)
    for staff, error in ((OWN, ConflictOfInterest), (ANNA, RoleMissing), (Staff(5, "admin"), RoleMissing)):
        with pytest.raises(error):
            held.release(context, report["id"], staff, "It is another order.", seen=1)
    assert held.held_queue(context, OWN) == []
    with pytest.raises(ConflictOfInterest):
        held.held_report(context, report["id"], OWN)
    before = ledger.clock.moment
    ledger.clock.moment += timedelta(days=1)
    with reading(ledger.rt.engine) as connection:
        assert tags_since(connection, report["entry_index"] + 1) == []
    held.release(context, report["id"], HEAD, "It is another order.", seen=1)
    with reading(ledger.rt.engine) as connection:
        assert len(tags_since(connection, report["entry_index"] + 1)) == 2, "what is answered from memory learns of it"
        acts = dict(connection.execute(select(Report.id, Report.act_id)).all())
    assert acts[report["entry_index"]] == theirs["entry_index"], "it joins the act that it would have joined"
    view = get_report(ledger.rt.context, ledger.acme.member(), report["id"])
    assert (view["status"], view["hold"]["reasons"]) == ("counting", "It is another order.")
    assert view["effective_from"] > format_time(before), "it counts from its release"
    assert ledger.lookup(person)["reporters"] == 2
    assert bodies(ledger, "release")[-1]["effective_from"] == view["effective_from"]
    for again in (
        lambda: explain(ledger, report),
        lambda: held.refuse_release(context, report["id"], HEAD, "x", seen=1),
    ):
        with pytest.raises(ActionRefused):
            again()
    assert ledger.report(ledger.acme, person, **far(ledger))["status"] == "counting", (
        "it was found to be another matter"
    )


def test_a_grave_report_takes_a_second_signature(ledger: LedgerPart) -> None:
    context, person = ledger.rt.context, somebody()
    overturned(ledger, person)
    report = ledger.report(ledger.acme, person, **GRAVE, evidence=evidence("serial_mismatch", "intake_photo"))
    consumer.add_statement(context, session_of(ledger, person), report["id"], "That is the same parcel.", "en")
    ledger.restitute(ledger.acme, report, format_time(ledger.clock()))
    explain(ledger, report)
    with pytest.raises(ActionRefused):
        held.sign_release(context, report["id"], BEN, seen=1)
    held.release(context, report["id"], HEAD, "It is another order.", seen=1)
    assert points(ledger, person) == 0.0
    explain(ledger, report, "Put better.")
    with pytest.raises(ActionRefused):
        held.sign_release(context, report["id"], BEN, seen=2)
    held.release(context, report["id"], HEAD, "It is another order.", seen=2)
    for staff, error in ((HEAD, ConflictOfInterest), (OWN, ConflictOfInterest), (Staff(5, "auditor"), RoleMissing)):
        with pytest.raises(error):
            held.sign_release(context, report["id"], staff, seen=2)
    held.sign_release(context, report["id"], BEN, seen=2)
    found = ledger.lookup(person)
    assert (found["events"], found["has_statement"]) == (1, True)
    assert "restituted" in found["reasons"]
    assert bodies(ledger, "release")[-1]["staff"] == [HEAD.id, BEN.id]


def test_without_a_release_it_is_void_after_twenty_days_and_costs_nothing(ledger: LedgerPart) -> None:
    person = somebody()
    _, case = overturned(ledger, person)
    before = lost(ledger)
    report = ledger.report(ledger.acme, person, order="A-2")
    contest(ledger, person, report)
    with pytest.raises(ReportDisputed):
        ledger.report(ledger.acme, person, order="A-2", replaces=report["id"], **ledger.told_now())
    explain(ledger, report)
    with pytest.raises(ActionRefused):
        held.release(ledger.rt.context, report["id"], HEAD, "It is another order.", seen=1)
    ledger.clock.moment += timedelta(days=20) - timedelta(minutes=1)
    held.void_due(ledger.rt.context)
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "held"
    ledger.clock.moment += timedelta(minutes=2)
    ledger.rt.maintenance.clocks()
    view = get_report(ledger.rt.context, ledger.acme.member(), report["id"])
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "not_released")
    assert record(ledger, person)[report["id"]]["case"]["state"] == "closed"
    assert lost(ledger) == before
    anew = ledger.report(ledger.acme, person, order="A-2", **ledger.told_now())
    assert anew["status"] == "held", "the order was not decided, and is held again"
    held.refuse_release(ledger.rt.context, anew["id"], HEAD, "It is the same parcel.", seen=0)
    hold = get_report(ledger.rt.context, ledger.acme.member(), anew["id"])["hold"]
    assert (hold["reasons"], hold["case"]) == ("It is the same parcel.", case)


def test_a_contested_held_report_is_decided_like_any_other(ledger: LedgerPart) -> None:
    for outcome in (Outcome.UPHELD, Outcome.UNCONFIRMED, Outcome.UNLINKED, Outcome.VICTIM):
        person = somebody()
        overturned(ledger, person)
        report = ledger.report(ledger.acme, person)
        (case,) = contest(ledger, person, report)
        decide(ledger, case, outcome)
        found = ledger.lookup(person)
        assert (found["points"], found["disputed"]) == (0.0, False)
        assert found["protected"] == (outcome is Outcome.VICTIM)
        explained = outcome not in (Outcome.OVERTURNED, Outcome.VICTIM)
        if explained:
            explain(ledger, report)
        if outcome is Outcome.UPHELD:
            held.release(ledger.rt.context, report["id"], HEAD, "It is another order.", seen=1)
            assert points(ledger, person) > 0
        else:
            with pytest.raises(ActionRefused):
                held.release(ledger.rt.context, report["id"], HEAD, "It is another order.", seen=int(explained))
            assert points(ledger, person) == 0.0
