"""How member platforms do: what they report, how it fares when contested, how they answer, what they use.

Figures of what was contested are of the policy's window (24 months), because a weight follows from exactly those. What
is erased is in no figure. Suspending, resuming and quotas are here too: each is one transaction with its line in the
audit log.
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
from ledger.server.oprf.budgets import GrantRow, open_grants
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
"""Days of lookups that a page shows."""

MIN_REASON_CHARS, MAX_REASON_CHARS = 3, 150


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How contested reports fared in the window, the newest decision of each; `nothing` counts for no weight."""

    upheld: int = 0
    amended: int = 0
    overturned: int = 0
    nothing: int = 0

    @property
    def resolved(self) -> int:
        """Those that a weight is made of."""
        return self.upheld + self.amended + self.overturned

    @property
    def overturned_share(self) -> float | None:
        """Of the resolved ones; None where there is none."""
        return self.overturned / self.resolved if self.resolved else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % bounds of that share (Wilson)."""
        return wilson_interval(self.overturned, self.resolved)


@dataclass(frozen=True, slots=True)
class QuestionStats:
    """How questions of reviewers were answered in the window; times in hours, None where nothing was answered."""

    asked: int = 0
    answered: int = 0
    silent: int = 0
    median_hours: float | None = None
    ninth_decile_hours: float | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """A control group's weight in fortieths: in effect (0 while its reports carry none), what it is without a
    suspension, and what follows from all decisions so far; and the numbers of the formula. `daily`: it is taken anew at
    each UTC midnight, in eighths; else it follows at once, in twentieths."""

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
        """The formula itself, before anything is rounded and without the floor."""
        cases = self.resolved + self.prior
        return (cases - self.overturned) / cases


@dataclass(frozen=True, slots=True)
class PlatformHealth:
    """One platform. `other_active` are members of its group, but for it, that are not suspended. `lookups` are (UTC
    day, clean, disclosed) of the last 30 days, the newest first."""

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
        """Whether its tokens are refused."""
        return self.row.status == PlatformState.SUSPENDED

    @property
    def lookups_clean(self) -> int:
        """Of the last 30 days."""
        return sum(clean for _, clean, _ in self.lookups)

    @property
    def lookups_disclosed(self) -> int:
        """Of the last 30 days."""
        return sum(disclosed for _, _, disclosed in self.lookups)


def platforms(
    engine: Engine, policy: Policy, settings: Settings, now: datetime, reader_group: str | None = None
) -> list[PlatformHealth]:
    """All platforms, by name, as of one moment, for a reader of the control group `reader_group` (None: of no group):
    figures of cases about that group's reports are left out. Raises DatabaseUnavailable."""
    with snapshot_reading(engine) as connection:
        found = _read(connection, policy, settings, now)
    return [_without_cases(one) if one.row.control_group == reader_group else one for one in found]


def platform(
    engine: Engine, policy: Policy, settings: Settings, now: datetime, name: str, reader_group: str | None = None
) -> PlatformHealth:
    """One of them, as `platforms` gives it. Raises NotFound, DatabaseUnavailable."""
    for one in platforms(engine, policy, settings, now, reader_group):
        if one.row.name == name:
            return one
    raise NotFound("There is no platform of this name.")


# --- what supervisors and admins do ----------------------------------------------------------------------------


def may_act(staff: StaffMember) -> bool:
    """Whether this member of staff may act on platforms. Somebody bound to a control group may on none: neither for
    their own house nor against its rivals."""
    return staff.role in ACTING_ROLES and staff.control_group is None


def suspend(engine: Engine, staff: StaffMember, name: str, reason: str, now: datetime, *, urgent: bool = False) -> bool:
    """Refuse the platform's tokens from now on; whether that is new. It is in the log, and with the reason in the
    audit log. Its reports stop counting at the next UTC midnight, or at once if it is `urgent`.

    Raises RoleMissing, ConflictOfInterest, InvalidRequest (reason), NotFound, LogFrozen, DatabaseUnavailable.
    """
    return _set_status(engine, staff, name, PlatformState.SUSPENDED, reason, now, urgent=urgent)


def resume(engine: Engine, staff: StaffMember, name: str, reason: str, now: datetime) -> bool:
    """Let a suspended platform in again; see `suspend`."""
    return _set_status(engine, staff, name, PlatformState.ACTIVE, reason, now)


def change_quota(engine: Engine, staff: StaffMember, name: str, quota: int | None, reason: str, now: datetime) -> None:
    """Set the daily number of blinded elements (None: the service's default). Admins only.

    Raises RoleMissing, ConflictOfInterest, InvalidRequest (quota, reason), NotFound, DatabaseUnavailable.
    """
    text = _check(staff, ("admin",), reason)
    with writing(engine) as connection:
        before = members.change_quota(connection, name, quota)
        detail = f"{_quota_text(before)} -> {_quota_text(quota)}: {text}"
        record(connection, now, staff.id, "quota_changed", "platform", name, detail)


def clean_reason(reason: str) -> str:
    """A reason in one line, without what nobody sees. Raises InvalidRequest when it is too short or too long."""
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
    found = []
    for row in rows:
        quota = row.oprf_daily_quota_elements
        days = lookups.get(row.name, {})
        group = _outcomes(groups.get(row.control_group, {}))
        found.append(
            PlatformHealth(
                row=row,
                reports=reports.get(row.name, ReportFigures()),
                outcomes=_outcomes(outcomes.get(row.name, {})),
                answers=answers.get(row.name, QuestionStats()),
                weight=_weight(effective[row.control_group], stored[row.control_group], group, policy),
                group_members=tuple(one.name for one in rows if one.control_group == row.control_group),
                other_active=tuple(
                    one.name
                    for one in rows
                    if one.control_group == row.control_group
                    and one.name != row.name
                    and one.status != PlatformState.SUSPENDED
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
    return found


def _without_cases(one: PlatformHealth) -> PlatformHealth:
    weight = replace(one.weight, effective=0, stored=0, follows=0, resolved=0, overturned=0)
    return replace(
        one,
        reports=one.reports._replace(contested=0),
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
    """How each platform answers, from `events` in order within each case. A question whose case ended otherwise is
    asked and neither answered nor silent, like one that still waits."""
    asked: dict[int, datetime] = {}
    counts: dict[str, list[int]] = {}
    hours: dict[str, list[float]] = {}
    for event in events:
        numbers = counts.setdefault(event.platform, [0, 0, 0])
        if event.action == Action.ASK_REPORTER:
            asked[event.case_id] = event.at
            numbers[0] += 1
            continue
        at = asked.pop(event.case_id, None)
        if at is None:
            continue  # asked before the window
        if event.action == Action.REPORTER_SILENT:
            numbers[2] += 1
        else:
            numbers[1] += 1
            hours.setdefault(event.platform, []).append((event.at - at).total_seconds() / 3600)
    return {
        name: QuestionStats(asked_, answered, silent, rank(hours.get(name, ()), 0.5), rank(hours.get(name, ()), 0.9))
        for name, (asked_, answered, silent) in counts.items()
    }


def rank(values: Sequence[float], share: float) -> float | None:
    """The smallest of `values` that at least `share` of them do not exceed (nearest rank); None of none."""
    if not values:
        return None
    ordered = sorted(values)
    place = -(-len(ordered) * round(share * 1000) // 1000)
    return ordered[max(1, place) - 1]
