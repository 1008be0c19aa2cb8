"""Lookups that disclosed an event, counted: what is left of `lookup_log` once its rows are too old to be read one by
one (see `ledger.server.lookups.disclosures`)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class DisclosureCount(Base):
    """Lookups about one tag by one platform on one UTC day, for one purpose and order and with one set of tags.

    `lookup_set` tells such sets apart, so that a person with several tags is told of each lookup once. Where a platform
    has too many rows of a tag and day, further lookups are in one row a purpose whose `order_ref` and `lookup_set` are
    zeros. `claim`, `tier`, `consent_ref` and `lookup_id` are those of the newest lookup.
    """

    __tablename__ = "disclosure_count"
    __table_args__ = (Index("ix_disclosure_count_day", "day"),)

    tag: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    purpose: Mapped[str] = mapped_column(String(16), primary_key=True)
    order_ref: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    lookup_set: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    times: Mapped[int] = mapped_column(BigInt)
    first_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_at: Mapped[datetime] = mapped_column(UtcDateTime)
    claim: Mapped[str | None] = mapped_column(String(16))
    tier: Mapped[str] = mapped_column(String(8))
    consent_ref: Mapped[str | None] = mapped_column(String(128))
    lookup_id: Mapped[int] = mapped_column(BigInt)
