"""What becomes of appeals with time: erasure with the report, key rotations, weights, links to records."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from ledger.errors import NotFound, QuotaExceeded, SessionExpired, StaleEpoch
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.rules.appeals import Outcome
from ledger.server.appeals import attachments, consumer, sessions, staff_actions
from ledger.server.appeals.attachments import save
from ledger.server.appeals.case_changes import run_clocks
from ledger.server.appeals.consumer_record import own_record
from ledger.server.appeals.weights import refresh_weights
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.appeals import (
    AppealCase,
    CaseAttachment,
    CaseEntry,
    CaseEvent,
    CaseHandler,
    CaseOutcome,
    CaseTag,
    Statement,
    SubjectSession,
)
from ledger.server.db.tables.log import EntryBody
from ledger.server.reports.erasure import erase_due
from ledger.server.reports.reports import get_report
from tests.rotations import report as report_under
from tests.rotations import retired, rotated, subjects_under
from tests.server.appeals.test_appeals import ANNA, case_row, contest, session_of
from tests.server.conftest import LedgerFixture, Subjects
from tests.support import with_settings

pytestmark = pytest.mark.one_engine

CASE_TABLES: tuple[Any, ...] = (
    AppealCase, CaseAttachment, CaseEvent, CaseHandler, CaseTag, Statement, CaseEntry,
)  # fmt: skip


def rows_in(ledger: LedgerFixture, table: Any) -> int:
    with reading(ledger.rt.engine) as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def decided(ledger: LedgerFixture, case: str, outcome: Outcome = Outcome.UPHELD) -> None:
    staff_actions.take(ledger.rt.context, case, ANNA)
    staff_actions.decide(ledger.rt.context, case, ANNA, outcome, "Because of the record.")


def attach(ledger: LedgerFixture, case: str) -> str:
    """A file in the case; its name on disk."""
    file = save(ledger.rt.settings, b"content", secrets.token_bytes)
    with writing(ledger.rt.engine) as connection:
        new = attachments.NewAttachment(
            case_row(ledger, case).id, "subject", None, "a.txt", "text/plain", 7, None, None, bytes(32), file, None,
            ledger.clock(),
        )  # fmt: skip
        attachments.insert_file_row(connection, new)
    return file


# --- erasure ----------------------------------------------------------------------------------------------------


def test_a_case_is_erased_with_its_report(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    (case,) = contest(ledger, person, report)
    file = attach(ledger, case)
    consumer.add_statement(ledger.rt.context, session_of(ledger, person), report["id"], "A statement.", "en")
    decided(ledger, case)
    paths = list(ledger.rt.settings.attachments_dir.rglob(file))
    assert len(paths) == 1
    ledger.clock.moment += timedelta(days=500)
    run_clocks(ledger.rt.context)
    assert erase_due(ledger.rt.context, ledger.rt.settings) == 1
    assert {table.__tablename__: rows_in(ledger, table) for table in CASE_TABLES} == {
        table.__tablename__: 0 for table in CASE_TABLES
    }
    assert not paths[0].exists()
    with reading(ledger.rt.engine) as connection:
        assert set(connection.scalars(select(EntryBody.type))) == {"erasure"}
    ledger.rt.members.refresh()
    assert ledger.rt.members.weights()["acme-group"] == 40


def test_erasure_waits_for_an_open_case_but_not_for_ever(ledger: LedgerFixture) -> None:
    person = ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    ledger.clock.moment += timedelta(days=500)
    assert erase_due(ledger.rt.context, ledger.rt.settings) == 0, "the case is still open: its clocks have not run"
    run_clocks(ledger.rt.context)
    assert case_row(ledger, case).state == "closed"
    assert erase_due(ledger.rt.context, ledger.rt.settings) == 1


def test_nothing_is_kept_past_five_years_whatever_is_open(ledger: LedgerFixture) -> None:
    person = ledger.person()
    contest(ledger, person, ledger.report(ledger.acme, person))
    ledger.clock.moment += timedelta(days=1826)
    assert erase_due(ledger.rt.context, ledger.rt.settings) == 1
    assert rows_in(ledger, AppealCase) == 0


def test_protection_ends_after_a_year_and_is_erased(ledger: LedgerFixture) -> None:
    person = ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    decided(ledger, case, Outcome.VICTIM)
    ledger.clock.moment += timedelta(days=364)
    assert ledger.lookup(person)["protected"]
    ledger.clock.moment += timedelta(days=1)
    assert not ledger.lookup(person)["protected"]
    assert erase_due(ledger.rt.context, ledger.rt.settings) == 0
    ledger.clock.moment += timedelta(days=60)
    assert erase_due(ledger.rt.context, ledger.rt.settings) == 1


# --- weights ----------------------------------------------------------------------------------------------------


def test_old_decisions_drop_out_of_a_weight(ledger: LedgerFixture) -> None:
    person = ledger.person()
    (case,) = contest(ledger, person, ledger.report(ledger.acme, person))
    decided(ledger, case, Outcome.OVERTURNED)
    ledger.rt.members.refresh()
    for days, weight, kept in ((1, 35, 1), (719, 35, 1), (12, 40, 0)):
        ledger.clock.moment += timedelta(days=days)
        assert refresh_weights(ledger.rt.engine, ledger.rt.policy, ledger.clock()) == 0, "no weight is stored"
        ledger.rt.members.refresh()
        assert ledger.rt.members.weights()["acme-group"] == weight
        assert rows_in(ledger, CaseOutcome) == kept


def test_what_rests_on_an_overturned_report_falls_with_it(ledger: LedgerFixture) -> None:
    first, second = ledger.person(1), ledger.person(2)
    reports = [ledger.report(ledger.acme, first), ledger.report(ledger.acme, second)]
    linked = [
        {"type": "linked_instrument", "sha256": letter * 43, "report_id": report["id"]}
        for letter, report in zip("AE", reports, strict=True)
    ]
    farm = ledger.report(ledger.acme, ledger.person(3), conduct="account_farm", evidence=linked)
    (case,) = contest(ledger, first, reports[0])
    decided(ledger, case, Outcome.OVERTURNED)
    view = get_report(ledger.rt.context, ledger.acme.member(), farm["id"])
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "linked_report_void")
    assert get_report(ledger.rt.context, ledger.acme.member(), reports[1]["id"])["status"] == "counting"


# --- key rotation -------------------------------------------------------------------------------------------------


def record_of(ledger: LedgerFixture, person: Subjects, epoch: int) -> dict[str, Any]:
    subjects = tuple((kind.value, tag(kind, element)) for kind, element in person)
    session = replace(session_of(ledger, person), epoch=epoch, subjects=subjects)
    return own_record(ledger.rt.context, ledger.rt.members.weights(), session)


def test_a_person_finds_a_decided_case_again_after_a_rotation(ledger: LedgerFixture) -> None:
    old = ledger.rt.keys.epoch
    before = subjects_under(ledger.rt.settings, old, 7)
    gone = report_under(ledger, ledger.acme, 7, old)
    (case,) = contest(ledger, before, gone)
    decided(ledger, case, Outcome.OVERTURNED)
    rotated(ledger)
    after = subjects_under(ledger.rt.settings, old + 1, 7)
    for person, epoch in ((before, old), (after, old + 1)):
        (report_view,) = record_of(ledger, person, epoch)["reports"]
        assert (report_view["id"], report_view["case"]["id"], report_view["status"]) == (gone["id"], case, "overturned")
    open_case = contest(ledger, after, report_under(ledger, ledger.bolt, 7, old + 1))
    retired(ledger)
    assert len(record_of(ledger, after, old + 1)["reports"]) == 2
    assert open_case
    ledger.clock.moment += timedelta(minutes=5)
    ledger.rt.maintenance.round()
    with reading(ledger.rt.engine) as connection:
        assert set(connection.scalars(select(CaseTag.epoch))) == {old + 1}
    assert record_of(ledger, before, old)["reports"] == []


# --- links to records ---------------------------------------------------------------------------------------------


def link(ledger: LedgerFixture, person: Subjects, **changes: Any) -> sessions.Link:
    values: dict[str, Any] = {
        "epoch": ledger.rt.keys.epoch,
        "subjects": [(kind, tag(kind, element)) for kind, element in person],
        "locale": "zh-CN",
        "now": ledger.clock(),
        "random_bytes": secrets.token_bytes,
        "base_url": "https://ledger.example",
        **changes,
    }
    return sessions.open_link(ledger.rt.engine, ledger.rt.settings, ledger.bolt.member(), **values)


def redeem(ledger: LedgerFixture, opened: sessions.Link) -> str:
    code = opened.url.split("#")[1]
    return sessions.redeem(ledger.rt.engine, ledger.rt.settings, code, ledger.clock(), secrets.token_bytes)


def test_a_link_is_good_once_and_for_ten_minutes(ledger: LedgerFixture) -> None:
    opened = link(ledger, ledger.person())
    assert opened.url.startswith("https://ledger.example/me#")
    token = redeem(ledger, opened)
    session = sessions.session_of(ledger.rt.engine, token, ledger.clock())
    assert (session.platform, session.locale, len(session.subjects)) == ("bolt", "zh-CN", 2)
    with pytest.raises(SessionExpired):
        redeem(ledger, opened)
    late = link(ledger, ledger.person())
    ledger.clock.moment += timedelta(minutes=10)
    with pytest.raises(SessionExpired):
        redeem(ledger, late)
    ledger.clock.moment += timedelta(minutes=20)
    with pytest.raises(SessionExpired):
        sessions.session_of(ledger.rt.engine, token, ledger.clock())


def test_no_secret_of_a_link_is_stored(ledger: LedgerFixture) -> None:
    opened = link(ledger, ledger.person())
    token = redeem(ledger, opened)
    with reading(ledger.rt.engine) as connection:
        stored = repr(connection.execute(select(SubjectSession)).all())
        columns = connection.execute(select(SubjectSession.code_hash, SubjectSession.token_hash)).one()
    assert opened.url.split("#")[1] not in stored
    assert token not in stored
    assert [len(column) for column in columns] == [32, 32]


def test_who_opened_a_record_is_told_only_where_there_is_one(ledger: LedgerFixture) -> None:
    known, unknown = ledger.person(), ledger.person(1)
    ledger.report(ledger.acme, known)
    for person in (known, unknown):
        redeem(ledger, link(ledger, person))
    record = own_record(ledger.rt.context, ledger.rt.members.weights(), session_of(ledger, known))
    assert [(lookup["asked_by"], lookup["purpose"]) for lookup in record["lookups"]] == [("bolt", "subject_session")]
    assert own_record(ledger.rt.context, ledger.rt.members.weights(), session_of(ledger, unknown))["lookups"] == []


def test_links_have_a_quota_and_an_epoch(ledger: LedgerFixture) -> None:
    limited = ledger.rt.settings.model_copy(update={"subject_sessions_daily_quota": 1})
    ledger = replace(ledger, rt=with_settings(ledger.rt, limited))
    with pytest.raises(StaleEpoch):
        link(ledger, ledger.person(), epoch=99)
    link(ledger, ledger.person())
    with pytest.raises(QuotaExceeded) as refused:
        link(ledger, ledger.person())
    assert 0 < int(str(refused.value.details["retry_after_seconds"])) <= 86_401
    assert sessions.forget_sessions(ledger.rt.engine, ledger.clock() + timedelta(days=3)) == 1


def test_ending_a_session_forgets_its_tags(ledger: LedgerFixture) -> None:
    token = redeem(ledger, link(ledger, ledger.person()))
    sessions.end_session(ledger.rt.engine, token, ledger.clock())
    with pytest.raises(SessionExpired):
        sessions.session_of(ledger.rt.engine, token, ledger.clock())
    with reading(ledger.rt.engine) as connection:
        assert connection.scalars(select(SubjectSession.subjects)).all() == ["[]"]


def test_a_statement_needs_a_live_report_of_ones_own(ledger: LedgerFixture) -> None:
    person = ledger.person()
    report = ledger.report(ledger.acme, person)
    with pytest.raises(NotFound):
        consumer.add_statement(ledger.rt.context, session_of(ledger, ledger.person(1)), report["id"], "Mine.", "en")
    ledger.withdraw(ledger.acme, report["id"])
    with pytest.raises(NotFound):
        consumer.add_statement(ledger.rt.context, session_of(ledger, person), report["id"], "Mine.", "en")
    assert ledger.lookup([(Kind.PHONE, person[0][1])])["has_statement"] is False
