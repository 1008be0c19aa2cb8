"""The texts of policies. The log's `policy` entries, each pinned by SHA-256, determine which of them is in effect."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import Bytes32, UtcDateTime


class PolicyText(Base):
    """A policy's text, never changed or deleted. `sha256` is of its UTF-8 bytes. `expiries_cut_at` is the time when the
    recorded expiries were last shortened to the limits of this policy (null: not since it came into effect)."""

    __tablename__ = "policy_text"

    sha256: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    expiries_cut_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
