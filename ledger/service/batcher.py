"""One thread that does the waiting work in batches: what makes group commit a group.

A caller hands in an item and gets a Future. The thread takes everything that waits (up to a limit), hands it to
`process` in one call, and settles the futures. `process` returns one outcome an item: a value, or an exception
that belongs to that item alone. If `process` itself raises, nothing of the batch was done: an outage is told to all;
any other failure is found by running the items one by one, so that the others still succeed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from ledger.errors import LedgerError, Overloaded, Unavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Told = TypeVar("Told", contravariant=True)

log = logging.getLogger(__name__)


class Waiter(Protocol[Told]):
    """What waits for an outcome: a `concurrent.futures.Future`, or anything with these methods of one."""

    def set_running_or_notify_cancel(self) -> bool:
        """Whether the item is still wanted."""

    def set_result(self, result: Told, /) -> None:
        """Take the outcome."""

    def set_exception(self, exception: BaseException | None, /) -> None:
        """Take the error."""


class Batcher(Generic[Item, Outcome]):
    """See the module. `max_batch` items a call, `linger_ms` of waiting for company, `queue_limit` items waiting."""

    def __init__(
        self,
        name: str,
        process: Callable[[Sequence[Item]], Sequence[Outcome | LedgerError]],
        *,
        max_batch: int,
        linger_ms: float,
        queue_limit: int,
    ) -> None:
        self._process = process
        self._max_batch = max_batch
        self._linger_seconds = linger_ms / 1000
        self._queue_limit = queue_limit
        self._waiting: deque[tuple[Item, Waiter[Outcome]]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Outcome]:
        """Queue `item`. Raises Overloaded when too many wait, Unavailable while closing."""
        return self.submit_many([item])[0]

    def submit_many(self, items: Sequence[Item]) -> list[Future[Outcome]]:
        """Queue `items` together, all or none, in order. Raises as `submit` does."""
        futures: list[Future[Outcome]] = [Future() for _ in items]
        self.put(list(zip(items, futures, strict=True)))
        return futures

    def put(self, pairs: Sequence[tuple[Item, Waiter[Outcome]]]) -> None:
        """As `submit_many`, with what waits for each item."""
        with self._changed:
            if self._closing:
                raise Unavailable("The server is shutting down. Try again.", retry_after_seconds=1)
            if len(self._waiting) + len(pairs) > self._queue_limit:
                raise Overloaded("Too many requests are waiting. Try again.", retry_after_seconds=1)
            self._waiting.extend(pairs)
            self._changed.notify()

    def alive(self) -> bool:
        """Whether the thread runs and takes work."""
        return self._thread.is_alive() and not self._closing

    def close(self) -> None:
        """Finish what waits, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                alone = len(self._waiting) < self._max_batch and not self._closing
            if alone and self._linger_seconds:
                time.sleep(self._linger_seconds)
            with self._changed:
                batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
            # A request that was given up before its turn is not begun; one that was begun is finished.
            batch = [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
            if batch:
                self._settle(batch)

    def _settle(self, batch: list[tuple[Item, Waiter[Outcome]]]) -> None:
        try:
            outcomes = self._process([item for item, _ in batch])
        except Unavailable as error:
            for _, future in batch:
                future.set_exception(error)
            return
        except Exception as error:
            if len(batch) == 1:
                log.exception("batch_item_failed")
                batch[0][1].set_exception(error)
                return
            log.warning("batch_failed_retrying_singly", extra={"items": len(batch)})
            for pair in batch:
                self._settle([pair])
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, LedgerError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
