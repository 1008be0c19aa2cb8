"""Time budgets of the SDK's calls, in seconds, and the deadlines that they set: each bounds the whole call, whatever it
does."""

from __future__ import annotations

import time
from collections.abc import Callable

from ledger.errors import ConfigurationError, Unavailable

LOOKUP_BUDGET_SECONDS = 0.3
"""A refund review never waits longer for the ledger, connection and blinding included."""
SUBJECT_BUDGET_SECONDS = 2.0
"""The time limit of `subject`, which raises when it is over. Where a buyer waits, give raw identifiers to `lookup`."""
CHECK_BUDGET_SECONDS = 5.0
"""The time limit of `check`. A download that takes longer continues, for the next check."""
CONNECT_BUDGET_SECONDS = 8.0
"""The time limit of `connect`: long enough for a key that the operator added a moment ago."""
LONGEST_BUDGET_SECONDS = 3600.0
EARLIER_SECONDS = 0.1
"""The time between the end of work in a thread of its own and the end of the wait for it, or a tenth of the whole time
if that is less."""


def checked_budget(name: str, seconds: float) -> float:
    """Return a time budget. Raises ConfigurationError unless it is a number of seconds above 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_BUDGET_SECONDS:
        raise ConfigurationError(f"{name} must be a number of seconds above 0 and up to {LONGEST_BUDGET_SECONDS:.0f}.")
    return float(seconds)


class Deadline:
    """A moment on the monotonic clock by which something must be over."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left; 0 when it is over."""
        return max(0.0, self._end - self._monotonic())

    def check(self) -> None:
        """Check that time is left. Raises Unavailable."""
        if self.left() <= 0:
            raise Unavailable("The ledger did not answer in time.", reason="timeout")
