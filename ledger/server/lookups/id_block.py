"""Public ids, out of blocks of integers that a process reserves in the database."""

from __future__ import annotations

import threading

from sqlalchemy import Engine

from ledger.protocol.public_ids import Prefix, encode_id
from ledger.server.db.engine import writing
from ledger.server.lookups.queries import reserve_ids

BLOCK = 10_000


class IdBlock:
    """Hands out each id of a sort once, in any thread. Those of a block that was not used up are skipped.

    `take` never waits for the database; whoever calls `refill` in the background keeps a second block ready for it.
    Ids are written out when a block is reserved: ten thousand in a row cost a third of as many one by one.
    """

    def __init__(self, engine: Engine, prefix: Prefix, service: str) -> None:
        self._engine = engine
        self._prefix = prefix
        self._service = service
        self._lock = threading.Lock()
        self._reserving = threading.Lock()
        self._ids: list[tuple[int, str]] = []
        self._spare: list[tuple[int, str]] = []
        self.low = threading.Event()
        """Set, for whoever refills in the background to clear, when the second block is begun or missing."""

    def take(self) -> tuple[int, str] | None:
        """The next integer and the id made of it, or None when both blocks are used up."""
        with self._lock:
            if not self._ids:
                self._ids, self._spare = self._spare, []
                self.low.set()
                if not self._ids:
                    return None
            return self._ids.pop()

    def next(self) -> tuple[int, str]:
        """As `take`, reserving a block if it must. Raises DatabaseUnavailable."""
        while (taken := self.take()) is None:
            self.refill()
        return taken

    def refill(self) -> None:
        """Reserve the second block if there is none. Raises DatabaseUnavailable."""
        with self._reserving:
            if self._spare:
                return
            with writing(self._engine) as connection:
                first = reserve_ids(connection, self._prefix, BLOCK)
            # Taken from the end, so the last one comes first.
            numbers = range(first + BLOCK - 1, first - 1, -1)
            spare = [(number, encode_id(self._prefix, number, self._service)) for number in numbers]
            with self._lock:
                self._spare = spare
