"""Tables of figures that no other table keeps: the number of tags in each tier on a day. No row is about a person."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.rules.standing import Tier
from ledger.server.db.base import Base
from ledger.server.db.types import BigInt

_TIERS = ", ".join(f"'{tier.value}'" for tier in Tier)


class DailyTiers(Base):
    """The number of listed tags in `tier` at the first maintenance run of `day` (a UTC day since the Unix epoch).

    Written once a day, all tiers in one transaction, never changed. A tag is one identifier, not one person.
    """

    __tablename__ = "daily_tiers"
    __table_args__ = (CheckConstraint(f"tier IN ({_TIERS})", name="tier"),)

    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    tier: Mapped[str] = mapped_column(String(8), primary_key=True)
    tags: Mapped[int] = mapped_column(BigInt)
