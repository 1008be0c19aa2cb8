"""Processing due rows page by page, so that a row that fails does not block the others.

A row that fails stays due. A query for the first due rows would return it again each time; if a whole page of such rows
came first, the rows after them would never be processed. So a round continues after the last row of each page, whether
its rows succeeded or failed. A transaction of several rows that fails is repeated with each half of its rows, until the
row that fails is alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from ledger.errors import Unavailable

Row = TypeVar("Row")

log = logging.getLogger(__name__)


class Failures:
    """The failures of one round. The first error is logged with its traceback locations, the others in one line."""

    def __init__(self, event: str) -> None:
        self._event = event
        self.first: Exception | None = None

    def add(self, name: str, error: Exception) -> None:
        """Log that the row called `name` failed: the event, the name and the class of the error."""
        extra = {"row": name, "error": type(error).__name__}
        log.error("%s %s", self._event, name, exc_info=error if self.first is None else None, extra=extra)
        self.first = self.first or error

    def end(self) -> None:
        """Raise the first error of the round, if there was one."""
        if self.first is not None:
            raise self.first


def work_off(
    read: Callable[[Row | None], Sequence[Row]],
    work: Callable[[Sequence[Row]], int],
    *,
    event: str,
    name: Callable[[Row], str],
    together: int = 1,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Process all due rows once each, and return the sum of the results of `work`.

    `read(last)` returns the next page in a total order, after the row `last` (None: from the first row), and an empty
    page at the end. `work` processes up to `together` rows in one transaction. `stopped` ends the round early.

    A row that fails does not stop the others: it is logged as `event` with its `name`, and the first error is raised
    after the last row. Raises LogFrozen and DatabaseUnavailable at once, because the other rows would fail in the same
    way.
    """
    failures = Failures(event)
    total = 0
    last: Row | None = None
    while not stopped() and (page := read(last)):
        last = page[-1]
        for start in range(0, len(page), together):
            if stopped():
                break
            total += _work(page[start : start + together], work, name, failures)
    failures.end()
    return total


def _work(
    rows: Sequence[Row], work: Callable[[Sequence[Row]], int], name: Callable[[Row], str], failures: Failures
) -> int:
    try:
        return work(rows)
    except Unavailable:
        raise
    except Exception as error:
        if len(rows) == 1:
            failures.add(name(rows[0]), error)
            return 0
    half = len(rows) // 2
    return sum(_work(some, work, name, failures) for some in (rows[:half], rows[half:]))
