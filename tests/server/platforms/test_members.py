"""Enrolment, keys, suspension: what is stored, what is logged, and when a process uses it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine

from ledger.errors import (
    AlreadyExists,
    DatabaseUnavailable,
    InvalidPublicKey,
    InvalidRequest,
    LogFrozen,
    NotFound,
)
from ledger.protocol.encoding import b64url, day_floor, from_day
from ledger.rules.policy.shipped import shipped_version
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.keys.epochs import EpochRow, read_epochs
from ledger.server.log import queries as log_store
from ledger.server.platforms import members as service
from ledger.server.platforms import queries as member_store
from ledger.server.platforms.members import (
    Member,
    Members,
    add_key,
    add_platform,
    list_platforms,
    revoke_key,
    set_quota,
    set_status,
)
from ledger.server.records.case_queries import put_outcome
from ledger.tlog.entries import parse_leaf
from tests import edwards
from tests.processes import until
from tests.support import new_ledger

pytestmark = pytest.mark.one_engine

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32).public_key().public_bytes_raw() for n in range(5)]


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """A fresh ledger's database."""
    settings = new_ledger(database_url, tmp_path)
    engine = open_engine(settings.database_url, pool_size=4)
    yield engine
    engine.dispose()


def enrol(engine: Engine, **changes: Any) -> None:
    """Enrol `acme`, but for `changes`."""
    values: dict[str, Any] = {
        "name": "acme",
        "control_group": "acme-group",
        "profile": "CN",
        "scopes": ["report", "lookup"],
        "kid": "acme-1",
        "public_key": KEYS[1],
        "now": NOW,
    }
    add_platform(engine, **{**values, **changes})


def newest_state(engine: Engine) -> dict[str, Any]:
    """Return the body of the newest public `platform_status` entry."""
    with reading(engine) as connection:
        leaf = log_store.newest_governance_leaf(connection, "platform_status")
    assert leaf is not None
    body = parse_leaf(leaf).body
    assert body is not None
    return dict(body)


def log_size(engine: Engine) -> int:
    """Return the number of entries in the log."""
    with reading(engine) as connection:
        head = log_store.read_head(connection)
    assert head is not None
    return head.size


def test_enrolment_is_stored_and_logged(engine: Engine) -> None:
    before = log_size(engine)
    enrol(engine)
    assert log_size(engine) == before + 1
    assert newest_state(engine) == {
        "platform": "acme",
        "control_group": "acme-group",
        "profile": "CN",
        "status": "active",
        "keys": [{"kid": "acme-1", "public_key": b64url(KEYS[1]), "status": "active"}],
    }
    [(member, keys)] = list_platforms(engine)
    assert member == Member("acme", "acme-group", "CN", frozenset({"lookup", "report"}), "active", None)
    assert [(key.kid, key.platform, key.public_key, key.revoked) for key in keys] == [
        ("acme-1", "acme", KEYS[1], False)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Acme"},
        {"name": "a"},
        {"name": "-acme"},
        {"name": "a" * 33},
        {"name": "acme\n"},
        {"control_group": ""},
        {"profile": "ZZ"},
        {"scopes": []},
        {"scopes": ["report", "admin"]},
        {"kid": "with space"},
        {"kid": "k" * 65},
        {"quota": -1},
        {"quota": 2**31},
    ],
)
def test_unfit_enrolments_are_refused_and_leave_nothing(engine: Engine, changes: dict[str, Any]) -> None:
    before = log_size(engine)
    with pytest.raises(InvalidRequest):
        enrol(engine, **changes)
    assert (log_size(engine), list_platforms(engine)) == (before, [])


@pytest.mark.both_engines
@pytest.mark.parametrize(
    "changes",
    [
        {"kid": "other", "public_key": KEYS[2]},
        {"name": "other", "public_key": KEYS[2]},
        {"name": "other", "kid": "other"},
    ],
    ids=["name", "kid", "public key"],
)
def test_names_kids_and_public_keys_are_unique(engine: Engine, changes: dict[str, Any]) -> None:
    enrol(engine)
    before = log_size(engine)
    with pytest.raises(AlreadyExists):
        enrol(engine, **changes)
    assert log_size(engine) == before
    assert len(list_platforms(engine)) == 1


def test_keys_under_which_others_could_sign_are_not_enrolled(engine: Engine) -> None:
    before = log_size(engine)
    for key in (*edwards.unfit_keys(), KEYS[1][:31], KEYS[1] + b"\0"):
        with pytest.raises(InvalidPublicKey):
            enrol(engine, public_key=key)
    assert (log_size(engine), list_platforms(engine)) == (before, [])


def test_a_key_that_an_earlier_version_enrolled_is_listed_and_counts_as_revoked(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    enrol(engine)
    unfit = edwards.unfit_keys()[0]
    with pytest.raises(InvalidPublicKey):
        add_key(engine, platform="acme", kid="acme-2", public_key=unfit, now=NOW)
    with writing(engine) as connection:
        member_store.insert_key(connection, kid="acme-2", platform="acme", public_key=unfit, created_at=NOW)
    [(_, keys)] = list_platforms(engine)
    assert [(key.kid, key.revoked, key.sound) for key in keys] == [("acme-1", False, True), ("acme-2", True, False)]
    members = Members(engine, refresh_seconds=60)
    try:
        key = members.key("acme-2")
        assert key is not None
        assert (key.revoked, key.sound) == (True, False)
    finally:
        members.close()
    said = [record for record in caplog.records if record.message == "platform_key_unsound"]
    assert [(vars(record)["platform"], vars(record)["kid"]) for record in said] == [("acme", "acme-2")]


@pytest.mark.both_engines
def test_the_same_enrolment_twice_at_once_succeeds_once(engine: Engine) -> None:
    before = log_size(engine)
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        try:
            enrol(engine)
            outcomes.append("done")
        except AlreadyExists:
            outcomes.append("exists")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", "exists", "exists", "exists"]
    assert log_size(engine) == before + 1


def test_keys_are_added_and_revoked_once_and_each_change_is_logged(engine: Engine) -> None:
    enrol(engine)
    add_key(engine, platform="acme", kid="acme-2", public_key=KEYS[2], now=NOW)
    revoke_key(engine, "acme-1", NOW)
    size = log_size(engine)
    revoke_key(engine, "acme-1", NOW)
    assert log_size(engine) == size, "revoking again is not an event"
    assert {key["kid"]: key["status"] for key in newest_state(engine)["keys"]} == {
        "acme-1": "revoked",
        "acme-2": "active",
    }
    with pytest.raises(AlreadyExists):
        add_key(engine, platform="acme", kid="acme-3", public_key=KEYS[1], now=NOW)
    with pytest.raises(AlreadyExists):
        add_key(engine, platform="acme", kid="acme-1", public_key=KEYS[3], now=NOW)
    assert log_size(engine) == size


def test_what_does_not_exist_is_not_changed(engine: Engine) -> None:
    enrol(engine)
    with pytest.raises(NotFound):
        revoke_key(engine, "acme-2", NOW)
    with pytest.raises(NotFound):
        add_key(engine, platform="nobody", kid="n", public_key=KEYS[4], now=NOW)
    with pytest.raises(NotFound):
        set_status(engine, platform="nobody", status="suspended", now=NOW)
    with pytest.raises(NotFound):
        set_quota(engine, platform="nobody", quota=1)


def test_a_frozen_log_takes_no_change_of_members(engine: Engine) -> None:
    enrol(engine)
    with writing(engine) as connection:
        log_store.set_frozen(connection, "test")
    with pytest.raises(LogFrozen):
        revoke_key(engine, "acme-1", NOW)
    [(_, keys)] = list_platforms(engine)
    assert not keys[0].revoked, "the change and its entry stand or fall together"


def test_a_group_weighs_nothing_when_all_its_platforms_are_suspended(engine: Engine) -> None:
    enrol(engine)
    enrol(engine, name="acme-two", kid="two-1", public_key=KEYS[2])
    clock = [NOW]
    members = Members(engine, refresh_seconds=60, now=lambda: clock[0])
    try:
        assert members.weights() == {"acme-group": 40}
        set_status(engine, platform="acme", status="suspended", now=NOW)
        clock[0] += timedelta(days=1)
        members.refresh()
        assert members.weights() == {"acme-group": 40}
        suspended = members.member("acme")
        assert suspended is not None
        assert suspended.suspended
        set_status(engine, platform="acme-two", status="suspended", now=clock[0])
        members.refresh()
        midnight = from_day(day_floor(clock[0]) + 1)
        assert members.weights(midnight - timedelta(microseconds=1)) == {"acme-group": 40}
        assert members.weights(midnight) == {"acme-group": 0}, "from the next UTC midnight on"
        assert newest_state(engine)["status"] == "suspended"
        size = log_size(engine)
        set_status(engine, platform="acme-two", status="suspended", now=clock[0])
        assert log_size(engine) == size
        set_status(engine, platform="acme", status="active", now=midnight)
        clock[0] = midnight
        members.refresh()
        assert members.weights() == {"acme-group": 0}
        assert members.weights(midnight + timedelta(days=1)) == {"acme-group": 40}
        with pytest.raises(InvalidRequest):
            set_status(engine, platform="acme", status="gone", now=NOW)
    finally:
        members.close()


def test_an_urgent_suspension_takes_the_weight_at_once(engine: Engine) -> None:
    enrol(engine)
    members = Members(engine, refresh_seconds=60, now=lambda: NOW)
    later, tomorrow = NOW + timedelta(minutes=1), NOW + timedelta(days=1)
    try:
        set_status(engine, platform="acme", status="suspended", now=NOW)
        members.refresh()
        assert (members.weights(NOW), members.weights(tomorrow)) == ({"acme-group": 40}, {"acme-group": 0})
        size = log_size(engine)
        for _ in range(2):
            set_status(engine, platform="acme", status="suspended", now=later, urgent=True)
            members.refresh()
            assert members.weights(NOW) == {"acme-group": 0}
        assert log_size(engine) == size, "the log has said that it is suspended"
        set_status(engine, platform="acme", status="active", now=later)
        members.refresh()
        assert (members.weights(NOW), members.weights(tomorrow)) == ({"acme-group": 0}, {"acme-group": 40})
        with pytest.raises(InvalidRequest):
            set_status(engine, platform="acme", status="active", now=later, urgent=True)
    finally:
        members.close()


def test_under_the_first_policy_a_suspension_takes_the_weight_at_once(engine: Engine) -> None:
    enrol(engine)
    first = shipped_version(1)[1]
    members = Members(engine, refresh_seconds=60, now=lambda: NOW, policy_at=lambda _now: first)
    try:
        for status, weight in (("suspended", 0), ("active", 40)):
            set_status(engine, platform="acme", status=status, now=NOW)
            members.refresh()
            assert members.weights() == {"acme-group": weight}
    finally:
        members.close()


def test_quotas_are_set_and_unset(engine: Engine) -> None:
    enrol(engine, quota=5)
    assert list_platforms(engine)[0][0].oprf_daily_quota_elements == 5
    set_quota(engine, platform="acme", quota=None)
    assert list_platforms(engine)[0][0].oprf_daily_quota_elements is None
    with pytest.raises(InvalidRequest):
        set_quota(engine, platform="acme", quota=-1)


def test_the_background_refresh_sees_a_revocation(engine: Engine) -> None:
    enrol(engine)
    members = Members(engine, refresh_seconds=0.05)
    try:
        revoke_key(engine, "acme-1", NOW)
        until(lambda: (key := members.key("acme-1")) is not None and key.revoked, "the revocation is not read")
    finally:
        members.close()


@pytest.mark.both_engines
def test_a_reading_that_began_earlier_does_not_replace_a_newer_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = Members(engine, refresh_seconds=60)
    has_read, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> tuple[EpochRow, ...]:
        if threading.current_thread() is earlier:
            has_read.set()
            assert go_on.wait(60)
        return read_epochs(connection)

    earlier = threading.Thread(target=members.refresh)
    monkeypatch.setattr(service, "read_epochs", slow)
    try:
        earlier.start()
        assert has_read.wait(60)
        enrol(engine)
        members.refresh()
        go_on.set()
        earlier.join()
        assert members.member("acme") is not None
    finally:
        members.close()


@pytest.mark.parametrize("first", ["background", "explicit"])
def test_counts_of_an_earlier_reading_do_not_replace_newer_ones(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The background refresh reuses the decisions that it counted last, and may begin while an explicit one counts
    again: whichever ends first, the new counts stay."""
    enrol(engine)
    members = Members(engine, refresh_seconds=60, now=lambda: NOW)
    go_on = {"background": threading.Event(), "explicit": threading.Event()}
    has_read = {name: threading.Event() for name in go_on}

    def held(connection: Connection) -> tuple[EpochRow, ...]:
        name = threading.current_thread().name
        if name in go_on:
            has_read[name].set()
            assert go_on[name].wait(60)
        return read_epochs(connection)

    monkeypatch.setattr(service, "read_epochs", held)
    threads = {
        "explicit": threading.Thread(target=members.refresh, name="explicit"),
        "background": threading.Thread(target=lambda: members.refresh(count_again=False), name="background"),
    }
    try:
        assert members.weights() == {"acme-group": 40}
        with writing(engine) as connection:
            for number in range(5):
                put_outcome(connection, number, "acme", "acme-group", "overturned", NOW - timedelta(days=1))
        for name in ("explicit", "background"):  # the background one begins later
            threads[name].start()
            assert has_read[name].wait(60)
        for name in (first, *(set(go_on) - {first})):
            go_on[name].set()
            threads[name].join(20)
        assert members.weights()["acme-group"] < 40
    finally:
        members.close()


def test_a_stale_list_accepts_no_request(engine: Engine) -> None:
    enrol(engine)
    clock = [100.0]
    members = Members(engine, refresh_seconds=60, monotonic=lambda: clock[0])
    try:
        clock[0] = 105.0
        assert members.fresh()
        assert members.member("acme") is not None
        clock[0] = 105.1
        assert not members.fresh()
        with pytest.raises(DatabaseUnavailable):
            members.member("acme")
        with pytest.raises(DatabaseUnavailable):
            members.key("acme-1")
        with pytest.raises(DatabaseUnavailable):
            members.weights()
        members.refresh()
        assert members.member("acme") is not None
    finally:
        members.close()


def test_a_failing_refresh_keeps_the_thread_alive(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    enrol(engine)
    members = Members(engine, refresh_seconds=0.02)
    calls: list[int] = []

    def refuse(**_: bool) -> None:
        calls.append(1)
        raise DatabaseUnavailable("The database cannot be reached.")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(members, "refresh", refuse)
            until(lambda: len(calls) >= 3, "it is not tried again")
        add_key(engine, platform="acme", kid="acme-2", public_key=KEYS[2], now=NOW)
        until(lambda: members.key("acme-2") is not None, "the thread has ended")
    finally:
        members.close()
