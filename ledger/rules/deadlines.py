"""The clocks of appeals: the last day for a decision under each jurisdiction's statute, in calendar days of its zone.

Its length, and whether the day of receipt counts, are fields of the jurisdiction (`rules.jurisdictions`). A clock never
pauses.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from ledger.rules.policy.values import AppealClock, Policy, Profile


def due_at(opened_at: datetime, profile: Profile, clock: AppealClock, zone: tzinfo) -> datetime:
    """Return the end of the last day for a decision on a case opened at `opened_at`, in calendar days of `zone`, the
    clock's time zone.

    If the day of receipt counts, it is the first day of the period; else the next day is. A month ends on the same date
    of the next one (the day before if the day of receipt counts), or on its last day if it has no such date.
    """
    first = opened_at.astimezone(zone).date()
    includes_first = profile.spec.receipt_day_counts
    if clock.months:
        last = _months_later(first, clock.months)
        return _end_of(last - timedelta(days=1) if includes_first and last.day == first.day else last, zone)
    return _end_of(first + timedelta(days=clock.days - includes_first), zone)


def extended_due_at(due: datetime, clock: AppealClock, zone: tzinfo) -> datetime:
    """Return `due` moved by the clock's extension, in calendar days of `zone`."""
    last_day = (due - timedelta(microseconds=1)).astimezone(zone).date()
    return _end_of(last_day + timedelta(days=clock.extension_days), zone)


def earlier_profile(
    profiles: Iterable[Profile], opened_at: datetime, policy: Policy, zones: Mapping[Profile, tzinfo]
) -> Profile:
    """Return the profile, of several that could apply, whose clock ends first: the person never waits longer because
    they filed through another platform (docs/decisions/0009)."""
    return min(
        sorted(set(profiles)),
        key=lambda profile: due_at(opened_at, profile, policy.appeals.clocks[profile], zones[profile]),
    )


def window_start(now: datetime, months: int) -> datetime:
    """Return the moment `months` calendar months before `now`, in UTC. Decisions after it count for a weight."""
    moment = now.astimezone(UTC)
    day = _months_later(moment.date(), -months)
    return datetime.combine(day, moment.timetz())


def _end_of(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(0), tzinfo=zone).astimezone(UTC)


def _months_later(day: date, months: int) -> date:
    month0 = day.month - 1 + months
    year, month = day.year + month0 // 12, month0 % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))
