"""The case file: what a reviewer sees, what they do not, and that it is written down that they saw it."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest
from sqlalchemy import select

from ledger.errors import ActionRefused, ConflictOfInterest, NotFound, RoleMissing
from ledger.protocol.encoding import b64url
from ledger.protocol.public_ids import encode_id
from ledger.rules.appeals import Action, Outcome
from ledger.rules.checklist import FileState, NeedState
from ledger.server.appeals import attachments, consumer, staff_actions
from ledger.server.appeals.attachments import NewAttachment
from ledger.server.appeals.case_page import attachment, case_file, response_time
from ledger.server.appeals.participants import Participant, Party
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.appeals import CaseAttachment
from ledger.server.db.tables.staff import StaffEvent
from ledger.tlog.merkle import leaf_hash
from tests.server.appeals.contested import STATEMENT, contest, staff_of
from tests.server.appeals.contested import add_message as add_message_to
from tests.server.appeals.test_appeals import GRAVE, case_row, session_of
from tests.server.conftest import LedgerFixture
from tests.support import publish

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""


def audited(ledger: LedgerFixture) -> list[tuple[str, str | None, str | None]]:
    with reading(ledger.rt.engine) as connection:
        rows = connection.execute(
            select(StaffEvent.action, StaffEvent.object_id, StaffEvent.detail)
            .where(StaffEvent.object_type == "appeal")
            .order_by(StaffEvent.id)
        )
        return [tuple(row) for row in rows]  # type: ignore[misc]


def hand_in(ledger: LedgerFixture, case: str, data: bytes, place: int | None, party: str = "reporter") -> int:
    """A file of a case, as its row says it; the row's id."""
    new = NewAttachment(
        case_id=case_row(ledger, case).id, party=party, platform="acme", name="scan.png", media_type="image/png",
        size_bytes=len(data), width_px=1, height_px=1, sha256=hashlib.sha256(data).digest(),
        file=hashlib.sha256(data + case.encode()).hexdigest()[:32], evidence_index=place, added_at=ledger.clock(),
    )  # fmt: skip
    with writing(ledger.rt.engine) as connection:
        return attachments.insert_file_row(connection, new)


def test_claim_and_report_side_by_side(ledger: LedgerFixture) -> None:
    anna, person = staff_of(ledger, "anna"), ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    file = case_file(ledger.rt.context, case, anna)
    assert (file.case, file.report_id, file.statement) == (case, report["id"], STATEMENT)
    assert (file.report.amount_minor, file.report.currency) == (12_900, "CNY")
    assert file.status == "disputed"
    assert [item.evidence.type for item in file.items] == ["carrier_record"]
    assert [item.state for item in file.items] == [FileState.NOT_HANDED_IN]
    assert file.checks[0].state is file.minimum is NeedState.ON_PAPER
    assert file.provenance is not None
    assert (file.provenance.decided_by, file.provenance.notice_ref) == ("agent-7", "notice-1")
    assert file.expires_at > ledger.clock()
    assert {kind.value for kind in file.slots.values()} == {"phone", "payment"}
    assert file.policy.severity == case_row(ledger, case).severity
    assert audited(ledger) == [("case_read", case, None)]


def test_a_file_meets_a_need_and_a_wrong_one_fails_it(ledger: LedgerFixture) -> None:
    anna, person = staff_of(ledger, "anna"), ledger.person()
    good = b"the carrier's record"
    items = [{"type": "carrier_record", "sha256": b64url(hashlib.sha256(good).digest())}]
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person, evidence=items))
    first = hand_in(ledger, case, b"another file", 0)
    assert case_file(ledger.rt.context, case, anna).checks[0].checks[0].state is NeedState.FAILS
    hand_in(ledger, case, good, 0)
    file = case_file(ledger.rt.context, case, anna)
    assert file.checks[0].checks[0].state is file.minimum is NeedState.MET
    assert file.items[0].files[0].id == first
    mine = hand_in(ledger, case, b"mine", None, "subject")
    assert [file.id for file in case_file(ledger.rt.context, case, anna).person_files] == [mine]


def test_a_file_is_of_its_own_case_only(ledger: LedgerFixture) -> None:
    anna = staff_of(ledger, "anna")
    person, other = ledger.person(0), ledger.person(1)
    (mine,) = contest(ledger, person, ledger.report(ledger.acme, person))
    (theirs,) = contest(ledger, other, ledger.report(ledger.acme, other))
    number = encode_id("at", hand_in(ledger, mine, b"x", None, "subject"), ledger.rt.settings.service)
    assert attachment(ledger.rt.context, mine, number, anna).name == "scan.png"
    with pytest.raises(NotFound):
        attachment(ledger.rt.context, theirs, number, anna)
    assert [row for row in audited(ledger) if row[0] == "file_read"] == [("file_read", mine, number)], "what was shown"
    with reading(ledger.rt.engine) as connection:
        assert len(connection.execute(select(CaseAttachment.id)).all()) == 1


def test_who_may_not_see_it_is_refused_and_that_is_written_down(ledger: LedgerFixture) -> None:
    person = ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    with pytest.raises(ConflictOfInterest):
        case_file(ledger.rt.context, case, staff_of(ledger, "bound", group="acme-group"))
    with pytest.raises(RoleMissing):
        case_file(ledger.rt.context, case, staff_of(ledger, "admin", "admin"))
    with pytest.raises(NotFound):
        case_file(ledger.rt.context, "ap_nonsense", staff_of(ledger, "anna"))
    assert audited(ledger) == [
        ("case_refused", case, "conflict_of_interest"),
        ("case_refused", case, "role_missing"),
    ]


def test_what_each_person_may_do(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person, **GRAVE))
    anna, ben = staff_of(ledger, "anna"), staff_of(ledger, "ben")
    cleo, auditor = staff_of(ledger, "cleo", "supervisor"), staff_of(ledger, "dora", "auditor")
    staff_of(ledger, "bound", group="acme-group")
    may = {member.role: case_file(context, case, member).may for member in (anna, cleo, auditor)}
    assert may == {"reviewer": {Action.TAKE}, "supervisor": {Action.TAKE, Action.ASSIGN}, "auditor": set()}
    assert [name for _, name in case_file(context, case, cleo).colleagues] == ["anna", "ben", "cleo"]
    staff_actions.take(context, case, anna)
    assert Action.DECIDE in case_file(context, case, anna).may
    assert Action.EXTEND not in case_file(context, case, anna).may, "the person has added nothing"
    assert case_file(context, case, ben).may == set()
    staff_actions.decide(context, case, anna, Outcome.UPHELD, "The serial numbers differ.")
    assert {Action.SIGN, Action.DECLINE} == case_file(context, case, ben).may
    assert not {Action.SIGN, Action.DECLINE} & case_file(context, case, anna).may
    assert case_file(context, case, ben).proposer == "anna"


def test_extending_is_offered_where_the_law_has_it(ledger: LedgerFixture) -> None:
    anna, context, person = staff_of(ledger, "anna"), ledger.rt.context, ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    staff_actions.take(context, case, anna)
    consumer.add_message(context, session_of(ledger, person), case, "Here is more.")
    file = case_file(context, case, anna)
    assert (file.row.profile, file.policy.clock.extension_days) == ("CN", 0)
    assert Action.EXTEND not in file.may


def test_nothing_is_done_on_a_stale_view(ledger: LedgerFixture) -> None:
    anna, context, person = staff_of(ledger, "anna"), ledger.rt.context, ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    staff_actions.take(context, case, anna, seen=case_file(context, case, anna).seen)
    seen = case_file(context, case, anna).seen
    consumer.add_message(context, session_of(ledger, person), case, "Wait, look at this.")
    with pytest.raises(ActionRefused, match="moved on"):
        staff_actions.decide(context, case, anna, Outcome.UPHELD, "As reported.", seen=seen)
    assert case_row(ledger, case).state == "under_review"
    staff_actions.decide(context, case, anna, Outcome.UPHELD, "As reported.", seen=case_file(context, case, anna).seen)
    assert ("case_decide", case, "upheld") in audited(ledger)


def test_staff_read_everything_with_names(ledger: LedgerFixture) -> None:
    anna, context, person = staff_of(ledger, "anna"), ledger.rt.context, ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    staff_actions.take(context, case, anna)
    staff_actions.note(context, case, anna, "Looks like the carrier lost it.")
    staff_actions.ask_reporter(context, case, anna, "Please send the record.")
    ledger.clock.moment += timedelta(hours=5)
    add_message_to(
        context, case_row(ledger, case).id, Participant(Party.REPORTER, "acme", "acme-group"), "We have none."
    )
    file = case_file(context, case, anna)
    lines = [(line.event.action, line.staff) for line in file.timeline]
    assert lines == [
        ("open", None), ("take", "anna"), ("note", "anna"), ("ask_reporter", "anna"), ("reporter_answered", None),
    ]  # fmt: skip
    assert [line.event.text for line in file.notes] == ["Looks like the carrier lost it."]
    assert file.reporter.response is not None
    assert timedelta() <= timedelta(hours=5) - file.reporter.response < timedelta(minutes=1), "the log's own clock"


def test_receipts_name_entries_that_a_checkpoint_covers(ledger: LedgerFixture) -> None:
    anna, context, person = staff_of(ledger, "anna"), ledger.rt.context, ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    before = case_file(context, case, anna).receipts
    assert [receipt.what for receipt in before] == ["report", "dispute"]
    assert not any(receipt.covered or receipt.tile for receipt in before)
    publish(ledger.rt.settings)
    staff_actions.take(context, case, anna)
    staff_actions.decide(context, case, anna, Outcome.OVERTURNED, "No record of the carrier.")
    file = case_file(context, case, anna)
    assert [(receipt.what, receipt.outcome, receipt.covered) for receipt in file.receipts] == [
        ("report", None, True),
        ("dispute", None, True),
        ("resolution", "overturned", False),
    ]
    assert file.receipts[0].tile == f"/log/tile/0/000.p/{file.checkpoint_size}"
    assert len({receipt.leaf_hash for receipt in file.receipts}) == 3
    assert all(len(receipt.leaf_hash) == len(leaf_hash(b"")) for receipt in file.receipts)


def test_the_reporters_record(ledger: LedgerFixture) -> None:
    anna, context = staff_of(ledger, "anna"), ledger.rt.context
    outcomes = (Outcome.UPHELD, Outcome.OVERTURNED, Outcome.UNCONFIRMED)
    for number, outcome in enumerate(outcomes):
        person = ledger.person(number)
        (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
        staff_actions.take(context, case, anna)
        staff_actions.decide(context, case, anna, outcome, "Because.")
    record = case_file(context, case, anna).reporter
    assert (record.live, record.contested) == (2, 3)
    assert (record.upheld, record.amended, record.overturned, record.unconfirmed) == (1, 0, 1, 1)
    assert record.weight == 40, "weights are those of the last UTC midnight"
    ledger.clock.moment += timedelta(days=1)
    assert case_file(context, case, anna).reporter.weight == 35
    assert record.response is None


def test_the_median_takes_answered_questions_only(ledger: LedgerFixture) -> None:
    at = ledger.clock()
    asked, answered = "ask_reporter", "reporter_answered"
    hours = [timedelta(hours=number) for number in range(10)]
    events = [
        (1, asked, at), (1, answered, at + hours[2]), (1, asked, at + hours[3]), (1, answered, at + hours[9]),
        (2, asked, at), (3, answered, at), (4, asked, at), (4, answered, at + hours[4]),
    ]  # fmt: skip
    assert response_time(events) == hours[4]
    assert response_time([]) is None


def test_linked_reports_name_platforms_only_to_staff_of_no_group(ledger: LedgerFixture) -> None:
    context, person = ledger.rt.context, ledger.person()
    mine = ledger.report(ledger.acme, person, order="o1", amount_minor=500)
    same = ledger.report(ledger.bolt, person, order="o2", amount_minor=500)
    other = ledger.report(ledger.acme, person, order="o3", amount_minor=900)
    case, _ = contest(ledger, person, mine, other)
    free = case_file(context, case, staff_of(ledger, "anna")).related
    assert {(related.report, related.how, related.platform) for related in free} == {
        (same["id"], "same_act", "bolt"),
        (other["id"], "filed_together", "acme"),
    }
    assert {related.report for related in free if related.case} == {other["id"]}
    bound = case_file(context, case, staff_of(ledger, "bound", group="bolt-group"))
    assert [(related.report, related.platform) for related in bound.related] == [(other["id"], None)]
    assert json.dumps([related.platform for related in bound.related]) == "[null]"
