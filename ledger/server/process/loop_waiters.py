"""Waiting in an event loop for work that another thread does in batches.

`asyncio.wrap_future` costs each waiter two futures and the loop one wake-up each. Here a waiter is one future of the
loop, and one wake-up takes all outcomes that are ready when the loop runs it. Where waiting has a limit, one timer of
the loop serves all waiters: `asyncio.timeout` would cost each of them its own timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


class LoopWaiters(Generic[Outcome]):
    """The waiters of one event loop. A waiter that has waited for `limit_seconds` gets the error that `late`
    creates."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit_seconds: float | None = None,
        late: Callable[[], BaseException] = TimeoutError,
    ) -> None:
        self.loop = loop
        self._limit_seconds = limit_seconds
        self._late = late
        self._waiting: deque[tuple[float, asyncio.Future[Outcome]]] = deque()
        """Ordered by the time when they are late; those that are done are removed when the timer reaches them."""
        self._timed = False
        self._told: deque[tuple[asyncio.Future[Outcome], Outcome | None, BaseException | None]] = deque()
        self._awake = False

    def new(self) -> LoopWaiter[Outcome]:
        """Return a new waiter. Must be called in the loop."""
        future: asyncio.Future[Outcome] = self.loop.create_future()
        if self._limit_seconds is not None:
            due = self.loop.time() + self._limit_seconds
            self._waiting.append((due, future))
            if not self._timed:
                self._timed = True
                self.loop.call_at(due, self._expire)
        return LoopWaiter(self, future)

    def _expire(self) -> None:
        now = self.loop.time()
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= now):
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._late())
        self._timed = bool(self._waiting)
        if self._timed:
            self.loop.call_at(self._waiting[0][0], self._expire)

    def tell(self, future: asyncio.Future[Outcome], result: Outcome | None, error: BaseException | None) -> None:
        """Settle `future` in the loop. May be called in any thread."""
        self._told.append((future, result, error))
        if not self._awake:
            self._awake = True
            try:
                self.loop.call_soon_threadsafe(self._take)
            except RuntimeError:  # the loop has ended, and nothing waits in it any more
                self._told.clear()

    def _take(self) -> None:
        self._awake = False  # first: what is appended from now on wakes the loop again
        while self._told:
            future, result, error = self._told.popleft()
            if future.done():  # abandoned
                continue
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)


class LoopWaiter(Generic[Outcome]):
    """A `ledger.server.process.batcher.Waiter`; await its `future` in the loop."""

    __slots__ = ("_waiters", "future")

    def __init__(self, waiters: LoopWaiters[Outcome], future: asyncio.Future[Outcome]) -> None:
        self._waiters = waiters
        self.future = future

    def set_running_or_notify_cancel(self) -> bool:
        """Return True if the outcome the caller awaited."""
        return not self.future.done()

    def set_result(self, result: Outcome, /) -> None:
        """Send the outcome to the loop."""
        self._waiters.tell(self.future, result, None)

    def set_exception(self, exception: BaseException | None, /) -> None:
        """Send the error to the loop."""
        self._waiters.tell(self.future, None, exception)
