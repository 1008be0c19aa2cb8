"""Background threads that survive every error, and report when they last finished their work.

A `Worker` runs one function again and again. Any error of the function is logged under a stable event name, and the
function is run again after a pause that grows with each failure up to MAX_BACKOFF_SECONDS. A thread cannot be
interrupted in a call that hangs; such a worker is `stuck` (see `state`), which `/readyz` and `/metrics` show.

Log events, each with the thread's name: `thread_failed` (an unexpected error, with its locations in the code; at most
once in LOG_AGAIN_SECONDS while it lasts), `thread_postponed` (an outage that the function reports itself, once),
`thread_recovered`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ledger.errors import LedgerError

State = Literal["ok", "failing", "stuck", "stopped"]

MIN_BACKOFF_SECONDS = 0.05
MAX_BACKOFF_SECONDS = 1.0
"""The maximum pause of a worker after a failure: it notices the end of an outage within this time."""

LOG_AGAIN_SECONDS = 60.0
"""How often a repeated error is logged."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a worker. `age_seconds` is the time since its last success (since its start before the first one), 0
    while it has no work. `failures` counts the failures since then, `restarts` all of them."""

    state: State
    age_seconds: float
    failures: int
    restarts: int


class Worker:
    """A thread that runs `step` until `close`.

    `step` returns the seconds until the next run, or None for `seconds`. If `seconds` is None too, it runs only when
    the event `wake` is set, which is cleared before each run. With `seconds`, `wake` ends a pause early. After
    `patience_seconds` without a success it counts as failing; after that time in one run it counts as stuck.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float | None],
        *,
        seconds: float | None,
        patience_seconds: float,
        delay_seconds: float = 0.0,
        wake: threading.Event | None = None,
        last: Callable[[], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._step, self._seconds, self._last = step, seconds, last
        self._patience_seconds, self._delay_seconds = patience_seconds, delay_seconds
        self._wake = wake or threading.Event()
        self._monotonic = monotonic
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._succeeded_at = monotonic()
        self._running_since: float | None = None
        self._failures = self._restarts = 0
        self._logged_at = -LOG_AGAIN_SECONDS

    def start(self) -> Worker:
        """Start the thread, and return the worker at once."""
        self._succeeded_at = self._monotonic()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        return self

    def wake(self) -> None:
        """End the present pause, so that the next run begins soon."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread the end after the present run. Returns at once."""
        self._stop.set()
        self._wake.set()

    def stopping(self) -> bool:
        """Return True if `stop` was called. Long steps call this often."""
        return self._stop.is_set()

    def pause(self, seconds: float) -> bool:
        """Sleep inside a step, at most until `stop`. True return True if that was called."""
        return self._stop.wait(seconds)

    def close(self, timeout_seconds: float | None = None) -> bool:
        """Call `stop` and wait for the end. return True if the thread ended within the time (None: without a limit)."""
        self.stop()
        if self._thread is None:
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def progress(self) -> Progress:
        """Return the present state of the worker."""
        now, since = self._monotonic(), self._running_since
        if since is None and self._seconds is None and not self._failures:
            age = 0.0
        else:
            age = max(0.0, now - self._succeeded_at)
        state: State = "ok"
        if self._thread is None or not self._thread.is_alive() or self._stop.is_set():
            state = "stopped"
        elif since is not None and now - since > self._patience_seconds:
            state = "stuck"
        elif self._failures and age > self._patience_seconds:
            state = "failing"
        return Progress(state, age, self._failures, self._restarts)

    def _run(self) -> None:
        pause: float | None = self._delay_seconds if self._seconds is not None else None
        while not self._stop.is_set():
            try:
                pause = self._next(pause)
            except BaseException:  # even SystemExit and KeyboardInterrupt do not end this thread
                self._failed("thread_failed", logging.ERROR, exception=True)
                pause = self._backoff()
        if self._last is not None:
            try:
                self._last()
            except Exception:
                log.exception("thread_failed %s", self.name)

    def _next(self, pause: float | None) -> float | None:
        """Wait `pause` seconds, run once, and return the next pause."""
        if pause is None or pause > 0:
            self._wake.wait(pause)
        self._wake.clear()
        if self._stop.is_set():  # checked last, so that `stop` is never missed
            return 0.0
        if self._seconds is None and not self._failures:
            self._succeeded_at = self._monotonic()  # it was idle until now
        self._running_since = self._monotonic()
        try:
            following = self._step()
        except LedgerError as error:
            self._failed(f"thread_postponed {self.name} {error.code}", logging.WARNING)
            return self._backoff()
        finally:
            self._running_since = None
        self._succeeded_at = self._monotonic()
        if self._failures:
            log.warning("thread_recovered %s", self.name, extra={"worker": self.name, "failures": self._failures})
            self._failures, self._logged_at = 0, -LOG_AGAIN_SECONDS
        return self._seconds if following is None else following

    def _failed(self, event: str, level: int, *, exception: bool = False) -> None:
        self._failures += 1
        self._restarts += 1
        self._running_since = None
        now = self._monotonic()
        if now - self._logged_at >= LOG_AGAIN_SECONDS and not self._stop.is_set():
            self._logged_at = now
            message = f"{event} {self.name}" if exception else event
            log.log(level, message, exc_info=exception, extra={"worker": self.name, "failures": self._failures})

    def _backoff(self) -> float:
        return min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * float(1 << min(self._failures - 1, 10)))
