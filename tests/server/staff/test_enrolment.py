"""Enrolment links, second admins, and accounts for which one admin alone is responsible."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from sqlalchemy import Engine, select, update

from ledger.errors import ConflictOfInterest, LinkInvalid, LoginRefused, SessionExpired, StaffChanged, StaffInvalid
from ledger.protocol.encoding import b64url
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.db.tables.staff import StaffAccount, StaffEvent
from ledger.server.staff import accounts as service
from ledger.server.staff import enrolment, passwords
from ledger.server.staff.accounts import Account
from ledger.server.staff.enrolment import FORM_MINUTES, LINK_HOURS, Invitation
from ledger.server.staff.sessions import login, session_staff
from tests.staffing import SEALING_KEY, TIMES, Person, cheap, enrol

pytestmark = pytest.mark.one_engine

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NEW = "seven green bottles"


@pytest.fixture
def engine(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(passwords, "hasher", cheap)
    opened = open_engine(migrated_url)
    yield opened
    opened.dispose()


def admins(engine: Engine, *names: str) -> list[int]:
    return [enrol(engine, name, "admin").staff.id for name in names]


def account(engine: Engine, name: str) -> Account:
    return next(account for account in service.list_staff(engine) if account.name == name)


def invited(engine: Engine, by: int, name: str = "bo", role: str = "reviewer") -> Invitation:
    return enrolment.invite(
        engine, SEALING_KEY, name=name, role=role, control_group=None, language="en", now=T0,
        random_bytes=secrets.token_bytes, by=by,
    )  # fmt: skip


def opened(engine: Engine, code: str, now: datetime = T0) -> enrolment.OpenedLink:
    return enrolment.open_link(
        engine, SEALING_KEY, code, service="x.example", now=now, random_bytes=secrets.token_bytes
    )


def code_of(uri: str, now: datetime) -> str:
    totp = pyotp.parse_uri(uri)
    assert isinstance(totp, pyotp.TOTP)
    return totp.at(now)


def finished(engine: Engine, code: str, now: datetime = T0) -> tuple[Person, bool]:
    """Use the link; return the person, and whether they can sign in."""
    form = opened(engine, code, now)
    one_time = code_of(form.totp_uri, now)
    member, active = enrolment.finish(engine, SEALING_KEY, form.code, password=NEW, one_time_code=one_time, now=now)
    return Person(member, form.totp_uri, NEW), active


def sign_in(engine: Engine, person: Person, now: datetime) -> str:
    return login(
        engine, SEALING_KEY, name=person.name, password=person.password, code=person.code_at(now), times=TIMES, now=now,
        random_bytes=secrets.token_bytes,
    )  # fmt: skip


def test_the_person_alone_knows_password_and_seed_and_two_admins_vouch(engine: Engine) -> None:
    ann, cleo = admins(engine, "ann", "cleo")
    invitation = invited(engine, ann)
    assert invitation.confirmed_later
    assert invitation.code not in repr(invitation)
    bo, active = finished(engine, invitation.code)
    assert not active
    with pytest.raises(LoginRefused):
        sign_in(engine, bo, T0 + timedelta(minutes=1))
    waiting = account(engine, "bo")
    assert (waiting.awaits_confirmation, waiting.confirmers, waiting.alone) == (True, frozenset({cleo}), True)
    for by in (ann, bo.staff.id):
        with pytest.raises(ConflictOfInterest):
            enrolment.confirm(engine, "bo", revision=waiting.revision, now=T0, by=by)
    enrolment.confirm(engine, "bo", revision=waiting.revision, now=T0, by=cleo)
    token = sign_in(engine, bo, T0 + timedelta(minutes=2))
    assert session_staff(engine, token, TIMES, T0 + timedelta(minutes=2)).role == "reviewer"
    known = account(engine, "bo")
    assert (known.enrolled_by, known.confirmed_by, known.alone, known.confirmers) == ("ann", "cleo", False, frozenset())
    assert known.last_login_at == T0 + timedelta(minutes=2)
    with pytest.raises(StaffInvalid, match="nothing to confirm"):
        enrolment.confirm(engine, "bo", revision=known.revision, now=T0, by=cleo)


def test_a_link_works_once_in_time_and_for_an_account_that_is_not_shut(engine: Engine) -> None:
    (ann,) = admins(engine, "ann")
    late = invited(engine, ann, "late")
    with pytest.raises(LinkInvalid):
        opened(engine, late.code, T0 + timedelta(hours=LINK_HOURS))
    form = opened(engine, late.code, T0 + timedelta(hours=LINK_HOURS) - timedelta(seconds=1))
    for code in (late.code, form.code, "", "x" * 43, b64url(bytes(32))):
        with pytest.raises(LinkInvalid):
            opened(engine, code)
    too_late = T0 + timedelta(hours=LINK_HOURS, minutes=FORM_MINUTES)
    with pytest.raises(LinkInvalid):
        enrolment.finish(engine, SEALING_KEY, form.code, password=NEW, one_time_code="000000", now=too_late)
    with pytest.raises(LinkInvalid):
        enrolment.finish(engine, SEALING_KEY, late.code, password=NEW, one_time_code="000000", now=T0)
    shut = invited(engine, ann, "shut")
    service.disable_staff(engine, "shut", T0, ann)
    with pytest.raises(LinkInvalid):
        opened(engine, shut.code)


def test_who_opens_a_link_first_is_found_out_and_sees_a_seed_that_is_not_used(engine: Engine) -> None:
    (ann,) = admins(engine, "ann")
    invitation = invited(engine, ann)
    peeked = opened(engine, invitation.code)
    with pytest.raises(LinkInvalid):
        opened(engine, invitation.code)
    again = enrolment.reset(
        engine, "bo", revision=account(engine, "bo").revision, now=T0, random_bytes=secrets.token_bytes, by=ann
    )
    with pytest.raises(LinkInvalid):
        enrolment.finish(
            engine, SEALING_KEY, peeked.code, password=NEW, one_time_code=code_of(peeked.totp_uri, T0), now=T0
        )
    bo, _ = finished(engine, again.code)
    assert bo.uri != peeked.totp_uri


def test_a_mistake_in_the_form_keeps_the_seed(engine: Engine) -> None:
    (ann,) = admins(engine, "ann")
    form = opened(engine, invited(engine, ann).code)
    right = code_of(form.totp_uri, T0)
    for password, code in (("short", right), ("bo", right), (NEW, "123"), (NEW, "")):
        with pytest.raises(StaffInvalid):
            enrolment.finish(engine, SEALING_KEY, form.code, password=password, one_time_code=code, now=T0)
    shown = enrolment.opened_link(engine, SEALING_KEY, form.code, service="x.example", now=T0)
    assert shown.totp_uri == form.totp_uri
    enrolment.finish(engine, SEALING_KEY, form.code, password=NEW, one_time_code=right, now=T0)
    with pytest.raises(LinkInvalid):
        enrolment.finish(engine, SEALING_KEY, form.code, password=NEW, one_time_code=right, now=T0)


def test_a_reset_takes_the_old_secrets_at_once_and_a_second_admin(engine: Engine) -> None:
    ann, cleo = admins(engine, "ann", "cleo")
    bo = enrol(engine, "bo")
    token = sign_in(engine, bo, T0)
    invitation = enrolment.reset(engine, "bo", revision=0, now=T0, random_bytes=secrets.token_bytes, by=ann)
    with pytest.raises(SessionExpired):
        session_staff(engine, token, TIMES, T0)
    with pytest.raises(LoginRefused):
        sign_in(engine, bo, T0 + timedelta(minutes=1))
    with pytest.raises(StaffChanged):
        enrolment.reset(engine, "bo", revision=0, now=T0, random_bytes=secrets.token_bytes, by=ann)
    new, active = finished(engine, invitation.code)
    assert not active
    enrolment.confirm(engine, "bo", revision=account(engine, "bo").revision, now=T0, by=cleo)
    sign_in(engine, new, T0 + timedelta(minutes=3))
    with pytest.raises(StaffInvalid, match="own account"):
        enrolment.reset(engine, "ann", revision=0, now=T0, random_bytes=secrets.token_bytes, by=ann)


@pytest.mark.parametrize("role", ["reviewer", "supervisor", "admin"])
def test_a_role_that_decides_waits_for_a_second_admin(engine: Engine, role: str) -> None:
    ann, cleo = admins(engine, "ann", "cleo")
    enrol(engine, "bo", "auditor")
    assert not enrolment.change_role(engine, "bo", role, revision=0, now=T0, by=ann)
    asked = account(engine, "bo")
    assert (asked.role, asked.pending_role, asked.enrolled_by) == ("auditor", role, "ann")
    for by in (ann, asked.id):
        with pytest.raises(ConflictOfInterest):
            enrolment.confirm(engine, "bo", revision=asked.revision, now=T0, by=by)
    enrolment.confirm(engine, "bo", revision=asked.revision, now=T0, by=cleo)
    given = account(engine, "bo")
    assert (given.role, given.pending_role, given.alone) == (role, None, False)
    assert enrolment.change_role(engine, "bo", "auditor", revision=given.revision, now=T0, by=ann)
    assert account(engine, "bo").role == "auditor"


def test_an_admin_cannot_make_themselves_a_reviewer(engine: Engine) -> None:
    ann, cleo = admins(engine, "ann", "cleo")
    admins(engine, "dora")
    assert not enrolment.change_role(engine, "ann", "reviewer", revision=0, now=T0, by=ann)
    with pytest.raises(ConflictOfInterest):
        enrolment.confirm(engine, "ann", revision=1, now=T0, by=ann)
    enrolment.confirm(engine, "ann", revision=1, now=T0, by=cleo)
    assert account(engine, "ann").role == "reviewer"


def test_an_admin_alone_makes_accounts_that_are_one_hand_until_another_confirms_one(engine: Engine) -> None:
    (ann,) = admins(engine, "ann")
    bo, active = finished(engine, invited(engine, ann, "bo").code)
    dan, _ = finished(engine, invited(engine, ann, "dan").code)
    eve, _ = finished(engine, invited(engine, ann, "eve", "admin").code)
    assert active
    sign_in(engine, bo, T0 + timedelta(minutes=1))
    assert account(engine, "bo").alone
    with reading(engine) as connection:
        with pytest.raises(ConflictOfInterest):
            enrolment.check_independent_signers(connection, bo.staff.id, dan.staff.id)
        rows = connection.execute(select(StaffEvent.detail).where(StaffEvent.action == "staff_added")).scalars()
        assert sum("by one admin alone" in (row or "") for row in rows) == 3
    with pytest.raises(ConflictOfInterest):
        enrolment.confirm(engine, "bo", revision=account(engine, "bo").revision, now=T0, by=eve.staff.id)
    (cleo,) = admins(engine, "cleo")
    enrolment.confirm(engine, "bo", revision=account(engine, "bo").revision, now=T0, by=cleo)
    with reading(engine) as connection:
        enrolment.check_independent_signers(connection, bo.staff.id, dan.staff.id)
    assert invited(engine, ann, "fay").confirmed_later, "from now on there is a second admin"


def test_no_shut_or_waiting_admin_is_a_second_admin(engine: Engine) -> None:
    ann, _ = admins(engine, "ann", "cleo")
    invited(engine, ann, "gus", "admin")
    service.disable_staff(engine, "cleo", T0)
    assert not invited(engine, ann, "bo").confirmed_later


@pytest.mark.both_engines
def test_a_race_of_two_who_send_the_same_form_acts_once(engine: Engine) -> None:
    (ann,) = admins(engine, "ann")
    enrol(engine, "bo")
    results: list[object] = []
    change: Callable[[], object] = lambda: enrolment.reset(  # noqa: E731
        engine, "bo", revision=0, now=T0, random_bytes=secrets.token_bytes, by=ann
    )
    for _ in range(2):
        try:
            results.append(change())
        except StaffChanged as error:
            results.append(error)
    assert [type(result) for result in results] == [Invitation, StaffChanged]


def test_the_command_line_resets_an_account_that_waits(engine: Engine) -> None:
    ann, _ = admins(engine, "ann", "cleo")
    finished(engine, invited(engine, ann).code)
    reset = service.reset_staff(
        engine, SEALING_KEY, "bo", service="x.example", now=T0, random_bytes=secrets.token_bytes
    )
    sign_in(engine, Person(reset.staff, reset.totp_uri, reset.password), T0 + timedelta(minutes=1))
    assert not account(engine, "bo").alone


def test_a_confirmation_needs_the_page_to_be_new(engine: Engine) -> None:
    ann, cleo = admins(engine, "ann", "cleo")
    finished(engine, invited(engine, ann).code)
    with writing(engine) as connection:
        connection.execute(update(StaffAccount).where(StaffAccount.name == "bo").values(revision=7))
    with pytest.raises(StaffChanged):
        enrolment.confirm(engine, "bo", revision=0, now=T0, by=cleo)
