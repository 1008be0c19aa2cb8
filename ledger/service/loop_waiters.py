"""Waiting in an event loop for what another thread does in batches.

`asyncio.wrap_future` costs each waiter two futures and the loop one wake-up each. Here a waiter is one future of the
loop, and all outcomes that are there when the loop gets to them are taken with one wake-up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


class LoopWaiters(Generic[Outcome]):
    """The waiters of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._told: deque[tuple[asyncio.Future[Outcome], Outcome | None, BaseException | None]] = deque()
        self._awake = False

    def new(self) -> LoopWaiter[Outcome]:
        """A waiter. Call it in the loop."""
        return LoopWaiter(self, self.loop.create_future())

    def tell(self, future: asyncio.Future[Outcome], result: Outcome | None, error: BaseException | None) -> None:
        """Settle `future` in the loop. Call it in any thread."""
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
            if future.done():  # given up
                continue
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(error)


class LoopWaiter(Generic[Outcome]):
    """A `ledger.service.batcher.Waiter`; await `future` in the loop."""

    __slots__ = ("_waiters", "future")

    def __init__(self, waiters: LoopWaiters[Outcome], future: asyncio.Future[Outcome]) -> None:
        self._waiters = waiters
        self.future = future

    def set_running_or_notify_cancel(self) -> bool:
        """Whether it is still waited for."""
        return not self.future.cancelled()

    def set_result(self, result: Outcome, /) -> None:
        """Take the outcome."""
        self._waiters.tell(self.future, result, None)

    def set_exception(self, exception: BaseException | None, /) -> None:
        """Take the error."""
        self._waiters.tell(self.future, None, exception)
