"""Tables of key epochs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class KeyEpoch(Base):
    """A key epoch. `entry_index` is the `key_rotation` entry that announced it, `switch_index` the one that made it
    current."""

    __tablename__ = "key_epoch"
    __table_args__ = (CheckConstraint("state IN ('next', 'current', 'previous', 'retired')", name="state"),)

    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(8))
    holder: Mapped[str] = mapped_column(String(32))
    public_key: Mapped[bytes] = mapped_column(Bytes32)
    entry_index: Mapped[int] = mapped_column(BigInt)
    switch_index: Mapped[int | None] = mapped_column(BigInt)
    announced_at: Mapped[datetime] = mapped_column(UtcDateTime)
    grace_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retired_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
