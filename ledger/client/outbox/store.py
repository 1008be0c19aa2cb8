"""The outbox: items that were sent, or will be, and have no final answer yet. An SQLite file of mode 0600.

An item is on disk before its first attempt and leaves only after the ledger has answered, with the same idempotency
key and the same bytes at every attempt; so neither a crash nor an outage loses a report or makes two of it.

| state | means | leaves when |
|---|---|---|
| pending | no answer yet, or one that says nothing about the item | it is delivered or refused |
| parked | the ledger takes it after an appeal was decided, at the earliest; tried again at `retry_at` | the same |
| refused | the ledger will never take it as it is | its retention is over, or it is discarded |

Of reports with an idempotency key that a caller may repeat, a note is kept after the delivery: the key, keyed digests
of what was sent, and the ledger's answer, until the ledger erases the report. It holds no element and no tag.

The file holds elements, salts and signatures of what waits: protect it like the signing key.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ledger.client.transport.forks import ForkAware, renew_if_forked
from ledger.errors import ConfigurationError, LedgerError, NotFound
from ledger.protocol.encoding import format_time, parse_time

Operation = Literal["report", "withdraw", "restitution"]
ItemState = Literal["pending", "parked", "refused"]
STATES: tuple[ItemState, ...] = get_args(ItemState)

SCHEMA_VERSION = 1
"""In `PRAGMA user_version`. 0 is the file of version 0.1.0: the table `item` without the last three columns."""
_SCHEMA = (
    """
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
    """,
    """
    CREATE TABLE IF NOT EXISTS delivered (
        idempotency_key TEXT PRIMARY KEY,
        fields BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        subjects BLOB NOT NULL,
        answer TEXT NOT NULL,
        forget_at TEXT NOT NULL
    ) STRICT
    """,
)
_ADDED_COLUMNS = {
    "repeatable": "INTEGER NOT NULL DEFAULT 0",
    "state_since": "TEXT",
    "retry_at": "TEXT",
}
BUSY_SECONDS = 10.0
"""How long a write waits for another process that is writing."""
FREEZE_SECONDS = 15.0
"""How long a fork waits for another thread's access to end: longer than one can last."""
_COLUMNS = (
    "number, idempotency_key, operation, path, content, state, added_at, attempts, first_attempt_at, error, "
    "repeatable, retry_at"
)


_inherited: list[sqlite3.Connection] = []
"""Databases that a parent had open at a fork without hooks: kept, so that they are never closed here."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item to deliver. `content` is the exact request body; `error` is {code, message} of the last attempt, and
    `details` where there are any. A parked item is tried again from `retry_at` on."""

    idempotency_key: str
    operation: Operation
    path: str
    content: bytes
    state: ItemState
    added_at: datetime
    attempts: int
    first_attempt_at: datetime | None
    error: dict[str, Any] | None
    repeatable: bool = False
    retry_at: datetime | None = None
    number: int = 0

    def __repr__(self) -> str:
        return f"Item(idempotency_key={self.idempotency_key!r}, operation={self.operation!r}, state={self.state!r})"


class New(NamedTuple):
    """An item for `Outbox.add`. With `repeatable`, a caller may send the same again under the same key."""

    idempotency_key: str
    operation: Operation
    path: str
    content: bytes
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class AttemptVerdict:
    """The result of an attempt for an item: its new state, the error, and when a parked one is tried again."""

    idempotency_key: str
    state: ItemState
    error: LedgerError
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveredReport:
    """A note of a delivered report: keyed digests of its fields and of its subjects under key epoch `epoch`, and the
    ledger's `answer`."""

    idempotency_key: str
    fields: bytes
    epoch: int
    subjects: bytes
    answer: Mapping[str, Any]
    forget_at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many items are in one state, and since when the oldest of them is in the outbox."""

    count: int
    oldest_added_at: datetime | None

    def oldest_age(self, now: datetime) -> timedelta | None:
        """Return the age of the oldest item; None if there is none."""
        return None if self.oldest_added_at is None else max(timedelta(0), now - self.oldest_added_at)


class Outbox(ForkAware):
    """The file of the outbox. Several threads and processes may share it. All methods raise ConfigurationError when the
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
        """Close the file as soon as no thread uses it, and keep all threads from it until the fork is over."""
        self._is_frozen = self._lock.acquire(timeout=FREEZE_SECONDS)
        if self._is_frozen:
            with suppress(sqlite3.Error):
                self._close_database()

    def after_fork_in_parent(self) -> None:
        """Let the threads of the parent continue."""
        if self._is_frozen:
            self._is_frozen = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the parent's database, unless a thread of the parent used the file during the fork: then it cannot be
        used here."""
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
        """Return the open database of this process. The lock must be held."""
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
            _upgrade(opened)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError("The outbox cannot be opened; is the state folder writable?") from error
        self._database = opened
        return opened

    def add(
        self, items: Iterable[New | tuple[str, Operation, str, bytes]], now: datetime
    ) -> dict[str, DeliveredReport]:
        """Store items right before their first attempt, all or none, and return the notes of those that were delivered
        before under their key, by key: these are not stored.

        A key that waits here already keeps its item: it may have been sent. One that was refused takes the new content:
        a refusal changed nothing in the ledger.
        """
        text, notes = format_time(now), {}
        with self._writing() as database:
            for item in [New(*arguments) for arguments in items]:
                note = _note(database, item.idempotency_key, text) if item.repeatable else None
                if note is not None:
                    notes[item.idempotency_key] = note
                    continue
                database.execute(
                    "INSERT INTO item (idempotency_key, operation, path, content, added_at, attempts, "
                    "first_attempt_at, repeatable) VALUES (?, ?, ?, ?, ?, 1, ?, ?) "
                    "ON CONFLICT (idempotency_key) DO UPDATE SET content = excluded.content, state = 'pending', "
                    "added_at = excluded.added_at, attempts = 1, first_attempt_at = excluded.first_attempt_at, "
                    "repeatable = excluded.repeatable, state_since = NULL, error = NULL WHERE item.state = 'refused'",
                    (*(item.idempotency_key, item.operation, item.path, item.content), text, text, item.repeatable),
                )
        return notes

    def attempting(self, keys: Sequence[str], now: datetime) -> None:
        """Record that these items are being sent again now."""
        with self._writing() as database:
            database.executemany(
                "UPDATE item SET attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, ?) "
                "WHERE idempotency_key = ?",
                [(format_time(now), key) for key in keys],
            )

    def delivered(self, keys: Sequence[str], notes: Sequence[DeliveredReport] = ()) -> None:
        """Delete delivered items, and store the notes about them."""
        rows = [
            (
                *(note.idempotency_key, note.fields, note.epoch, note.subjects),
                *(json.dumps(note.answer), format_time(note.forget_at)),
            )
            for note in notes
        ]
        with self._writing() as database:
            database.executemany("DELETE FROM item WHERE idempotency_key = ?", [(key,) for key in keys])
            database.executemany("INSERT OR REPLACE INTO delivered VALUES (?, ?, ?, ?, ?, ?)", rows)

    def failed(self, verdicts: Sequence[AttemptVerdict], now: datetime) -> None:
        """Record the results of attempts for items that were not delivered. `state_since` changes with the state
        only."""
        since = format_time(now)
        rows = [
            (
                *(verdict.state, since, json.dumps(_error_json(verdict.error))),
                *(None if verdict.retry_at is None else format_time(verdict.retry_at), verdict.idempotency_key),
            )
            for verdict in verdicts
        ]
        with self._writing() as database:
            database.executemany(
                "UPDATE item SET state_since = CASE WHEN state = ?1 THEN coalesce(state_since, ?2) ELSE ?2 END, "
                "state = ?1, error = ?3, retry_at = ?4 WHERE idempotency_key = ?5",
                rows,
            )

    def retry(self, key: str) -> None:
        """Make a refused or parked item pending again. Raises NotFound."""
        self._one(
            "UPDATE item SET state = 'pending', state_since = NULL, retry_at = NULL WHERE idempotency_key = ?", key
        )

    def discard(self, key: str) -> None:
        """Drop an item, delivered or not. Raises NotFound."""
        self._one("DELETE FROM item WHERE idempotency_key = ?", key)

    def discard_all(self, keys: Collection[str]) -> None:
        """Drop items; keys without an item are ignored."""
        with self._writing() as database:
            database.executemany("DELETE FROM item WHERE idempotency_key = ?", [(key,) for key in keys])

    def discard_refused(self) -> int:
        """Drop all refused items, and return their number."""
        with self._writing() as database:
            return database.execute("DELETE FROM item WHERE state = 'refused'").rowcount

    def expire(self, now: datetime, retention: timedelta) -> int:
        """Drop items that have been refused for longer than `retention`, and notes whose time is over; return the
        number of dropped items. For items that an earlier version refused, the time counts from the first call."""
        text = format_time(now)
        with self._writing() as database:
            database.execute("UPDATE item SET state_since = ? WHERE state = 'refused' AND state_since IS NULL", (text,))
            database.execute("DELETE FROM delivered WHERE forget_at <= ?", (text,))
            return database.execute(
                "DELETE FROM item WHERE state = 'refused' AND state_since <= ?", (format_time(now - retention),)
            ).rowcount

    def get(self, key: str) -> Item | None:
        """Return the item with this idempotency key."""
        rows = self._items("WHERE idempotency_key = ?", (key,))
        return rows[0] if rows else None

    def items(self, state: ItemState | None = None) -> list[Item]:
        """Return the items, oldest first; with `state`, those in that state."""
        return self._items("WHERE ? IS NULL OR state = ? ORDER BY number", (state, state))

    def note(self, key: str, now: datetime) -> DeliveredReport | None:
        """Return the note of a report that was delivered under this key."""
        with self._reading() as database:
            return _note(database, key, format_time(now))

    def waiting(self) -> dict[ItemState, Waiting]:
        """Return the number of items in each state, and since when the oldest is stored."""
        with self._reading() as database:
            rows = database.execute("SELECT state, count(*), min(added_at) FROM item GROUP BY state").fetchall()
        counted = {state: Waiting(count, parse_time(oldest)) for state, count, oldest in rows}
        return {state: counted.get(state, Waiting(0, None)) for state in STATES}

    def _items(self, where: str, values: tuple[str | None, ...]) -> list[Item]:
        with self._reading() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM item {where}", values).fetchall()
        return [_item(row) for row in rows]

    def _one(self, statement: str, key: str) -> None:
        with self._writing() as database:
            if not _is_text(key) or database.execute(statement, (key,)).rowcount == 0:
                raise NotFound("The outbox has no item with this idempotency key.")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            renew_if_forked()
            with self._lock:
                yield self._opened()
        except sqlite3.Error as error:
            raise ConfigurationError("The outbox cannot be read.") from error

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


def _is_text(key: object) -> bool:
    """True if `key` is text that a database takes: no lone surrogates."""
    return isinstance(key, str) and not any("\ud800" <= char <= "\udfff" for char in key)


def _upgrade(database: sqlite3.Connection) -> None:
    """Bring a new file, or that of an earlier version, to this schema. Raises ConfigurationError for a newer one.

    A process of the earlier version that has the file open goes on working: every added column has a default.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise ConfigurationError("The outbox was written by a newer version of the SDK. Use that version.")
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if version == SCHEMA_VERSION and {"item", "delivered"} <= tables:
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        for statement in _SCHEMA:
            database.execute(statement)
        present = {row[1] for row in database.execute("PRAGMA table_info(item)")}
        for name, declared in _ADDED_COLUMNS.items():
            if name not in present:
                database.execute(f"ALTER TABLE item ADD COLUMN {name} {declared}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _note(database: sqlite3.Connection, key: str, now: str) -> DeliveredReport | None:
    row = database.execute(
        "SELECT idempotency_key, fields, epoch, subjects, answer, forget_at FROM delivered "
        "WHERE idempotency_key = ? AND forget_at > ?",
        (key, now),
    ).fetchone()
    if row is None:
        return None
    stored_key, fields, epoch, subjects, answer, forget_at = row
    return DeliveredReport(stored_key, fields, epoch, subjects, json.loads(answer), parse_time(forget_at))


def _error_json(error: LedgerError) -> dict[str, Any]:
    """Return {code, message}, and those details that are plain values."""
    value: dict[str, Any] = {"code": error.code, "message": str(error)}
    details = {name: detail for name, detail in error.details.items() if isinstance(detail, str | int | float | None)}
    return {**value, "details": details} if details else value


def _item(row: Sequence[Any]) -> Item:
    number, key, operation, path, content, state, added_at, attempts, first, error, repeatable, retry_at = row
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
        repeatable=bool(repeatable),
        retry_at=None if retry_at is None else parse_time(retry_at),
        number=number,
    )
