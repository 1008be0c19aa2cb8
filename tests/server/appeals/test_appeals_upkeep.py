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
from ledger.server.appeals import attachment_queries as attachment_store
from ledger.server.appeals import sessions, subject
from ledger.server.appeals import staff_actions as desk
from ledger.server.appeals.attachments import save
from ledger.server.appeals.clock import run_clocks
from ledger.server.appeals.own_record import own_record
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
from ledger.server.db.tables.ledger import EntryBody
from ledger.server.reports.erasure import erase_due
from ledger.server.reports.reports import get_report
from tests.rotations import report as report_under
from tests.rotations import retired, subjects_under, turned
from tests.server.appeals.test_appeals import ANNA, case_row, contest, session_of
from tests.server.conftest import Subjects, Town
from tests.support import with_settings

pytestmark = pytest.mark.one_engine

CASE_TABLES: tuple[Any, ...] = (
    AppealCase, CaseAttachment, CaseEvent, CaseHandler, CaseTag, Statement, CaseEntry,
)  # fmt: skip


def rows_in(town: Town, table: Any) -> int:
    with reading(town.rt.engine) as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def decided(town: Town, case: str, outcome: Outcome = Outcome.UPHELD) -> None:
    desk.take(town.rt.context, case, ANNA)
    desk.decide(town.rt.context, case, ANNA, outcome, "Because of the record.")


def attach(town: Town, case: str) -> str:
    """A file in the case; its name on disk."""
    file = save(town.rt.settings, b"content", secrets.token_bytes)
    with writing(town.rt.engine) as connection:
        new = attachment_store.NewAttachment(
            case_row(town, case).id, "subject", None, "a.txt", "text/plain", 7, None, None, bytes(32), file, None,
            town.clock(),
        )  # fmt: skip
        attachment_store.add(connection, new)
    return file


# --- erasure ----------------------------------------------------------------------------------------------------


def test_a_case_is_erased_with_its_report(town: Town) -> None:
    person = town.person()
    report = town.report(town.acme, person)
    (case,) = contest(town, person, report)
    file = attach(town, case)
    subject.state(town.rt.context, session_of(town, person), report["id"], "A statement.", "en")
    decided(town, case)
    paths = list(town.rt.settings.attachments_dir.rglob(file))
    assert len(paths) == 1
    town.clock.moment += timedelta(days=500)
    run_clocks(town.rt.context)
    assert erase_due(town.rt.context, town.rt.settings) == 1
    assert {table.__tablename__: rows_in(town, table) for table in CASE_TABLES} == {
        table.__tablename__: 0 for table in CASE_TABLES
    }
    assert not paths[0].exists()
    with reading(town.rt.engine) as connection:
        assert set(connection.scalars(select(EntryBody.type))) == {"erasure"}
    town.rt.members.refresh()
    assert town.rt.members.weights()["acme-group"] == 40


def test_erasure_waits_for_an_open_case_but_not_for_ever(town: Town) -> None:
    person = town.person()
    (case,) = contest(town, person, town.report(town.acme, person))
    town.clock.moment += timedelta(days=500)
    assert erase_due(town.rt.context, town.rt.settings) == 0, "the case is still open: its clocks have not run"
    run_clocks(town.rt.context)
    assert case_row(town, case).state == "closed"
    assert erase_due(town.rt.context, town.rt.settings) == 1


def test_nothing_is_kept_past_five_years_whatever_is_open(town: Town) -> None:
    person = town.person()
    contest(town, person, town.report(town.acme, person))
    town.clock.moment += timedelta(days=1826)
    assert erase_due(town.rt.context, town.rt.settings) == 1
    assert rows_in(town, AppealCase) == 0


def test_protection_ends_after_a_year_and_is_erased(town: Town) -> None:
    person = town.person()
    (case,) = contest(town, person, town.report(town.acme, person))
    decided(town, case, Outcome.VICTIM)
    town.clock.moment += timedelta(days=364)
    assert town.lookup(person)["protected"]
    town.clock.moment += timedelta(days=1)
    assert not town.lookup(person)["protected"]
    assert erase_due(town.rt.context, town.rt.settings) == 0
    town.clock.moment += timedelta(days=60)
    assert erase_due(town.rt.context, town.rt.settings) == 1


# --- weights ----------------------------------------------------------------------------------------------------


def test_old_decisions_drop_out_of_a_weight(town: Town) -> None:
    person = town.person()
    (case,) = contest(town, person, town.report(town.acme, person))
    decided(town, case, Outcome.OVERTURNED)
    town.rt.members.refresh()
    for days, weight, kept in ((1, 35, 1), (719, 35, 1), (12, 40, 0)):
        town.clock.moment += timedelta(days=days)
        assert refresh_weights(town.rt.engine, town.rt.policy, town.clock()) == 0, "no weight is stored"
        town.rt.members.refresh()
        assert town.rt.members.weights()["acme-group"] == weight
        assert rows_in(town, CaseOutcome) == kept


def test_what_rests_on_an_overturned_report_falls_with_it(town: Town) -> None:
    first, second = town.person(1), town.person(2)
    reports = [town.report(town.acme, first), town.report(town.acme, second)]
    linked = [
        {"type": "linked_instrument", "sha256": letter * 43, "report_id": one["id"]}
        for letter, one in zip("AE", reports, strict=True)
    ]
    farm = town.report(town.acme, town.person(3), conduct="account_farm", evidence=linked)
    (case,) = contest(town, first, reports[0])
    decided(town, case, Outcome.OVERTURNED)
    view = get_report(town.rt.context, town.acme.member(), farm["id"])
    assert (view["status"], view["withdrawal"]["reason"]) == ("withdrawn", "linked_report_void")
    assert get_report(town.rt.context, town.acme.member(), reports[1]["id"])["status"] == "counting"


# --- key rotation -------------------------------------------------------------------------------------------------


def record_of(town: Town, person: Subjects, epoch: int) -> dict[str, Any]:
    subjects = tuple((kind.value, tag(kind, element)) for kind, element in person)
    session = replace(session_of(town, person), epoch=epoch, subjects=subjects)
    return own_record(town.rt.context, town.rt.members.weights(), session)


def test_a_person_finds_a_decided_case_again_after_a_rotation(town: Town) -> None:
    old = town.rt.keys.epoch
    before = subjects_under(town.rt.settings, old, 7)
    gone = report_under(town, town.acme, 7, old)
    (case,) = contest(town, before, gone)
    decided(town, case, Outcome.OVERTURNED)
    turned(town)
    after = subjects_under(town.rt.settings, old + 1, 7)
    for person, epoch in ((before, old), (after, old + 1)):
        (found,) = record_of(town, person, epoch)["reports"]
        assert (found["id"], found["case"]["id"], found["status"]) == (gone["id"], case, "overturned")
    open_case = contest(town, after, report_under(town, town.bolt, 7, old + 1))
    retired(town)
    assert len(record_of(town, after, old + 1)["reports"]) == 2
    assert open_case
    town.clock.moment += timedelta(minutes=5)
    town.rt.maintenance.round()
    with reading(town.rt.engine) as connection:
        assert set(connection.scalars(select(CaseTag.epoch))) == {old + 1}
    assert record_of(town, before, old)["reports"] == []


# --- links to records ---------------------------------------------------------------------------------------------


def link(town: Town, person: Subjects, **changes: Any) -> sessions.Link:
    values: dict[str, Any] = {
        "epoch": town.rt.keys.epoch,
        "subjects": [(kind, tag(kind, element)) for kind, element in person],
        "locale": "zh-CN",
        "now": town.clock(),
        "random_bytes": secrets.token_bytes,
        "base_url": "https://ledger.example",
        **changes,
    }
    return sessions.open_link(town.rt.engine, town.rt.settings, town.bolt.member(), **values)


def redeem(town: Town, made: sessions.Link) -> str:
    code = made.url.split("#")[1]
    return sessions.redeem(town.rt.engine, town.rt.settings, code, town.clock(), secrets.token_bytes)


def test_a_link_is_good_once_and_for_ten_minutes(town: Town) -> None:
    made = link(town, town.person())
    assert made.url.startswith("https://ledger.example/me#")
    token = redeem(town, made)
    session = sessions.session_of(town.rt.engine, token, town.clock())
    assert (session.platform, session.locale, len(session.subjects)) == ("bolt", "zh-CN", 2)
    with pytest.raises(SessionExpired):
        redeem(town, made)
    late = link(town, town.person())
    town.clock.moment += timedelta(minutes=10)
    with pytest.raises(SessionExpired):
        redeem(town, late)
    town.clock.moment += timedelta(minutes=20)
    with pytest.raises(SessionExpired):
        sessions.session_of(town.rt.engine, token, town.clock())


def test_no_secret_of_a_link_is_stored(town: Town) -> None:
    made = link(town, town.person())
    token = redeem(town, made)
    with reading(town.rt.engine) as connection:
        stored = repr(connection.execute(select(SubjectSession)).all())
        columns = connection.execute(select(SubjectSession.code_hash, SubjectSession.token_hash)).one()
    assert made.url.split("#")[1] not in stored
    assert token not in stored
    assert [len(one) for one in columns] == [32, 32]


def test_who_opened_a_record_is_told_only_where_there_is_one(town: Town) -> None:
    known, unknown = town.person(), town.person(1)
    town.report(town.acme, known)
    for person in (known, unknown):
        redeem(town, link(town, person))
    record = own_record(town.rt.context, town.rt.members.weights(), session_of(town, known))
    assert [(one["asked_by"], one["purpose"]) for one in record["lookups"]] == [("bolt", "subject_session")]
    assert own_record(town.rt.context, town.rt.members.weights(), session_of(town, unknown))["lookups"] == []


def test_links_have_a_quota_and_an_epoch(town: Town) -> None:
    limited = town.rt.settings.model_copy(update={"subject_sessions_daily_quota": 1})
    town = replace(town, rt=with_settings(town.rt, limited))
    with pytest.raises(StaleEpoch):
        link(town, town.person(), epoch=99)
    link(town, town.person())
    with pytest.raises(QuotaExceeded) as refused:
        link(town, town.person())
    assert 0 < int(str(refused.value.details["retry_after_seconds"])) <= 86_401
    assert sessions.forget_sessions(town.rt.engine, town.clock() + timedelta(days=3)) == 1


def test_ending_a_session_forgets_its_tags(town: Town) -> None:
    token = redeem(town, link(town, town.person()))
    sessions.end_session(town.rt.engine, token, town.clock())
    with pytest.raises(SessionExpired):
        sessions.session_of(town.rt.engine, token, town.clock())
    with reading(town.rt.engine) as connection:
        assert connection.scalars(select(SubjectSession.subjects)).all() == ["[]"]


def test_a_statement_needs_a_live_report_of_ones_own(town: Town) -> None:
    person = town.person()
    report = town.report(town.acme, person)
    with pytest.raises(NotFound):
        subject.state(town.rt.context, session_of(town, town.person(1)), report["id"], "Mine.", "en")
    town.withdraw(town.acme, report["id"])
    with pytest.raises(NotFound):
        subject.state(town.rt.context, session_of(town, person), report["id"], "Mine.", "en")
    assert town.lookup([(Kind.PHONE, person[0][1])])["has_statement"] is False
