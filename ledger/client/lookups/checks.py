"""Checks: standings computed on this machine from the newest snapshot of the ledger."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from ledger.client.inputs import check_consent_ref, check_identifiers, check_refund
from ledger.client.lookups.local_standing import (
    POLICIES,
    CheckPolicy,
    check_answer,
    check_downloaded,
    check_privately,
    claim_of,
    require_elements,
)
from ledger.client.lookups.request import Refund
from ledger.client.models.lookups import Check
from ledger.client.session import Session
from ledger.client.snapshots.reader import Snapshot
from ledger.client.subjects import Buyer, Canonical, Identifiers, normalise
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.event_log import proof_errors_logged
from ledger.errors import InvalidRequest, SnapshotUnknown, StaleEpoch, Unavailable, UnexpectedAnswer
from ledger.rules.guidance import Claim

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Checks:
    """Computes standings from a snapshot. `RefundLedger.check`, `check_tags` and `refresh_snapshot` document what each
    does."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def check(
        self,
        buyer: Buyer | Identifiers,
        *,
        policy: CheckPolicy,
        refund: Refund | None,
        consent_ref: str | None,
        region: str | None,
    ) -> Check:
        """Return the buyer's standing as of the newest snapshot. Raises InvalidRequest for an unknown `policy`, and
        what `RefundLedger.check` names."""
        if policy not in POLICIES:
            raise InvalidRequest(f"A check's policy is one of: {', '.join(POLICIES)}.")
        check_refund(refund)
        check_consent_ref(consent_ref)
        self._session.check_consent(consent_ref, "check")
        claim = claim_of(refund)
        whole = policy == "download"
        person = buyer if isinstance(buyer, Buyer) else normalise(check_identifiers(buyer, region), region)
        if isinstance(person, Buyer) and not whole:
            require_elements(person.subjects)
        ready = self._session.snapshots.ready(whole_filter=whole, whole_buckets=whole) if whole else None
        known = None if ready is None else self._known_under(person, ready.manifest.epoch)
        if ready is not None and known is not None and not self._session.snapshots.is_due(ready):
            return self._downloaded(ready, known, claim)
        try:
            with proof_errors_logged("check"):
                return self._session.transport.in_own_thread(
                    self._session.check_budget_seconds, partial(self._checked_by, person, policy, claim, consent_ref)
                )
        except (Unavailable, UnexpectedAnswer):
            if ready is None or known is None:
                raise
            return self._downloaded(ready, known, claim)

    def _downloaded(self, snapshot: Snapshot, buyer: Buyer, claim: Claim) -> Check:
        now = self._session.now()
        return check_answer(check_downloaded(snapshot, buyer, now), snapshot, "download", claim, now)

    def check_tags(self, tags: bytes | NDArray[np.uint8], epoch: int) -> NDArray[np.bool_]:
        """Return for each tag whether it may be listed: see `RefundLedger.check_tags`, also for the errors."""
        snapshot = self._session.snapshots.current(whole_filter=True, whole_buckets=False)
        if epoch != snapshot.manifest.epoch:
            snapshot = self._session.snapshots.current(whole_filter=True, whole_buckets=False, fresh=True)
            _check_same_epoch(epoch, snapshot)
        assert snapshot.filter is not None
        return snapshot.filter.contains_many(tags)

    def refresh_snapshot(self, *, buckets: bool) -> datetime:
        """Fetch the newest snapshot and return its time: see `RefundLedger.refresh_snapshot`, also for the errors."""
        snapshot = self._session.snapshots.current(whole_filter=True, whole_buckets=buckets, fresh=True)
        return snapshot.manifest.as_of

    def _checked_by(
        self, person: Buyer | Canonical, policy: CheckPolicy, claim: Claim, consent_ref: str | None, limit: Deadline
    ) -> Check:
        """Return the check of a person, who is blinded first where needed, from a snapshot, which is fetched first
        where needed."""
        whole = policy == "download"

        def current(*, fresh: bool = False) -> Snapshot:
            snapshot = self._session.snapshots.current(
                whole_filter=whole, whole_buckets=whole, fresh=fresh, limit=limit
            )
            self._session.check_consent(consent_ref, "check", snapshot)  # it may bring a policy that was not known
            return snapshot

        snapshot = current()
        if isinstance(person, Buyer):
            known = person
        else:
            known = self._session.remembered(person, snapshot.manifest.epoch) or self._session.tag_in_time(
                person, limit
            )
        if known.epoch != snapshot.manifest.epoch:
            snapshot = current(fresh=True)
            _check_same_epoch(known.epoch, snapshot)
        if whole:
            standing = check_downloaded(snapshot, known, self._session.now())
        else:
            try:
                standing = check_privately(self._session.snapshots, snapshot, known, self._session.now())
            except SnapshotUnknown:  # the server has dropped this version: once more with its newest
                snapshot = current(fresh=True)
                _check_same_epoch(known.epoch, snapshot)
                standing = check_privately(self._session.snapshots, snapshot, known, self._session.now())
        return check_answer(standing, snapshot, policy, claim, self._session.now())

    def _known_under(self, person: Buyer | Canonical, epoch: int) -> Buyer | None:
        """Return the buyer under `epoch`, if that takes no request."""
        if isinstance(person, Buyer):
            return person if person.epoch == epoch else None
        return self._session.remembered(person, epoch)


def _check_same_epoch(epoch: int, snapshot: Snapshot) -> None:
    theirs = snapshot.manifest.epoch
    if epoch < theirs:
        raise StaleEpoch("The snapshot is of a later key epoch than this buyer. Blind again.", epoch=theirs)
    if epoch > theirs:
        raise Unavailable("There is no snapshot of the new key epoch yet. Try again.", retry_after_seconds=60)
