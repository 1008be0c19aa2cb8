"""The server killed again and again under load: nothing acknowledged is lost, nothing happens twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from ledger.server.settings import Settings
from tests.counts import trials
from tests.faults.harness import Acknowledged, Reporters, audit
from tests.support import Platform, RunningServer, new_ledger, opened

pytestmark = pytest.mark.one_engine
"""Killed on both engines in `make soak`; in `make test` the id of a test chooses one."""

KILLS = trials(1, 3)
"""`make soak` kills it for as long as one likes."""
THREADS = 6
ENOUGH = 20
"""The number of acknowledged reports before their state is checked."""
PATIENCE_SECONDS = 60


def kill_again_and_again(
    settings: Settings, platforms: list[Platform], *, kills: int, threads: int, seed: int
) -> tuple[Acknowledged, dict[str, int]]:
    """Load, SIGKILL to server and publisher at random moments, restart; at the end the audit. Returns its counts."""
    rng = random.Random(seed)
    with opened(settings) as rt:
        reporters = Reporters(rt, platforms, threads=threads, seed=seed)
        server = RunningServer(settings)
        try:
            reporters.url = server.url
            reporters.start()
            for _ in range(kills):
                time.sleep(rng.uniform(0.2, 1.0))
                server.kill()
                server.start()
                reporters.url = server.url
            end = time.monotonic() + PATIENCE_SECONDS  # a busy machine gets less done between two kills
            time.sleep(0.5)
            while len(reporters.seen.reports) <= ENOUGH and time.monotonic() < end:
                time.sleep(0.1)
            reporters.stop()
        finally:
            server.kill()
        people = reporters.people
    return reporters.seen, audit(settings, reporters.seen, people)


def test_killed_under_load(database_url: str, tmp_path: Path) -> None:
    settings = new_ledger(database_url, tmp_path)
    platforms = [Platform(f"p{n}", f"g{n % 2}", f"p{n}-1").enrol(settings) for n in range(3)]
    seen, counts = kill_again_and_again(settings, platforms, kills=KILLS, threads=THREADS, seed=7)
    assert counts["reports"] >= len(seen.reports) > ENOUGH
    assert counts["checkpoints"] > 1
    assert seen.statuses["cut"] > 0, "the kills hit requests in flight"
