"""The outbox: what was sent, or is about to be, and has no answer yet. An SQLite file of mode 0600.

An item is on disk before its first attempt and leaves only after the ledger has answered, with the same idempotency
key and the same bytes at every attempt; so neither a crash nor an outage loses a report or makes two of it. Items that
the ledger refused for good stay, marked `refused`, until somebody has looked at them.

The file holds elements, salts and signatures: protect it like the signing key.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ledger.client.forks import ForkAware, renew_if_forked
from ledger.core.encoding import format_time, parse_time
from ledger.errors import ConfigurationError, LedgerError, NotFound

Operation = Literal["report", "withdraw", "restitution"]
ItemState = Literal["pending", "refused"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    number INTEGER PRIMARY KEY,
    idempotency_key TEXT NOT NULL UNIQUE,
    operation TEXT NOT NULL,
    path TEXT NOT NULL,
    content BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    added_at TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    first_attempt_at TEXT,
    error TEXT
) STRICT
"""
BUSY_SECONDS = 10.0
"""How long a write waits for another process that is writing."""
FREEZE_SECONDS = 15.0
"""How long a fork waits for another thread's access to end: longer than one can last."""
_COLUMNS = "idempotency_key, operation, path, content, state, added_at, attempts, first_attempt_at, error"


_inherited: list[sqlite3.Connection] = []
"""Databases that a parent had open at a fork without hooks: kept, so that they are never closed here."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something to deliver. `content` is the exact request body; `error` is {code, message} of the last attempt."""

    idempotency_key: str
    operation: Operation
    path: str
    content: bytes
    state: ItemState
    added_at: datetime
    attempts: int
    first_attempt_at: datetime | None
    error: dict[str, str] | None

    def __repr__(self) -> str:
        return f"Item(idempotency_key={self.idempotency_key!r}, operation={self.operation!r}, state={self.state!r})"


class Outbox(ForkAware):
    """See the module. Several threads and processes may share one file. All methods raise ConfigurationError when the
    file cannot be read or written: then nothing is sent.

    SQLite forbids a child process to use or even close a database that its parent opened, and would believe in the
    child that locks of the parent are its own. So a fork waits until no thread is at the file, and finds it closed;
    parent and child open it again when they need it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._closed = self._is_frozen = self._is_unsafe = False
        super().__init__()
        with self._lock:
            self._opened()

    def close(self) -> None:
        """Close the file."""
        renew_if_forked()
        with self._lock:
            self._closed = True
            self._close_database()

    def before_fork(self) -> None:
        """Close the file as soon as no thread is at it, and keep all threads off it until the fork is over."""
        self._is_frozen = self._lock.acquire(timeout=FREEZE_SECONDS)
        if self._is_frozen:
            with suppress(sqlite3.Error):
                self._close_database()

    def after_fork_in_parent(self) -> None:
        """Let the threads on."""
        if self._is_frozen:
            self._is_frozen = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew, unless a thread of the parent was at the file all the same: then it cannot be used here."""
        self._is_unsafe = self._is_unsafe or (self._lock.locked() and not self._is_frozen)
        if self._database is not None:
            _inherited.append(self._database)
            self._database = None
        self._is_frozen = False
        self._lock = threading.Lock()

    def _close_database(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _opened(self) -> sqlite3.Connection:
        """The open database of this process. The lock must be held."""
        if self._closed:
            raise ConfigurationError("The outbox is closed.")
        if self._is_unsafe:
            raise ConfigurationError(
                "This process was forked while its parent wrote to the outbox. End it and start another."
            )
        if self._database is not None:
            return self._database
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                # Only a new file is opened here: closing it would drop the locks that this process has on an old one.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            opened = sqlite3.connect(self._path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
            # FULL: the item must survive a power cut between this commit and the first attempt.
            opened.execute("PRAGMA synchronous = FULL")
            opened.execute("PRAGMA secure_delete = ON")
            opened.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError("The outbox cannot be opened; is the state folder writable?") from error
        self._database = opened
        return opened

    def add(self, items: Iterable[tuple[str, Operation, str, bytes]], now: datetime) -> None:
        """Store (idempotency key, operation, path, content) right before the first attempt, all or none.

        A key that is here already keeps its item: it may have been sent.
        """
        text = format_time(now)
        rows = [(*item, text, text) for item in items]
        with self._writing() as database:
            database.executemany(
                "INSERT INTO item (idempotency_key, operation, path, content, added_at, attempts, first_attempt_at) "
                "VALUES (?, ?, ?, ?, ?, 1, ?) ON CONFLICT (idempotency_key) DO NOTHING",
                rows,
            )

    def attempting(self, keys: Sequence[str], now: datetime) -> None:
        """Note that these are being sent again now."""
        with self._writing() as database:
            database.executemany(
                "UPDATE item SET attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, ?) "
                "WHERE idempotency_key = ?",
                [(format_time(now), key) for key in keys],
            )

    def delivered(self, keys: Sequence[str]) -> None:
        """Forget what the ledger has answered."""
        with self._writing() as database:
            database.executemany("DELETE FROM item WHERE idempotency_key = ?", [(key,) for key in keys])

    def failed(self, errors: Sequence[tuple[str, LedgerError, bool]]) -> None:
        """Note (key, error, for good) for each: refused for good, or still to be tried."""
        rows = [
            ("refused" if for_good else "pending", json.dumps({"code": error.code, "message": str(error)}), key)
            for key, error, for_good in errors
        ]
        with self._writing() as database:
            database.executemany("UPDATE item SET state = ?, error = ? WHERE idempotency_key = ?", rows)

    def retry(self, key: str) -> None:
        """Make a refused item pending again. Raises NotFound."""
        self._one("UPDATE item SET state = 'pending' WHERE idempotency_key = ?", key)

    def discard(self, key: str) -> None:
        """Drop an item, delivered or not. Raises NotFound."""
        self._one("DELETE FROM item WHERE idempotency_key = ?", key)

    def get(self, key: str) -> Item | None:
        """The item with this idempotency key."""
        rows = self._read("WHERE idempotency_key = ?", (key,))
        return rows[0] if rows else None

    def items(self, state: ItemState | None = None) -> list[Item]:
        """What is here, oldest first."""
        return self._read("WHERE ? IS NULL OR state = ? ORDER BY number", (state, state))

    def _read(self, where: str, values: tuple[str | None, ...]) -> list[Item]:
        try:
            renew_if_forked()
            with self._lock:
                rows = self._opened().execute(f"SELECT {_COLUMNS} FROM item {where}", values).fetchall()
        except sqlite3.Error as error:
            raise ConfigurationError("The outbox cannot be read.") from error
        return [_item(row) for row in rows]

    def _one(self, statement: str, key: str) -> None:
        with self._writing() as database:
            if database.execute(statement, (key,)).rowcount == 0:
                raise NotFound("The outbox has no item with this idempotency key.")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            renew_if_forked()
            with self._lock:
                database = self._opened()
                database.execute("BEGIN IMMEDIATE")
                try:
                    yield database
                except BaseException:
                    database.execute("ROLLBACK")
                    raise
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise ConfigurationError("The outbox cannot be written; is the disk full or the file damaged?") from error


def _item(row: Sequence[Any]) -> Item:
    key, operation, path, content, state, added_at, attempts, first, error = row
    return Item(
        idempotency_key=key,
        operation=operation,
        path=path,
        content=content,
        state=state,
        added_at=parse_time(added_at),
        attempts=attempts,
        first_attempt_at=None if first is None else parse_time(first),
        error=None if error is None else json.loads(error),
    )
