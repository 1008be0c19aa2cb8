"""The times at which snapshots are cut and end.

Reports begin to count, weights change and reports expire at UTC midnight. So one snapshot is cut right after each
midnight, beside those of the usual interval, and those of the day before end an hour later.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ledger.protocol.encoding import day_floor, from_day
from ledger.snapshots.manifest import MAX_LIFETIME_HOURS

EARLIER_DAY_ENDS_AFTER = timedelta(hours=1)
"""How long after UTC midnight a snapshot of the day before may still be used."""

PAUSE_BEFORE_MIDNIGHT = timedelta(minutes=10)
"""A snapshot that is due only by its age is not begun within this time before UTC midnight (or within the interval, if
that is less): a long build would delay the snapshot of the new day, which is cut within five minutes of midnight."""


def ends_at(as_of: datetime, lifetime: timedelta) -> datetime:
    """Return the `not_after` of a snapshot cut at `as_of`: after `lifetime`, and at 01:00 UTC of the next day at the
    latest.

    Raises ValueError unless the lifetime is positive and at most 24 hours.
    """
    if not timedelta(0) < lifetime <= timedelta(hours=MAX_LIFETIME_HOURS):
        raise ValueError(f"a snapshot lives between no time and {MAX_LIFETIME_HOURS} hours")
    return min(as_of + lifetime, _next_midnight(as_of) + EARLIER_DAY_ENDS_AFTER)


def is_due(newest: datetime, now: datetime, interval: timedelta) -> bool:
    """True if another snapshot is due at `now`, when the newest one was cut at `newest`: after `interval`, and at the
    first moment of another UTC day."""
    if day_floor(newest) < day_floor(now):
        return True
    pause = min(PAUSE_BEFORE_MIDNIGHT, interval)
    return newest + interval <= now and now < _next_midnight(now) - pause


def _next_midnight(moment: datetime) -> datetime:
    """Return the first UTC midnight after `moment`."""
    return from_day(day_floor(moment) + 1)
