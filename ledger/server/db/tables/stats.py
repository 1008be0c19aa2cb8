"""Tables of figures that nothing else keeps: how many tags were in which tier on a day. Nothing in them is about a
person."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.rules.standing import Tier
from ledger.server.db.base import Base
from ledger.server.db.types import BigInt

_TIERS = ", ".join(f"'{tier.value}'" for tier in Tier)


class DailyTiers(Base):
    """How many listed tags stood in `tier` when maintenance first looked on `day` (a UTC day since the Unix epoch).

    Written once a day, all tiers in one transaction, never changed. A tag is one identifier, not one person.
    """

    __tablename__ = "daily_tiers"
    __table_args__ = (CheckConstraint(f"tier IN ({_TIERS})", name="tier"),)

    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    tier: Mapped[str] = mapped_column(String(8), primary_key=True)
    tags: Mapped[int] = mapped_column(BigInt)
