"""Periodic jobs: the deadlines of appeals, erasing due reports, deleting old idempotency responses, records of lookups
and webhooks, ending a key rotation whose grace is over, counting tags by tier once a day.

Each job is in a table with its name, and runs independently. A job that fails is logged by its name
(`maintenance_job_failed`, or `maintenance_job_postponed` in an outage) and repeated soon, and all others run normally.
The jobs for deadlines of law and policy have their own thread, so that no count and no erasure delays them.

Every API process runs all jobs. Two at once do no harm: the log's head serialises them, and rows that one erased are
not returned to the other. No job decides anything about a person beyond the decisions of the policy.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ledger.errors import LedgerError
from ledger.server.appeals.attachments import sweep
from ledger.server.appeals.case_changes import run_clocks
from ledger.server.appeals.filing import forget_counts
from ledger.server.appeals.sessions import forget_sessions
from ledger.server.appeals.weights import refresh_weights
from ledger.server.context import Context
from ledger.server.db.engine import writing
from ledger.server.lookups.disclosures import count_crowded, count_old
from ledger.server.pictures.search import PictureIndex
from ledger.server.pictures.search import forget_searches as forget_picture_searches
from ledger.server.process.supervision import Worker
from ledger.server.records.idempotency import IDEMPOTENCY_HOURS, forget_responses
from ledger.server.reports.erasure import erase_due, forget_disclosures
from ledger.server.reports.expiries import shorten_due
from ledger.server.reports.held import void_due
from ledger.server.reports.malformed import START, take_back_malformed
from ledger.server.rotation.retire import finish_due
from ledger.server.settings import Settings
from ledger.server.stats.tag_standings import record_daily_tiers
from ledger.server.webhooks import emit as webhooks

RETRY_SECONDS = 60.0
"""When a failed job is repeated, if it is not due sooner."""

STUCK_SECONDS = 3600.0
"""A round of maintenance that takes longer than this is shown as stuck: a count of 10^7 tags takes a quarter of it."""

CLOCKS_STUCK_SECONDS = 600.0

FAILING_AFTER = 2
"""A job counts as failing after this number of failures in a row, which are up to RETRY_SECONDS apart: a single failure
may be a short outage."""

_LOOK_SECONDS = 5.0
"""The maximum interval between two checks of the table for due jobs."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """One kind of maintenance: its name in logs and metrics, how often it runs, and its function; `run` returns the
    number of its changes. `succeeded_at`, `due_at` and `failures` (in a row) are as of the monotonic clock."""

    name: str
    seconds: float
    run: Callable[[], int]
    succeeded_at: float | None = None
    due_at: float = 0.0
    failures: int = 0
    done: int = 0
    """The result of the last run."""

    def failing(self, age_seconds: float) -> bool:
        """True if it has failed for a while: it failed again when it was repeated, or it failed and its repetition is
        overdue. `age_seconds` is the time since its last success."""
        overdue = self.seconds + 2 * RETRY_SECONDS
        return self.failures >= FAILING_AFTER or (self.failures > 0 and age_seconds > overdue)


class Maintenance:
    """Two threads: one for the deadlines, one for all other jobs. Each runs all its jobs at its start."""

    def __init__(self, context: Context, settings: Settings, pictures: PictureIndex) -> None:
        self._settings, self._context, self._pictures = settings, context, pictures
        self._engine, self._now = context.engine, context.now
        self._checked_to = START
        """The last report whose elements were checked. Newer reports are checked on arrival."""
        self._stop = threading.Event()
        self._first_clocks = threading.Event()
        self.started_at = time.monotonic()
        clock, often = settings.appeal_clock_seconds, settings.maintenance_interval_seconds
        self.clock_jobs: Sequence[Job] = (
            Job("appeal_clocks", clock, self._repeat(lambda: run_clocks(context, self._stop.is_set))),
            Job("held_reports", clock, lambda: void_due(context, self._stop.is_set)),
            Job("group_weights", clock, lambda: refresh_weights(self._engine, context.policy, self._now())),
            Job("crowded_lookups", clock, lambda: count_crowded(self._engine, whole=False, stopped=self._stop.is_set)),
        )
        self.upkeep_jobs: Sequence[Job] = (
            Job("malformed_reports", often, self._take_back_malformed),
            Job("shortened_expiries", clock, lambda: shorten_due(context, self._stop.is_set)),
            Job("erasure", often, lambda: erase_due(context, settings, self._stop.is_set)),
            Job("old_lookups", often, lambda: count_old(self._engine, self._now(), self._stop.is_set)),
            Job(
                "all_crowded_lookups", often, lambda: count_crowded(self._engine, whole=True, stopped=self._stop.is_set)
            ),
            Job("disclosures", often, self._repeat(lambda: forget_disclosures(self._engine, self._now()))),
            Job("picture_searches", often, self._repeat(lambda: forget_picture_searches(self._engine, self._now()))),
            Job("pictures", often, lambda: int(self._pictures.refresh())),
            Job("subject_sessions", often, self._repeat(lambda: forget_sessions(self._engine, self._now()))),
            Job("filing_counts", often, _nothing(lambda: forget_counts(self._engine, self._now()))),
            Job("attachments", often, lambda: sweep(self._engine, settings, self._now())),
            Job("webhooks", often, self._repeat(lambda: webhooks.forget(self._engine, self._now()))),
            Job("idempotency_answers", often, _nothing(self._forget_responses)),
            Job("key_rotation", often, _nothing(lambda: finish_due(settings, self._engine, self._now))),
            Job("daily_tiers", often, self._count_tiers),
        )
        self.workers = (
            Worker(
                "clocks",
                self._clocks_turn,
                seconds=clock,
                patience_seconds=max(CLOCKS_STUCK_SECONDS, 3 * clock),
            ),
            Worker("upkeep", self._upkeep_turn, seconds=_LOOK_SECONDS, patience_seconds=STUCK_SECONDS),
        )

    @property
    def jobs(self) -> Sequence[Job]:
        """Return all jobs, in the order of a round."""
        return (*self.clock_jobs, *self.upkeep_jobs)

    def start(self) -> Maintenance:
        """Start both threads."""
        for worker in self.workers:
            worker.start()
        return self

    def stop(self) -> None:
        """Request the end of the rounds, also within a long job. Returns at once."""
        self._stop.set()
        for worker in self.workers:
            worker.stop()

    def close(self, timeout_seconds: float | None = None) -> None:
        """Stop after the running jobs. Long jobs check often whether they should stop."""
        self.stop()
        for worker in self.workers:
            worker.close(timeout_seconds)

    def round(self) -> int:
        """Run every job once, and return the number of erased reports. The deadlines of appeals come first: a case that
        ends may allow the erasure of its report. The first error is raised after all jobs have run."""
        self._run(self.jobs)
        return next(job.done for job in self.upkeep_jobs if job.name == "erasure")

    def clocks(self) -> int:
        """Apply the due deadlines of appeals, count lookups where one identifier has very many, and return the number
        of changed cases. Raises the first error after all these jobs have run."""
        self._run(self.clock_jobs)
        return self.clock_jobs[0].done

    def ages(self) -> dict[str, float]:
        """Return the seconds since each job's last success (since the start before the first one), by name."""
        now = time.monotonic()
        return {job.name: now - (job.succeeded_at or self.started_at) for job in self.jobs}

    def failing(self, jobs: Sequence[Job]) -> list[str]:
        """Return the names of those of `jobs` that have failed for a while, in order (see `Job.failing`)."""
        ages = self.ages()
        return [job.name for job in jobs if job.failing(ages[job.name])]

    # --- running --------------------------------------------------------------------------------------------------

    def _run(self, jobs: Sequence[Job]) -> None:
        """Run these jobs independently of each other. Raises the first error after the last job."""
        first: Exception | None = None
        for job in jobs:
            if self._stop.is_set():
                break
            error = self._attempt(job)
            first = first or error
        if first is not None:
            raise first

    def _attempt(self, job: Job) -> Exception | None:
        """Run one job and record its result. Return the error that it raised, None if there was none."""
        job.done = 0
        try:
            job.done = job.run()
        except Exception as error:
            job.failures += 1
            job.due_at = time.monotonic() + min(job.seconds, RETRY_SECONDS)
            extra = {"job": job.name, "failures": job.failures}
            if isinstance(error, LedgerError):
                log.warning("maintenance_job_postponed %s %s", job.name, error.code, extra=extra)
            else:
                log.exception("maintenance_job_failed %s", job.name, extra=extra)
            return error
        if job.name == "erasure" and job.done:
            log.info("reports_erased", extra={"reports": job.done})
        job.failures, job.succeeded_at = 0, time.monotonic()
        job.due_at = job.succeeded_at + job.seconds
        return None

    def _clocks_turn(self) -> float:
        """Run the jobs for deadlines, and return the seconds until the next turn. A turn is due at the moment when
        another policy comes into effect, because the weights of control groups follow from it."""
        for job in self.clock_jobs:
            if not self._stop.is_set():
                self._attempt(job)
        self._first_clocks.set()
        now, seconds = self._now(), self._settings.appeal_clock_seconds
        following = self._context.policies.timeline.next_after(now)
        return seconds if following is None else min(seconds, (following.in_effect_at - now).total_seconds() + 0.001)

    def _upkeep_turn(self) -> float:
        """Run the due jobs, and return the seconds until the next one is due. A case that its deadline ends may allow
        the erasure of its report, so the first round waits for the first round of deadlines, up to a limit."""
        if not self._first_clocks.is_set():
            self._first_clocks.wait(_LOOK_SECONDS)
        for job in self.upkeep_jobs:
            if self._stop.is_set():
                return 0.0
            if time.monotonic() >= job.due_at:
                self._attempt(job)
        return max(0.05, min(_LOOK_SECONDS, min(job.due_at for job in self.upkeep_jobs) - time.monotonic()))

    def _repeat(self, piece: Callable[[], int]) -> Callable[[], int]:
        """Return a job that calls `piece` until nothing is left or the process stops, and returns the sum."""

        def run() -> int:
            total = 0
            while not self._stop.is_set() and (done := piece()):
                total += done
            return total

        return run

    # --- jobs -----------------------------------------------------------------------------------------------------

    def _take_back_malformed(self) -> int:
        self._checked_to, changed = take_back_malformed(self._context, self._checked_to, self._stop.is_set)
        return len(changed)

    def _count_tiers(self) -> int:
        counts = record_daily_tiers(
            self._engine, self._context.policy, self._now(), stopped=self._stop.is_set, sleep=self._sleep
        )
        return 0 if counts is None else sum(counts.values())

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _forget_responses(self) -> None:
        with writing(self._engine) as connection:
            forget_responses(connection, self._now() - timedelta(hours=IDEMPOTENCY_HOURS))


def _nothing(run: Callable[[], None]) -> Callable[[], int]:
    """Return a job that reports no number of changes."""

    def counted() -> int:
        run()
        return 0

    return counted
