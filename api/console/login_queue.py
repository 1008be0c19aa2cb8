"""Queues of login attempts.

Computing a password's hash takes 64 MiB and a tenth of a second, so only a few are computed at a time. Browsers with a
device cookie (from an earlier login) have a queue of their own. All other attempts wait in one queue, in which a hash
is computed only for an attempt that may succeed: an attempt with an unknown name, or for a locked account, waits its
turn and then as long as a hash takes. So a flood of unknown names delays no member of staff, and neither the answer nor
its time shows whether an account exists.
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
"""Attempts of known devices at a time. One, because attempts of a device are counted when they are refused."""
MAX_WAITING = 500
"""Attempts that may wait in a queue of a process; they use no thread."""
WAIT_SECONDS = 5.0
LOOKS_AT_A_TIME = 4
ANSWER_SECONDS = 0.5
"""A refused attempt is answered after a multiple of this many seconds."""
FIRST_WORK_SECONDS = 0.1

T = TypeVar("T")


class LoginQueue:
    """A queue in the order of arrival. `at_a_time` attempts run at once, each in a thread."""

    def __init__(self, at_a_time: int) -> None:
        self._turns = asyncio.Semaphore(at_a_time)
        self._threads = CapacityLimiter(at_a_time)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn. Raises TooManyAttempts if too many attempts wait, or the turn does not come in time."""
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
        """Run `work` in a thread of the queue, in turn. Raises TooManyAttempts, and the errors of `work`."""
        async with self.turn():
            return await to_thread.run_sync(work, limiter=self._threads)


class Queues:
    """The queues of one event loop, and the recent duration of an attempt's check."""

    def __init__(self) -> None:
        self.strangers = LoginQueue(STRANGERS_AT_A_TIME)
        self.known = LoginQueue(KNOWN_AT_A_TIME)
        self.enrolling = LoginQueue(STRANGERS_AT_A_TIME)
        self._looks = CapacityLimiter(LOOKS_AT_A_TIME)
        self._known_looks = CapacityLimiter(LOOKS_AT_A_TIME)
        self._work_seconds = FIRST_WORK_SECONDS

    async def look(self, work: Callable[[], T], has_cookie: bool) -> T:
        """Run a quick query in a thread that the API does not need. Browsers that send a device cookie, valid or not,
        do not wait for those that send none."""
        return await to_thread.run_sync(work, limiter=self._known_looks if has_cookie else self._looks)

    async def judge(self, line: LoginQueue, work: Callable[[], T]) -> T:
        """Run `work` in turn. Raises TooManyAttempts, and the errors of `work`."""

        def timed() -> T:
            started = monotonic()
            try:
                return work()
            finally:
                self._work_seconds += (monotonic() - started - self._work_seconds) / 8

        return await line.run(timed)

    async def pretend(self) -> None:
        """Wait as long as an attempt that is checked: for the turn, which is released at once, and for the time of a
        hash."""
        async with self.strangers.turn():
            pass
        await asyncio.sleep(self._work_seconds)


async def until_answer(started: float) -> None:
    """Wait until the refusal of an attempt that arrived at `started` (of `monotonic`) may be answered."""
    await asyncio.sleep(-(monotonic() - started) % ANSWER_SECONDS if ANSWER_SECONDS else 0)


_QUEUES: RunVar[Queues] = RunVar("console logins")


def queues() -> Queues:
    """Return the queues of this event loop."""
    try:
        return _QUEUES.get()
    except LookupError:
        created = Queues()
        _QUEUES.set(created)
        return created


def _too_many() -> TooManyAttempts:
    return TooManyAttempts("Too many people are signing in. Try again.", retry_after_seconds=2)
