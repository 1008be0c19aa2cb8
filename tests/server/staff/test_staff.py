"""Accounts, logins, locks and sessions, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier, BoundedSemaphore
from typing import Any, Literal

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from ledger.errors import (
    ConfigurationError,
    LoginRefused,
    StaffInvalid,
    TooManyAttempts,
)
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.staff import accounts as service
from ledger.server.staff import passwords, sessions
from ledger.server.staff import queries as store
from tests.staffing import (
    PASSWORD,
    TIMES,
    Person,
    account,
    actions,
    cheap,
    enrol,
    product_hasher,
    refused,
    sign_in,
)

pytestmark = pytest.mark.one_engine

T0 = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
STEP = timedelta(seconds=30)


class CountingHasher(PasswordHasher):
    """The product's hasher at a low cost; it counts its calls."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str | bytes] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:
        self.verified.append(hash)
        super().verify(hash, password)
        return True


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
        service.seed_of(bytes(32), account(engine, ann))
    assert "argon2" not in repr(account(engine, ann))


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"code": "000000"}, {"name": "nobody"}, {"password": ""}, {"code": "１２３４５６"}]
)
def test_every_refusal_says_the_same(engine: Engine, wrong: dict[str, Any]) -> None:
    ann = enrol(engine, "ann")
    if wrong.get("code") == ann.code_at(T0):
        wrong = {"code": "000001"}
    assert refused(engine, ann, **wrong) == "Name, password or code is wrong, or the account is locked."


def test_every_attempt_costs_one_verification_for_every_name(engine: Engine, hasher: CountingHasher) -> None:
    ann, bo, di = enrol(engine, "ann"), enrol(engine, "bo"), enrol(engine, "di")
    service.disable_staff(engine, "bo", T0)
    for _ in range(5):
        refused(engine, di, password="wrong")
    hasher.verified.clear()
    cases: list[tuple[Person, dict[str, Any]]] = [
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


def test_passwords_are_hashed_at_the_recommended_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9106 section 4: the second recommended option, for machines with less memory."""
    monkeypatch.setattr(passwords, "hasher", product_hasher)
    stored = passwords.hash_password(PASSWORD)
    assert "$argon2id$v=19$m=65536,t=3,p=4$" in stored
    assert passwords.matches(stored, PASSWORD)
    assert not passwords.matches(stored, PASSWORD + ".")


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

    def attempt() -> bool:
        start.wait()
        try:
            sign_in(engine, ann)
        except LoginRefused:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        outcomes = [future.result() for future in [pool.submit(attempt) for _ in range(4)]]
    assert outcomes.count(True) == 1


def test_five_failures_lock_and_the_right_password_does_not_help(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    for _ in range(4):
        refused(engine, ann, password="wrong")
    sign_in(engine, ann)  # a success resets the count of failures
    now = T0 + STEP
    for _ in range(5):
        refused(engine, ann, now, password="wrong")
    refused(engine, ann, now)
    refused(engine, ann, now + timedelta(minutes=15) - timedelta(seconds=1))
    assert account(engine, ann).failed_count == 5, "attempts during a lock do not lengthen it"
    sign_in(engine, ann, now + timedelta(minutes=15))
    assert actions(engine).count("locked") == 1


def test_locks_double_up_to_a_day(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    now, locks = T0, []
    for _ in range(10):
        for _ in range(5):
            refused(engine, ann, now, password="wrong")
        until = account(engine, ann).locked_until
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
    """Of guesses that arrive together, at most five are compared with the password, whatever their number."""
    many = 12
    monkeypatch.setattr(passwords, "slots", BoundedSemaphore(many))
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
    stored = account(engine, ann)
    if "in" in outcomes:  # the right guess was among the first five, so the failures before it do not count
        assert outcomes.count("in") == 1
        assert stored.failed_count <= many - 2
    else:
        assert stored.failed_count == 5
        assert stored.locked_until == T0 + timedelta(minutes=15)
        assert actions(engine).count("login_refused") == 5


def test_wrong_guesses_at_the_same_time_lock_after_five(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    many = 12
    monkeypatch.setattr(passwords, "slots", BoundedSemaphore(many))
    ann = enrol(engine, "ann")
    start = Barrier(many)

    def guess(number: int) -> None:
        start.wait()
        refused(engine, ann, password=f"guess {number}")

    with ThreadPoolExecutor(many) as pool:
        list(pool.map(guess, range(many)))
    assert account(engine, ann).failed_count == 5
    assert actions(engine).count("login_refused") == 5
    assert actions(engine).count("locked") == 1


def test_a_process_computes_few_hashes_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = enrol(engine, "ann")
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0.01)
    with passwords.working(), passwords.working(), passwords.working(), pytest.raises(TooManyAttempts) as caught:
        sign_in(engine, ann)
    assert caught.value.details == {"retry_after_seconds": 2}
    assert account(engine, ann).failed_count == 0, "an attempt that was not judged is not counted"
    sign_in(engine, ann)


def test_an_old_hash_is_replaced_when_its_password_is_seen(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    with writing(engine) as connection:
        store.update_staff(connection, ann.staff.id, password_hash=old)
    refused(engine, ann, password="wrong")
    assert account(engine, ann).password_hash == old
    sign_in(engine, ann)
    new = account(engine, ann).password_hash
    assert new != old
    assert "m=8,t=1,p=1" in new
    sign_in(engine, ann, T0 + STEP)
    assert account(engine, ann).password_hash == new


def test_the_same_characters_typed_another_way_are_the_same_password(engine: Engine) -> None:
    ann = enrol(engine, "ann")
    with writing(engine) as connection:
        store.update_staff(
            connection, ann.staff.id, password_hash=cheap.hash(passwords.normal("caf\u00e9 １２３ long"))
        )
    sign_in(engine, ann, password="cafe\u0301 123 long")


def test_the_last_admin_stays(engine: Engine) -> None:
    assert service.needs_admin(engine)
    enrol(engine, "ann", "admin")
    assert not service.needs_admin(engine)
    for change in (
        lambda: service.disable_staff(engine, "ann", T0),
        lambda: service.set_role(engine, "ann", "auditor", T0),
    ):
        with pytest.raises(StaffInvalid, match="last admin"):
            change()  # type: ignore[no-untyped-call]
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
