"""Integers for public ids, out of blocks that a process reserves in the database."""

from __future__ import annotations

import threading

from sqlalchemy import Engine

from ledger.store.engine import writing
from ledger.store.lookups import reserve_ids

BLOCK = 10_000


class IdBlock:
    """Hands out each integer once, in any thread. Those of a block that was not used up are skipped.

    `take` never waits for the database; whoever calls `refill` in the background keeps a second block ready for it.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name
        self._lock = threading.Lock()
        self._reserving = threading.Lock()
        self._ids = range(0)
        self._spare = range(0)
        self.low = threading.Event()
        """Set, for whoever refills in the background to clear, when the second block is begun or missing."""

    def take(self) -> int | None:
        """The next integer, or None when both blocks are used up."""
        with self._lock:
            if not self._ids:
                self._ids, self._spare = self._spare, range(0)
                self.low.set()
                if not self._ids:
                    return None
            number, self._ids = self._ids[0], self._ids[1:]
        return number

    def next(self) -> int:
        """As `take`, reserving a block if it must. Raises DatabaseUnavailable."""
        while (number := self.take()) is None:
            self.refill()
        return number

    def refill(self) -> None:
        """Reserve the second block if there is none. Raises DatabaseUnavailable."""
        with self._reserving:
            if self._spare:
                return
            with writing(self._engine) as connection:
                first = reserve_ids(connection, self._name, BLOCK)
            with self._lock:
                self._spare = range(first, first + BLOCK)
