"""Maintenance: a job that fails stops no other, the legal deadlines never wait, and the end of a server is not
delayed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ledger.errors import DatabaseUnavailable
from ledger.server.db.engine import reading
from ledger.server.jobs import maintenance as module
from ledger.server.jobs.maintenance import Job, Maintenance
from ledger.server.jobs.readiness import readiness, write_readiness
from ledger.server.stats import tag_standings
from tests.processes import until
from tests.server.conftest import LedgerFixture

pytestmark = pytest.mark.one_engine

CLOCKS = ("appeal_clocks", "held_reports", "group_weights", "crowded_lookups")
JOBS = (
    *CLOCKS, "malformed_reports", "shortened_expiries", "erasure", "old_lookups", "all_crowded_lookups", "disclosures",
    "picture_searches", "pictures", "subject_sessions", "filing_counts", "attachments", "webhooks",
    "idempotency_answers", "key_rotation", "daily_tiers",
)  # fmt: skip


def new_maintenance(ledger: LedgerFixture) -> Maintenance:
    rt = ledger.rt
    return Maintenance(rt.context, rt.settings, rt.pictures.index)


def test_a_job_that_fails_stops_no_other(ledger: LedgerFixture, caplog: pytest.LogCaptureFixture) -> None:
    """In turn each job gets a query that the database refuses; all others are run in the same round."""
    maintenance = new_maintenance(ledger)
    assert tuple(job.name for job in maintenance.jobs) == JOBS

    def broken() -> int:
        with reading(ledger.rt.engine) as connection:
            return int(connection.execute(text("SELECT nothing FROM no_such_table")).scalar_one())

    for job in maintenance.jobs:
        for other in maintenance.jobs:
            other.succeeded_at = None
        sound, job.run = job.run, broken
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(DBAPIError):
            maintenance.round()
        job.run = sound
        assert [other.name for other in maintenance.jobs if other.succeeded_at is None] == [job.name]
        assert [record.message for record in caplog.records] == [f"maintenance_job_failed {job.name}"]
    maintenance.round()
    assert {job.failures for job in maintenance.jobs} == {0}


def test_an_outage_of_one_job_is_a_warning_and_is_tried_again_soon(
    ledger: LedgerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    maintenance = new_maintenance(ledger)

    def away() -> int:
        raise DatabaseUnavailable("away")

    job = next(job for job in maintenance.upkeep_jobs if job.name == "erasure")
    job.run = away
    with caplog.at_level(logging.WARNING), suppress(DatabaseUnavailable):
        maintenance.round()
    assert [record.message for record in caplog.records] == ["maintenance_job_postponed erasure database_unavailable"]
    assert job.due_at - time.monotonic() <= module.RETRY_SECONDS < job.seconds
    assert maintenance.ages()["erasure"] >= maintenance.ages()["daily_tiers"]


@contextmanager
def started(maintenance: Maintenance) -> Iterator[Maintenance]:
    maintenance.start()
    try:
        yield maintenance
    finally:
        maintenance.close(5)


def test_the_clocks_go_on_while_other_upkeep_hangs(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ledger.rt.settings.model_copy(update={"appeal_clock_seconds": 0.02})
    maintenance = Maintenance(ledger.rt.context, settings, ledger.rt.pictures.index)
    gate, runs = threading.Event(), [0]

    def hang() -> int:
        gate.wait(60)
        return 0

    def count() -> int:
        runs[0] += 1
        return 0

    maintenance.upkeep_jobs = (Job("hangs", 1, hang),)
    maintenance.clock_jobs = (Job("counts", 0.02, count),)
    with started(maintenance):
        until(lambda: runs[0] > 5, "the clocks waited")
        gate.set()


def test_readiness_names_a_job_that_fails_again(ledger: LedgerFixture) -> None:
    """The first failure may be a short outage. From the second until a success the check of its thread and the job's
    name show it; lookups are answered all the same."""
    rt = ledger.rt
    maintenance = rt.maintenance
    with started(maintenance):
        until(lambda: all(job.succeeded_at is not None for job in maintenance.jobs), "the first round did not end")
        for check, jobs in (("clocks", maintenance.clock_jobs), ("upkeep", maintenance.upkeep_jobs)):
            job = jobs[-1]
            sound, job.run = job.run, lambda: 1 // 0
            for failing in (False, True):
                maintenance._attempt(job)
                for said in (readiness(rt.process), write_readiness(rt.process)):
                    assert said["checks"][check] == ("failing" if failing else "ok")
                    assert said["failing_jobs"] == ([job.name] if failing else [])
            job.run = sound
            maintenance._attempt(job)
            assert (readiness(rt.process)["checks"][check], readiness(rt.process)["failing_jobs"]) == ("ok", [])


def test_a_failure_whose_repetition_is_overdue_counts_as_failing() -> None:
    job = Job("slow", 3600.0, lambda: 0, failures=1)
    assert not job.failing(3600.0)
    assert job.failing(3600.0 + 2 * module.RETRY_SECONDS + 1)
    job.failures = 0
    assert not job.failing(1e6), "a job that runs for long is its thread's matter"


def test_a_count_that_runs_does_not_hold_up_the_end(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daily count checks the stop flag: it ends within a moment, and writes nothing."""
    for number in range(4):
        ledger.report(ledger.acme, ledger.person(number))
    monkeypatch.setattr(tag_standings, "PAUSE_TAGS", 1)
    monkeypatch.setattr(tag_standings, "PAUSE_SHARE", 1e6)  # it would sleep for minutes after each tag
    maintenance = new_maintenance(ledger)
    maintenance.upkeep_jobs = tuple(job for job in maintenance.upkeep_jobs if job.name == "daily_tiers")
    counting = threading.Event()
    sleep = maintenance._sleep

    def noticed(seconds: float) -> None:
        counting.set()
        sleep(seconds)

    monkeypatch.setattr(maintenance, "_sleep", noticed)
    with started(maintenance):
        assert counting.wait(10)
        began = time.monotonic()
        maintenance.close(10)
        assert time.monotonic() - began < 3
    with reading(ledger.rt.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM daily_tiers")).scalar_one() == 0
