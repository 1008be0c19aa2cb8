"""Tables of snapshots."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class Snapshot(Base):
    """A snapshot of the listings as of the log index `cut`, committed before the build begins. Publication deletes the
    secret."""

    __tablename__ = "snapshot"
    __table_args__ = (CheckConstraint("status IN ('building', 'published')", name="status"),)

    version: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    status: Mapped[str] = mapped_column(String(9))
    cut: Mapped[int] = mapped_column(BigInt)
    as_of: Mapped[datetime] = mapped_column(UtcDateTime)
    not_after: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    epoch: Mapped[int] = mapped_column(Integer)
    policy: Mapped[int] = mapped_column(Integer)
    weights: Mapped[str] = mapped_column(Text)
    secret: Mapped[bytes | None] = mapped_column(Bytes32)
    manifest: Mapped[str | None] = mapped_column(Text)
    signature: Mapped[bytes | None] = mapped_column(LargeBinary(64))
    entry_index: Mapped[int | None] = mapped_column(BigInt, unique=True)
    published_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
