"""The entries of a snapshot, one field after the other: what a build packs in one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from ledger.protocol.encoding import day_floor
from ledger.rules.policy.values import Policy
from ledger.rules.standing import FULL_WEIGHT
from ledger.snapshots.private_standing import SealableReport, sealed_format
from ledger.snapshots.sealed import FORMAT_2, SealedEvent, SnapshotKeys, act_pseudonym, group_pseudonyms


def to_sealed(
    events: Sequence[SealableReport],
    weights: Mapping[str, int],
    policy: Policy,
    keys: SnapshotKeys,
    tag: bytes,
    as_of: datetime,
) -> list[SealedEvent]:
    """Return the entries of `tag` (32 bytes): the events that `told_events` chose, in the same order."""
    tomorrow, with_severity = day_floor(as_of) + 1, sealed_format(policy) == FORMAT_2
    groups = group_pseudonyms(keys, tag, [event.control_group for event in events])
    return [
        SealedEvent(
            act_pseudonym(keys, event.act_id),
            groups[event.control_group],
            event.conduct,
            event.act_day,
            event.effective_hour,
            weights.get(event.control_group, FULL_WEIGHT),
            event.disputed,
            event.restituted,
            event.has_statement,
            event.expires_day == tomorrow < policy.expiry_day(event.conduct, event.act_day),
            policy.severity[event.conduct] if with_severity else None,
        )
        for event in events
    ]
