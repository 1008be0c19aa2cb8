"""Alarms about platforms that may be enumerating people, as log events for the operator.

**misses**: nearly all lookups of a platform on one day are about people without reports. Refund reviews meet listed
people far more often than made-up numbers do. **bucket_scan**: a platform fetched a large share of a snapshot's buckets
one by one, instead of downloading them all. An alarm blocks nothing: it is a reason to ask the platform, and its log
event holds the platform and figures only.

Fetched buckets are counted for this process alone. The alarm about misses reads the counts that all processes share.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from ledger.protocol.encoding import day_floor
from ledger.server.db.engine import reading
from ledger.server.lookups.queries import read_counts
from ledger.server.process.metrics import Metrics
from ledger.server.process.supervision import Worker
from ledger.server.settings import Settings

CHECK_SECONDS = 60.0
"""How often the shared counts are read."""

MIN_BUCKETS = 64
"""Snapshots with fewer buckets raise no alarm: every client fetches them as a whole."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Fetched:
    """The buckets of a snapshot that a platform has fetched: one bit each, and how many are set."""

    seen: bytearray
    distinct: int = 0


class EnumerationAlarms:
    """Detects signs of enumeration (see the module docstring). Thread-safe."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._now = now
        self._lock = threading.Lock()
        self._fetched: dict[tuple[str, bytes], _Fetched] = {}
        self._raised: set[tuple[str, str, object]] = set()
        self.worker = Worker(
            "watch",
            self.check_misses,
            seconds=CHECK_SECONDS,
            delay_seconds=CHECK_SECONDS,
            patience_seconds=5 * CHECK_SECONDS,
        ).start()

    def close(self, timeout_seconds: float | None = None) -> None:
        """Stop reading the shared counts."""
        self.worker.close(timeout_seconds)

    def bucket_fetched(self, platform: str, version: bytes, prefix: int, bits: int) -> None:
        """Count that bucket `prefix` of a snapshot with 2^`bits` buckets was served, and raise the alarm where it is
        due. Which buckets a platform fetched is kept in memory only."""
        size = 1 << bits
        self._metrics.count_bucket(platform)
        with self._lock:
            fetched = self._fetched.get((platform, version))
            if fetched is None:
                # Fetches of a platform's older snapshots do not matter any longer.
                for key in [key for key in self._fetched if key[0] == platform]:
                    del self._fetched[key]
                fetched = self._fetched[platform, version] = _Fetched(bytearray(max(1, size // 8)))
            bit = 1 << (prefix & 7)
            if fetched.seen[prefix >> 3] & bit:
                return
            fetched.seen[prefix >> 3] |= bit
            fetched.distinct += 1
            distinct = fetched.distinct
        if size >= MIN_BUCKETS and distinct >= self._settings.alarm_bucket_share * size:
            self._raise("bucket_scan", platform, version, distinct=distinct, buckets=size)

    def check_misses(self) -> None:
        """Raise the alarm about misses for the platforms for which it is due today. Raises DatabaseUnavailable."""
        day = day_floor(self._now())
        with reading(self._engine) as connection:
            counts = read_counts(connection, day)
        for platform, clean, disclosed in counts:
            total = clean + disclosed
            if total >= self._settings.alarm_lookups_min and clean > self._settings.alarm_miss_share * total:
                self._raise("misses", platform, day, lookups=total, disclosed=disclosed)

    def _raise(self, kind: str, platform: str, period: object, **figures: int) -> None:
        """Log the alarm, once for each platform and period (a UTC day or a snapshot)."""
        with self._lock:
            if (kind, platform, period) in self._raised:
                return
            remaining = {alarm for alarm in self._raised if alarm[:2] != (kind, platform)}
            self._raised = remaining | {(kind, platform, period)}
        self._metrics.count_alarm(platform, kind)
        log.warning(f"alarm_{kind}", extra={"platform": platform, **figures})
