"""The standing from sealed entries: what a snapshot tells of each tag, and what a client folds from it. Pure.

For one identifier the client gets exactly what a direct lookup would say of the reports that count at the snapshot's
cut, at every moment until `not_after`; a report that begins to count after the cut is not in the snapshot. For several
identifiers it cannot: a control group has another pseudonym under each tag, and two entries about one act may be one
report or two. Acts are linkable, so points, acts and marks are still exact; how the reporters confirm one another is
then taken as little as is certain, so that no answer is stricter than the direct one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol, TypeVar

from ledger.errors import InvalidBucket, SnapshotExpired
from ledger.protocol.encoding import day_floor, hour_floor
from ledger.protocol.identifiers import Kind
from ledger.rules.policy.values import EIGHTHS, Policy
from ledger.rules.standing import (
    FULL_WEIGHT,
    Counted,
    Event,
    EventCorroboration,
    Flagged,
    Standing,
    VisibleEvents,
    act_total,
    conclude,
    corroboration_of,
    is_strong,
    is_visible,
    visible_events,
)
from ledger.snapshots.sealed import (
    CONDUCT_BYTES,
    FORMAT_1,
    FORMAT_2,
    SealedEvent,
    SnapshotKeys,
    act_pseudonym,
    group_pseudonyms,
    pack_fields,
)


class Recorded(Flagged, Protocol):
    """A report under one tag, as `Event` and a row of the listing both have it."""

    @property
    def act_id(self) -> int:
        """The act it is about."""

    @property
    def control_group(self) -> str:
        """Who reported it."""

    @property
    def conduct(self) -> str:
        """The conduct code."""

    @property
    def act_day(self) -> int:
        """Day of the act since the Unix epoch."""

    @property
    def effective_hour(self) -> int:
        """First hour since the Unix epoch in which it is told."""

    @property
    def expires_day(self) -> int:
        """The recorded day at whose midnight it is gone."""

    @property
    def restituted(self) -> bool:
        """Whether the full amount was paid back."""

    @property
    def has_statement(self) -> bool:
        """Whether the person has added a statement."""


_R = TypeVar("_R", bound=Recorded)


# --- what a snapshot holds ----------------------------------------------------------------------------------


def sealed_format(policy: Policy) -> int:
    """The format of the entries of a snapshot under `policy`: FORMAT_2 where weights are eighths, else FORMAT_1."""
    return FORMAT_2 if policy.weights.steps == EIGHTHS else FORMAT_1


def told_events(events: Iterable[_R], weights: Mapping[str, int], policy: Policy, as_of: datetime) -> list[_R]:
    """Those of `events` that a direct lookup at `as_of` tells of; a tag with none is not listed.

    Events that still cool at `as_of`, that are expired, unconfirmed, or of a group that weighs nothing are left out: no
    lookup at that moment says a word about them. `weights` are as in `fold`.
    """
    today, this_hour = _moment(as_of)
    return [event for event in events if _is_told(event, weights, policy, today, this_hour)]


def _is_told(event: Recorded, weights: Mapping[str, int], policy: Policy, today: int, this_hour: int) -> bool:
    severity = policy.severity[event.conduct]
    return (
        event.effective_hour <= this_hour
        and today < min(event.expires_day, event.act_day + policy.retention_days[severity])
        and is_visible(event, severity, weights.get(event.control_group, FULL_WEIGHT))
    )


@lru_cache(maxsize=16)
def _moment(as_of: datetime) -> tuple[int, int]:
    """The UTC day and hour of `as_of`, since the Unix epoch."""
    return day_floor(as_of), hour_floor(as_of)


def to_packed(
    events: Sequence[Recorded],
    weights: Mapping[str, int],
    policy: Policy,
    keys: SnapshotKeys,
    tag: bytes,
    as_of: datetime,
) -> list[bytes]:
    """Return the packed entries of `tag` (32 bytes): `events` as `told_events` chose them, in the same order.

    Each is packed as `sealed.pack_event` does it, in one step, because a build seals millions.

    Only one bit of the recorded expiry is sealed. A client computes the policy's expiry itself, and the recorded one
    counts only if it is earlier. A snapshot is valid for 24 hours at most, so it meets at most one midnight, that of
    the day after `as_of`. An earlier expiry has passed already, and a later one is after `not_after`; so the bit says
    whether the recorded expiry is that midnight while the policy alone would give a later one.
    """
    tomorrow, with_severity = _moment(as_of)[0] + 1, sealed_format(policy) == FORMAT_2
    groups = group_pseudonyms(keys, tag, [event.control_group for event in events])
    return [
        pack_fields(
            act_pseudonym(keys, event.act_id),
            groups[event.control_group],
            CONDUCT_BYTES[event.conduct],
            event.disputed
            | event.restituted << 1
            | event.has_statement << 2
            | (event.expires_day == tomorrow < policy.expiry_day(event.conduct, event.act_day)) << 3,
            weights.get(event.control_group, FULL_WEIGHT),
            policy.severity[event.conduct] if with_severity else None,
            event.act_day,
            event.effective_hour,
        )
        for event in events
    ]


# --- what a client folds ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrivateStanding:
    """A standing from sealed entries. When `bounded`, a direct lookup may say more: never a lower tier, more credit or
    fewer points. Events, marks and matched kinds are equal even then; reporters and reasons are those that are
    certain."""

    standing: Standing
    bounded: bool


def standing_of(
    found: Iterable[tuple[Kind, bytes, Sequence[SealedEvent]]], policy: Policy, as_of: datetime, now: datetime
) -> PrivateStanding:
    """The standing at `now` of the person whose identifiers have these tags (32 bytes each) and opened entries.

    `policy` and `as_of` are the manifest's; a `now` before `as_of` is a slow clock's, and taken for `as_of`. The answer
    is `bounded` when two tags or more have counting events; if only one has, the others cannot have met the same
    reports, and all is known. Raises SnapshotExpired when a second midnight has passed since `as_of`, from which on an
    entry does not tell whether its event has expired, and InvalidBucket for an entry of another format than that of the
    policy's snapshots, or of a severity that the policy does not have.
    """
    if day_floor(now) > day_floor(as_of) + 1:
        raise SnapshotExpired("The snapshot is too old to be answered from.")
    parts = [
        _visible(kind, sealed, policy, as_of, max(now, as_of))
        for (kind, _), sealed in {(kind, tag): sealed for kind, tag, sealed in found}.items()
    ]
    union = VisibleEvents(
        [item for part in parts for item in part.counting],
        {kind for part in parts for kind in part.kinds},
        disputed=any(part.disputed for part in parts),
        protected=any(part.protected for part in parts),
        has_statement=any(part.has_statement for part in parts),
    )
    counted = [part.counting for part in parts if part.counting]
    bounded = len(counted) > 1
    support = _certain(counted, union.counting, policy) if bounded else corroboration_of(union.counting, policy)
    return PrivateStanding(conclude(union, support, policy), bounded)


def _visible(
    kind: Kind, sealed: Iterable[SealedEvent], policy: Policy, as_of: datetime, now: datetime
) -> VisibleEvents:
    """What may be told of the events of one tag at `now`. Report ids are made up: no answer depends on them."""
    tomorrow, with_severity = day_floor(as_of) + 1, sealed_format(policy) == FORMAT_2
    weights: dict[str, int] = {}
    events = []
    for number, one in enumerate(sealed):
        if (one.severity is not None) != with_severity:
            raise InvalidBucket("An entry is in another format than the snapshots of its policy.")
        severity = policy.severity.get(one.conduct) if one.severity is None else one.severity
        if severity is None or severity not in policy.retention_days:
            raise InvalidBucket("An entry has a severity that the snapshot's policy does not have.")
        group = one.group.hex()
        weights[group] = one.weight
        events.append(
            Event(
                report_id=number,
                act_id=int.from_bytes(one.act, "big"),
                control_group=group,
                conduct=one.conduct,
                act_day=one.act_day,
                effective_hour=one.effective_hour,
                expires_day=tomorrow if one.expires_next_day else one.act_day + policy.retention_days[severity],
                matched=frozenset({kind}),
                disputed=one.disputed,
                restituted=one.restituted,
                has_statement=one.has_statement,
                severity=severity,
            )
        )
    return visible_events(events, weights, policy, now)


def _certain(by_tag: Sequence[Sequence[Counted]], union: Sequence[Counted], policy: Policy) -> EventCorroboration:
    """How the counting events of several tags support one another, as far as it is certain.

    More events never lower G2, the number of groups, or a group's number of acts, and nor does a stronger match: what
    one tag alone shows holds for the person. Points of acts that a strong identifier met are exact but for reports
    that two weak ones met together. That all reports are of one group is never certain.
    """
    each = [corroboration_of(counting, policy) for counting in by_tag]
    return EventCorroboration(
        strong_total=act_total([item for item in union if is_strong(item.event)]),
        second=max(support.second for support in each),
        reporters=max(support.reporters for support in each),
        weak=_surely_weak(union),
        repeated=any(support.repeated for support in each),
        one_reporter=False,
    )


def _surely_weak(counting: Iterable[Counted]) -> bool:
    """Whether no report can have been met by a strong identifier, or by weak ones of two kinds. Entries of one report
    say the same but for the group's pseudonym; so two that differ are two reports."""
    kinds_of: dict[tuple[int | str, ...], frozenset[Kind]] = {}
    for event, points in counting:
        if is_strong(event):
            return False
        marks = (event.expires_day, event.restituted, event.has_statement)
        said = (event.act_id, event.conduct, event.act_day, event.effective_hour, points, *marks)
        if kinds_of.setdefault(said, event.matched) != event.matched:
            return False
    return True
