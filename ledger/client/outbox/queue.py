"""`ledger.outbox`: send, list and drop the items that wait on this machine's disk."""

from __future__ import annotations

from typing import Any

from ledger.client.models.reports import Delivery
from ledger.client.outbox.store import Item, ItemState, Waiting
from ledger.client.renamed import warn_renamed
from ledger.client.session import Session

Deliveries = list[Delivery[Any]]
Items = list[Item]


class OutboxQueue:
    """Items that are `pending`, `parked` (waiting for the end of an appeal) or `refused` for good. Each method raises
    ConfigurationError where the file of the outbox cannot be opened, read or written."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def flush(self, *, parked: bool = False) -> Deliveries:
        """Send pending items, and parked ones that are due, until all are sent or the ledger cannot be reached.

        Return one result for each item, oldest first. Call it at start and every few minutes. With `parked`, all parked
        items are tried at once: after a webhook `appeal.decided` or `appeal.ended`.
        """
        outbox = self._session.outbox()
        outbox.expire(self._session.now(), self._session.refused_retention)
        waiting = outbox.waiting()
        if not waiting["pending"].count and not waiting["parked"].count:
            return []
        return self._session.sender().flush(parked=parked)

    def list(self, state: ItemState | None = None) -> Items:
        """Return the items, oldest first; with `state`, those in that state."""
        return self._session.outbox().items(state)

    def waiting(self) -> dict[ItemState, Waiting]:
        """Return for each state the number of items, and when the oldest was added: for a gauge. Sends nothing."""
        return self._session.outbox().waiting()

    def retry(self, idempotency_key: str) -> None:
        """Make a refused or parked item pending again, after its cause was corrected. Raises NotFound."""
        self._session.outbox().retry(idempotency_key)

    def discard(self, idempotency_key: str) -> None:
        """Drop an item. A pending one may have been recorded all the same. Raises NotFound."""
        self._session.outbox().discard(idempotency_key)

    def discard_refused(self) -> int:
        """Drop all refused items, and return their number."""
        return self._session.outbox().discard_refused()

    def __call__(self, state: ItemState | None = None) -> Items:
        """Return `list(state)`: `ledger.outbox()` was a method until version 0.2.0."""
        warn_renamed("outbox", "outbox.list", stacklevel=2)
        return self.list(state)
