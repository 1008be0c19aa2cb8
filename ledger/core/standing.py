"""The credit standing: a pure fold over events. Nothing stores a standing; everybody who folds gets the same one.

All points are integers in thousandths, each event's rounded down before anything is added, so neither the order of
events nor the machine matters. The rules are DESIGN.md section 5; how acts that several groups reported are counted is
argued in docs/decisions/0003-acts-and-groups.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import combinations

from ledger.core.conduct import Conduct
from ledger.core.encoding import DAY_SECONDS, HOUR_SECONDS, unix_seconds
from ledger.core.identifiers import STRONG_KINDS, Kind
from ledger.core.policy import Policy

FULL_WEIGHT = 20
"""Weights are in twentieths."""

MAX_REASONS = 4


class Tier(StrEnum):
    """From nothing known to several independent platforms having confirmed fraud."""

    CLEAR = "clear"
    WATCH = "watch"
    REVIEW = "review"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Event:
    """A recorded report as one lookup sees it. Days and hours count from the Unix epoch; `matched` are the kinds of
    identifier through which the lookup met it."""

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
    reasons: tuple[str, ...]
    matched_kinds: tuple[str, ...]

    @property
    def points(self) -> float:
        """Points with two decimals, rounded down."""
        return self.points_milli // 10 / 100


def merge(events: Iterable[Event]) -> list[Event]:
    """One event a report: several identifiers that met the same report are one person's."""
    found: dict[int, Event] = {}
    for event in events:
        known = found.get(event.report_id)
        found[event.report_id] = event if known is None else replace(known, matched=known.matched | event.matched)
    return list(found.values())


def fold(events: Sequence[Event], weights: Mapping[str, int], policy: Policy, now: datetime) -> Standing:
    """The standing at `now` of the person whom `events` (one a report, see `merge`) are about.

    `weights` are twentieths by control group; a group that is not named has full weight.
    """
    seconds = unix_seconds(now)
    shown = [event for event in events if _visible(event, policy, seconds)]
    if not shown:
        return CLEAN
    counting: list[tuple[Event, int]] = []
    disputed = protected = has_statement = False
    kinds: set[Kind] = set()
    for event in shown:
        has_statement = has_statement or event.has_statement
        kinds |= event.matched
        if event.conduct == Conduct.IMPERSONATED:
            protected = True
        elif event.disputed:
            disputed = True
        elif not event.unconfirmed:
            counting.append((event, points_of(event, weights, policy, seconds)))
    total = sum(_best_by_act(counting).values())
    strong = [(event, points) for event, points in counting if is_strong(event)]
    strong_total = sum(_best_by_act(strong).values())
    second = second_group(strong, policy.high_second_group)
    tier = _tier(total, strong_total, second, policy)
    points = _shown(total, tier, policy)
    groups = {event.control_group for event, _ in counting}
    return Standing(
        tier=tier,
        credit=credit_of(points, policy),
        points_milli=points,
        events=len({event.act_id for event, _ in counting}),
        reporters=len(groups),
        disputed=disputed,
        protected=protected,
        has_statement=has_statement,
        reasons=_reasons(counting, tier, policy, disputed=disputed, protected=protected, weak=total > strong_total),
        matched_kinds=tuple(sorted(kinds)),
    )


CLEAN = Standing(Tier.CLEAR, 100, 0, 0, 0, False, False, False, (), ())
"""The standing of almost everybody."""


def points_of(event: Event, weights: Mapping[str, int], policy: Policy, seconds: int) -> int:
    """severity x weight x 0.5^(age / half-life), in thousandths, rounded down; halved after restitution."""
    conduct = Conduct(event.conduct)
    severity = policy.severity[conduct]
    weight = weights.get(event.control_group, FULL_WEIGHT)
    half_life_seconds = policy.retention_days[severity] * DAY_SECONDS / 2
    age_seconds = max(0, seconds - event.act_day * DAY_SECONDS)
    points = severity * 1000 * weight / FULL_WEIGHT * 0.5 ** (age_seconds / half_life_seconds)
    return int(points / 2 if event.restituted else points)


def is_strong(event: Event) -> bool:
    """A payment or government id matched, or two weak identifiers of different kinds. Phone numbers are recycled, and
    households share accounts and devices: one of those alone says little about who the person is."""
    return len(event.matched) >= 2 or not STRONG_KINDS.isdisjoint(event.matched)


def group_weight(resolved: int, overturned: int, policy: Policy) -> int:
    """Weight of a control group in twentieths, rounded down: max(0.2, 1 - overturned / (resolved + 10)).

    Raises ValueError unless 0 <= overturned <= resolved.
    """
    if not 0 <= overturned <= resolved:
        raise ValueError("overturned cases are among the resolved ones")
    cases = resolved + policy.weight_prior
    return max(policy.weight_floor, FULL_WEIGHT * (cases - overturned) // cases)


def credit_of(points_milli: int, policy: Policy) -> int:
    """round(100 x 0.5^(points / 6)): 100 is a clean record."""
    return round(100 * 0.5 ** (points_milli / policy.credit_half_points))


def second_group(events: Sequence[tuple[Event, int]], cap: int) -> int:
    """G2 in thousandths, at most `cap`: the most that the second-largest group can have when each act is counted for one
    of the groups that reported it.

    Acts that one group alone reported are its own. Shared acts are dealt out so that the second group gets the most:
    any fixed rule would let one more report improve a standing, or a withdrawal worsen one.
    """
    acts: dict[int, dict[str, int]] = {}
    for event, points in events:
        groups = acts.setdefault(event.act_id, {})
        groups[event.control_group] = max(points, groups.get(event.control_group, 0))
    names = sorted({name for groups in acts.values() for name in groups})
    best = 0
    for left, right in combinations(names, 2):
        best = max(best, _shared_out(acts.values(), left, right, cap))
        if best >= cap:
            return cap
    return best


def _shared_out(acts: Iterable[Mapping[str, int]], left: str, right: str, cap: int) -> int:
    """The largest possible min(left's sum, right's sum), each sum capped."""
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


def _visible(event: Event, policy: Policy, seconds: int) -> bool:
    expires_day = min(event.expires_day, event.act_day + policy.retention_of(Conduct(event.conduct)))
    return event.effective_hour * HOUR_SECONDS <= seconds < expires_day * DAY_SECONDS


def _best_by_act(events: Iterable[tuple[Event, int]]) -> dict[int, int]:
    best: dict[int, int] = {}
    for event, points in events:
        best[event.act_id] = max(points, best.get(event.act_id, 0))
    return best


def _tier(total: int, strong_total: int, second: int, policy: Policy) -> Tier:
    if second >= policy.high_second_group:
        return Tier.HIGH
    if strong_total >= policy.review_total and second >= policy.review_second_group:
        return Tier.REVIEW
    return Tier.WATCH if total >= policy.watch_total else Tier.CLEAR


def _shown(total: int, tier: Tier, policy: Policy) -> int:
    if tier is Tier.WATCH:
        return min(total, policy.watch_shown_at_most)
    return min(total, policy.review_shown_at_most) if tier is Tier.REVIEW else total


def _reasons(
    counting: Sequence[tuple[Event, int]],
    tier: Tier,
    policy: Policy,
    *,
    disputed: bool,
    protected: bool,
    weak: bool,
) -> tuple[str, ...]:
    """At most four codes, what protects the person first, then what weighs most."""
    codes: list[str] = []
    if protected:
        codes.append("protected_impersonation")
    if disputed:
        codes.append("disputed_event")
    groups = [event.control_group for event, _ in counting]
    if tier in (Tier.REVIEW, Tier.HIGH):
        codes.append("confirmed_by_several_platforms")
    if any(groups.count(name) >= policy.repeated_events for name in set(groups)):
        codes.append("repeated_at_one_platform")
    if weak:
        codes.append("weak_match")
    heaviest: dict[str, int] = {}
    for event, points in counting:
        heaviest[event.conduct] = max(points, heaviest.get(event.conduct, 0))
    codes += [code for code, _ in sorted(heaviest.items(), key=lambda item: (-item[1], item[0]))]
    return tuple(codes[:MAX_REASONS])
