"""The numbers of the dashboard: tiers over time, appeals by week, time to decision, open cases by age.

There are only counts, of data that is not erased: cases are deleted with their reports. Days and weeks are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from ledger.protocol.encoding import day_floor, from_day
from ledger.rules.appeals import Action
from ledger.rules.policy.values import AppealClock, Policy, Profile
from ledger.rules.standing import Tier
from ledger.server.db.engine import reading
from ledger.server.stats import queries as store

RANGES_DAYS = (30, 90, 365)
DEFAULT_RANGE_DAYS = 90
WEEK_DAYS = 7
STEP_DAYS, STEPS = 3, 16
"""Ages and times to decision are counted in 16 steps of three days; the last step includes all longer times."""


@dataclass(frozen=True, slots=True)
class TiersOfDay:
    """Listed tags by tier on a day (days since the Unix epoch); None if the day was not counted."""

    day: int
    tags: Mapping[Tier, int] | None


@dataclass(frozen=True, slots=True)
class AppealsOfWeek:
    """Numbers of events in the 7 days from `first_day` on."""

    first_day: int
    opened: int
    decided: int
    overdue: int


@dataclass(frozen=True, slots=True)
class TimeToDecision:
    """Decided rounds of one profile by the whole days that they took, in steps. A time limit ends with a day, so the
    time from opening to the limit is between the two numbers of days in `limit_days`; an extension adds
    `extension_days` to both."""

    profile: Profile
    steps: Sequence[int]
    late: int
    limit_days: tuple[int, int]
    extension_days: int

    @property
    def decided(self) -> int:
        """Number of all decided rounds."""
        return sum(self.steps)


@dataclass(frozen=True, slots=True)
class OpenCases:
    """Cases that wait for a decision, by whole days since they were opened, in steps."""

    in_time: Sequence[int]
    overdue: Sequence[int]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """All numbers of the page at the time `now`, for the last `days` days."""

    days: int
    now: datetime
    tiers: Sequence[TiersOfDay]
    appeals: Sequence[AppealsOfWeek]
    times: Sequence[TimeToDecision]
    open_cases: OpenCases


def dashboard(
    engine: Engine, policy: Policy, now: datetime, days: int = DEFAULT_RANGE_DAYS, reader_group: str | None = None
) -> Dashboard:
    """Return the numbers of the last `days` days, today included, for a reader of the control group `reader_group`
    (None: of no group). Numbers of cases leave out cases about reports of that group. Raises DatabaseUnavailable."""
    today = day_floor(now)
    weeks = -(-days // WEEK_DAYS)
    first_week = today - weeks * WEEK_DAYS + 1
    actions = (*store.OPENINGS, *store.DECISIONS, Action.OVERDUE.value)
    with reading(engine) as connection:
        counted = store.read_daily_tiers(connection, today - days + 1, today)
        events = store.case_events(connection, actions, from_day(first_week), reader_group)
        decisions = store.decisions(connection, from_day(today - days + 1), reader_group)
        waiting = store.open_cases(connection, reader_group)
    in_time, overdue = [0] * STEPS, [0] * STEPS
    for case in waiting:
        (overdue if case.overdue or case.due_at <= now else in_time)[_step(case.opened_at, now)] += 1
    return Dashboard(
        days=days,
        now=now,
        tiers=_tiers(counted, today, days),
        appeals=_weeks(events, first_week, weeks),
        times=[_times(profile, decisions, policy.appeals.clocks[profile]) for profile in Profile],
        open_cases=OpenCases(in_time, overdue),
    )


def _tiers(counted: Mapping[int, Mapping[str, int]], today: int, days: int) -> list[TiersOfDay]:
    """Return every day, or every seventh day of a long range, so that each has enough width in the plot."""
    step = WEEK_DAYS if days > 120 else 1
    newest_first = []
    for day in range(today, today - days, -step):
        tags = counted.get(day)
        newest_first.append(TiersOfDay(day, None if tags is None else {tier: tags.get(tier, 0) for tier in Tier}))
    return newest_first[::-1]


def _weeks(events: Sequence[store.DatedAction], first_day: int, weeks: int) -> list[AppealsOfWeek]:
    opened, decided, overdue = [0] * weeks, [0] * weeks, [0] * weeks
    for event in events:
        week = (day_floor(event.at) - first_day) // WEEK_DAYS
        if not 0 <= week < weeks:
            continue  # an event of a process whose clock is ahead
        kind = opened if event.action in store.OPENINGS else decided if event.action in store.DECISIONS else overdue
        kind[week] += 1
    numbers = zip(range(weeks), opened, decided, overdue, strict=True)
    return [AppealsOfWeek(first_day + week * WEEK_DAYS, *counts) for week, *counts in numbers]


def _times(profile: Profile, decisions: Sequence[store.Decision], clock: AppealClock) -> TimeToDecision:
    steps, late = [0] * STEPS, 0
    for decision in decisions:
        if decision.profile == profile:
            steps[_step(decision.opened_at, decision.decided_at)] += 1
            late += decision.overdue
    return TimeToDecision(profile, steps, late, limit_days(profile, clock), clock.extension_days)


def limit_days(profile: Profile, clock: AppealClock) -> tuple[int, int]:
    """Return the least and the greatest number of days after opening at which the time limit ends
    (`rules.deadlines.due_at`)."""
    return profile.spec.limit_days(clock)


def _step(since: datetime, until: datetime) -> int:
    whole_days = max(timedelta(0), until - since) // timedelta(days=1)
    return min(whole_days // STEP_DAYS, STEPS - 1)
