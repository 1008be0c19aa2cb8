"""The standing from sealed entries: the events that a snapshot has for each tag, and the client's computation from
them.

For one identifier the client gets exactly the answer of a direct lookup about the reports that count at the snapshot's
cut, at every moment until `not_after`; a report that begins to count after the cut is not in the snapshot. For several
identifiers it cannot: a control group has another pseudonym under each tag, and two entries about one act may be one
report or two. Acts are linkable, so points, acts and marks are still exact; of the corroboration between reporters only
the certain part is counted, so that no answer is stricter than the direct one.
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


class SealableReport(Flagged, Protocol):
    """A report under one tag: the common members of `Event` and of a listing's row."""

    @property
    def act_id(self) -> int:
        """Number of the act."""

    @property
    def control_group(self) -> str:
        """The control group of the reporter."""

    @property
    def conduct(self) -> str:
        """The conduct code."""

    @property
    def act_day(self) -> int:
        """Day of the act since the Unix epoch."""

    @property
    def effective_hour(self) -> int:
        """Hours since the Unix epoch at which lookups begin to show the report."""

    @property
    def expires_day(self) -> int:
        """Days since the Unix epoch: the report expires at the midnight at which this day begins."""

    @property
    def restituted(self) -> bool:
        """Whether the full amount was paid back."""

    @property
    def has_statement(self) -> bool:
        """Whether the person has added a statement."""


_R = TypeVar("_R", bound=SealableReport)


# --- what a snapshot holds ----------------------------------------------------------------------------------


def sealed_format(policy: Policy) -> int:
    """Return the format of the entries of a snapshot under `policy`: FORMAT_2 where weights are eighths, else
    FORMAT_1."""
    return FORMAT_2 if policy.weights.steps == EIGHTHS else FORMAT_1


def listed_events(events: Iterable[_R], weights: Mapping[str, int], policy: Policy, as_of: datetime) -> list[_R]:
    """Return those of `events` that a direct lookup at `as_of` shows; a tag with none is not listed.

    Events in their cooling period at `as_of`, expired and unconfirmed events, and those of a group without weight are
    left out: no lookup at that moment shows them. `weights` are as in `fold`.
    """
    today, this_hour = _moment(as_of)
    return [event for event in events if _is_listed(event, weights, policy, today, this_hour)]


def _is_listed(event: SealableReport, weights: Mapping[str, int], policy: Policy, today: int, this_hour: int) -> bool:
    severity = policy.severity[event.conduct]
    return (
        event.effective_hour <= this_hour
        and today < min(event.expires_day, event.act_day + policy.retention_days[severity])
        and is_visible(event, severity, weights.get(event.control_group, FULL_WEIGHT))
    )


@lru_cache(maxsize=16)
def _moment(as_of: datetime) -> tuple[int, int]:
    """Return the UTC day and hour of `as_of`, since the Unix epoch."""
    return day_floor(as_of), hour_floor(as_of)


def to_packed(
    events: Sequence[SealableReport],
    weights: Mapping[str, int],
    policy: Policy,
    keys: SnapshotKeys,
    tag: bytes,
    as_of: datetime,
) -> list[bytes]:
    """Return the packed entries of `tag` (32 bytes): `events` as `listed_events` selected them, in the same
    order.

    Each is packed as `sealed.pack_event` does it, in one step, because a build seals millions.

    Only one bit of the recorded expiry is sealed. A client computes the policy's expiry itself, and the recorded one
    counts only if it is earlier. A snapshot is valid for 24 hours at most, so at most one midnight is within its life,
    that of the day after `as_of`. An earlier expiry has passed, and a later one is after `not_after`; so the bit says
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
    """A standing from sealed entries. If `bounded`, a direct lookup may differ: it has never a lower tier, more credit
    or fewer points. Events, marks and matched kinds are equal even then; reporters and reasons are those that are
    certain."""

    standing: Standing
    bounded: bool


def standing_of(
    opened: Iterable[tuple[Kind, bytes, Sequence[SealedEvent]]], policy: Policy, as_of: datetime, now: datetime
) -> PrivateStanding:
    """Return the standing at `now` of the person whose identifiers have these tags (32 bytes each) and opened entries.

    `policy` and `as_of` are the manifest's; a `now` before `as_of`, of a slow clock, is replaced by `as_of`. The answer
    is `bounded` if two tags or more have counting events; if only one has, no other identifier can match the same
    reports, and the answer is exact. Raises SnapshotExpired after the second midnight since `as_of`, because an entry
    does not show whether its event has expired by then, and InvalidBucket for an entry of another format than that of
    the policy's snapshots, or of a severity that the policy does not have.
    """
    if day_floor(now) > day_floor(as_of) + 1:
        raise SnapshotExpired("The snapshot is too old to be answered from.")
    parts = [
        _visible(kind, sealed, policy, as_of, max(now, as_of))
        for (kind, _), sealed in {(kind, tag): sealed for kind, tag, sealed in opened}.items()
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
    """Return the visible events of one tag at `now`. Report ids are counted up from 0: no answer depends on them."""
    tomorrow, with_severity = day_floor(as_of) + 1, sealed_format(policy) == FORMAT_2
    weights: dict[str, int] = {}
    events = []
    for number, entry in enumerate(sealed):
        if (entry.severity is not None) != with_severity:
            raise InvalidBucket("An entry is in another format than the snapshots of its policy.")
        severity = policy.severity.get(entry.conduct) if entry.severity is None else entry.severity
        if severity is None or severity not in policy.retention_days:
            raise InvalidBucket("An entry has a severity that the snapshot's policy does not have.")
        group = entry.group.hex()
        weights[group] = entry.weight
        events.append(
            Event(
                report_id=number,
                act_id=int.from_bytes(entry.act, "big"),
                control_group=group,
                conduct=entry.conduct,
                act_day=entry.act_day,
                effective_hour=entry.effective_hour,
                expires_day=tomorrow if entry.expires_next_day else entry.act_day + policy.retention_days[severity],
                matched=frozenset({kind}),
                disputed=entry.disputed,
                restituted=entry.restituted,
                has_statement=entry.has_statement,
                severity=severity,
            )
        )
    return visible_events(events, weights, policy, now)


def _certain(by_tag: Sequence[Sequence[Counted]], union: Sequence[Counted], policy: Policy) -> EventCorroboration:
    """Return the certain part of the corroboration between the counting events of several tags.

    More events never lower G2, the number of groups, or a group's number of acts, and nor does a stronger match: a
    minimum of one tag alone is a minimum for the person. Points of acts that a strong identifier matches are exact
    except for reports that two weak ones match together. It is never certain that all reports are of one group.
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
    """True if no report can match a strong identifier, or weak ones of two kinds. Entries of one report differ only in
    the group's pseudonym, so two that differ otherwise are two reports."""
    kinds_of: dict[tuple[int | str, ...], frozenset[Kind]] = {}
    for event, points in counting:
        if is_strong(event):
            return False
        marks = (event.expires_day, event.restituted, event.has_statement)
        key = (event.act_id, event.conduct, event.act_day, event.effective_hour, points, *marks)
        if kinds_of.setdefault(key, event.matched) != event.matched:
            return False
    return True
