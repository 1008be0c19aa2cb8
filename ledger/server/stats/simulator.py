"""Simulates the effect of a changed policy on the present standings, before the policy is proposed. It changes nothing.

The standing of every listed tag of a sample is computed twice, under the policy in force and under the draft, each with
the weights that follow from it. The result contains only numbers: no tag, no report, no person. A tag belongs to one
identifier (see `tag_standings`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, Engine

from ledger.errors import Overloaded
from ledger.protocol.encoding import day_floor, from_day
from ledger.rules.policy.values import Policy
from ledger.rules.standing import Tier, fold
from ledger.rules.wilson import wilson_interval
from ledger.server.db.engine import reading, snapshot_reading, writing
from ledger.server.keys.epochs import current_of, read_epochs
from ledger.server.log.policies import logged_policy
from ledger.server.platforms import queries as member_store
from ledger.server.platforms.group_weights import decided, following, silenced
from ledger.server.staff.audit import record
from ledger.server.stats import queries as store
from ledger.server.stats.policy_draft import Draft
from ledger.server.stats.tag_standings import tag_events

SAMPLE_TAGS = 50_000
"""Number of tags in one run. Tags are hashes, so the first ones in their order are a uniform sample."""

PAUSE_TAGS = 250
PAUSE_SECONDS = 0.005
"""After every `PAUSE_TAGS` tags a run sleeps for `PAUSE_SECONDS`, because the same process serves requests."""

MIN_GROUP_TAGS = 20
"""Control groups with fewer tags in the sample are shown together, not each on its own."""

RANKS = {tier: place for place, tier in enumerate(Tier)}

_running = threading.Lock()


@dataclass(frozen=True, slots=True)
class GroupMoves:
    """Number of tags of the sample with a report of one control group, which is not named, and how many of them would
    move to a higher (`up`) or lower (`down`) tier. `tags` are all of these tags."""

    tags: int
    up: int
    down: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result of a run. `moves` is {(tier now, tier then): tags}; `more` and `less` count tags whose shown points
    would rise or fall.

    `groups` are the larger control groups, largest first; `other_groups` is the number of the small ones and their
    total. A tag that several groups reported counts for each of them.
    """

    sampled: int
    listed: int
    moves: Mapping[tuple[Tier, Tier], int]
    more: int
    less: int
    groups: tuple[GroupMoves, ...]
    other_groups: tuple[int, GroupMoves]
    weights_changed: int
    seconds: float

    def row(self, tier: Tier) -> int:
        """Return the number of tags of the sample that are in `tier` now."""
        return sum(number for (now, _), number in self.moves.items() if now is tier)

    def column(self, tier: Tier) -> int:
        """Return the number of tags of the sample that would be in `tier`."""
        return sum(number for (_, then), number in self.moves.items() if then is tier)

    @property
    def up(self) -> int:
        """Number of tags of the sample that would move to a higher tier, which is to the person's disadvantage."""
        return sum(number for (now, then), number in self.moves.items() if RANKS[then] > RANKS[now])

    @property
    def down(self) -> int:
        """Number of tags of the sample that would move to a lower tier."""
        return sum(number for (now, then), number in self.moves.items() if RANKS[then] < RANKS[now])

    @property
    def complete(self) -> bool:
        """True if the sample contains every listed tag, so that nothing is estimated."""
        return self.sampled >= self.listed

    def estimate(self, number: int) -> tuple[int, int]:
        """Return the 95 % confidence interval of the number of all listed tags, from `number` tags of the sample."""
        if self.complete:
            return number, number
        low, high = wilson_interval(number, self.sampled)
        return int(low * self.listed), -int(-high * self.listed // 1)


def policy_in_force(engine: Engine, now: datetime) -> tuple[str, Policy]:
    """Return the text and the parsed form of the policy in effect at `now`. Raises PolicyUnreadable,
    DatabaseUnavailable."""
    with reading(engine) as connection:
        return logged_policy(connection, now)


def simulate(
    engine: Engine, policy: Policy, draft: Draft, staff_id: int, now: datetime, sample: int = SAMPLE_TAGS
) -> Simulation:
    """Compare `policy` with the draft, and record in the audit log that the member of staff did it.

    There is one run at a time in a process. Raises Overloaded during another run, ConfigurationError if no key epoch is
    current, DatabaseUnavailable.
    """
    if not _running.acquire(blocking=False):
        raise Overloaded("Another simulation is running. Try again in a few seconds.", retry_after_seconds=10)
    try:
        changes = ", ".join(f"{name} {before} -> {after}" for name, before, after in draft.changes)
        with writing(engine) as connection:
            record(connection, now, staff_id, "policy_simulated", "policy", str(policy.version), changes or "no change")
        with snapshot_reading(engine) as connection:
            return compare(connection, policy, draft.policy, now, sample)
    finally:
        _running.release()


def compare(
    connection: Connection,
    policy: Policy,
    other: Policy,
    now: datetime,
    sample: int = SAMPLE_TAGS,
    pause_seconds: float = PAUSE_SECONDS,
) -> Simulation:
    """Return the comparison of the standings of at most `sample` tags of the current key epoch under both policies.
    Raises ConfigurationError if no key epoch is current."""
    started = time.perf_counter()
    epoch = current_of(read_epochs(connection)).epoch
    before, after = _weights(connection, policy, now), _weights(connection, other, now)
    moves: Counter[tuple[Tier, Tier]] = Counter()
    tags_of: dict[str, Counter[str]] = {}
    more = less = sampled = 0
    for events in islice(tag_events(store.stream_tags(connection, epoch)), sample):
        old, new = fold(events, before, policy, now), fold(events, after, other, now)
        moves[old.tier, new.tier] += 1
        more += new.points_milli > old.points_milli
        less += new.points_milli < old.points_milli
        moved = RANKS[new.tier] - RANKS[old.tier]
        for group in {event.control_group for event in events}:
            tags_of.setdefault(group, Counter())["tags" if moved == 0 else "up" if moved > 0 else "down"] += 1
        sampled += 1
        if sampled % PAUSE_TAGS == 0 and pause_seconds:
            time.sleep(pause_seconds)
    listed = sampled if sampled < sample else store.count_tags(connection, epoch)
    groups, others = _groups(tags_of)
    return Simulation(
        sampled=sampled,
        listed=listed,
        moves={(now_, then): moves[now_, then] for now_ in Tier for then in Tier},
        more=more,
        less=less,
        groups=groups,
        other_groups=others,
        weights_changed=sum(before[name] != after[name] for name in before),
        seconds=time.perf_counter() - started,
    )


def _weights(connection: Connection, policy: Policy, now: datetime) -> dict[str, int]:
    """Return the weights that follow from `policy` and all decisions so far: those of the next UTC midnight."""
    groups, midnight = member_store.read_weights(connection), from_day(day_floor(now) + 1)
    weights = following(groups, decided(connection, policy, midnight), policy)
    return silenced(member_store.read_platforms(connection), weights, policy, midnight)


def _groups(tags_of: Mapping[str, Counter[str]]) -> tuple[tuple[GroupMoves, ...], tuple[int, GroupMoves]]:
    """Return the larger groups without their names, largest first; and the number of small groups with their total."""
    groups = sorted(
        (GroupMoves(counts.total(), counts["up"], counts["down"]) for counts in tags_of.values()), key=_size
    )
    large = tuple(group for group in groups if group.tags >= MIN_GROUP_TAGS)
    small = groups[len(large) :]
    together = GroupMoves(
        sum(group.tags for group in small), sum(group.up for group in small), sum(group.down for group in small)
    )
    return large, (len(small), together)


def _size(group: GroupMoves) -> tuple[int, int, int]:
    return -group.tags, -group.up, -group.down
