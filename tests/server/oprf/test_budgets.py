"""Budgets of blinded evaluation: bursts, the daily quota and grants, shared by processes, and unaffected by changes of
the clock."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidRequest, NotFound, QuotaExceeded
from ledger.protocol.encoding import day_floor
from ledger.server.db.engine import reading
from ledger.server.oprf import budget_queries as store
from ledger.server.oprf import budgets
from ledger.server.runtime import Runtime, open_runtime
from tests.counts import trials
from tests.forked import ForkedProcess
from tests.support import ROOT, Platform, new_ledger, server_environment

pytestmark = pytest.mark.one_engine

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ACME = Platform("acme", "acme-group", "acme-1")
MEMBER = ACME.member()
QUOTA, BURST, RATE = 1000, 100, 10


@pytest.fixture
def rt(migrated_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """1000 elements a day, 100 at once, 10 a second."""
    settings = new_ledger(
        migrated_url,
        tmp_path,
        oprf_daily_quota_elements=QUOTA,
        oprf_burst_elements=BURST,
        oprf_rate_elements_per_second=RATE,
    )
    ACME.enrol(settings)
    runtime = open_runtime(settings, lambda: NOW)
    yield runtime
    runtime.close()


def refusal(rt: Runtime, elements: int, now: datetime) -> tuple[str, int]:
    """Return (limit, seconds to wait) of a batch that must be refused."""
    with pytest.raises(QuotaExceeded) as caught:
        budgets.deduct(rt.oprf, MEMBER, elements, now)
    return str(caught.value.details["limit"]), int(str(caught.value.details["retry_after_seconds"]))


def used(rt: Runtime, now: datetime = NOW) -> int:
    with reading(rt.engine) as connection:
        return store.read_oprf_use(connection, MEMBER.platform, day_floor(now))


def test_a_burst_is_exact_and_renews_with_time(rt: Runtime) -> None:
    budgets.deduct(rt.oprf, MEMBER, BURST, NOW)
    assert refusal(rt, 1, NOW) == ("burst", 1)
    assert refusal(rt, 55, NOW) == ("burst", 6), "5.5 seconds, rounded up"
    assert refusal(rt, 55, NOW + timedelta(seconds=5)) == ("burst", 1)
    budgets.deduct(rt.oprf, MEMBER, 55, NOW + timedelta(seconds=5, milliseconds=500))
    assert used(rt) == BURST + 55, "what was refused is not counted"


def test_waiting_as_long_as_the_answer_says_is_enough(rt: Runtime) -> None:
    budgets.deduct(rt.oprf, MEMBER, 80, NOW)
    _, seconds = refusal(rt, 37, NOW)
    budgets.deduct(rt.oprf, MEMBER, 37, NOW + timedelta(seconds=seconds))


def test_a_batch_larger_than_any_burst_is_refused(rt: Runtime) -> None:
    assert refusal(rt, BURST + 1, NOW)[0] == "burst"
    assert used(rt) == 0


def test_a_refused_day_gives_the_burst_back(rt: Runtime) -> None:
    for step in range(10):
        budgets.deduct(rt.oprf, MEMBER, 100, NOW + timedelta(seconds=10 * step))
    later = NOW + timedelta(seconds=200)
    assert refusal(rt, 60, later)[0] == "daily"
    assert refusal(rt, 60, later)[0] == "daily", "the first refusal spent no burst"


@pytest.mark.both_engines
def test_a_grant_covers_what_the_quota_does_not(rt: Runtime) -> None:
    grant = {"platform": "acme", "reason": "first tagging", "now": NOW}
    budgets.grant(rt.engine, elements=70, days=2, **grant)  # type: ignore[arg-type]
    budgets.grant(rt.engine, elements=50, days=1, **grant)  # type: ignore[arg-type]
    for step in range(9):
        budgets.deduct(rt.oprf, MEMBER, 100, NOW + timedelta(seconds=10 * step))
    later = NOW + timedelta(hours=1)
    budgets.deduct(rt.oprf, MEMBER, 95, later)
    budgets.deduct(rt.oprf, MEMBER, 25, later + timedelta(seconds=60))  # 5 of the day, 20 granted
    budget = budgets.budget(rt.settings, rt.engine, "acme", later)
    assert budget["used_today"] == QUOTA
    assert [grant["used"] for grant in budget["grants"]] == [0, 20], "the grant that ends first goes first"
    budgets.deduct(rt.oprf, MEMBER, 90, later + timedelta(seconds=120))
    assert refusal(rt, 11, later + timedelta(seconds=180))[0] == "daily"
    budgets.deduct(rt.oprf, MEMBER, 10, later + timedelta(seconds=180))
    used_up = budgets.budget(rt.settings, rt.engine, "acme", later)["grants"]
    assert [(grant["elements"], grant["used"]) for grant in used_up] == [(70, 70), (50, 50)]


def test_a_grant_ends(rt: Runtime) -> None:
    budgets.grant(rt.engine, platform="acme", elements=50, reason="first tagging", days=1, now=NOW)
    for step in range(10):
        budgets.deduct(rt.oprf, MEMBER, 100, NOW + timedelta(days=1, seconds=10 * step))
    assert refusal(rt, 1, NOW + timedelta(days=1, hours=1))[0] == "daily"


def test_an_impossible_grant_is_refused(rt: Runtime) -> None:
    arguments = {"platform": "acme", "elements": 5, "reason": "because", "days": 3, "now": NOW}
    changes: list[tuple[dict[str, object], type[Exception]]] = [
        ({"platform": "nobody"}, NotFound),
        ({"elements": 0}, InvalidRequest),
        ({"elements": 10**9 + 1}, InvalidRequest),
        ({"days": 0}, InvalidRequest),
        ({"reason": ""}, InvalidRequest),
    ]
    for change, error in changes:
        with pytest.raises(error):
            budgets.grant(rt.engine, **{**arguments, **change})  # type: ignore[arg-type]
    assert budgets.budget(rt.settings, rt.engine, "acme", NOW)["grants"] == []


def test_a_clock_that_jumps_and_returns_gives_nothing(rt: Runtime) -> None:
    ahead = NOW + timedelta(hours=1)
    budgets.deduct(rt.oprf, MEMBER, BURST, ahead)
    assert refusal(rt, 1, NOW) == ("burst", 1)
    budgets.deduct(rt.oprf, MEMBER, 50, NOW + timedelta(seconds=5))
    assert refusal(rt, 1, NOW + timedelta(seconds=5))[0] == "burst", "it renews from then on, and no faster"


EXAMPLES = itertools.count()


@settings(max_examples=trials(12, 25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(-3000, 9000), st.integers(1, BURST)), min_size=1, max_size=12))
def test_no_window_holds_more_than_burst_and_rate_allow(rt: Runtime, steps: list[tuple[int, int]]) -> None:
    """For any pauses, with a clock that also goes back: the elements granted in any window are at most burst + rate x
    its length."""
    member = replace(MEMBER, platform=f"platform-{next(EXAMPLES)}")
    moment = NOW
    latest = NOW - timedelta(days=1)
    times: list[tuple[datetime, int]] = []
    for pause_ms, elements in steps:
        moment += timedelta(milliseconds=pause_ms)
        latest = max(latest, moment)
        try:
            budgets.deduct(rt.oprf, member, elements, moment)
        except QuotaExceeded:
            continue
        times.append((latest, elements))
    assert times, "the first batch fits"
    for first in range(len(times)):
        total = 0
        for when, elements in times[first:]:
            total += elements
            seconds = (when - times[first][0]).total_seconds()
            assert total <= BURST + RATE * seconds + 1e-6


@pytest.mark.both_engines
def test_threads_share_one_budget(rt: Runtime) -> None:
    granted: list[int] = []
    barrier = threading.Barrier(6)

    def run() -> None:
        barrier.wait()
        for _ in range(8):
            try:
                budgets.deduct(rt.oprf, MEMBER, 7, NOW)
                granted.append(7)
            except QuotaExceeded:
                continue

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == used(rt) == 98


@pytest.mark.both_engines
def test_processes_share_one_budget(rt: Runtime) -> None:
    environment = {**os.environ, **server_environment(rt.settings)}
    processes = [
        ForkedProcess(
            "tests.server.oprf.budget_process",
            [NOW.isoformat()],
            environment=environment,
            folder=ROOT,
            stderr=2,
            talk=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    granted = [json.loads(process.stdout.read()) for process in processes if process.stdout is not None]
    assert [process.wait(60) for process in processes] == [0, 0]
    for process in processes:
        process.close()
    assert sum(granted) == used(rt) == 99
