"""Who waits for whom when many sign in at once.

Computing a password's hash takes 64 MiB and a tenth of a second, so few are computed at a time. Browsers that somebody
has signed in with before (device cookies) have a place of their own. All other attempts stand in one queue, in which
only an attempt that may succeed computes anything: one with a made-up name, or for an account that is locked, waits its
turn and then as long as a hash would take. So a flood of made-up names keeps no colleague waiting, and neither the
answer nor the time tells whether there is such an account.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from ledger.errors import TooManyAttempts

STRANGERS_AT_A_TIME = 2
KNOWN_AT_A_TIME = 1
"""One: the attempts of a device are counted when they are refused."""
MAX_WAITING = 500
"""Attempts of a queue that wait at a time in a process; they hold no thread."""
WAIT_SECONDS = 5.0
LOOKS_AT_A_TIME = 4
ANSWER_SECONDS = 0.5
"""A refused attempt is answered at a multiple of this after it came in."""
FIRST_WORK_SECONDS = 0.1

T = TypeVar("T")


class Line:
    """A queue in the order of arrival. `at_a_time` have their turn, each with a thread."""

    def __init__(self, at_a_time: int) -> None:
        self._turns = asyncio.Semaphore(at_a_time)
        self._threads = CapacityLimiter(at_a_time)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn. Raises TooManyAttempts when too many wait, or it does not come in time."""
        if self._waiting >= MAX_WAITING:
            raise _too_many()
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise _too_many() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    async def run(self, work: Callable[[], T]) -> T:
        """`work` in a thread of the queue, in turn. Raises TooManyAttempts, and what `work` raises."""
        async with self.turn():
            return await to_thread.run_sync(work, limiter=self._threads)


class Queues:
    """The queues of one event loop, and how long judging an attempt took lately."""

    def __init__(self) -> None:
        self.strangers = Line(STRANGERS_AT_A_TIME)
        self.known = Line(KNOWN_AT_A_TIME)
        self.enrolling = Line(STRANGERS_AT_A_TIME)
        self._looks = CapacityLimiter(LOOKS_AT_A_TIME)
        self._known_looks = CapacityLimiter(LOOKS_AT_A_TIME)
        self._work_seconds = FIRST_WORK_SECONDS

    async def look(self, work: Callable[[], T], has_cookie: bool) -> T:
        """A quick look at the database, in a thread that the API does not need. Browsers that send a device cookie,
        good or not, do not wait for those that send none."""
        return await to_thread.run_sync(work, limiter=self._known_looks if has_cookie else self._looks)

    async def judge(self, line: Line, work: Callable[[], T]) -> T:
        """`work` in turn. Raises TooManyAttempts, and what `work` raises."""

        def timed() -> T:
            started = monotonic()
            try:
                return work()
            finally:
                self._work_seconds += (monotonic() - started - self._work_seconds) / 8

        return await line.run(timed)

    async def pretend(self) -> None:
        """Wait as long as an attempt that is judged: for the turn, which is given on at once, and for the hash."""
        async with self.strangers.turn():
            pass
        await asyncio.sleep(self._work_seconds)


async def until_answer(started: float) -> None:
    """Wait until a refusal of what came in at `started` (of `monotonic`) is answered."""
    await asyncio.sleep(-(monotonic() - started) % ANSWER_SECONDS if ANSWER_SECONDS else 0)


_QUEUES: RunVar[Queues] = RunVar("console logins")


def queues() -> Queues:
    """The queues of this event loop."""
    try:
        return _QUEUES.get()
    except LookupError:
        made = Queues()
        _QUEUES.set(made)
        return made


def _too_many() -> TooManyAttempts:
    return TooManyAttempts("Too many people are signing in. Try again.", retry_after_seconds=2)
