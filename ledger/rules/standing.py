"""The credit standing: a pure fold over events. A standing is never stored; every fold of the same events is equal.

All points are integers in thousandths, each event's rounded down before anything is added, so neither the order of
events nor the machine matters. The rules are docs/standing.md; how acts that several groups reported are counted is
argued in docs/decisions/0003-acts-and-groups.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Protocol

from ledger.protocol.encoding import DAY_SECONDS, HOUR_SECONDS, unix_seconds
from ledger.protocol.identifiers import STRONG_KINDS, Kind
from ledger.rules.policy.values import Policy
from ledger.rules.reasons import CONDUCT_REASON, MAX_REASONS, Reason

FULL_WEIGHT = 40
"""A weight is an integer number of fortieths: the twentieths of policy version 1 and the eighths of later ones are both
whole numbers of them, so that weights of two policies are never mistaken for one another."""

REPEATED_EVENTS = 3
"""From this many counting acts of one group on, the reason `repeated_at_one_platform` is given; the points stay the
same."""


class Tier(StrEnum):
    """The tiers, from no record to fraud that several independent platforms confirmed."""

    CLEAR = "clear"
    WATCH = "watch"
    REVIEW = "review"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Event:
    """A recorded report as one lookup sees it. Days and hours count from the Unix epoch; `matched` are the kinds of
    identifier through which the lookup met it.

    `disputed` is shown and takes the points away; `unconfirmed` takes them away without being shown, and also marks an
    event whose appeal is overdue. `severity` is what a sealed entry says of it; None: that of its conduct in the
    policy.
    """

    report_id: int
    act_id: int
    control_group: str
    conduct: str
    act_day: int
    effective_hour: int
    expires_day: int
    matched: frozenset[Kind]
    disputed: bool = False
    unconfirmed: bool = False
    restituted: bool = False
    has_statement: bool = False
    severity: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The answer. `points_milli` is what is shown, in thousandths, capped by tier; `credit` is 100 for a clean record.

    `events` counts acts and `reporters` counts control groups, of counting events only.
    """

    tier: Tier
    credit: int
    points_milli: int
    events: int
    reporters: int
    disputed: bool
    protected: bool
    has_statement: bool
    reasons: tuple[Reason, ...]
    matched_kinds: tuple[str, ...]

    @property
    def points(self) -> float:
        """Points with two decimals, rounded down."""
        return self.points_milli // 10 / 100


def merge(events: Iterable[Event]) -> list[Event]:
    """Return one event for each report. The identifiers that met the same report are of one person."""
    merged: dict[int, Event] = {}
    for event in events:
        known = merged.get(event.report_id)
        merged[event.report_id] = event if known is None else replace(known, matched=known.matched | event.matched)
    return list(merged.values())


def fold(events: Iterable[Event], weights: Mapping[str, int], policy: Policy, now: datetime) -> Standing:
    """Return the standing at `now` of the person whom `events` (one a report, see `merge`) are about.

    `weights` are fortieths by control group; a group that is not named has full weight, a suspended one 0. Events
    that are cooling, expired or unconfirmed are not visible, and nor are reports that weigh nothing.
    """
    visible = visible_events(events, weights, policy, now)
    return conclude(visible, corroboration_of(visible.counting, policy), policy)


def visible_events(events: Iterable[Event], weights: Mapping[str, int], policy: Policy, now: datetime) -> VisibleEvents:
    """Return the events that are visible at `now`; the first half of `fold`."""
    seconds = unix_seconds(now)
    this_hour, today = seconds // HOUR_SECONDS, seconds // DAY_SECONDS
    visible = VisibleEvents([], set())
    for event in events:
        severity = policy.severity[event.conduct] if event.severity is None else event.severity
        retention_days = policy.retention_days[severity]
        if event.effective_hour > this_hour or today >= min(event.expires_day, event.act_day + retention_days):
            continue
        weight = weights.get(event.control_group, FULL_WEIGHT)
        if not is_visible(event, severity, weight):
            continue
        if event.disputed:
            visible.disputed = True
        elif severity:
            fresh = severity * weight * _MILLIPOINTS
            if event.restituted:
                fresh //= 2
            visible.counting.append(Counted(event, decayed(fresh, max(0, today - event.act_day), retention_days)))
        else:
            visible.protected = True
        visible.has_statement = visible.has_statement or event.has_statement
        visible.kinds |= event.matched
    return visible


def is_visible(event: Flagged, severity: int, weight: int) -> bool:
    """True if lookups show an event while it is neither cooling nor expired. A dispute is shown even while the report
    is unconfirmed; a report of a group that weighs nothing is not, but its word that protects a person is."""
    return (weight > 0 or not severity) and (event.disputed or not event.unconfirmed)


def corroboration_of(counting: Sequence[Counted], policy: Policy) -> EventCorroboration:
    """Return how the counting events of one person corroborate each other, when the group of each report is known."""
    if not counting:
        return _NO_CORROBORATION
    strong = [item for item in counting if is_strong(item.event)]
    reporters = len({item.event.control_group for item in counting})
    return EventCorroboration(
        strong_total=act_total(strong),
        second=second_group_points(strong, policy.tiers.high_second_group_millipoints),
        reporters=reporters,
        weak=not strong,
        repeated=len(counting) >= REPEATED_EVENTS and _most_acts_of_a_group(counting) >= REPEATED_EVENTS,
        one_reporter=reporters == 1,
    )


def conclude(visible: VisibleEvents, support: EventCorroboration, policy: Policy) -> Standing:
    """Return the standing that follows; the second half of `fold`."""
    counting = visible.counting
    if not (counting or visible.disputed or visible.protected):
        return CLEAN
    total = act_total(counting)
    tier = _tier(total, support, policy)
    points = _shown(total, tier, policy)
    return Standing(
        tier=tier,
        credit=credit_of(points, policy),
        points_milli=points,
        events=len({item.event.act_id for item in counting}),
        reporters=support.reporters,
        disputed=visible.disputed,
        protected=visible.protected,
        has_statement=visible.has_statement,
        reasons=_reasons(visible, support, tier),
        matched_kinds=tuple(sorted(visible.kinds)),
    )


class Flagged(Protocol):
    """The two marks of a recorded report that decide whether it is shown."""

    @property
    def disputed(self) -> bool:
        """True if the event is shown without points."""

    @property
    def unconfirmed(self) -> bool:
        """True if the event is not shown, unless it is disputed."""


class Counted(NamedTuple):
    """A counting event and its points, in thousandths."""

    event: Event
    points: int


@dataclass(slots=True)
class VisibleEvents:
    """The visible events of a person at one moment: the counting events, the kinds of identifier that met any visible
    event, and whether a visible event is disputed, protects the person, or has a statement."""

    counting: list[Counted]
    kinds: set[Kind]
    disputed: bool = False
    protected: bool = False
    has_statement: bool = False


class EventCorroboration(NamedTuple):
    """How counting events support one another: the points of strongly matched acts and G2, both in thousandths, the
    number of control groups, and which reasons this gives (`weak_match_only`, `repeated_at_one_platform`,
    `one_reporter_only`)."""

    strong_total: int
    second: int
    reporters: int
    weak: bool
    repeated: bool
    one_reporter: bool


_NO_CORROBORATION = EventCorroboration(0, 0, 0, weak=False, repeated=False, one_reporter=False)

CLEAN = Standing(Tier.CLEAR, 100, 0, 0, 0, False, False, False, (Reason.NO_RECORD,), ())
"""The standing of most people: nothing is recorded."""

_MILLIPOINTS = 25
"""Thousandths of a point that one fortieth of weight gives a severity of 1. Restitution halves the points of a fresh
report, rounded down to a thousandth; that result decays."""


@lru_cache(maxsize=1 << 17)
def decayed(fresh_millipoints: int, age_days: int, retention_days: int) -> int:
    """Return fresh x 0.5^(age / half-life), rounded down exactly, in thousandths; the half-life is half the retention.

    A machine's power function may be one unit off in its last place, and on the edge of a whole number that would give
    two folds different points. So near an edge the question is decided in integers: p <= f x 2^(-2a/r) if and only if
    p^r x 2^(2a) <= f^r.
    """
    value: float = fresh_millipoints * 0.5 ** (2 * age_days / retention_days)
    nearest = round(value)
    if abs(value - nearest) > 1e-6:
        return int(value)
    reached: bool = (nearest**retention_days) << (2 * age_days) <= fresh_millipoints**retention_days
    return nearest if reached else nearest - 1


def is_strong(event: Event) -> bool:
    """True if a payment or government id matched, or two weak identifiers of different kinds.

    Phone numbers are recycled, and households share accounts and devices: one of those alone says little about who the
    person is.
    """
    return len(event.matched) >= 2 or not STRONG_KINDS.isdisjoint(event.matched)


def group_weight(resolved: int, overturned: int, policy: Policy) -> int:
    """Return the weight of a control group in fortieths: 1 - overturned / (resolved + 10), rounded down to a multiple
    of the policy's unit (eighths, or twentieths in version 1), and not below its floor.

    Raises ValueError unless 0 <= overturned <= resolved.
    """
    if not 0 <= overturned <= resolved:
        raise ValueError("overturned cases are among the resolved ones")
    cases, rule = resolved + policy.weights.prior_reports, policy.weights
    return FULL_WEIGHT // rule.steps * max(rule.floor_steps, rule.steps * (cases - overturned) // cases)


def credit_of(points_milli: int, policy: Policy) -> int:
    """Return round(100 x 0.5^(points / 6)) of the points as shown, with two decimals: 100 is a clean record."""
    kept: float = 0.5 ** (points_milli // 10 / (policy.tiers.credit_half_points * 100))
    return round(100 * kept)


def second_group_points(counted: Iterable[Counted], cap: int) -> int:
    """Return G2 in thousandths, at most `cap`: the most that the second-largest group can have when each act is counted
    for one of the groups that reported it.

    Acts that one group alone reported are its own. Shared acts are dealt out so that the second group gets the most:
    any fixed rule would let one more report improve a standing, or a withdrawal worsen one.
    """
    acts: dict[int, dict[str, int]] = {}
    totals: dict[str, int] = {}
    for event, points in counted:
        groups = acts.setdefault(event.act_id, {})
        before = groups.get(event.control_group, 0)
        if points > before:
            groups[event.control_group] = points
            totals[event.control_group] = totals.get(event.control_group, 0) + points - before
    if len(totals) < 2:
        return 0
    if all(len(groups) == 1 for groups in acts.values()):
        return min(sorted(totals.values())[-2], cap)
    # A group's total, with every act it reported counted as its own, is the most it can have: once the smaller of two
    # totals cannot beat what is found, no later pair can.
    ordered = sorted(totals, key=lambda name: (-totals[name], name))
    best = 0
    for place, right in enumerate(ordered):
        if totals[right] <= best:
            break
        for left in ordered[:place]:
            best = max(best, best_split(acts.values(), left, right, best, cap))
            if best >= cap:
                return cap
    return best


def best_split(acts: Iterable[Mapping[str, int]], left: str, right: str, best: int, cap: int) -> int:
    """Return the largest possible min(left's sum, right's sum), each sum capped; `best` if that is not exceeded."""
    own_left = own_right = 0
    shared: list[tuple[int, int]] = []
    for groups in acts:
        a, b = groups.get(left), groups.get(right)
        if a is not None and b is not None:
            shared.append((a, b))
        elif a is not None:
            own_left += a
        elif b is not None:
            own_right += b
    if own_left + own_right + sum(max(pair) for pair in shared) <= 2 * best:
        return best
    # What can be reached, as the best right sum for each left sum: sums are capped, so at most cap + 1 of them.
    reach = {min(own_left, cap): min(own_right, cap)}
    for a, b in shared:
        grown: dict[int, int] = {}
        for x, y in reach.items():
            for new_x, new_y in ((min(x + a, cap), y), (x, min(y + b, cap))):
                if grown.get(new_x, -1) < new_y:
                    grown[new_x] = new_y
        reach = grown
    return max(min(x, y) for x, y in reach.items())


def act_total(counted: Iterable[Counted]) -> int:
    """Return all points, each act once with its largest."""
    best: dict[int, int] = {}
    for event, points in counted:
        if points > best.get(event.act_id, -1):
            best[event.act_id] = points
    return sum(best.values())


def _tier(total: int, support: EventCorroboration, policy: Policy) -> Tier:
    tiers = policy.tiers
    if support.second >= tiers.high_second_group_millipoints:
        return Tier.HIGH
    enough = support.strong_total >= tiers.review_total_millipoints
    if enough and support.second >= tiers.review_second_group_millipoints:
        return Tier.REVIEW
    return Tier.WATCH if total >= tiers.watch_total_millipoints else Tier.CLEAR


def _shown(total: int, tier: Tier, policy: Policy) -> int:
    if tier is Tier.WATCH:
        return min(total, policy.tiers.watch_cap_hundredths * 10)
    return min(total, policy.tiers.review_cap_hundredths * 10) if tier is Tier.REVIEW else total


def _reasons(visible: VisibleEvents, support: EventCorroboration, tier: Tier) -> tuple[Reason, ...]:
    """Return at most four reasons: first those in favour of the person, then how certain the record is, then what
    counts most in it."""
    reasons: list[Reason] = []
    if visible.protected:
        reasons.append(Reason.PROTECTED)
    if visible.disputed:
        reasons.append(Reason.DISPUTED)
    if visible.counting:
        if support.weak:
            reasons.append(Reason.WEAK_MATCH)
        if support.repeated:
            reasons.append(Reason.REPEATED)
        if support.second > 0:
            reasons.append(Reason.INDEPENDENT)
        elif support.one_reporter and not support.repeated:
            reasons.append(Reason.ONE_REPORTER)
        reasons.append(Reason.FADED if tier is Tier.CLEAR else _heaviest(visible.counting))
        if any(event.restituted for event, _ in visible.counting):
            reasons.append(Reason.RESTITUTED)
    return tuple(reasons[:MAX_REASONS])


def _most_acts_of_a_group(counting: Iterable[Counted]) -> int:
    acts_of: dict[str, set[int]] = {}
    for event, _ in counting:
        acts_of.setdefault(event.control_group, set()).add(event.act_id)
    return max(map(len, acts_of.values()))


def _heaviest(counting: Sequence[Counted]) -> Reason:
    """Return the reason for the event with most points; of equals, the same one whatever their order."""
    _, conduct = max([(item.points, item.event.conduct) for item in counting])
    return CONDUCT_REASON.get(conduct, Reason.OTHER)
