"""Weights of control groups as folds use them, in fortieths.

Under a policy whose weights are computed once a UTC day (`Weights.daily`, policy version 2), the weight at a moment
follows from the decisions and suspensions before the UTC midnight of that moment's day. So every process and every
snapshot of a day has the same weights, and no weight changes at the moment of a decision: weights that changed at once
would show which entries, under different tags, are of one group. Under policy version 1 a weight follows each decision
and each suspension at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from sqlalchemy import Connection

from ledger.errors import PolicyUnreadable
from ledger.protocol.encoding import day_floor, from_day
from ledger.rules.deadlines import window_start
from ledger.rules.policy.values import TWENTIETHS, Policy
from ledger.rules.standing import FULL_WEIGHT, group_weight
from ledger.server.platforms import queries as store
from ledger.server.platforms.queries import PlatformRow
from ledger.tlog.entries import PlatformState

STORED_UNIT = FULL_WEIGHT // TWENTIETHS
"""The number of fortieths in one of the twentieths that the database holds for policy version 1."""

COUNTED_FOR = timedelta(seconds=30)
"""How long a process uses the decisions that it has counted."""

Counts = Mapping[str, Mapping[str, int]]
"""Numbers of decisions by control group and by how they count: upheld, amended, overturned or nothing."""


def weights_at(
    connection: Connection, policy: Policy, now: datetime, platforms: Iterable[PlatformRow] | None = None
) -> dict[str, int]:
    """Return the weight of every control group at `now` under `policy`, 0 while its reports carry none.

    It is exact for any `now` of this UTC day or later. `platforms` are all platforms; None: they are read from the
    database.
    """
    rows = store.read_platforms(connection) if platforms is None else platforms
    return silenced(rows, without_suspensions(connection, policy, now), policy, now)


def without_suspensions(connection: Connection, policy: Policy, now: datetime) -> dict[str, int]:
    """Return `weights_at`, as if no platform were suspended."""
    stored = store.read_weights(connection)
    if policy.weights.daily:
        return following(stored, decided(connection, policy, now), policy)
    return {name: STORED_UNIT * weight for name, weight in stored.items()}


def decided(connection: Connection, policy: Policy, now: datetime) -> dict[str, dict[str, int]]:
    """Return the numbers of decisions on which weights at `now` are based, by control group."""
    if not policy.weights.daily:
        return store.outcome_counts(connection, window_start(now, policy.weights.window_months))
    midnight = from_day(day_floor(now))
    return store.outcome_counts(connection, window_start(midnight, policy.weights.window_months), midnight)


def following(groups: Iterable[str], counts: Counts, policy: Policy) -> dict[str, int]:
    """Return the weight of each of `groups` that follows from these decisions, whichever platforms are suspended."""
    return {name: weight_of(counts.get(name, {}), policy) for name in groups}


def weight_of(counts: Mapping[str, int], policy: Policy) -> int:
    """Return the weight that follows from {upheld, amended, overturned: number}; other outcomes do not count."""
    overturned = counts.get("overturned", 0)
    return group_weight(counts.get("upheld", 0) + counts.get("amended", 0) + overturned, overturned, policy)


def silenced(
    platforms: Iterable[PlatformRow], weights: Mapping[str, int], policy: Policy, now: datetime
) -> dict[str, int]:
    """Return `weights`, but 0 for a control group none of whose platforms carries weight at `now`."""
    weighing = {row.control_group for row in platforms if carries_weight(row, policy, now)}
    return {name: weight if name in weighing else 0 for name, weight in weights.items()}


def carries_weight(row: PlatformRow, policy: Policy, now: datetime) -> bool:
    """True if reports of a platform carry weight at `now`: it was active at the UTC midnight before, or under policy
    version 1 is active now. An urgent suspension removes the weight at once (see `weighed_before`)."""
    changed_at = row.status_changed_at
    if policy.weights.daily and changed_at is not None and day_floor(changed_at) >= day_floor(now):
        return bool(row.weighed_before)
    return row.status != PlatformState.SUSPENDED


@dataclass(frozen=True, slots=True)
class WeightTable:
    """The weights of a UTC day and of the next one, as far as they are known.

    With it a process that read them before midnight answers with those of the new day from its first moment on.
    `counts` are the decisions behind weights that are computed once a day, by day and version of the policy, read at
    `counted_at`.
    """

    day: int
    of_day: Mapping[str, int]
    of_next_day: Mapping[str, int]
    counts: Mapping[tuple[int, int], Counts]
    counted_at: datetime

    def at(self, now: datetime) -> Mapping[str, int]:
        """Return the weights at `now`."""
        return self.of_day if day_floor(now) <= self.day else self.of_next_day


def read_weight_table(
    connection: Connection,
    policy_at: Callable[[datetime], Policy],
    now: datetime,
    platforms: Iterable[PlatformRow],
    before: WeightTable | None = None,
) -> WeightTable:
    """Return the weights of the UTC day of `now` and of the next one. Raises PolicyUnreadable if the policy of `now`
    cannot be read.

    The decisions behind weights of a day hardly change, and counting them is most of the work: those of `before`, the
    last table, are reused for COUNTED_FOR, but not near a midnight.
    """
    rows, stored = list(platforms), store.read_weights(connection)
    known: Mapping[tuple[int, int], Counts] = {}
    counted_at = now
    if before is not None and timedelta(0) <= now - before.counted_at < COUNTED_FOR and not _near_midnight(now):
        known, counted_at = before.counts, before.counted_at
    counts: dict[tuple[int, int], Counts] = {}
    tables = []
    policy = policy_at(now)
    for moment in (now, from_day(day_floor(now) + 1)):
        with suppress(PolicyUnreadable):  # of the next day: lookups of this day continue
            policy = policy_at(moment)
        weights = {name: STORED_UNIT * weight for name, weight in stored.items()}
        if policy.weights.daily:
            key = (day_floor(moment), policy.version)
            counts[key] = known[key] if key in known else decided(connection, policy, moment)
            weights = following(stored, counts[key], policy)
        tables.append(MappingProxyType(silenced(rows, weights, policy, moment)))
    return WeightTable(day_floor(now), tables[0], tables[1], counts, counted_at)


def _near_midnight(now: datetime) -> bool:
    return day_floor(now - COUNTED_FOR) != day_floor(now + COUNTED_FOR)
