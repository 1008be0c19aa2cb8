"""The heartbeat of an API process: background checks whether the database answers reads and writes.

There are two threads, because each may hang: one reads a few rows every READ_SECONDS, the other writes one row every
WRITE_SECONDS. Their last results are kept in memory, with their times, so that `/readyz` and `/metrics` answer within
milliseconds whatever the database does. The heartbeat has its own connections, so that requests which hang in theirs do
not delay it.

The reading beat also compares the process's clock with the database's: if a host's clock is wrong, tokens are refused
and entries get wrong times (log event `clock_differs`).
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from ledger.server.db.engine import reading, writing
from ledger.server.log import queries as log_store
from ledger.server.log.publisher_lease import LEASE_SECONDS
from ledger.server.process import queries as store
from ledger.server.process.supervision import Worker
from ledger.server.records import case_queries as appeal_store

READ_SECONDS = 1.0
WRITE_SECONDS = 2.0

STALE_SECONDS = 6.0
"""If no beat has succeeded for this time, the database hangs. A beat that fails is reported at once."""

CLOCK_TOLERANCE_SECONDS = 5.0

_COUNT_SECONDS = 15.0
"""How often appeals are counted. The other rows are cheap to read."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """The results of the last reading beat that succeeded, at `at` (monotonic)."""

    at: float
    size: int
    frozen: str | None
    checkpoint_size: int
    checkpoint_age_seconds: float | None
    publisher_age_seconds: float | None
    """Time since a publisher renewed its lease; None when no publisher holds one."""
    publishers_standing_by: int
    clock_differs_seconds: float
    """The process's clock minus the database's."""
    appeals_open: int
    appeals_overdue: int


class Heartbeat:
    """The two threads of the module docstring. `clock` is this machine's wall clock; `monotonic` counts seconds."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._clock, self._monotonic = engine, clock, monotonic
        self._process, self._host = secrets.token_hex(16), socket.gethostname()
        self._seen: Seen | None = None
        self._counted_at = -_COUNT_SECONDS
        self._read_failed = self._write_failed = False
        self._wrote_at: float | None = None
        self._unsigned_since: float | None = None
        self._unsigned_size = 0
        self._clock_reported = False
        self.workers = (
            Worker("heartbeat-read", self._read_turn, seconds=READ_SECONDS, patience_seconds=STALE_SECONDS),
            Worker("heartbeat-write", self._write_turn, seconds=WRITE_SECONDS, patience_seconds=STALE_SECONDS),
        )

    def start(self) -> Heartbeat:
        """Start both beats in the background. Returns at once."""
        for worker in self.workers:
            worker.start()
        return self

    def first(self) -> None:
        """Run both beats once, before `start`. Raises DatabaseUnavailable when the database does not answer reads; a
        failed commit is only recorded."""
        self.read()
        try:
            self.write()
        except Exception:
            self._write_failed = True
            log.exception("heartbeat_not_written")

    def close(self, timeout_seconds: float | None = None) -> None:
        """Stop both beats, and delete this process's heartbeat row."""
        for worker in self.workers:
            worker.stop()
        ended = [worker.close(timeout_seconds) for worker in self.workers]
        if all(ended) and self.writes():
            try:
                with writing(self._engine) as connection:
                    store.forget(connection, self._process)
            except Exception:
                log.info("heartbeat_not_forgotten")  # its row is deleted when it is old
        self._engine.dispose()

    # --- results --------------------------------------------------------------------------------------------------

    def seen(self) -> Seen | None:
        """Return the results of the last reading beat; None before the first one."""
        return self._seen

    def read_age(self) -> float | None:
        """Return the seconds since a reading beat succeeded; None before the first."""
        seen = self._seen
        return None if seen is None else self._monotonic() - seen.at

    def write_age(self) -> float | None:
        """Return the seconds since a writing beat succeeded; None before the first."""
        return None if self._wrote_at is None else self._monotonic() - self._wrote_at

    def reads(self) -> bool:
        """True if the database answers reads: the last beat did not fail, and the last success is not stale."""
        age = self.read_age()
        return not self._read_failed and age is not None and age <= STALE_SECONDS

    def writes(self) -> bool:
        """True if the database commits."""
        age = self.write_age()
        return not self._write_failed and age is not None and age <= STALE_SECONDS

    def publisher(self) -> bool | None:
        """True if a publisher holds the lease and renews it; None while the database does not answer."""
        seen = self._seen
        if seen is None or not self.reads():
            return None
        return seen.publisher_age_seconds is not None and seen.publisher_age_seconds <= LEASE_SECONDS

    def unsigned_seconds(self) -> float:
        """Return for how long there have been entries that no published checkpoint covers."""
        since = self._unsigned_since
        return 0.0 if since is None else self._monotonic() - since

    # --- beating --------------------------------------------------------------------------------------------------

    def read(self) -> Seen:
        """Run one reading beat, and return its results. Raises DatabaseUnavailable."""
        started = self._monotonic()
        count = started - self._counted_at >= _COUNT_SECONDS
        with reading(self._engine) as connection:
            before = self._clock()
            now = store.database_now(connection)
            after = self._clock()
            head = log_store.read_head(connection)
            checkpoint = store.checkpoint_state(connection)
            lease = store.read_lease(connection)
            processes = store.read_processes(connection, now - timedelta(seconds=LEASE_SECONDS))
            appeals = appeal_store.open_counts(connection) if count else None
        self._counted_at = started if count else self._counted_at
        size, signed = 0 if head is None else head.size, 0 if checkpoint is None else checkpoint[0]
        held = lease is not None and lease.holder is not None
        last = self._seen
        seen = Seen(
            at=started,
            size=size,
            frozen="there is no log" if head is None else head.frozen,
            checkpoint_size=signed,
            checkpoint_age_seconds=None if checkpoint is None else max(0.0, (now - checkpoint[1]).total_seconds()),
            publisher_age_seconds=(now - lease.renewed_at).total_seconds() if lease is not None and held else None,
            publishers_standing_by=sum(
                process.role == "publisher" and process.state.startswith("stands by") for process in processes
            ),
            clock_differs_seconds=(before + (after - before) / 2 - now).total_seconds(),
            appeals_open=0 if last is None else last.appeals_open,
            appeals_overdue=0 if last is None else last.appeals_overdue,
        )
        if appeals is not None:
            seen = replace(seen, appeals_open=sum(appeals), appeals_overdue=appeals[1])
        self._note_unsigned(size, signed, started)
        self._note_clock(seen.clock_differs_seconds)
        self._seen, self._read_failed = seen, False
        return seen

    def write(self) -> None:
        """Run one writing beat. Raises DatabaseUnavailable."""
        started = self._monotonic()
        with writing(self._engine) as connection:
            store.beat(connection, self._process, "api", self._host)
        self._wrote_at, self._write_failed = started, False

    def _read_turn(self) -> float | None:
        age = self.read_age()
        if age is not None and age < READ_SECONDS / 2 and not self._read_failed:
            return READ_SECONDS - age  # `first` has just read
        try:
            self.read()
        except BaseException:
            self._read_failed = True  # the worker logs it, and tries again within a second
            raise
        return None

    def _write_turn(self) -> float | None:
        age = self.write_age()
        if age is not None and age < WRITE_SECONDS / 2 and not self._write_failed:
            return WRITE_SECONDS - age
        try:
            self.write()
        except BaseException:
            self._write_failed = True
            raise
        return None

    def _note_unsigned(self, size: int, signed: int, now: float) -> None:
        """Record since when the oldest entry that no checkpoint covers has waited."""
        if size <= signed:
            self._unsigned_since = None
        elif self._unsigned_since is None or signed >= self._unsigned_size:
            self._unsigned_since, self._unsigned_size = now, size

    def _note_clock(self, seconds: float) -> None:
        differs = abs(seconds) > CLOCK_TOLERANCE_SECONDS
        if differs and not self._clock_reported:
            log.warning("clock_differs", extra={"seconds": round(seconds, 1)})
        self._clock_reported = differs
