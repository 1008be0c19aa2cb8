"""Tables of the budgets of blinded evaluation: how much each platform used, and its grants."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, UtcDateTime


class OprfUse(Base):
    """The number of blinded elements evaluated for a platform in a UTC day. It is increased and committed before the
    evaluation."""

    __tablename__ = "oprf_use"

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    elements: Mapped[int] = mapped_column(BigInt)


class OprfBurst(Base):
    """The time at which a platform's burst allowance is full again, in microseconds since the Unix epoch."""

    __tablename__ = "oprf_burst"

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    whole_at_us: Mapped[int] = mapped_column(BigInt)


class OprfGrant(Base):
    """Elements granted beyond the daily quota: for the first tagging of a user base, or after a key rotation."""

    __tablename__ = "oprf_grant"
    __table_args__ = (
        Index("ix_oprf_grant_platform_expires_at", "platform", "expires_at"),
        CheckConstraint("used BETWEEN 0 AND elements", name="used"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    platform: Mapped[str] = mapped_column(String(32))
    elements: Mapped[int] = mapped_column(BigInt)
    used: Mapped[int] = mapped_column(BigInt)
    reason: Mapped[str] = mapped_column(String(200))
    granted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
