"""A build killed anywhere: nothing half-made is ever published, and the next run clears it away."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import delete

from ledger.protocol.encoding import b64url, day_floor, hour_floor
from ledger.protocol.tags import tag
from ledger.server.db.bulk import insert_rows
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.runtime import utc_now
from ledger.server.settings import Settings
from ledger.server.snapshots import queries as store
from ledger.server.snapshots.builder import builder_engine
from ledger.server.snapshots.queries import SnapshotRow
from ledger.server.snapshots.snapshotter import run
from tests import pg
from tests.faults.harness import Acknowledged, audit
from tests.forked import ForkedProcess
from tests.support import ROOT, new_ledger, publish, server_environment

pytestmark = pytest.mark.one_engine
"""Killed on both engines in `make soak`; in `make test` the id of a test chooses one."""

LISTED = 1500
"""Enough that sealing and filling buckets report their progress more than once."""

POINTS = ("counting", "sealing", "sealing 2", "filter", "buckets", "storing", "publishing", "commit", "cleaning")


def fill(settings: Settings) -> None:
    """Listings of `LISTED` people whose elements are any 32 bytes."""
    now = utc_now()
    act_day, hour = day_floor(now) - 30, hour_floor(now) - 500
    elements = [secrets.token_bytes(32) for _ in range(LISTED)]
    engine = builder_engine(settings)
    common = {"slot": 0, "epoch": 1, "kind": "phone"}
    fixed = {"control_group": "east", "conduct": "wardrobing", "amount_minor": 1, "currency": "CNY"}
    marks = dict.fromkeys(("disputed", "unconfirmed", "restituted", "has_statement"), False)
    days = {"act_day": act_day, "effective_hour": hour, "expires_day": act_day + 90}
    with writing(engine) as connection:
        numbered = list(enumerate(elements, 1000))
        insert_rows(
            connection, Subject, [{"report_id": n, "element": value, "salt": value, **common} for n, value in numbered]
        )
        insert_rows(
            connection,
            Listing,
            [
                {"tag": tag("phone", item), "report_id": n, "act_id": n, **common, **fixed, **marks, **days}
                for n, item in numbered
            ],
        )
    engine.dispose()


def forget(settings: Settings) -> None:
    """Delete what `fill` made up."""
    engine = builder_engine(settings)
    with writing(engine) as connection:
        connection.execute(delete(Listing))
    engine.dispose()


@contextmanager
def builder(settings: Settings) -> Iterator[Callable[[str], int]]:
    """`build(point)` builds in a process that dies there; its exit status."""
    process = ForkedProcess(
        "tests.faults.snapshot_builder",
        [],
        environment={**os.environ, **server_environment(settings)},
        folder=ROOT,
        talk=True,
        stderr=2,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def build(point: str) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(point + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    try:
        yield build
    finally:
        process.close()
        process.wait(20)


def rows(settings: Settings) -> tuple[list[SnapshotRow], list[SnapshotRow]]:
    """Published and building ones."""
    engine = builder_engine(settings)
    try:
        with reading(engine) as connection:
            return store.published(connection), store.read_building(connection)
    finally:
        engine.dispose()


def test_killed_at_every_stage(database_url: str, tmp_path: Path) -> None:
    settings = new_ledger(database_url, tmp_path)
    fill(settings)
    seen: list[bytes] = []
    with builder(settings) as build:
        for point in POINTS:
            assert build(point) == -signal.SIGKILL, point
            published, building = rows(settings)
            assert len(published) == (1 if point == "cleaning" else 0), point
            assert len(building) == (0 if point in ("counting", "cleaning") else 1), point
            versions = [row.version for row in (*published, *building)]
            assert not set(versions) & set(seen), "no version is ever taken up again"
            seen += versions
        assert build("never") == 0
    published, building = rows(settings)
    assert building == []
    assert [row.version for row in published][1:] == [seen[-1]]
    names = {path.name for path in settings.snapshots_dir.iterdir()}
    assert names == {".lock", *(b64url(row.version) for row in published)}
    publish(settings)
    forget(settings)  # they were not reported
    assert audit(settings, Acknowledged(), [])["entries"] == 4  # two of genesis, two snapshots


@pytest.fixture
def postgresql(make_database: Callable[..., str], postgresql_schema: Callable[[], str], tmp_path: Path) -> Settings:
    return new_ledger(make_database("postgresql", postgresql_schema()), tmp_path, snapshot_interval_seconds=0.05)


@pytest.mark.postgresql
def test_the_snapshotter_outlives_an_outage(
    postgresql: Settings, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(postgresql, stop))
    thread.start()
    try:
        before = _wait_for_newer(postgresql, -1)
        with pg.refused_connections(postgresql.database_url):
            stop.wait(0.3)
            assert "snapshot_postponed database_unavailable" in caplog.messages
        assert _wait_for_newer(postgresql, before) > before
    finally:
        stop.set()
        thread.join(timeout=20)
    assert not thread.is_alive()
    assert '"ready": true' in capsys.readouterr().out


def _wait_for_newer(settings: Settings, index: int) -> int:
    """The log index of a published snapshot that is newer than `index`."""
    deadline = threading.Event()
    for _ in range(200):
        published, _ = rows(settings)
        if published and published[0].entry_index is not None and published[0].entry_index > index:
            return published[0].entry_index
        deadline.wait(0.05)
    raise AssertionError("the snapshotter published nothing in ten seconds")
