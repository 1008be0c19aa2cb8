"""Tables about the processes of a deployment: which of them live, and which one signs the log.

Nothing in them is part of the record: they hold no platform, person or entry, and a ledger does without their rows.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, UtcDateTime


class ProcessHeartbeat(Base):
    """A process that runs, or did a moment ago. `role` is api or publisher, `state` says in words how it fares (empty:
    well). Times are the database's."""

    __tablename__ = "process_heartbeat"

    process: Mapped[str] = mapped_column(String(32), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    host: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    beat_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PublisherLease(Base):
    """The one row that says who may sign (docs/decisions/0018-one-publisher.md). `fence` grows by one with each new
    holder; `holder` is null when the last one gave it back; `place` and `guard_lock` name the folder of its guard."""

    __tablename__ = "publisher_lease"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    fence: Mapped[int] = mapped_column(BigInt)
    holder: Mapped[str | None] = mapped_column(String(32))
    place: Mapped[str] = mapped_column(String(255))
    guard_lock: Mapped[str] = mapped_column(String(160))
    renewed_at: Mapped[datetime] = mapped_column(UtcDateTime)
