"""The clocks of appeals: the last day for a decision under each jurisdiction's statute, in calendar days of its zone.

CN 20 days (Credit Reporting Regulation art. 25), EU one month (GDPR art. 12(3)), US 30 days and 15 more after new
information from the consumer (FCRA, 15 U.S.C. 1681i(a)(1)). They never pause.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from ledger.core.policy import AppealClock, Policy, Profile


def due_at(opened_at: datetime, profile: Profile, clock: AppealClock, zone: tzinfo) -> datetime:
    """The end of the last day for a decision on a case opened at `opened_at`, counted in calendar days of `zone`.

    CN and EU: the day of receipt does not count (PRC Civil Code art. 201; Regulation (EEC, Euratom) 1182/71 art. 3).
    US: the period begins on the date of receipt, so that day is the first of the 30. A month ends on the same date of
    the next one, or on its last day where there is no such date. `zone` is the clock's `time_zone`.
    """
    first = opened_at.astimezone(zone).date()
    if clock.months:
        return _end_of(_months_later(first, clock.months), zone)
    days = clock.days - 1 if profile is Profile.US else clock.days
    return _end_of(first + timedelta(days=days), zone)


def extended_due_at(due: datetime, clock: AppealClock, zone: tzinfo) -> datetime:
    """`due` moved by the clock's extension, in calendar days of `zone`."""
    last_day = (due - timedelta(microseconds=1)).astimezone(zone).date()
    return _end_of(last_day + timedelta(days=clock.extension_days), zone)


def earlier_profile(
    profiles: Iterable[Profile], opened_at: datetime, policy: Policy, zones: Mapping[Profile, tzinfo]
) -> Profile:
    """Of several profiles that could apply, the one whose clock ends first: the person never waits longer because they
    went through another platform (docs/decisions/0009)."""
    return min(
        sorted(set(profiles)),
        key=lambda profile: due_at(opened_at, profile, policy.appeals.clocks[profile], zones[profile]),
    )


def window_start(now: datetime, months: int) -> datetime:
    """The moment `months` calendar months before `now`, in UTC: what was decided after it counts for a weight."""
    moment = now.astimezone(UTC)
    day = _months_later(moment.date(), -months)
    return datetime.combine(day, moment.timetz())


def _end_of(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(0), tzinfo=zone).astimezone(UTC)


def _months_later(day: date, months: int) -> date:
    month0 = day.month - 1 + months
    year, month = day.year + month0 // 12, month0 % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))
