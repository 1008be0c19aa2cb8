"""All holders of a ledger's key, as one platform uses them: whom to ask, under which sharing, and what is known of
each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from ledger.client.holders.cards import PinnedCards
from ledger.client.holders.connection import CallingPlatform, HolderConnection, HolderConnections
from ledger.client.holders.evaluation import Attempts, GroupEvaluation, HolderFailures, note_failure
from ledger.client.identity.epochs import Epochs
from ledger.client.identity.suite import is_loopback
from ledger.client.models.key_holders import KeyHolder, KeyHolders
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.event_log import log_event
from ledger.errors import LedgerError, StaleEpoch, StaleGeneration, Unavailable
from ledger.protocol.fingerprints import fingerprint
from ledger.protocol.threshold import HolderKey, KeySet, VerifiedShare

EARLIER_GENERATION_SECONDS = 60.0
"""The time for which an earlier generation of the key is asked for first, once holders did not know the newest yet."""
LAST_SECONDS = 0.05
"""The part of a call's time that is kept, at most, to name the holders that did not answer in it."""
_LAST_PART = 0.05

Follow = Callable[[int, Deadline | None], None]
"""Has the newest sharing of an epoch's key proven from the log, by the deadline or with retries."""


class HolderGroup:
    """The holders of the key of each epoch that `epochs` holds. Thread-safe."""

    def __init__(
        self,
        epochs: Epochs,
        cards: PinnedCards,
        platform: CallingPlatform,
        follow: Follow,
        *,
        budget_seconds: float,
        attempt_seconds: float,
    ) -> None:
        self._epochs = epochs
        self._cards = cards
        self._follow = follow
        self._budget_seconds = budget_seconds
        self._attempt_seconds = attempt_seconds
        self._connections = HolderConnections(platform)
        self._earlier: dict[int, tuple[KeySet, float]] = {}
        self._described = False
        self.failures = HolderFailures()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def open(self) -> None:
        """Prepare the connections to the holders of the current key, and log once who they are. A holder that cannot be
        connected to is logged and counted. Raises StaleEpoch while the current key is not proven."""
        described = self.described()
        if not described.single:
            for holder in self._epochs.keys(described.epoch).holders:
                try:
                    self._connection(described.epoch, holder).open()
                except LedgerError as error:
                    note_failure(self.failures, holder.holder, error)
        if not self._described:
            self._described = True
            log_event(
                "key_holders",
                level=logging.INFO,
                threshold=described.threshold,
                holders=len(described.holders),
                generation=described.generation,
                single=described.single,
            )

    def described(self) -> KeyHolders:
        """Return who holds the current key, as far as is known. Raises StaleEpoch while its holders are not proven."""
        epoch = self._epochs.current
        keys = self._epochs.keys(epoch)
        stated = self._epochs.stated(epoch, keys.generation)
        holders = []
        for holder in keys.holders:
            facts = self._epochs.listed(epoch, holder.holder) if stated is None else stated.holder(holder.index)
            holders.append(
                KeyHolder(
                    holder.holder,
                    facts.organisation if facts else None,
                    facts.operator if facts else None,
                    self._url(epoch, holder),
                )
            )
        digits = None if stated is None else fingerprint(stated.canonical)
        return KeyHolders(epoch, keys.generation, keys.threshold, tuple(holders), digits)

    def post_each(
        self, path: str, content: bytes, retrying: Callable[[Callable[[Deadline], object]], object]
    ) -> dict[str, LedgerError | None]:
        """POST the same to each holder of the current key, one after the other and with retries. Return for each the
        error of its refusal, or None. Raises StaleEpoch while the holders are not proven."""
        epoch = self._epochs.current
        outcomes: dict[str, LedgerError | None] = {}
        for holder in self._epochs.keys(epoch).holders:
            try:
                retrying(partial(self._connection(epoch, holder).post, path, content))
                outcomes[holder.holder] = None
            except LedgerError as error:
                outcomes[holder.holder] = error
        return outcomes

    def start(
        self, epoch: int, blinded: Sequence[bytes], limit: Deadline | None, again: bool
    ) -> Callable[[], list[VerifiedShare]]:
        """Have all holders evaluate a batch; return the function that waits for the shares of the threshold's number
        of them, by `limit` or else within the budget of requests. It raises what `GroupEvaluation.shares` does, and
        StaleEpoch if another epoch is current.

        `again`: ask a holder again that failed for a reason that passes.
        """
        evaluation = self._evaluation(epoch, self._keys_in_use(epoch), blinded, limit, again)
        return partial(self._shares, epoch, evaluation, blinded, limit, again)

    def _shares(
        self, epoch: int, evaluation: GroupEvaluation, blinded: Sequence[bytes], limit: Deadline | None, again: bool
    ) -> list[VerifiedShare]:
        """Return the shares. If holders use another epoch or generation, follow the log and ask once more; for 24 hours
        after a refresh the generation before it may be in use."""
        stale: StaleEpoch | StaleGeneration
        try:
            return evaluation.shares()
        except (StaleEpoch, StaleGeneration) as error:
            stale = error
        self._follow(epoch, limit)
        if not self._epochs.evaluates(epoch):
            raise StaleEpoch("This key epoch is not evaluated any more, or not yet.", epoch=self._epochs.current)
        for place, keys in enumerate(self._epochs.sharings(epoch)[:2]):
            if keys == evaluation.keys:
                continue
            try:
                shares = self._evaluation(epoch, keys, blinded, limit, again).shares()
            except (StaleEpoch, StaleGeneration) as error:
                stale = error
                continue
            self._earlier.pop(epoch, None)
            if place > 0:
                self._earlier[epoch] = keys, time.monotonic() + EARLIER_GENERATION_SECONDS
            return shares
        details = {name: value for name, value in stale.details.items() if name != "status"}
        raise Unavailable(f"The key holders do not use the key that the log announced. {stale}", **details)

    def _evaluation(
        self, epoch: int, keys: KeySet, blinded: Sequence[bytes], limit: Deadline | None, again: bool
    ) -> GroupEvaluation:
        left = self._budget_seconds if limit is None else limit.left()
        # It ends a little before the call's own time does, which says nothing about holders.
        attempts = Attempts(Deadline(left - min(left * _LAST_PART, LAST_SECONDS)), self._attempt_seconds, again)
        return GroupEvaluation(epoch, keys, blinded, attempts, partial(self._connection, epoch), self.failures)

    def _keys_in_use(self, epoch: int) -> KeySet:
        """Return the newest sharing, or for a minute the one before it after holders were not ready for the newest."""
        earlier, until = self._earlier.get(epoch, (None, 0.0))
        if earlier is not None and time.monotonic() < until:
            return earlier
        return self._epochs.keys(epoch)

    def _connection(self, epoch: int, holder: HolderKey) -> HolderConnection:
        """Return the connection to a holder. Raises ConfigurationError, Unavailable."""
        return self._connections.to(holder.holder, self._url(epoch, holder))

    def _url(self, epoch: int, holder: HolderKey) -> str | None:
        """Return the address of a holder: that of its card, else the one that the operator lists. A ledger elsewhere
        must not have requests sent to services of this machine."""
        listed = self._epochs.listed(epoch, holder.holder)
        url = listed.url if listed else None
        if url is not None and is_loopback(url) and not self._epochs.of_this_machine:
            url = None
        return self._cards.urls.get(holder.holder) or url
