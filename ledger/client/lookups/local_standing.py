"""Standings computed on this machine from a snapshot: for `RefundLedger.check`, and for a lookup during an outage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from ledger.client.lookups.reasons import explained
from ledger.client.lookups.request import Refund
from ledger.client.models.lookups import Check, Lookup
from ledger.client.snapshots.reader import Snapshot, Snapshots
from ledger.client.subjects import Buyer, SubjectIds
from ledger.errors import InvalidRequest
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import parse_kind
from ledger.protocol.tags import prefix
from ledger.rules.guidance import Claim, advise
from ledger.rules.standing import CLEAN, Standing
from ledger.snapshots.private_standing import PrivateStanding, standing_of
from ledger.snapshots.sealed import SealedEvent, open_bucket

CheckPolicy = Literal["download", "private"]
POLICIES: tuple[CheckPolicy, ...] = ("download", "private")

_NEEDS_ELEMENTS = "This check needs the buyer's identifiers: a buyer made from tags alone cannot open sealed entries."


def claim_of(refund: Refund | None) -> Claim:
    """Return the claim of a refund (OTHER without one). Raises InvalidRequest."""
    try:
        return Claim.OTHER if refund is None else Claim(refund.claim)
    except ValueError as error:
        raise InvalidRequest(f"A claim is one of: {', '.join(Claim)}.") from error


def require_elements(subjects: Sequence[SubjectIds]) -> None:
    """Check that each subject has its element, without which its sealed entries cannot be opened. Raises
    InvalidRequest."""
    if any(subject.element is None for subject in subjects):
        raise InvalidRequest(_NEEDS_ELEMENTS)


def check_downloaded(snapshot: Snapshot, buyer: Buyer, now: datetime) -> PrivateStanding:
    """Return the standing from the filter and all buckets, with no request. Raises InvalidRequest (a listed identifier
    without its element), InvalidBucket, SnapshotExpired."""
    manifest = snapshot.manifest
    if snapshot.filter is None or snapshot.buckets is None:
        raise ValueError("the snapshot was not downloaded")
    listed = [subject for subject in buyer.subjects if snapshot.filter.contains(subject.tag)]
    require_elements(listed)
    size, buckets = manifest.bucket_bytes, {}
    for subject in listed:
        number = prefix(subject.tag, manifest.bits)
        buckets[number] = snapshot.buckets[number * size : (number + 1) * size]
    return _standing(snapshot, listed, buckets, now)


def check_privately(snapshots: Snapshots, snapshot: Snapshot, buyer: Buyer, now: datetime) -> PrivateStanding:
    """Return the standing from one bucket for each identifier. All buckets are fetched before the first is opened: the
    requests must not depend on who is listed.

    Raises InvalidRequest (a subject without its element), InvalidBucket, SnapshotUnknown, Unavailable.
    """
    require_elements(buyer.subjects)
    numbers = dict.fromkeys([prefix(subject.tag, snapshot.manifest.bits) for subject in buyer.subjects])
    buckets = {number: memoryview(snapshots.bucket(snapshot, number)) for number in numbers}
    return _standing(snapshot, buyer.subjects, buckets, now)


def _standing(
    snapshot: Snapshot, subjects: Sequence[SubjectIds], buckets: dict[int, memoryview], now: datetime
) -> PrivateStanding:
    manifest = snapshot.manifest
    opened: list[tuple[Any, bytes, list[SealedEvent]]] = []
    for subject in subjects:
        assert subject.element is not None
        number = prefix(subject.tag, manifest.bits)
        opened.append(
            (
                subject.kind,
                subject.tag,
                open_bucket(buckets[number], subject.element, subject.kind, manifest.version, number),
            )
        )
    return standing_of(opened, snapshot.latest.policy, manifest.as_of, now)


def check_answer(
    private: PrivateStanding, snapshot: Snapshot, source: CheckPolicy, claim: Claim, now: datetime
) -> Check:
    """Return the Check for a standing at `now`."""
    facts = _facts(private.standing, snapshot, claim, now)
    return Check(**facts, bounded=private.bounded, source=source, version=b64url(snapshot.manifest.version))


def clear_by_filter(snapshot: Snapshot, buyer: Buyer, claim: Claim, now: datetime) -> Lookup | None:
    """Return the Lookup of a buyer who is not in the filter; None if they may be in it, or if it is of another key
    epoch."""
    if snapshot.filter is None or buyer.epoch != snapshot.manifest.epoch:
        return None
    if any(snapshot.filter.contains(subject.tag) for subject in buyer.subjects):
        return None
    return Lookup(**_facts(CLEAN, snapshot, claim, now), source="local_filter")


def _facts(standing: Standing, snapshot: Snapshot, claim: Claim, now: datetime) -> dict[str, Any]:
    manifest, policy = snapshot.manifest, snapshot.latest.policy
    reasons = [explained(code) for code in standing.reasons]
    return {
        "tier": standing.tier.value,
        "credit": standing.credit,
        "points": standing.points,
        "events": standing.events,
        "reporters": standing.reporters,
        "disputed": standing.disputed,
        "protected": standing.protected,
        "has_statement": standing.has_statement,
        "reasons": tuple(reasons),
        "guidance": tuple([advice.value for advice in advise(standing, claim)]),
        "matched_kinds": tuple([parse_kind(kind) for kind in standing.matched_kinds]),
        "policy": str(policy.version),
        "as_of_index": manifest.cut,
        "as_of": manifest.as_of,
        "expires_at": min(now + timedelta(minutes=policy.lookup_expiry_minutes), manifest.not_after),
    }
