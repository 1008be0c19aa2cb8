"""The status of a holder: its shares, the log, who is admitted, and how many elements the budgets allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Engine

from ledger.holder import budget_queries
from ledger.holder.serving import ShareState, share_states
from ledger.holder.settings import HolderSettings
from ledger.holder.shares import HeldShare
from ledger.holder.state import HolderSnapshot, read_snapshot
from ledger.protocol.encoding import DAY_SECONDS, day_floor, format_time
from ledger.server.db.engine import reading

CANDIDATES = 10**9
"""A set of identifiers whose enumeration `holder status` reckons with: about all mobile numbers of a large country."""
HORIZON_DAYS = 30


@dataclass(frozen=True, slots=True)
class Reach:
    """How many elements a party can have evaluated here at most: in the rest of this UTC day by its daily budget, by
    grants that are open, and by the daily budget in each further day."""

    today: int
    granted: int
    daily: int

    def __add__(self, other: Reach) -> Reach:
        return Reach(self.today + other.today, self.granted + other.granted, self.daily + other.daily)

    @property
    def now(self) -> int:
        """The most in the rest of this UTC day."""
        return self.today + self.granted

    def within(self, days: int) -> int:
        """Return the most in `days` times 24 hours from now: they end in the UTC day number `days` after this one."""
        return self.now + days * self.daily

    def days_for(self, candidates: int, holders: Fraction = Fraction(1)) -> int | None:
        """Return the UTC days, this one included, after which `candidates` elements can have been evaluated by a party
        that reaches `holders` times as much; None if never."""
        missing = candidates - self.now * holders
        if missing <= 0:
            return 1
        daily = self.daily * holders
        return None if not daily else 1 + -(-missing // daily)

    @property
    def json(self) -> dict[str, Any]:
        """The figures as JSON members."""
        return {
            "today": self.today,
            "granted": self.granted,
            "daily": self.daily,
            "within_30_days": self.within(HORIZON_DAYS),
            "days_for_1e9": self.days_for(CANDIDATES),
        }


def reach_of_groups(
    settings: HolderSettings, snapshot: HolderSnapshot, used: Mapping[str, int], granted: Mapping[str, int]
) -> dict[str, Reach]:
    """Return how much each control group reaches, by name; a group without an active platform or key reaches nothing.
    `used` has the elements counted today, `granted` those left in open grants."""
    reached = {}
    for group, daily in snapshot.daily_elements.items():
        if group not in snapshot.active_groups:
            reached[group] = Reach(0, 0, 0)
            continue
        budget = settings.daily_quota_elements if daily is None else daily
        # The allowance renews at this rate, so a larger daily budget cannot be used up.
        budget = min(budget, settings.burst_elements + settings.rate_elements_per_second * DAY_SECONDS)
        reached[group] = Reach(max(0, budget - used.get(group, 0)), granted.get(group, 0), budget)
    return reached


def holder_status(
    settings: HolderSettings, engine: Engine, holder: str, shares: Iterable[HeldShare], now: datetime
) -> dict[str, Any]:
    """Return the status as JSON members. Raises DatabaseUnavailable."""
    snapshot = read_snapshot(engine)
    with reading(engine) as connection:
        used = budget_queries.read_group_use(connection, day_floor(now))
        granted = budget_queries.read_open_grants(connection, now)
        grants = budget_queries.read_group_grants(connection)
    states = share_states(snapshot, tuple(shares), now)
    reached = reach_of_groups(settings, snapshot, used, granted)
    together = sum(reached.values(), Reach(0, 0, 0))
    return {
        "holder": holder,
        "shares": [_share(each) for each in states],
        "log": _log(snapshot, now),
        "platforms": _platforms(snapshot),
        "control_groups": [
            {
                "control_group": group,
                "own_daily": snapshot.daily_elements[group],
                "active": group in snapshot.active_groups,
                "used_today": used.get(group, 0),
                **reach.json,
                "grants": [
                    {
                        "elements": row.elements,
                        "used": row.used,
                        "reason": row.reason,
                        "expires_at": format_time(row.expires_at),
                    }
                    for row in grants
                    if row.control_group == group and row.expires_at > now
                ],
            }
            for group, reach in reached.items()
        ],
        "all_groups": together.json,
        "at_all_holders": _at_all_holders(together, states),
    }


def _share(each: ShareState) -> dict[str, Any]:
    keys = each.share.statement.keys
    return {
        "epoch": each.share.epoch,
        "generation": each.share.generation,
        "index": each.share.index,
        "threshold": keys.threshold,
        "holders": [holder.holder for holder in keys.holders],
        "state": each.state,
        "fits_log": {"waiting": None, "misfit": False}.get(each.state, True),
    }


def _log(snapshot: HolderSnapshot, now: datetime) -> dict[str, Any] | None:
    head = snapshot.head
    if head is None:
        return None
    return {
        "size": head.size,
        "age_seconds": max(0, int((now - head.seen_at).total_seconds())),
        "current_epoch": head.current_epoch,
        "next_epoch": head.next_epoch,
        "state": "ok" if head.fault is None else head.fault,
        "last_fault_at": None if head.fault_at is None else format_time(head.fault_at),
        "fork_note": head.fork_note,
        "refused_statements": [
            {"entry": index, "reason": reason} for index, reason in snapshot.refused_statements.items()
        ],
        "witnesses": None,
    }


def _platforms(snapshot: HolderSnapshot) -> list[dict[str, Any]]:
    return [
        {
            "platform": member.platform,
            "control_group": member.control_group,
            "suspended": member.suspended,
            "suspended_by_log": member.suspended_by_log,
            "keys": [
                {"kid": key.kid, "endorsed_by": key.endorsed_by, "revoked": key.revoked}
                for key in snapshot.keys.values()
                if key.platform == member.platform
            ],
        }
        for member in snapshot.members.values()
    ]


def _at_all_holders(together: Reach, states: list[ShareState]) -> dict[str, Any] | None:
    """Return what all admitted groups together reach if they spend equal budgets at all n holders: each element needs t
    shares, so n / t times as much. None without a share that is served."""
    served = [each.share.statement.keys for each in states if each.state == "served"]
    if not served:
        return None
    keys = served[-1]
    factor = Fraction(len(keys.holders), keys.threshold)
    return {
        "holders": len(keys.holders),
        "threshold": keys.threshold,
        "within_30_days": int(together.within(HORIZON_DAYS) * factor),
        "days_for_1e9": together.days_for(CANDIDATES, factor),
    }
