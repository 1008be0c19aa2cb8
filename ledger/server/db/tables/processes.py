"""Tables of the processes of a deployment: which of them are running, and which one signs the log.

No row is part of the record: none names a platform, person or entry, and a ledger works without these rows.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, UtcDateTime


class ProcessHeartbeat(Base):
    """A process that is running, or was a moment ago. `role` is api or publisher; `state` describes a problem in words
    (empty: none). Times are the database's."""

    __tablename__ = "process_heartbeat"

    process: Mapped[str] = mapped_column(String(32), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    beat_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PublisherLease(Base):
    """The only row of the lease: which publisher may sign (docs/decisions/0018-one-publisher.md). `fence` increases by
    one with each new holder. `holder` is null when the last one released it. `place` and `guard_lock` identify the
    folder of its checkpoint lock file."""

    __tablename__ = "publisher_lease"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    fence: Mapped[int] = mapped_column(BigInt)
    holder: Mapped[str | None] = mapped_column(String(32))
    place: Mapped[str] = mapped_column(String(255))
    guard_lock: Mapped[str] = mapped_column(String(160))
    renewed_at: Mapped[datetime] = mapped_column(UtcDateTime)
