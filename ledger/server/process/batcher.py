"""One thread that processes waiting items in batches, so that many items share one commit.

A caller submits an item and gets a Future. The thread takes all waiting items (up to a limit), passes them to `process`
in one call, and settles the futures. `process` returns one outcome per item: a value, or an exception that belongs to
that item alone. If `process` itself raises, no item of the batch was processed. An outage is returned to all items;
after any other error the items are processed one by one, so that the others still succeed.

No item waits without a limit. A second thread checks the waiting items: an item that is older than `answer_seconds`
gets Unavailable, whether it is still in the queue or in a call of `process` that hangs. During such a call new items
are refused at once. If an item was abandoned during a call of `process`, only the caller's idempotency key can show
whether it was processed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Generic, Protocol, TypeVar

from ledger.errors import LedgerError, Overloaded, Unavailable
from ledger.server.process.supervision import Progress, State

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Received = TypeVar("Received", contravariant=True)

ANSWER_SECONDS = 30.0
"""The maximum time that an item waits for its outcome; after it, the item gets Unavailable."""

STUCK_SECONDS = 5.0
"""A call of `process` that takes longer than this is shown as stuck."""

_LOOK_SECONDS = 0.5

log = logging.getLogger(__name__)


class Waiter(Protocol[Received]):
    """The receiver of an outcome: a `concurrent.futures.Future`, or any object with these methods of it."""

    def set_running_or_notify_cancel(self) -> bool:
        """True if the caller still waits for the item."""

    def set_result(self, result: Received, /) -> None:
        """Store the outcome. May raise InvalidStateError when there is one already."""

    def set_exception(self, exception: BaseException | None, /) -> None:
        """Store the error. May raise InvalidStateError when there is an outcome already."""


class Batcher(Generic[Item, Outcome]):
    """The thread of the module docstring.

    Each call of `process` gets at most `max_batch` items. Wait up to `linger_ms` for more items before a batch is
    processed. At most `queue_limit` items wait.
    """

    def __init__(
        self,
        name: str,
        process: Callable[[Sequence[Item]], Sequence[Outcome | LedgerError]],
        *,
        max_batch: int,
        linger_ms: float,
        queue_limit: int,
        answer_seconds: float = ANSWER_SECONDS,
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        self.name = name
        self._process = process
        self._max_batch = max_batch
        self._linger_seconds = linger_ms / 1000
        self._queue_limit = queue_limit
        self._answer_seconds, self._stuck_seconds = answer_seconds, stuck_seconds
        self._waiting: deque[tuple[Item, Waiter[Outcome]]] = deque()
        self._arrivals: deque[tuple[float, int]] = deque()
        """When groups of items arrived, and how many of each still wait. The numbers add up to the length of
        `_waiting`."""
        self._changed = threading.Condition()
        self._closing = False
        self._ended = threading.Event()
        self._batch: list[tuple[Item, Waiter[Outcome]]] = []
        self._batch_since: float | None = None
        self._failures = self._restarts = 0
        self._succeeded_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._looker = threading.Thread(target=self._look, name=f"{name}-deadline", daemon=True)
        self._thread.start()
        self._looker.start()

    def submit(self, item: Item) -> Future[Outcome]:
        """Queue `item` and return its Future. Raises Overloaded when too many wait, Unavailable while closing or when
        `process` hangs."""
        return self.submit_many([item])[0]

    def submit_many(self, items: Sequence[Item]) -> list[Future[Outcome]]:
        """Queue `items` together, all or none, in order, and return their Futures. Raises Overloaded, Unavailable as
        `submit` does."""
        futures: list[Future[Outcome]] = [Future() for _ in items]
        self.put(list(zip(items, futures, strict=True)))
        return futures

    def put(self, pairs: Sequence[tuple[Item, Waiter[Outcome]]]) -> None:
        """Queue pairs of an item and its waiter, as `submit_many` does. Raises Overloaded, Unavailable."""
        now = time.monotonic()
        with self._changed:
            if self._closing:
                raise Unavailable("The server is shutting down. Try again.", retry_after_seconds=1)
            since = self._batch_since
            if since is not None and now - since > self._answer_seconds:
                raise Unavailable("The server's work does not go on. Try again.", retry_after_seconds=1)
            if len(self._waiting) + len(pairs) > self._queue_limit:
                raise Overloaded("Too many requests are waiting. Try again.", retry_after_seconds=1)
            self._waiting.extend(pairs)
            self._arrivals.append((now, len(pairs)))
            self._changed.notify()

    def alive(self) -> bool:
        """True if the thread runs and accepts items."""
        return self._thread.is_alive() and not self._closing

    def waiting(self) -> int:
        """Return the number of items in the queue."""
        return len(self._waiting)

    def progress(self) -> Progress:
        """Return its progress: `stuck` when one call takes longer than `stuck_seconds`.

        The age is 0 while there is no work. Failures in a row do not change the state: without new items nothing could
        show that they are over.
        """
        since = self._batch_since
        now = time.monotonic()
        state: State = "ok"
        if not self.alive():
            state = "stopped"
        elif since is not None and now - since > self._stuck_seconds:
            state = "stuck"
        age = now - self._succeeded_at if since is not None or self._failures else 0.0
        return Progress(state, max(0.0, age), self._failures, self._restarts)

    def close(self, timeout_seconds: float | None = None) -> bool:
        """Process the waiting items, then stop. True if that ended within the time (None: no limit). Items that are not
        processed by then get Unavailable."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)
        ended = not self._thread.is_alive()
        self._ended.set()
        if not ended:
            self._give_up("The server is shutting down. Try again.", everything=True)
        self._looker.join(timeout_seconds)
        return ended

    def _run(self) -> None:
        while True:
            try:
                if not self._turn():
                    return
            except BaseException as error:  # no error may end this thread: later items would wait without end
                self._restarts += 1
                log.exception("batcher_failed %s", self.name, extra={"worker": self.name})
                for _, waiter in self._batch:
                    self._tell(waiter, None, Unavailable("The server failed. Try again.", retry_after_seconds=1))
                if not isinstance(error, Exception):
                    time.sleep(_LOOK_SECONDS)
            finally:
                self._batch, self._batch_since = [], None

    def _turn(self) -> bool:
        """Wait for items and process one batch. False when closing and no item waits."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._waiting:
                return False
            alone = len(self._waiting) < self._max_batch and not self._closing
        if alone and self._linger_seconds:
            time.sleep(self._linger_seconds)
        with self._changed:
            batch = self._pop(min(self._max_batch, len(self._waiting)))
            # A request that was abandoned before its turn is not begun; one that was begun is finished.
            batch = [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
            if not self._failures:
                self._succeeded_at = time.monotonic()  # it was idle until now
            self._batch, self._batch_since = batch, time.monotonic()
        if batch:
            self._settle(batch)
        return True

    def _pop(self, count: int) -> list[tuple[Item, Waiter[Outcome]]]:
        taken = [self._waiting.popleft() for _ in range(count)]
        while count > 0 and self._arrivals:
            came_at, number = self._arrivals.popleft()
            if number > count:
                self._arrivals.appendleft((came_at, number - count))
            count -= number
        return taken

    def _settle(self, batch: list[tuple[Item, Waiter[Outcome]]]) -> None:
        try:
            outcomes = self._process([item for item, _ in batch])
        except Unavailable as error:
            self._failures += 1
            for _, waiter in batch:
                self._tell(waiter, None, error)
            return
        except Exception as error:
            if len(batch) == 1:
                self._failures += 1
                log.exception("batch_item_failed")
                self._tell(batch[0][1], None, error)
                return
            log.warning("batch_failed_retrying_singly", extra={"items": len(batch)})
            for pair in batch:
                self._settle([pair])
            return
        for (_, waiter), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, LedgerError):
                self._tell(waiter, None, outcome)
            else:
                self._tell(waiter, outcome, None)
        self._failures, self._succeeded_at = 0, time.monotonic()

    @staticmethod
    def _tell(waiter: Waiter[Outcome], outcome: Outcome | None, error: BaseException | None) -> None:
        try:
            if error is None:
                waiter.set_result(outcome)  # type: ignore[arg-type]
            else:
                waiter.set_exception(error)
        except InvalidStateError:
            pass  # it was abandoned in the meantime

    def _look(self) -> None:
        """Answer the items that wait too long, until the batcher ends."""
        while not self._ended.wait(min(_LOOK_SECONDS, self._answer_seconds / 4)):
            try:
                self._give_up("The server's work does not go on. Try again.", everything=False)
            except Exception:
                log.exception("batcher_failed %s", self.name, extra={"worker": self.name})

    def _give_up(self, why: str, *, everything: bool) -> None:
        now = time.monotonic()
        with self._changed:
            late = len(self._waiting) if everything else 0
            if not everything:
                for came_at, number in self._arrivals:
                    if now - came_at <= self._answer_seconds:
                        break
                    late += number
            abandoned = [pair for pair in self._pop(late) if pair[1].set_running_or_notify_cancel()]
            since = self._batch_since
            if since is not None and (everything or now - since > self._answer_seconds):
                abandoned += self._batch
                self._batch = []
        if abandoned:
            log.error("batcher_gave_up %s", self.name, extra={"worker": self.name, "items": len(abandoned)})
        for _, waiter in abandoned:
            self._tell(waiter, None, Unavailable(why, retry_after_seconds=1))
