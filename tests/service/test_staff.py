"""Accounts, logins, locks and sessions, on both engines."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from ledger.errors import (
    ConfigurationError,
    LoginRefused,
    SessionExpired,
    StaffInvalid,
    TooManyAttempts,
)
from ledger.service import audit, passwords
from ledger.service import staff as service
from ledger.service import staff_sessions as sessions
from ledger.service.audit import EventFilter
from ledger.store import staff as store
from ledger.store.engine import open_engine, reading, writing
from tests.staffing import PASSWORD, SEALING_KEY, TIMES, Person, cheap, enrol

T0 = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
STEP = timedelta(seconds=30)


class CountingHasher(PasswordHasher):
    """The real one, at a low cost, which counts."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str | bytes] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        self.verified.append(hash)
        return bool(super().verify(hash, password))


@pytest.fixture
def hasher(monkeypatch: pytest.MonkeyPatch) -> CountingHasher:
    counting = CountingHasher()
    monkeypatch.setattr(passwords, "hasher", counting)
    return counting


@pytest.fixture
def engine(migrated_url: str, hasher: CountingHasher) -> Iterator[Engine]:
    opened = open_engine(migrated_url)
    yield opened
    opened.dispose()


def sign_in(engine: Engine, person: Person, now: datetime = T0, **changes: str | None) -> str:
    values: dict[str, str | None] = {
        "name": person.name,
        "password": person.password,
        "code": person.code_at(now),
        "replaces": None,
        **changes,
    }
    return sessions.login(
        engine,
        SEALING_KEY,
        name=str(values["name"]),
        password=str(values["password"]),
        code=str(values["code"]),
        replaces=values["replaces"],
        times=TIMES,
        now=now,
        random_bytes=secrets.token_bytes,
    )


def refused(engine: Engine, person: Person, now: datetime = T0, **changes: str | None) -> str:
    with pytest.raises(LoginRefused) as caught:
        sign_in(engine, person, now, **changes)
    assert caught.value.details == {}
    return str(caught.value)


def row(engine: Engine, person: Person) -> store.StaffRow:
    with reading(engine) as connection:
        found = store.read_by_id(connection, person.staff.id)
    assert found is not None
    return found


def actions(engine: Engine) -> list[str]:
    return [event.action for event in reversed(audit.page(engine, EventFilter()).events)]


def test_a_new_account_signs_in_with_what_it_was_given_and_must_change_it(engine: Engine) -> None:
    ann = enrol(engine, "ann", "admin", changed=False)
    token = sign_in(engine, ann)
    member = sessions.session_staff(engine, token, TIMES, T0)
    assert (member.name, member.role, member.must_change_password) == ("ann", "admin", True)
    sessions.change_password(engine, staff_id=member.id, token=token, old=ann.password, new=PASSWORD, now=T0)
    assert not sessions.session_staff(engine, token, TIMES, T0).must_change_password
    later = T0 + STEP
    refused(engine, ann, later)
    ann.password = PASSWORD
    sign_in(engine, ann, later)
    assert actions(engine) == ["staff_added", "login", "password_changed", "login_refused", "login"]


def test_the_database_holds_no_password_seed_or_token(engine: Engine) -> None:
    ann = enrol(engine, "ann", changed=False)
    token = sign_in(engine, ann)
    with reading(engine) as connection:
        stored = repr([list(connection.execute(text(f"SELECT * FROM {name}"))) for name in ("staff", "staff_session")])
    seed = ann.uri.split("secret=")[1].split("&")[0]
    for secret in (ann.password, token, seed):
        assert secret not in stored
    assert "argon2id" in stored
    with pytest.raises(ConfigurationError):
        service.seed_of(bytes(32), row(engine, ann))
    assert "argon2" not in repr(row(engine, ann))


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"code": "000000"}, {"name": "nobody"}, {"password": ""}, {"code": "１２３４５６"}]
)
def test_every_refusal_says_the_same(engine: Engine, wrong: dict[str, str]) -> None:
    ann = enrol(engine, "ann")
    if wrong.get("code") == ann.code_at(T0):
        wrong = {"code": "000001"}
    assert refused(engine, ann, **wrong) == "Name, password or code is wrong, or the account is locked."


def test_every_attempt_costs_one_verification_whoever_is_asked_for(engine: Engine, hasher: CountingHasher) -> None:
    ann, bo, di = enrol(engine, "ann"), enrol(engine, "bo"), enrol(engine, "di")
    service.disable_staff(engine, "bo", T0)
    for _ in range(5):
        refused(engine, di, password="wrong")
    hasher.verified.clear()
    cases: list[tuple[Person, dict[str, str | None]]] = [
        (ann, {"name": "nobody"}),
        (ann, {"password": "wrong"}),
        (ann, {"code": "abc"}),
        (bo, {}),
        (di, {}),
    ]
    for person, changes in cases:
        before = len(hasher.verified)
        refused(engine, person, **changes)
        assert len(hasher.verified) == before + 1, (person.name, changes)
    sign_in(engine, ann)
    assert len(hasher.verified) == len(cases) + 1


def test_a_code_is_good_for_its_step_and_the_neighbours_and_only_once(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    refused(engine, ann, code=ann.code_at(T0 - 2 * STEP))
    refused(engine, ann, code=ann.code_at(T0 + 2 * STEP))
    sign_in(engine, ann, code=ann.code_at(T0 - STEP))
    refused(engine, ann, code=ann.code_at(T0 - STEP))
    sign_in(engine, ann, code=ann.code_at(T0 + STEP))
    refused(engine, ann, code=ann.code_at(T0))  # older than the last one
    refused(engine, ann, code=ann.code_at(T0 + STEP))
    sign_in(engine, ann, T0 + 2 * STEP)


def test_a_code_is_taken_once_by_logins_at_the_same_time(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    start = Barrier(4)

    def one() -> bool:
        start.wait()
        try:
            sign_in(engine, ann)
        except LoginRefused:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        outcomes = [future.result() for future in [pool.submit(one) for _ in range(4)]]
    assert outcomes.count(True) == 1


def test_five_failures_lock_and_the_right_password_does_not_help(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    for _ in range(4):
        refused(engine, ann, password="wrong")
    sign_in(engine, ann)  # a good one forgets what went before
    now = T0 + STEP
    for _ in range(5):
        refused(engine, ann, now, password="wrong")
    refused(engine, ann, now)
    refused(engine, ann, now + timedelta(minutes=15) - timedelta(seconds=1))
    assert row(engine, ann).failed_count == 5, "attempts during a lock do not lengthen it"
    sign_in(engine, ann, now + timedelta(minutes=15))
    assert actions(engine).count("locked") == 1


def test_locks_double_up_to_a_day(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    now, locks = T0, []
    for _ in range(10):
        for _ in range(5):
            refused(engine, ann, now, password="wrong")
        until = row(engine, ann).locked_until
        assert until is not None
        locks.append((until - now).total_seconds() / 60)
        now = until
    assert locks == [15, 30, 60, 120, 240, 480, 960, 1440, 1440, 1440]


@given(st.integers(0, 100_000))
def test_only_every_fifth_failure_locks_and_never_for_less_than_the_one_before(failed: int) -> None:
    lock = sessions.lock_time(failed)
    assert (lock is not None) == (failed > 0 and failed % 5 == 0)
    if lock is not None:
        assert timedelta(minutes=15) <= lock <= timedelta(hours=24)
        following = sessions.lock_time(failed + 5)
        assert following is not None
        assert following >= lock


def test_guesses_at_the_same_time_share_one_count(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many guesses arrive together, no more than five of them are compared with the password."""
    many = 12
    monkeypatch.setattr(passwords, "slots", passwords.BoundedSemaphore(many))
    ann = enrol(engine, "ann")
    start = Barrier(many)

    def guess(number: int) -> str:
        start.wait()
        try:
            sign_in(engine, ann, password=PASSWORD if number == many - 1 else f"guess {number}")
        except LoginRefused:
            return "refused"
        return "in"

    with ThreadPoolExecutor(many) as pool:
        outcomes = list(pool.map(guess, range(many)))
    found = row(engine, ann)
    if "in" in outcomes:  # the right one was among the first five: what came before it is forgotten
        assert outcomes.count("in") == 1
        assert found.failed_count <= many - 2
    else:
        assert found.failed_count == 5
        assert found.locked_until == T0 + timedelta(minutes=15)
        assert actions(engine).count("login_refused") == 5


def test_wrong_guesses_at_the_same_time_lock_after_five(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    many = 12
    monkeypatch.setattr(passwords, "slots", passwords.BoundedSemaphore(many))
    ann = enrol(engine, "ann")
    start = Barrier(many)

    def guess(number: int) -> None:
        start.wait()
        refused(engine, ann, password=f"guess {number}")

    with ThreadPoolExecutor(many) as pool:
        list(pool.map(guess, range(many)))
    assert row(engine, ann).failed_count == 5
    assert actions(engine).count("login_refused") == 5
    assert actions(engine).count("locked") == 1


def test_a_process_computes_few_hashes_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = enrol(engine, "ann")
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.01)
    with passwords.working(), passwords.working(), pytest.raises(TooManyAttempts) as caught:
        sign_in(engine, ann)
    assert caught.value.details == {"retry_after_seconds": 2}
    assert row(engine, ann).failed_count == 0, "an attempt that was not judged is not counted"
    sign_in(engine, ann)


def test_an_old_hash_is_replaced_when_its_password_is_seen(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    with writing(engine) as connection:
        store.update_staff(connection, ann.staff.id, password_hash=old)
    refused(engine, ann, password="wrong")
    assert row(engine, ann).password_hash == old
    sign_in(engine, ann)
    new = row(engine, ann).password_hash
    assert new != old
    assert "m=8,t=1,p=1" in new
    sign_in(engine, ann, T0 + STEP)
    assert row(engine, ann).password_hash == new


def test_the_same_characters_typed_another_way_are_the_same_password(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    with writing(engine) as connection:
        hashed = cheap.hash(passwords.normal("caf\u00e9 １２３ long"))
        store.update_staff(connection, ann.staff.id, password_hash=hashed)
    sign_in(engine, ann, password="cafe\u0301 123 long")


def test_a_session_ends_when_idle_when_old_and_when_signed_out(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    token = sign_in(engine, ann)
    now = T0
    for _ in range(25):  # kept busy, it lives on
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
    one = sign_in(engine, ann, replaces=planted)
    two = sign_in(engine, ann, T0 + STEP, replaces=one)
    assert len({planted, one, two}) == 3
    sessions.session_staff(engine, two, TIMES, T0 + STEP)
    for dead in (planted, one, "", None, "x" * 10_000, two + "A", two.swapcase()):
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
    made = service.reset_staff(
        engine, SEALING_KEY, "ann", service="x.example", now=T0, random_bytes=secrets.token_bytes
    )
    with pytest.raises(SessionExpired):
        sessions.session_staff(engine, token, TIMES, T0)
    refused(engine, ann)
    again = Person(made.staff, made.totp_uri, made.password)
    assert sessions.session_staff(engine, sign_in(engine, again), TIMES, T0).must_change_password
    assert made.password not in repr(made)
    assert made.totp_uri not in repr(made)


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
    assert row(engine, ann).locked_until == T0 + timedelta(minutes=15)


def test_a_name_is_not_a_password(engine: Engine) -> None:
    name = "annabella.smith"
    with pytest.raises(StaffInvalid):
        passwords.check_new_password(name.upper(), name)
    passwords.check_new_password(name + "!", name)


def test_the_last_admin_stays(engine: Engine) -> None:
    assert service.needs_admin(engine)
    enrol(engine, "ann", "admin")
    assert not service.needs_admin(engine)
    for change in (
        lambda: service.disable_staff(engine, "ann", T0),
        lambda: service.set_role(engine, "ann", "auditor", T0),
    ):
        with pytest.raises(StaffInvalid, match="last admin"):
            change()
    enrol(engine, "bo", "admin")
    service.disable_staff(engine, "bo", T0)
    with pytest.raises(StaffInvalid, match="last admin"):
        service.disable_staff(engine, "ann", T0)
    service.enable_staff(engine, "bo", T0)
    service.disable_staff(engine, "ann", T0)
    assert not service.needs_admin(engine)


def test_two_admins_who_demote_each_other_do_not_both_succeed(engine: Engine) -> None:
    enrol(engine, "ann", "admin")
    enrol(engine, "bo", "admin")
    start = Barrier(2)

    def demote(name: str) -> bool:
        start.wait()
        try:
            service.set_role(engine, name, "auditor", T0)
        except StaffInvalid:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(demote, ("ann", "bo")))
    assert sorted(outcomes) == [False, True]
    assert not service.needs_admin(engine)
