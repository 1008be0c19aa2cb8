"""Tables of the log: its head, entries with their erasable openings, tiles and checkpoints.

Rows of `log_entry`, `tile` and `checkpoint` are written once (a tile only grows) and never deleted. Rows of
`entry_body` are what erasure deletes (docs/reports.md).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Integer, LargeBinary, SmallInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class LogHead(Base):
    """The only row of the log's head, whose lock serialises writers. `size` is the number of entries; `frozen` is the
    reason why the log accepts no further entries."""

    __tablename__ = "log_head"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInt)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    frozen: Mapped[str | None] = mapped_column(String(200))


class LogEntry(Base):
    """One entry: its index and its public record (the leaf's bytes). Neither identifies a person or a matter."""

    __tablename__ = "log_entry"

    entry_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    leaf: Mapped[bytes] = mapped_column(LargeBinary)


class GovernanceEntry(Base):
    """The index and type of each governance entry. There are few of them among many entries, and every start reads them
    by type."""

    __tablename__ = "governance_entry"
    __table_args__ = (Index("ix_governance_entry_sort", "sort", "entry_index"),)

    entry_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    sort: Mapped[str] = mapped_column(String(16))


class EntryBody(Base):
    """The opening of a private entry: salt and canonical body, to which the leaf commits. Erasure deletes it."""

    __tablename__ = "entry_body"

    entry_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(16))
    hour: Mapped[datetime] = mapped_column(UtcDateTime)
    salt: Mapped[bytes] = mapped_column(Bytes32)
    body: Mapped[bytes] = mapped_column(LargeBinary)


class Tile(Base):
    """A C2SP tile of height 8: `width` hashes of 32 bytes. A tile at the right edge grows in place."""

    __tablename__ = "tile"

    level: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    tile_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    width: Mapped[int] = mapped_column(SmallInteger)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class CheckpointRow(Base):
    """Every published checkpoint."""

    __tablename__ = "checkpoint"

    size: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(Bytes32)
    note: Mapped[str] = mapped_column(Text)
    published_at: Mapped[datetime] = mapped_column(UtcDateTime)
