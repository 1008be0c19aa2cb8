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
    """All key epochs, oldest first."""
    return tuple([EpochRow(*row) for row in connection.execute(_ALL)])


def only(rows: Sequence[EpochRow], state: str) -> EpochRow | None:
    """The epoch in `state`, if there is one. (Of retired ones there may be many.)"""
    return next((row for row in rows if row.state == state), None)


def current_of(rows: Sequence[EpochRow]) -> EpochRow:
    """The current epoch. Raises ConfigurationError before genesis."""
    current = only(rows, "current")
    if current is None:
        raise ConfigurationError("No key epoch is current. Run `refund-ledger keys init` first.")
    return current


def insert_epoch(connection: Connection, row: EpochRow) -> None:
    """One key epoch. The database refuses a second one of the same number (IntegrityError)."""
    connection.execute(insert(KeyEpoch).values(**{name: getattr(row, name) for name in row.__dataclass_fields__}))


def change_epoch(connection: Connection, epoch: int, **values: Any) -> None:
    """Set columns of one key epoch."""
    connection.execute(update(KeyEpoch).where(KeyEpoch.epoch == epoch).values(**values))
