"""The database cut off, away for a while, or shared by two API processes: late, perhaps, but never wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from ledger.server.settings import Settings
from tests import pg
from tests.faults.harness import Reporters, audit
from tests.processes import until
from tests.support import Platform, new_ledger, opened, serving


@pytest.fixture
def settings(make_database: Callable[..., str], postgresql_schema: Callable[[], str], tmp_path: Path) -> Settings:
    return new_ledger(make_database("postgresql", postgresql_schema()), tmp_path)


@pytest.fixture
def platforms(settings: Settings) -> list[Platform]:
    return [Platform(f"p{n}", f"g{n % 2}", f"p{n}-1").enrol(settings) for n in range(3)]


@pytest.fixture
def reporters(settings: Settings, platforms: list[Platform]) -> Iterator[Reporters]:
    with opened(settings) as rt:
        created = Reporters(rt, platforms, threads=6, seed=11)
        yield created
        created.stop()


def progress(reporters: Reporters, more: int, seconds: float = 60) -> None:
    """Wait until `more` further reports are acknowledged."""
    expected = len(reporters.seen.reports) + more
    deadline = time.monotonic() + seconds
    while len(reporters.seen.reports) < expected:
        assert time.monotonic() < deadline, f"no progress: {reporters.seen.statuses}"
        time.sleep(0.02)


def refused(reporters: Reporters, more: int) -> None:
    """Wait until `more` further requests are refused."""
    expected = reporters.seen.statuses["503"] + more
    until(lambda: reporters.seen.statuses["503"] >= expected, f"not refused: {reporters.seen.statuses}")


@pytest.mark.postgresql
def test_backends_terminated_under_load(settings: Settings, reporters: Reporters) -> None:
    with serving(settings) as server:
        reporters.url = server.url
        reporters.start()
        ended = 0
        for _ in range(6):
            progress(reporters, 10)
            ended += pg.terminate_backends(settings.database_url)
        progress(reporters, 20)
        reporters.stop()
    assert ended > 0
    counts = audit(settings, reporters.seen, reporters.people)
    assert counts["reports"] >= len(reporters.seen.reports)


@pytest.mark.postgresql
def test_the_database_away_for_a_while(settings: Settings, reporters: Reporters) -> None:
    with serving(settings) as server, httpx2.Client(verify=False, base_url=server.url) as client:
        reporters.url = server.url
        reporters.start()
        progress(reporters, 10)
        with pg.refused_connections(settings.database_url):
            # The first to fail may be a write: for a moment it is `not_writable`.
            until(lambda: readiness(client) == (503, "unavailable"), "ready without a database")
            assert client.get("/healthz").status_code == 200
            refused(reporters, 30)  # what was stored just before is acknowledged by now
            before = len(reporters.seen.reports)
            refused(reporters, 30)
            assert len(reporters.seen.reports) == before, "nothing is acknowledged that is not stored"
        progress(reporters, 20)
        reporters.stop()
        # It relies on a heartbeat, which is written once a second.
        until(lambda: client.get("/readyz").status_code == 200, "not ready again")
    assert reporters.seen.statuses["503"] > 0
    audit(settings, reporters.seen, reporters.people)


def readiness(client: httpx2.Client) -> tuple[int, str]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()["database"]


@pytest.mark.postgresql
def test_two_api_processes_on_one_database(settings: Settings, platforms: list[Platform]) -> None:
    """They share the log's head; one of their publishers signs, the other stands by and takes over."""
    with opened(settings) as rt, serving(settings) as first, serving(settings) as second:
        pair = [Reporters(rt, platforms, threads=3, seed=seed) for seed in (21, 22)]
        pair[1].people, pair[1].seen = pair[0].people, pair[0].seen
        for reporters, server in zip(pair, (first, second), strict=True):
            reporters.url = server.url
            reporters.start()
        progress(pair[0], 60)
        first.kill()  # with its publisher, which held the guard's lock
        pair[0].url = second.url
        size = signed_size(second.url)
        progress(pair[0], 30)
        until(lambda: signed_size(second.url) > size, "the other publisher did not take over")
        stop_all(pair)
    audit(settings, pair[0].seen, pair[0].people)


def signed_size(url: str) -> int:
    return int(httpx2.get(f"{url}/log/checkpoint").text.splitlines()[1])


def stop_all(pair: list[Reporters]) -> None:
    threads = [threading.Thread(target=reporters.stop) for reporters in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
