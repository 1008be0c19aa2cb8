"""The numbers of the dashboard: tiers over time, appeals by week, time to decision, open cases by age.

Counts only, and of what is still there: cases go when their reports are erased. Days and weeks are UTC.
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
"""Ages and times to decision are counted in 16 steps of three days; the last one takes everything longer too."""


@dataclass(frozen=True, slots=True)
class TiersOfDay:
    """Listed tags by tier when the day was counted; None where nobody counted."""

    day: int
    tags: Mapping[Tier, int] | None


@dataclass(frozen=True, slots=True)
class AppealsOfWeek:
    """What happened in the 7 days from `first_day` on."""

    first_day: int
    opened: int
    decided: int
    overdue: int


@dataclass(frozen=True, slots=True)
class TimeToDecision:
    """Decided rounds of one profile by whole days taken, in steps. A limit is the end of a day, so counted
    from the hour of opening it lies between two numbers of days; `extension_days` is what an extension adds to both."""

    profile: Profile
    steps: Sequence[int]
    late: int
    limit_days: tuple[int, int]
    extension_days: int

    @property
    def decided(self) -> int:
        """All of them."""
        return sum(self.steps)


@dataclass(frozen=True, slots=True)
class OpenCases:
    """Cases that wait for a decision, by whole days since they were opened, in steps."""

    in_time: Sequence[int]
    overdue: Sequence[int]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Everything, as of `now`, over the last `days`."""

    days: int
    now: datetime
    tiers: Sequence[TiersOfDay]
    appeals: Sequence[AppealsOfWeek]
    times: Sequence[TimeToDecision]
    open_cases: OpenCases


def dashboard(
    engine: Engine, policy: Policy, now: datetime, days: int = DEFAULT_RANGE_DAYS, reader_group: str | None = None
) -> Dashboard:
    """The numbers of the last `days` days, today included, for a reader of the control group `reader_group` (None: of
    no group): cases about reports of that group are in no number of cases. Raises DatabaseUnavailable."""
    today = day_floor(now)
    weeks = -(-days // WEEK_DAYS)
    first_week = today - weeks * WEEK_DAYS + 1
    actions = (*store.OPENINGS, *store.DECISIONS, Action.OVERDUE.value)
    with reading(engine) as connection:
        counted = store.read_daily_tiers(connection, today - days + 1, today)
        happenings = store.happenings(connection, actions, from_day(first_week), reader_group)
        decisions = store.decisions(connection, from_day(today - days + 1), reader_group)
        waiting = store.open_cases(connection, reader_group)
    in_time, overdue = [0] * STEPS, [0] * STEPS
    for case in waiting:
        (overdue if case.overdue or case.due_at <= now else in_time)[_step(case.opened_at, now)] += 1
    return Dashboard(
        days=days,
        now=now,
        tiers=_tiers(counted, today, days),
        appeals=_weeks(happenings, first_week, weeks),
        times=[_times(profile, decisions, policy.appeals.clocks[profile]) for profile in Profile],
        open_cases=OpenCases(in_time, overdue),
    )


def _tiers(counted: Mapping[int, Mapping[str, int]], today: int, days: int) -> list[TiersOfDay]:
    """Every day, or every seventh of a long range, so that each has room in the plot."""
    step = WEEK_DAYS if days > 120 else 1
    found = []
    for day in range(today, today - days, -step):
        tags = counted.get(day)
        found.append(TiersOfDay(day, None if tags is None else {tier: tags.get(tier, 0) for tier in Tier}))
    return found[::-1]


def _weeks(happenings: Sequence[store.Happening], first_day: int, weeks: int) -> list[AppealsOfWeek]:
    opened, decided, overdue = [0] * weeks, [0] * weeks, [0] * weeks
    for one in happenings:
        week = (day_floor(one.at) - first_day) // WEEK_DAYS
        if not 0 <= week < weeks:
            continue  # of a clock that is ahead of ours
        kind = opened if one.action in store.OPENINGS else decided if one.action in store.DECISIONS else overdue
        kind[week] += 1
    numbers = zip(range(weeks), opened, decided, overdue, strict=True)
    return [AppealsOfWeek(first_day + week * WEEK_DAYS, *counts) for week, *counts in numbers]


def _times(profile: Profile, decisions: Sequence[store.Decision], clock: AppealClock) -> TimeToDecision:
    steps, late = [0] * STEPS, 0
    for one in decisions:
        if one.profile == profile:
            steps[_step(one.opened_at, one.decided_at)] += 1
            late += one.overdue
    return TimeToDecision(profile, steps, late, limit_days(profile, clock), clock.extension_days)


def limit_days(profile: Profile, clock: AppealClock) -> tuple[int, int]:
    """Between how many days after opening the clock ends (`rules.deadlines.due_at`)."""
    return profile.spec.limit_days(clock)


def _step(since: datetime, until: datetime) -> int:
    whole_days = max(timedelta(0), until - since) // timedelta(days=1)
    return min(whole_days // STEP_DAYS, STEPS - 1)
