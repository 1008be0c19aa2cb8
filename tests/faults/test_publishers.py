"""Several publishers on one database: one signs, and none that has no guard freezes the log of the one that has."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import Engine

from ledger.server.db import migrate
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.jobs.heartbeat import Heartbeat
from ledger.server.keys.files import load_log_key, raw_public
from ledger.server.log import publisher, publisher_lease
from ledger.server.log import queries as log_store
from ledger.server.log.checkpoint_lock import CHECKPOINT_FILE, CheckpointLock
from ledger.server.log.publisher import PublisherVerdict, publish_once
from ledger.server.log.publisher_lease import ABSENT_SECONDS, LEASE_SECONDS, Identity, Lease, identity, refusal
from ledger.server.process import queries as process_store
from ledger.server.process.queries import LeaseRow
from ledger.server.settings import Settings
from tests.counts import trials
from tests.processes import until
from tests.support import Platform, RunningServer, new_ledger

pytestmark = pytest.mark.one_engine
"""Killed on both engines in `make soak`; in `make test` the id of a test chooses one."""

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ME = Identity("me", "here:/guard", "boot:1:2")
FAULT = "the guard is missing"


def row(age: float, holder: str | None = "other", place: str = "there:/guard", lock: str = "boot:3:4") -> LeaseRow:
    return LeaseRow(7, holder, place, lock, NOW - timedelta(seconds=age))


@pytest.mark.parametrize(
    ("result", "fault", "stands_by"),
    [
        (None, None, False),  # no publisher ever: a log of an earlier version
        (None, FAULT, False),
        (row(1), None, True),
        (row(1), FAULT, True),
        (row(LEASE_SECONDS + 1), None, False),  # the other one is gone, and the guard is right
        (row(LEASE_SECONDS + 1), FAULT, True),
        (row(ABSENT_SECONDS + 1), FAULT, False),  # an old backup on another machine is frozen
        (row(1, holder=None), None, False),  # given back
        (row(1, holder=None), FAULT, True),  # the other one restarts
        (row(1, place=ME.place, lock="boot:9:9"), FAULT, True),  # a machine of the same name
        (row(LEASE_SECONDS + 1, place=ME.place), FAULT, False),  # this very guard was lost
        (row(1, place=ME.place, lock=ME.guard_lock), None, False),  # its lock is ours: the holder has ended
        (row(1, place=ME.place, lock=ME.guard_lock), FAULT, False),
        (row(1, holder=ME.holder), FAULT, False),  # the guard was lost while it signs
    ],
)
def test_who_stands_by(result: LeaseRow | None, fault: str | None, stands_by: bool) -> None:
    assert (refusal(result, ME, NOW, fault) is not None) == stands_by


class Host:
    """A machine with a publisher: its own folder for the guard, the same keys."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings, self.engine = settings, engine
        self.key = load_log_key(settings)
        self.start()

    def start(self) -> None:
        self.guard = CheckpointLock(self.settings.guard_dir, self.settings.origin, raw_public(self.key))
        assert self.guard.try_lock()
        self.lease = Lease(self.engine, identity(self.guard.folder, self.guard.lock_id()))

    def restart(self, *, cleanly: bool) -> None:
        if cleanly:
            self.lease.release()
        self.guard.close()
        self.start()

    def round(self) -> PublisherVerdict:
        return publish_once(self.engine, self.guard, self.key, self.settings.origin, datetime.now(UTC), self.lease)


def frozen(engine: Engine) -> str | None:
    with reading(engine) as connection:
        head = log_store.read_head(connection)
    assert head is not None
    return head.frozen


def fence(engine: Engine) -> int:
    with reading(engine) as connection:
        result = process_store.read_lease(connection)
    assert result is not None
    return result.fence


@pytest.fixture
def pair(database_url: str, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """A host with the log's guard, and one with an empty folder."""
    settings = new_ledger(database_url, tmp_path)
    engine = open_engine(database_url, pool_size=2)
    second = settings.model_copy(update={"guard_dir": tmp_path / "guard2"})
    hosts = Host(settings, engine), Host(second, engine)
    yield hosts
    for host in hosts:
        host.guard.close()
    engine.dispose()


class Time:
    """The database's clock, which a test moves."""

    def __init__(self) -> None:
        self.moment = NOW

    def __call__(self, _connection: object) -> datetime:
        return self.moment


ACTIONS = ["guarded", "unguarded", "second", "ten", "minute", "restart", "kill", "restart unguarded", "grow"]


@given(st.lists(st.sampled_from(ACTIONS), max_size=12))
@examples(max_examples=20)
def test_one_without_a_guard_never_freezes_the_log(actions: list[str]) -> None:
    """Whatever order they run, restart, die and pause in, while the one with the guard was there lately."""
    guarded, unguarded, moves = shared_pair()
    moves.moment += timedelta(seconds=ABSENT_SECONDS)
    guarded.round()
    seen, alone = fence(guarded.engine), 0.0
    for action in actions:
        if action == "guarded":
            if guarded.round().standby is None:
                alone = 0.0
        elif action == "unguarded":
            assert unguarded.round().standby is not None
        elif action == "restart":
            guarded.restart(cleanly=True)
        elif action == "kill":
            guarded.restart(cleanly=False)
        elif action == "restart unguarded":
            unguarded.restart(cleanly=True)
        elif action == "grow":
            Platform(name := f"p{time.monotonic_ns()}", "group", name).join(guarded.engine)
        else:
            seconds = {"second": 1, "ten": LEASE_SECONDS + 1, "minute": 60}[action]
            moves.moment += timedelta(seconds=seconds)
            alone += seconds
        assert frozen(guarded.engine) is None or alone >= ABSENT_SECONDS
        assert fence(guarded.engine) >= seen
        seen = fence(guarded.engine)


_shared: list[tuple[Host, Host, Time]] = []


def shared_pair() -> tuple[Host, Host, Time]:
    return _shared[0]


@pytest.fixture(autouse=True)
def _a_shared_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One ledger for all examples of the property: what earlier ones left behind is part of the history."""
    if request.node.name != "test_one_without_a_guard_never_freezes_the_log":
        yield
        return
    folder = tmp_path_factory.mktemp("hosts")
    settings = new_ledger(f"sqlite:///{folder / 'ledger.db'}", folder)
    engine = open_engine(settings.database_url, pool_size=2)
    second = settings.model_copy(update={"guard_dir": folder / "guard2"})
    moves = Time()
    patch = pytest.MonkeyPatch()
    patch.setattr(process_store, "database_now", moves)
    _shared.append((Host(settings, engine), Host(second, engine), moves))
    yield
    patch.undo()
    for host in _shared.pop()[:2]:
        host.guard.close()
    engine.dispose()


def test_what_a_publisher_with_an_old_number_writes_is_lost(
    pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It slept through its lease; another one signed meanwhile; its freeze, thaw and publication are all refused."""
    first, second = pair
    moves = Time()
    monkeypatch.setattr(process_store, "database_now", moves)
    first.round()
    shutil.copy(first.settings.guard_dir / CHECKPOINT_FILE, second.settings.guard_dir / CHECKPOINT_FILE)
    moves.moment += timedelta(seconds=LEASE_SECONDS + 1)
    Platform("acme", "group", "acme-1").join(first.engine)
    assert second.round().signed_size == 3
    before = fence(first.engine)
    with pytest.raises(publisher_lease.LostLeaseError), first.lease.held() as connection:
        log_store.set_frozen(connection, "what it saw before it slept")
    (first.settings.guard_dir / CHECKPOINT_FILE).unlink()
    assert first.round().standby is not None
    assert (frozen(first.engine), fence(first.engine)) == (None, before)
    with reading(first.engine) as connection:
        published = log_store.latest_checkpoint(connection)
    assert published is not None
    assert published.size == 3


def test_a_guard_lost_on_the_one_host_still_freezes(pair: tuple[Host, Host]) -> None:
    first, _ = pair
    first.round()
    (first.settings.guard_dir / CHECKPOINT_FILE).unlink()
    assert first.round().frozen == "the guard is missing"
    first.restart(cleanly=True)
    assert first.round().frozen == "the guard is missing"
    assert frozen(first.engine) == "the guard is missing"


def test_an_old_copy_on_another_machine_is_frozen(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease in an old backup is old too, so an empty guard freezes it as it always did."""
    first, second = pair
    first.round()
    first.lease.release()
    moves = Time()
    moves.moment = datetime.now(UTC) + timedelta(seconds=ABSENT_SECONDS + 5)
    monkeypatch.setattr(process_store, "database_now", moves)
    assert second.round().frozen == "the guard is missing"


@contextmanager
def publishing(settings: Settings) -> Iterator[threading.Event]:
    """A publisher as its process runs it, in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=publisher.run, args=(settings, stop), daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def test_two_publishers_run_and_the_first_is_killed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = new_ledger(database_url, tmp_path)
    second = settings.model_copy(update={"guard_dir": tmp_path / "guard2"})
    for module in (publisher_lease, publisher):
        monkeypatch.setattr(module, "RENEW_SECONDS", 0.2)
    seconds = 2.0  # a busy machine may keep a thread waiting for half of it
    monkeypatch.setattr(publisher_lease, "LEASE_SECONDS", seconds)
    monkeypatch.setattr("ledger.server.jobs.heartbeat.LEASE_SECONDS", seconds)
    engine = open_engine(database_url, pool_size=2)
    heart = Heartbeat(engine)

    def publishers() -> tuple[bool | None, int, str | None]:
        seen = heart.read()
        return heart.publisher(), seen.publishers_standing_by, seen.frozen

    def grown() -> int:
        Platform(name := f"p{time.monotonic_ns()}", "group", name).join(engine)
        return heart.read().size

    with publishing(second), publishing(settings) as first:
        until(lambda: publishers() == (True, 1, None), "the one with the guard does not sign")
        end = time.monotonic() + 1.25 * seconds
        while time.monotonic() < end:
            assert publishers() == (True, 1, None), "it flaps"
            time.sleep(0.05)
        size = grown()
        until(lambda: heart.read().checkpoint_size == size, "not signed")
        monkeypatch.setattr(publisher, "_leave", lambda *_: None)  # killed: it gives nothing back
        first.set()
        until(lambda: publishers()[0] is False, "the dead publisher was believed alive")
        size = grown()
        assert publishers()[2] is None, "without a guard it only stands by"
        assert heart.read().checkpoint_size < size
        shutil.copy(settings.guard_dir / CHECKPOINT_FILE, second.guard_dir / CHECKPOINT_FILE)  # what the operator does
        until(lambda: heart.read().checkpoint_size == size, "the other one did not take over")
        assert publishers()[2] is None
    engine.dispose()


@pytest.mark.postgresql
def test_two_servers_and_one_guard(
    make_database: Callable[..., str], postgresql_schema: Callable[[], str], tmp_path: Path
) -> None:
    """`serve` on two hosts as an operator may start it: the second has the keys and an empty guard folder."""
    settings = new_ledger(make_database("postgresql", postgresql_schema()), tmp_path)
    second = settings.model_copy(update={"guard_dir": tmp_path / "guard2"})
    engine = open_engine(settings.database_url, pool_size=2)
    running_server = RunningServer(settings, arguments=("--no-snapshotter",))
    try:
        other = RunningServer(second, arguments=("--no-snapshotter",))
        try:
            assert (running_server.said["standby"], running_server.said["frozen"], other.said["frozen"]) == (
                None,
                None,
                None,
            )
            assert "the guard is missing here" in other.said["standby"]
            end = time.monotonic() + trials(1.5, 10.0)
            while time.monotonic() < end:
                assert frozen(engine) is None
                time.sleep(0.05)
            Platform("acme", "group", "acme-1").join(engine)
            with reading(engine) as connection:
                until(lambda: (process_store.checkpoint_state(connection) or (0,))[0] == 3, "not signed")
        finally:
            assert other.stop() == 0
            engine.dispose()
    finally:
        running_server.kill()
    lines = [json.loads(line) for line in other.log]  # of the server and its publisher
    (stood_by,) = [
        item for item in lines if item["event"] == "publisher_stands_by" and item.get("process") == "publisher"
    ]
    assert "the guard is missing here" in stood_by["reason"]


def test_the_lease_is_kept_out_of_the_log(pair: tuple[Host, Host]) -> None:
    first, _ = pair
    with writing(first.engine) as connection:
        process_store.beat(connection, "x" * 32, "api", "host")
    before = first.round().signed_size
    for _ in range(3):
        first.restart(cleanly=True)
        assert first.round().signed_size == before


def test_a_ledger_of_the_version_before(pair: tuple[Host, Host]) -> None:
    """It is upgraded with its signed entries, its publisher takes the first lease, and nothing freezes."""
    first, second = pair
    Platform("acme", "group", "acme-1").join(first.engine)
    assert first.round().signed_size == 3
    url = first.settings.database_url
    migrate.downgrade(url, "0013")
    migrate.upgrade(url)
    first.restart(cleanly=False)
    assert (first.round(), second.round().signed_size) == (PublisherVerdict(3, None), None)
    assert (frozen(first.engine), fence(first.engine)) == (None, 1)
