"""Sessions of staff: how they end, and how a new password, role or lock affects them; on both engines."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from ledger.errors import (
    LoginRefused,
    SessionExpired,
    StaffInvalid,
)
from ledger.server.db.engine import open_engine, reading
from ledger.server.staff import accounts as service
from ledger.server.staff import passwords, sessions
from tests.staffing import PASSWORD, SEALING_KEY, TIMES, Person, account, actions, cheap, enrol, refused, sign_in

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""

T0 = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
STEP = timedelta(seconds=30)


@pytest.fixture
def engine(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(passwords, "hasher", cheap)
    opened = open_engine(migrated_url)
    yield opened
    opened.dispose()


def test_a_session_ends_when_idle_when_old_and_when_signed_out(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    token = sign_in(engine, ann)
    now = T0
    for _ in range(25):  # a session that is used does not end
        now += timedelta(minutes=28)
        assert sessions.session_staff(engine, token, TIMES, now).name == "ann"
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, token, TIMES, T0 + timedelta(hours=12))
    idle = sign_in(engine, ann, now)
    sessions.session_staff(engine, idle, TIMES, now + timedelta(minutes=29, seconds=59))
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, idle, TIMES, now + timedelta(minutes=60))
    later = now + timedelta(hours=1)
    ended = sign_in(engine, ann, later)
    sessions.logout(engine, ended, later)
    sessions.logout(engine, ended, later)
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, ended, TIMES, later)
    assert actions(engine).count("logout") == 1
    with reading(engine) as connection:
        left = connection.execute(text("SELECT count(*) FROM staff_session")).scalar_one()
    assert left == 0, "each login sweeps away what is over"


def test_sessions_are_new_at_every_login(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    planted = passwords.initial_password(secrets.token_bytes)
    first = sign_in(engine, ann, replaces=planted)
    second = sign_in(engine, ann, T0 + STEP, replaces=first)
    assert len({planted, first, second}) == 3
    sessions.session_staff(engine, second, TIMES, T0 + STEP)
    for dead in (planted, first, "", None, "x" * 10_000, second + "A", second.swapcase()):
        with pytest.raises(SessionExpired):
            sessions.session_staff(engine, dead, TIMES, T0 + STEP)


def test_a_disabled_account_is_out_at_once(engine: Engine) -> None:
    ann, bo = enrol(engine, "ann", "admin"), enrol(engine, "bo")
    token = sign_in(engine, bo)
    service.disable_staff(engine, "bo", T0, ann.staff.id)
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, token, TIMES, T0)
    refused(engine, bo, T0 + STEP)
    service.enable_staff(engine, "bo", T0)
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, token, TIMES, T0)
    sign_in(engine, bo, T0 + STEP)


def test_a_new_role_needs_a_new_login(engine: Engine) -> None:
    bo = enrol(engine, "bo")
    token = sign_in(engine, bo)
    service.set_role(engine, "bo", "reviewer", T0)
    sessions.session_staff(engine, token, TIMES, T0)
    service.set_role(engine, "bo", "auditor", T0)
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, token, TIMES, T0)
    assert sessions.session_staff(engine, sign_in(engine, bo, T0 + STEP), TIMES, T0 + STEP).role == "auditor"


def test_a_reset_ends_sessions_locks_and_the_old_secrets(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    token = sign_in(engine, ann)
    for _ in range(5):
        refused(engine, ann, password="wrong")
    enrolment = service.reset_staff(
        engine, SEALING_KEY, "ann", service="x.example", now=T0, random_bytes=secrets.token_bytes
    )
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, token, TIMES, T0)
    refused(engine, ann)
    again = Person(enrolment.staff, enrolment.totp_uri, enrolment.password)
    assert sessions.session_staff(engine, sign_in(engine, again), TIMES, T0).must_change_password
    assert enrolment.password not in repr(enrolment)
    assert enrolment.totp_uri not in repr(enrolment)


def test_changing_a_password_ends_the_other_sessions(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    mine, other = sign_in(engine, ann), sign_in(engine, ann, T0 + STEP)
    now = T0 + STEP

    def change(old: str, new: str) -> None:
        sessions.change_password(engine, staff_id=ann.staff.id, token=mine, old=old, new=new, now=now)

    for bad in ("short", "x" * 257, PASSWORD, "a" * 12, "　" * 12):
        with pytest.raises(StaffInvalid):
            change(PASSWORD, bad)
    with pytest.raises(LoginRefused):
        change("wrong", "another long password")
    sessions.session_staff(engine, other, TIMES, now)
    change(PASSWORD, "another long password")
    sessions.session_staff(engine, mine, TIMES, now)
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, other, TIMES, now)


def test_guessing_the_current_password_locks_too(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    token = sign_in(engine, ann)
    for old in (*["wrong"] * 5, PASSWORD):
        with pytest.raises(LoginRefused):
            sessions.change_password(
                engine, staff_id=ann.staff.id, token=token, old=old, new="another long password", now=T0
            )
    assert account(engine, ann).locked_until == T0 + timedelta(minutes=15)


def test_a_name_is_not_a_password(engine: Engine) -> None:
    name = "annabella.smith"
    with pytest.raises(StaffInvalid):
        passwords.check_new_password(name.upper(), name)
    passwords.check_new_password(name + "!", name)
