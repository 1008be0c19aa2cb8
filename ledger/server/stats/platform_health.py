"""Health of member platforms: their reports, outcomes of contested reports, answers to questions, and use of quotas.

Figures of contested reports are for the policy's window (24 months), because weights follow from exactly these. No
figure includes erased data. The actions suspend, resume and change of quota are here too: each is one transaction that
also writes the audit log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from ledger.errors import ConflictOfInterest, InvalidRequest, NotFound, RoleMissing
from ledger.protocol.encoding import day_floor, from_day
from ledger.rules.appeals import Action
from ledger.rules.clean_text import cleaned
from ledger.rules.deadlines import window_start
from ledger.rules.policy.values import Policy
from ledger.rules.standing import FULL_WEIGHT, group_weight
from ledger.rules.wilson import wilson_interval
from ledger.server.db.engine import snapshot_reading, writing
from ledger.server.oprf.budget_queries import GrantRow, open_grants
from ledger.server.platforms import group_weights, members
from ledger.server.platforms import queries as member_store
from ledger.server.platforms.queries import KeyRow, PlatformRow
from ledger.server.settings import Settings
from ledger.server.staff.accounts import StaffMember
from ledger.server.staff.audit import record
from ledger.server.stats import platform_health_queries as store
from ledger.server.stats.platform_health_queries import QuestionEvent, ReportFigures
from ledger.tlog.entries import PlatformState

ACTING_ROLES = ("supervisor", "admin")
LOOKUP_DAYS = 30
"""Number of days of lookups that a page shows."""

MIN_REASON_CHARS, MAX_REASON_CHARS = 3, 150


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Numbers of contested reports in the window by the newest decision about each; a report under `nothing` does not
    count in a weight."""

    upheld: int = 0
    amended: int = 0
    overturned: int = 0
    nothing: int = 0

    @property
    def resolved(self) -> int:
        """Number of reports that count in a weight."""
        return self.upheld + self.amended + self.overturned

    @property
    def overturned_share(self) -> float | None:
        """Share of overturned reports in the resolved ones; None if none is resolved."""
        return self.overturned / self.resolved if self.resolved else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of `overturned_share` (Wilson)."""
        return wilson_interval(self.overturned, self.resolved)


@dataclass(frozen=True, slots=True)
class QuestionStats:
    """Numbers of questions of reviewers in the window; times to the answer are in hours, None without an answer."""

    asked: int = 0
    answered: int = 0
    silent: int = 0
    median_hours: float | None = None
    ninth_decile_hours: float | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """A control group's weight in fortieths, and the numbers of its formula. `effective` is the weight in effect (0
    while a suspension is), `stored` the weight without a suspension, `follows` the weight that follows from all
    decisions so far. `daily`: the weight changes at UTC midnight, in eighths; else it changes at once, in
    twentieths."""

    effective: int
    stored: int
    follows: int
    resolved: int
    overturned: int
    prior: int
    floor: int
    daily: bool

    @property
    def rate(self) -> float:
        """Return the value of the formula, not rounded and without the floor."""
        cases = self.resolved + self.prior
        return (cases - self.overturned) / cases


@dataclass(frozen=True, slots=True)
class PlatformHealth:
    """The figures of one platform. `other_active` are the other members of its group that are not suspended. `lookups`
    are (UTC day, clean, disclosed) of the last 30 days, newest first."""

    row: PlatformRow
    reports: ReportFigures
    outcomes: Outcomes
    answers: QuestionStats
    weight: Weight
    group_members: tuple[str, ...]
    other_active: tuple[str, ...]
    lookups: tuple[tuple[int, int, int], ...]
    elements_today: int
    quota: int
    grants: tuple[GrantRow, ...]
    sessions_today: int
    sessions_quota: int
    keys: tuple[KeyRow, ...]
    cases_hidden: bool = False
    """Figures of cases are left out, because the reader belongs to the platform's control group."""

    @property
    def suspended(self) -> bool:
        """True if its tokens are refused."""
        return self.row.status == PlatformState.SUSPENDED

    @property
    def lookups_clean(self) -> int:
        """Number of lookups without a listing in the last 30 days."""
        return sum(clean for _, clean, _ in self.lookups)

    @property
    def lookups_disclosed(self) -> int:
        """Number of lookups that disclosed a listing in the last 30 days."""
        return sum(disclosed for _, _, disclosed in self.lookups)


def platforms(
    engine: Engine, policy: Policy, settings: Settings, now: datetime, reader_group: str | None = None
) -> list[PlatformHealth]:
    """Return the figures of all platforms, by name, read at one moment, for a reader of the control group
    `reader_group` (None: of no group). Figures of cases about that group's reports are left out. Raises
    DatabaseUnavailable."""
    with snapshot_reading(engine) as connection:
        rows = _read(connection, policy, settings, now)
    return [_without_cases(health) if health.row.control_group == reader_group else health for health in rows]


def platform(
    engine: Engine, policy: Policy, settings: Settings, now: datetime, name: str, reader_group: str | None = None
) -> PlatformHealth:
    """Return the figures of one platform, as `platforms` does. Raises NotFound, DatabaseUnavailable."""
    for health in platforms(engine, policy, settings, now, reader_group):
        if health.row.name == name:
            return health
    raise NotFound("There is no platform of this name.")


# --- actions of supervisors and admins --------------------------------------------------------------------------


def may_act(staff: StaffMember) -> bool:
    """True if this member of staff may act on platforms. Staff who belong to a control group may not: neither in favour
    of their own platforms nor against competitors."""
    return staff.role in ACTING_ROLES and staff.control_group is None


def suspend(engine: Engine, staff: StaffMember, name: str, reason: str, now: datetime, *, urgent: bool = False) -> bool:
    """Suspend a platform: refuse its tokens from now on; return False if it was suspended already. The log contains
    the suspension, the audit log also the reason. The platform's reports do not count from the next UTC midnight on,
    or from now on if it is `urgent`.

    Raises RoleMissing, ConflictOfInterest, InvalidRequest (reason), NotFound, LogFrozen, DatabaseUnavailable.
    """
    return _set_status(engine, staff, name, PlatformState.SUSPENDED, reason, now, urgent=urgent)


def resume(engine: Engine, staff: StaffMember, name: str, reason: str, now: datetime) -> bool:
    """Accept a suspended platform's tokens again; return False if it was not suspended. Raises as `suspend`."""
    return _set_status(engine, staff, name, PlatformState.ACTIVE, reason, now)


def change_quota(engine: Engine, staff: StaffMember, name: str, quota: int | None, reason: str, now: datetime) -> None:
    """Set a platform's daily quota of blinded elements (None: the service's default). Only admins may do this.

    Raises RoleMissing, ConflictOfInterest, InvalidRequest (quota, reason), NotFound, DatabaseUnavailable.
    """
    text = _check(staff, ("admin",), reason)
    with writing(engine) as connection:
        before = members.change_quota(connection, name, quota)
        detail = f"{_quota_text(before)} -> {_quota_text(quota)}: {text}"
        record(connection, now, staff.id, "quota_changed", "platform", name, detail)


def clean_reason(reason: str) -> str:
    """Return a reason on one line, without invisible characters. Raises InvalidRequest if it is too short or too
    long."""
    text = " ".join(cleaned(reason).split())
    if not MIN_REASON_CHARS <= len(text) <= MAX_REASON_CHARS:
        raise InvalidRequest(
            "A reason has 3 to 150 characters.", least_chars=MIN_REASON_CHARS, most_chars=MAX_REASON_CHARS
        )
    return text


def _set_status(
    engine: Engine,
    staff: StaffMember,
    name: str,
    status: PlatformState,
    reason: str,
    now: datetime,
    *,
    urgent: bool = False,
) -> bool:
    text = _check(staff, ACTING_ROLES, reason)
    action = "platform_suspended" if status is PlatformState.SUSPENDED else "platform_resumed"
    with writing(engine) as connection:
        if not members.change_status(connection, name, status, now, urgent=urgent):
            return False
        record(connection, now, staff.id, action, "platform", name, f"urgent: {text}" if urgent else text)
    return True


def _check(staff: StaffMember, roles: Sequence[str], reason: str) -> str:
    if staff.role not in roles:
        raise RoleMissing("Your role may not do this.")
    if staff.control_group is not None:
        raise ConflictOfInterest("Staff who belong to a control group act on no platform.")
    return clean_reason(reason)


def _quota_text(quota: int | None) -> str:
    return "default" if quota is None else str(quota)


# --- reading ---------------------------------------------------------------------------------------------------


def _read(connection: Connection, policy: Policy, settings: Settings, now: datetime) -> list[PlatformHealth]:
    today, since = day_floor(now), window_start(now, policy.weights.window_months)
    rows = member_store.read_platforms(connection)
    effective = group_weights.weights_at(connection, policy, now, rows)
    stored = group_weights.without_suspensions(connection, policy, now)
    keys = member_store.read_keys(connection)
    reports = store.report_figures(connection, now - timedelta(days=30), now - timedelta(days=90))
    outcomes = store.outcomes_by_platform(connection, since)
    groups = member_store.outcome_counts(connection, since)
    answers = question_answers(store.question_events(connection, since))
    lookups = store.lookups_by_day(connection, today - LOOKUP_DAYS + 1)
    elements = store.elements_of_day(connection, today)
    sessions = store.sessions_since(connection, from_day(today))
    figures = []
    for row in rows:
        quota = row.oprf_daily_quota_elements
        days = lookups.get(row.name, {})
        group = _outcomes(groups.get(row.control_group, {}))
        figures.append(
            PlatformHealth(
                row=row,
                reports=reports.get(row.name, ReportFigures()),
                outcomes=_outcomes(outcomes.get(row.name, {})),
                answers=answers.get(row.name, QuestionStats()),
                weight=_weight(effective[row.control_group], stored[row.control_group], group, policy),
                group_members=tuple(member.name for member in rows if member.control_group == row.control_group),
                other_active=tuple(
                    member.name
                    for member in rows
                    if member.control_group == row.control_group
                    and member.name != row.name
                    and member.status != PlatformState.SUSPENDED
                ),
                lookups=tuple((day, *days.get(day, (0, 0))) for day in range(today, today - LOOKUP_DAYS, -1)),
                elements_today=elements.get(row.name, 0),
                quota=settings.oprf_daily_quota_elements if quota is None else quota,
                grants=tuple(open_grants(connection, row.name, now)),
                sessions_today=sessions.get(row.name, 0),
                sessions_quota=settings.subject_sessions_daily_quota,
                keys=tuple(key for key in keys if key.platform == row.name),
            )
        )
    return figures


def _without_cases(health: PlatformHealth) -> PlatformHealth:
    weight = replace(health.weight, effective=0, stored=0, follows=0, resolved=0, overturned=0)
    return replace(
        health,
        reports=health.reports._replace(contested=0),
        outcomes=Outcomes(),
        answers=QuestionStats(),
        weight=weight,
        cases_hidden=True,
    )


def _outcomes(counts: Mapping[str, int]) -> Outcomes:
    return Outcomes(**{name: counts.get(name, 0) for name in ("upheld", "amended", "overturned", "nothing")})


def _weight(effective: int, stored: int, group: Outcomes, policy: Policy) -> Weight:
    rule = policy.weights
    return Weight(
        effective=effective,
        stored=stored,
        follows=group_weight(group.resolved, group.overturned, policy),
        resolved=group.resolved,
        overturned=group.overturned,
        prior=rule.prior_reports,
        floor=FULL_WEIGHT // rule.steps * rule.floor_steps,
        daily=rule.daily,
    )


def question_answers(events: Iterable[QuestionEvent]) -> dict[str, QuestionStats]:
    """Return how each platform answered questions, by its name. `events` are in order within each case. A question
    counts as asked, but neither as answered nor as silent, while it waits for an answer and if its case ended without
    one."""
    open_since: dict[int, datetime] = {}
    counts: dict[str, list[int]] = {}
    hours: dict[str, list[float]] = {}
    for event in events:
        numbers = counts.setdefault(event.platform, [0, 0, 0])
        if event.action == Action.ASK_REPORTER:
            open_since[event.case_id] = event.at
            numbers[0] += 1
            continue
        asked_at = open_since.pop(event.case_id, None)
        if asked_at is None:
            continue  # the question is from before the window
        if event.action == Action.REPORTER_SILENT:
            numbers[2] += 1
        else:
            numbers[1] += 1
            hours.setdefault(event.platform, []).append((event.at - asked_at).total_seconds() / 3600)
    return {
        name: QuestionStats(asked, answered, silent, rank(hours.get(name, ()), 0.5), rank(hours.get(name, ()), 0.9))
        for name, (asked, answered, silent) in counts.items()
    }


def rank(values: Sequence[float], share: float) -> float | None:
    """Return the smallest of `values` that at least `share` of them do not exceed (nearest-rank quantile); None without
    values."""
    if not values:
        return None
    ordered = sorted(values)
    place = -(-len(ordered) * round(share * 1000) // 1000)
    return ordered[max(1, place) - 1]
