"""Databases that fail in every way, under load: nothing acknowledged is lost, every wait ends, and the ledger is
back by itself as soon as the database is. (`make soak` does more of it, with a server's own deadlines.)"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ledger.protocol.identifiers import Kind
from ledger.server.runtime import Runtime
from tests.counts import trials
from tests.faults import drills
from tests.faults.drills import SHORT, Found, NoFileSystem, Scene
from tests.support import lookup_request, opened

BACK_SECONDS = 12.0
SLACK_SECONDS = 5.0
"""For a machine on which other tests run; `make soak` measures what it takes on a quiet one (docs/operations.md)."""
OUTAGE_SECONDS = 0.8
"""Longer than what a reader waits for an answer here."""


def check(result: Found) -> None:
    assert result.lost == 0, result
    assert max(result.report_seconds, result.lookup_seconds) < BACK_SECONDS, result
    assert result.longest_report_seconds < SHORT["write_deadline_ms"] / 1000 + SLACK_SECONDS, result
    assert result.longest_lookup_seconds < SHORT["read_deadline_ms"] / 1000 + SLACK_SECONDS, result


@pytest.mark.postgresql
def test_postgresql_fails_in_every_way(tmp_path: Path) -> None:
    """One test, because its server is its own."""
    with drills.scene(tmp_path, **SHORT) as scene:
        few = (drills.killed, drills.silent_host, drills.lost_sync_standby, drills.demoted)
        for drill in trials(few, (*few, drills.stopped, drills.reset, drills.on_the_standby)):
            check(drills.run(scene, drill, OUTAGE_SECONDS))
        with opened(scene.settings.model_copy(update={"read_deadline_ms": 15_000})) as patient:
            assert answered_lookups(scene, patient) == 12, "its connections are open"
            for _ in range(3):
                drills.terminated(scene, 0)
                assert answered_lookups(scene, patient) == 12


def answered_lookups(scene: Scene, rt: Runtime) -> int:
    """How many of 12 lookups of a listed person, asked at once, are answered."""
    load = scene.load
    load.wait_until_answered(0.0)

    async def ask() -> int:
        request = lookup_request(rt, [(Kind.PHONE, load.people[0])])
        answers = [rt.lookups.lookup(load.platform.member(), request) for _ in range(12)]
        return sum(isinstance(item, bytes) for item in await asyncio.gather(*answers, return_exceptions=True))

    return asyncio.run(ask())


@pytest.mark.sqlite
def test_sqlite_on_a_full_disk(tmp_path: Path) -> None:
    try:
        check(drills.disk_full(tmp_path, 0.2))
    except NoFileSystem:
        pytest.skip("no file system can be mounted here: not root")
