"""Queries on the record: head, entries, tiles, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from ledger.server.db.bulk import insert_rows, table_of, upsert
from ledger.server.db.tables.log import CheckpointRow, EntryBody, GovernanceEntry, LogEntry, LogHead, Tile


@dataclass(frozen=True, slots=True)
class Head:
    """Size of the log, time of its newest entry, and why it is frozen (None: it is not)."""

    size: int
    recorded_at: datetime
    frozen: str | None


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A published checkpoint."""

    size: int
    root: bytes
    note: str


_READ_HEAD = select(LogHead.size, LogHead.recorded_at, LogHead.frozen).where(LogHead.id == 1)
_LOCK_HEAD = _READ_HEAD.with_for_update()
_READ_LEAF = select(LogEntry.leaf).where(LogEntry.entry_index == bindparam("entry_index"))
_LATEST_CHECKPOINT = (
    select(CheckpointRow.size, CheckpointRow.root, CheckpointRow.note).order_by(CheckpointRow.size.desc()).limit(1)
)


def read_head(connection: Connection) -> Head | None:
    """Return the head as committed, or None before genesis."""
    row = connection.execute(_READ_HEAD).one_or_none()
    return None if row is None else Head(*row)


def lock_head(connection: Connection) -> Head | None:
    """Return the head, locked until this transaction ends: the transaction that holds it is the only writer.

    PostgreSQL locks the row. On SQLite `writing` began IMMEDIATE, which locks the file.
    """
    row = connection.execute(_LOCK_HEAD).one_or_none()
    return None if row is None else Head(*row)


def create_head(connection: Connection, now: datetime) -> None:
    """Insert the only head row, for an empty log."""
    connection.execute(insert(LogHead).values(id=1, size=0, recorded_at=now, frozen=None))


def move_head(connection: Connection, size: int, recorded_at: datetime) -> None:
    """Set size and time of the head after appending."""
    connection.execute(update(LogHead).where(LogHead.id == 1).values(size=size, recorded_at=recorded_at))


def set_frozen(connection: Connection, reason: str | None) -> None:
    """Freeze the log for `reason`, or thaw it (None)."""
    connection.execute(update(LogHead).where(LogHead.id == 1).values(frozen=reason))


def insert_entries(connection: Connection, entries: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of `log_entry`."""
    insert_rows(connection, LogEntry, entries)


def insert_bodies(connection: Connection, bodies: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of `entry_body`."""
    insert_rows(connection, EntryBody, bodies)


def read_tile(connection: Connection, level: int, index: int) -> bytes | None:
    """Return the stored hashes of a tile (those of the present log), or None."""
    return connection.execute(
        select(Tile.data).where(Tile.level == level, Tile.tile_index == index)
    ).scalar_one_or_none()


def read_tiles(connection: Connection, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """Return several tiles by (level, index); at most a few (the log's right edge)."""
    if not places:
        return {}
    where = None
    for level, index in places:
        is_tile = (Tile.level == level) & (Tile.tile_index == index)
        where = is_tile if where is None else where | is_tile
    assert where is not None
    rows = connection.execute(select(Tile.level, Tile.tile_index, Tile.data).where(where))
    return {(level, index): data for level, index, data in rows}


def write_tiles(connection: Connection, tiles: Mapping[tuple[int, int], bytes]) -> None:
    """Insert new tiles and let existing ones grow. A tile never shrinks."""
    rows = [
        {"level": level, "tile_index": index, "width": len(data) // 32, "data": data}
        for (level, index), data in tiles.items()
    ]
    if not rows:
        return
    table, statement = table_of(Tile), upsert(connection, Tile)
    statement = statement.on_conflict_do_update(
        index_elements=[table.c.level, table.c.tile_index],
        set_={"width": statement.excluded.width, "data": statement.excluded.data},
        where=table.c.width < statement.excluded.width,
    )
    connection.execute(statement, rows)


def read_leaves(connection: Connection, start: int, stop: int) -> list[bytes]:
    """Return the leaves of entries start <= index < stop, in order."""
    rows = connection.execute(
        select(LogEntry.leaf)
        .where(LogEntry.entry_index >= start, LogEntry.entry_index < stop)
        .order_by(LogEntry.entry_index)
    )
    return [leaf for (leaf,) in rows]


def read_leaf(connection: Connection, index: int) -> bytes | None:
    """Return one leaf, None if there is no entry of this index."""
    return connection.execute(_READ_LEAF, {"entry_index": index}).scalar_one_or_none()


def read_body(connection: Connection, index: int) -> tuple[datetime, bytes, bytes] | None:
    """Return (hour, salt, canonical body) of a private entry, or None if it was erased or was never private."""
    row = connection.execute(
        select(EntryBody.hour, EntryBody.salt, EntryBody.body).where(EntryBody.entry_index == index)
    ).one_or_none()
    return None if row is None else (row[0], row[1], row[2])


def latest_checkpoint(connection: Connection) -> PublishedCheckpoint | None:
    """Return the newest published checkpoint, None before the first."""
    row = connection.execute(_LATEST_CHECKPOINT).one_or_none()
    return None if row is None else PublishedCheckpoint(*row)


def publish_checkpoint(connection: Connection, published: PublishedCheckpoint, now: datetime) -> None:
    """Store a signed checkpoint; publishing the same one again changes nothing."""
    connection.execute(
        upsert(connection, CheckpointRow)
        .values(size=published.size, root=published.root, note=published.note, published_at=now)
        .on_conflict_do_nothing(index_elements=["size"])
    )


def insert_governance(connection: Connection, index: int, type_: str) -> None:
    """Record index and type of a governance entry."""
    connection.execute(insert(GovernanceEntry).values(entry_index=index, sort=type_))


def newest_governance_leaf(connection: Connection, type_: str) -> bytes | None:
    """Return the newest public leaf of governance type `type_`, None if there is none."""
    return connection.execute(
        select(LogEntry.leaf)
        .join(GovernanceEntry, GovernanceEntry.entry_index == LogEntry.entry_index)
        .where(GovernanceEntry.sort == type_)
        .order_by(GovernanceEntry.entry_index.desc())
        .limit(1)
    ).scalar_one_or_none()
