"""Queries on key epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from ledger.errors import ConfigurationError
from ledger.server.db.tables.keys import KeyEpoch


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A key epoch as stored; `state` is next, current, previous or retired."""

    epoch: int
    state: str
    holder: str
    public_key: bytes
    entry_index: int
    switch_index: int | None
    announced_at: datetime
    grace_until: datetime | None = None
    retired_at: datetime | None = None


_COLUMNS = [getattr(KeyEpoch, name) for name in EpochRow.__dataclass_fields__]
_ALL = select(*_COLUMNS).order_by(KeyEpoch.epoch)


def read_epochs(connection: Connection) -> tuple[EpochRow, ...]:
    """Return all key epochs, oldest first."""
    return tuple([EpochRow(*row) for row in connection.execute(_ALL)])


def only(rows: Sequence[EpochRow], state: str) -> EpochRow | None:
    """Return the first epoch in `state`, None if there is none. (There may be many retired ones.)"""
    return next((row for row in rows if row.state == state), None)


def current_of(rows: Sequence[EpochRow]) -> EpochRow:
    """Return the current epoch. Raises ConfigurationError before genesis."""
    current = only(rows, "current")
    if current is None:
        raise ConfigurationError("No key epoch is current. Run `refund-ledger keys init` first.")
    return current


def insert_epoch(connection: Connection, row: EpochRow) -> None:
    """Insert one key epoch. Raises IntegrityError for a second one of the same number."""
    connection.execute(insert(KeyEpoch).values(**{name: getattr(row, name) for name in row.__dataclass_fields__}))


def change_epoch(connection: Connection, epoch: int, **values: Any) -> None:
    """Set columns of one key epoch."""
    connection.execute(update(KeyEpoch).where(KeyEpoch.epoch == epoch).values(**values))
