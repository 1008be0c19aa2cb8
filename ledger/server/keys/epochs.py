"""Queries on key epochs, their sharings and the key holders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from ledger.errors import ConfigurationError
from ledger.server.db.tables.keys import KeyEpoch, KeyHolder, KeySharing


@dataclass(frozen=True, slots=True)
class HolderRow:
    """A holder of one share: its index in the sharing, its id, its public key K_i, and what its card says of it."""

    index: int
    holder: str
    organisation: str
    operator: bool
    public_key: bytes
    signing_key: bytes
    url: str


@dataclass(frozen=True, slots=True)
class SharingRow:
    """A logged sharing of an epoch's key. `kind` is generate, refresh, reshare or rotate; `statement` is its canonical
    JSON, in the entry `entry_index` of the log."""

    epoch: int
    generation: int
    kind: str
    entry_index: int
    statement: bytes
    logged_at: datetime


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A key epoch as stored; `state` is next, current, previous or retired, `public_key` is K.

    `holder` is the one holder of the whole key (1 of 1), None where several holders have shares: then `holders` are
    those of the newest logged sharing, and `statement_index` is its entry. Retired epochs have no `holders`.
    """

    epoch: int
    state: str
    holder: str | None
    public_key: bytes
    entry_index: int
    switch_index: int | None
    announced_at: datetime
    grace_until: datetime | None = None
    retired_at: datetime | None = None
    threshold: int = 1
    generation: int = 1
    statement_index: int | None = None
    holders: tuple[HolderRow, ...] = ()

    @property
    def is_shared(self) -> bool:
        """True if holders outside this server evaluate: the server has no share of the key."""
        return self.holder is None

    def same_keys(self, other: EpochRow | None) -> bool:
        """True if `other` is this epoch in the same state, with the same K. The sharing may be another one."""
        return other is not None and (self.epoch, self.state, self.public_key) == (
            other.epoch,
            other.state,
            other.public_key,
        )


_DERIVED = ("statement_index", "holders")
_STORED = [name for name in EpochRow.__dataclass_fields__ if name not in _DERIVED]
_ALL = select(*[getattr(KeyEpoch, name) for name in _STORED]).order_by(KeyEpoch.epoch)
_NEWEST_SHARINGS = (
    select(
        KeySharing.epoch,
        KeySharing.entry_index,
        KeyHolder.share_index,
        *[getattr(KeyHolder, name) for name in HolderRow.__dataclass_fields__ if name != "index"],
    )
    .join(KeyEpoch, and_(KeyEpoch.epoch == KeySharing.epoch, KeyEpoch.generation == KeySharing.generation))
    .join(KeyHolder, and_(KeyHolder.epoch == KeySharing.epoch, KeyHolder.generation == KeySharing.generation))
    .where(KeyEpoch.state != "retired")
    .order_by(KeySharing.epoch, KeyHolder.share_index)
)


def read_epochs(connection: Connection) -> tuple[EpochRow, ...]:
    """Return all key epochs, oldest first, with the holders of their newest sharings."""
    rows = [EpochRow(*row) for row in connection.execute(_ALL)]
    if not any(row.is_shared for row in rows):
        return tuple(rows)
    entries: dict[int, int] = {}
    holders: dict[int, list[HolderRow]] = {}
    for epoch, entry_index, *values in connection.execute(_NEWEST_SHARINGS):
        entries[epoch] = entry_index
        holders.setdefault(epoch, []).append(HolderRow(*values))
    return tuple(
        [
            replace(row, statement_index=entries.get(row.epoch), holders=tuple(holders.get(row.epoch, ())))
            for row in rows
        ]
    )


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
    """Insert one key epoch, without its sharing. Raises IntegrityError for a second one of the same number."""
    connection.execute(insert(KeyEpoch).values(**{name: getattr(row, name) for name in _STORED}))


def change_epoch(connection: Connection, epoch: int, **values: Any) -> None:
    """Set columns of one key epoch."""
    connection.execute(update(KeyEpoch).where(KeyEpoch.epoch == epoch).values(**values))


def newest_sharing(connection: Connection) -> SharingRow | None:
    """Return the sharing that was logged last, None in a ledger whose key one holder has (1 of 1)."""
    names = SharingRow.__dataclass_fields__
    query = select(*[getattr(KeySharing, name) for name in names]).order_by(KeySharing.entry_index.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else SharingRow(*row)


def insert_sharing(connection: Connection, row: SharingRow, holders: Sequence[HolderRow]) -> None:
    """Insert a sharing with its holders. Raises IntegrityError for a second one of the same epoch and generation."""
    connection.execute(insert(KeySharing).values(**{name: getattr(row, name) for name in row.__dataclass_fields__}))
    connection.execute(
        insert(KeyHolder),
        [
            {
                "epoch": row.epoch,
                "generation": row.generation,
                "share_index": holder.index,
                **{name: getattr(holder, name) for name in holder.__dataclass_fields__ if name != "index"},
            }
            for holder in holders
        ],
    )


def change_holder_url(connection: Connection, epoch: int, generation: int, index: int, url: str) -> None:
    """Set the address of one holder of a sharing."""
    connection.execute(
        update(KeyHolder)
        .where(KeyHolder.epoch == epoch, KeyHolder.generation == generation, KeyHolder.share_index == index)
        .values(url=url)
    )
