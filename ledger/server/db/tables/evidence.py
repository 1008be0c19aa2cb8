"""Tables of what is to be known of evidence that was recorded under other rules."""

from __future__ import annotations

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt


class FormerLabel(Base):
    """A report with a label that identified its file by the rules of its time, and does not by those for new reports.

    The migration that brought the present rules filled it; nothing is added afterwards.
    """

    __tablename__ = "former_label"
    __table_args__ = (Index("ix_former_label_platform_report_id", "platform", "report_id"),)

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
