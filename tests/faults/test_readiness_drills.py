"""What a server says of itself while its database is away, hangs, does not commit or is read-only, while the log is
frozen or unsigned: the truth, within milliseconds, and again once it is over. And how long it takes to end then."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url, text

from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.jobs import heartbeat
from ledger.server.jobs import readiness as health
from ledger.server.jobs.heartbeat import Heartbeat
from ledger.server.log import queries as log_store
from ledger.server.process.queries import database_now, read_processes
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from tests import pg
from tests.processes import started, until
from tests.stalling import Stalling, stalling
from tests.support import RunningServer, new_ledger, opened, publish

MOMENT_SECONDS = 0.5
"""An answer from memory takes milliseconds; the rest is a busy machine's."""


def said(rt: Runtime) -> dict[str, Any]:
    """Both answers in one: {lookups, writes} and what they share."""
    for attempt in range(3):  # the machine may pause during one, and would hardly do so during each
        began = time.monotonic()
        lookups, writes = health.readiness(rt.process), health.write_readiness(rt.process)
        rt.metrics.text()
        if (seconds := time.monotonic() - began) < MOMENT_SECONDS:
            break
        assert attempt < 2, f"it waited for the database: {seconds} s"
    return {**lookups, "lookups": lookups["status"], "writes": writes["status"]}


def becomes(rt: Runtime, **expected: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        first = said(rt)
        return first if expected.items() <= first.items() else None

    return dict(until(found, f"never {expected}"))


def figure(rt: Runtime, name: str) -> float:
    families = text_string_to_metric_families(rt.metrics.text().decode())
    return next(sample.value for family in families for sample in family.samples if sample.name == name)


READY = {"database": "ok", "lookups": "ready", "writes": "ready"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats in tenths of seconds instead of seconds."""
    for name, seconds in {"READ_SECONDS": 0.1, "WRITE_SECONDS": 0.1, "STALE_SECONDS": 1.0}.items():
        monkeypatch.setattr(heartbeat, name, seconds)


@pytest.fixture
def settings(make_database: Callable[..., str], postgresql_schema: Callable[[], str], tmp_path: Path) -> Settings:
    return new_ledger(make_database("postgresql", postgresql_schema()), tmp_path)


@pytest.fixture
def stalled(settings: Settings) -> Iterator[Stalling]:
    with stalling(settings.database_url) as proxy:
        yield proxy


@pytest.fixture
def rt(settings: Settings, stalled: Stalling, quick: None) -> Iterator[Runtime]:
    through = settings.model_copy(update={"database_url": stalled.url})
    with opened(through) as runtime:
        try:
            yield runtime
        finally:
            stalled.flowing.set()
            stalled.commits.set()


def query(settings: Settings, statement: str) -> None:
    url = settings.database_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        connection.execute(statement)


@pytest.mark.postgresql
def test_the_database_in_each_way_of_failing(settings: Settings, stalled: Stalling, rt: Runtime) -> None:
    becomes(rt, **READY)
    assert figure(rt, "refund_ledger_database_up") == 1

    with pg.refused_connections(settings.database_url):  # killed, or refusing
        down = becomes(rt, database="unavailable")
        assert (down["lookups"], down["writes"], down["log"]) == ("not_ready", "not_ready", "unknown")
        assert figure(rt, "refund_ledger_database_up") == 0
    becomes(rt, **READY)

    stalled.flowing.clear()  # stopped, or behind a network that drops packets
    down = becomes(rt, database="unavailable")
    assert (down["lookups"], down["writes"]) == ("not_ready", "not_ready")
    # The heartbeat's own deadline, shorter than STALE_SECONDS, may have said so before the last beat is that old.
    until(
        lambda: figure(rt, "refund_ledger_heartbeat_age_seconds") > heartbeat.STALE_SECONDS,
        "the age of the last beat that the database answered grows",
    )
    assert figure(rt, "refund_ledger_database_up") == 0
    stalled.flowing.set()
    becomes(rt, **READY)

    stalled.commits.clear()  # the last synchronous standby is lost
    down = becomes(rt, database="not_writable")
    assert (down["lookups"], down["writes"], down["log"]) == ("not_ready", "not_ready", "ok")
    assert figure(rt, "refund_ledger_database_up") == 0
    stalled.commits.set()
    becomes(rt, **READY)

    name = make_url(settings.database_url).database
    query(settings, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')  # as a demoted node
    pg.terminate_backends(settings.database_url)
    assert becomes(rt, database="unavailable")["writes"] == "not_ready", (
        "no connection goes to a node that is read-only"
    )
    query(settings, f'ALTER DATABASE "{name}" RESET ALL')
    pg.terminate_backends(settings.database_url)
    becomes(rt, **READY)


@pytest.mark.postgresql
def test_the_log_and_its_publisher(settings: Settings, rt: Runtime) -> None:
    publish(settings)  # a beat during it finds its lease
    becomes(rt, publisher="absent", **READY)
    assert figure(rt, "refund_ledger_publisher_up") == 0
    with writing(rt.engine) as connection:
        connection.execute(
            text("UPDATE publisher_lease SET holder = 'somebody', renewed_at = clock_timestamp() WHERE id = 1")
        )
    becomes(rt, publisher="ok", **READY)
    with writing(rt.engine) as connection:  # it hangs: it holds the lease and does not renew it
        connection.execute(text("UPDATE publisher_lease SET renewed_at = clock_timestamp() - interval '11 seconds'"))
        head = log_store.read_head(connection)
        assert head is not None
        log_store.move_head(connection, head.size + 1, head.recorded_at)
    becomes(rt, publisher="absent", **READY)
    until(lambda: figure(rt, "refund_ledger_unsigned_seconds") > 0.2, "no age of what is not signed")
    assert figure(rt, "refund_ledger_log_entries") == figure(rt, "refund_ledger_checkpoint_entries") + 1
    with writing(rt.engine) as connection:
        log_store.set_frozen(connection, "a test")
    frozen = becomes(rt, log="frozen")
    assert (frozen["lookups"], frozen["writes"]) == ("ready", "not_ready")
    assert figure(rt, "refund_ledger_log_frozen") == 1


def test_a_file_that_another_process_has_locked(tmp_path: Path, quick: None) -> None:
    """SQLite that cannot write, as on a full or read-only disk: reads go on, and that nothing commits shows."""
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    with opened(settings) as rt:
        becomes(rt, **READY)
        engine = open_engine(settings.database_url, pool_size=1)
        with writing(engine):
            assert becomes(rt, database="not_writable")["log"] == "ok"
        becomes(rt, **READY)
        engine.dispose()


def test_lookups_are_not_ready_before_the_filter_is(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.server.lookups.clear_cache import ClearLookupCache

    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    build = ClearLookupCache.build
    monkeypatch.setattr(ClearLookupCache, "build", lambda _self: None)
    with opened(settings) as rt:
        waiting = becomes(rt, writes="ready", database="ok")
        assert (waiting["lookups"], waiting["checks"]["filter"]) == ("not_ready", "building")
        monkeypatch.setattr(ClearLookupCache, "build", build)
        becomes(rt, **READY)
        rt.clear_cache._base = None  # as after a change of key epochs: built again, beside the work
        assert said(rt)["lookups"] == "ready"


def test_hung_threads_are_not_believed_alive(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    with opened(settings) as rt:
        becomes(rt, **READY)
        later = time.monotonic() + 60
        worker = rt.snapshots.worker
        monkeypatch.setattr(worker, "_running_since", later - 120)
        monkeypatch.setattr(worker, "_monotonic", lambda: later)
        assert said(rt)["checks"]["snapshots"] == "stuck"
        assert said(rt)["lookups"] == "not_ready"
        monkeypatch.undo()


def test_processes_that_end_are_forgotten(database_url: str, tmp_path: Path) -> None:
    settings = new_ledger(database_url, tmp_path)
    engine = open_engine(database_url, pool_size=1)

    def known() -> list[str]:
        with reading(engine) as connection:
            return [
                read_process.role
                for read_process in read_processes(connection, database_now(connection) - timedelta(seconds=60))
            ]

    with opened(settings):
        with opened(settings):
            assert known() == ["api", "api"]
        assert known() == ["api"]
    assert known() == []
    engine.dispose()


TOLERANCE_SECONDS = 20
"""For a machine that pauses between the readings of two clocks."""


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wrong_clock_is_noticed(tmp_path: Path, hours: int, caplog: pytest.LogCaptureFixture) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    skew = timedelta(hours=hours)
    heart = Heartbeat(open_engine(settings.database_url, pool_size=2), clock=lambda: datetime.now(UTC) + skew)
    for _ in range(2):
        assert abs(heart.read().clock_differs_seconds - skew.total_seconds()) < TOLERANCE_SECONDS
    assert [record.message for record in caplog.records] == ["clock_differs"], "once"
    skew = timedelta()
    assert abs(heart.read().clock_differs_seconds) < TOLERANCE_SECONDS
    heart.close()


@pytest.mark.postgresql
def test_sigterm_ends_a_server_whose_database_and_publisher_hang(settings: Settings, stalled: Stalling) -> None:
    server = RunningServer(settings.model_copy(update={"database_url": stalled.url}), forked=False)
    try:
        with httpx2.Client(verify=False, base_url=server.url, timeout=5) as client:
            until(lambda: client.get("/readyz").status_code == 200, "not ready")
            (publisher,) = until(lambda: started(server, "ledger.server.log.publisher"), "no publisher")
            os.kill(publisher, signal.SIGSTOP)
            stalled.flowing.clear()
            with contextlib.suppress(httpx2.HTTPError):  # a request that hangs in the database
                client.get("/log/checkpoint", timeout=0.2)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 10
    finally:
        server.kill()
