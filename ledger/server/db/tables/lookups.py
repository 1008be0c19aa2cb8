"""Tables of lookups: those that disclosed an event, the numbers of all lookups, and the blocks of public ids."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class LookupLog(Base):
    """A lookup that disclosed an event: which platform made it, when and for which purpose. The person can see it."""

    __tablename__ = "lookup_log"

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
    purpose: Mapped[str] = mapped_column(String(16))
    order_ref: Mapped[bytes] = mapped_column(Bytes32)
    consent_ref: Mapped[str | None] = mapped_column(String(128))
    claim: Mapped[str | None] = mapped_column(String(16))
    tier: Mapped[str] = mapped_column(String(8))
    as_of_index: Mapped[int] = mapped_column(BigInt)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class LookupTag(Base):
    """The tags that a disclosing lookup contained."""

    __tablename__ = "lookup_tag"
    __table_args__ = (Index("ix_lookup_tag_lookup_id", "lookup_id"),)

    tag: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    lookup_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)


class LookupCount(Base):
    """Numbers of lookups by platform and UTC day. Clean lookups are only counted: a log of them would record people's
    purchases."""

    __tablename__ = "lookup_count"
    __table_args__ = (Index("ix_lookup_count_day", "day"),)

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    clean: Mapped[int] = mapped_column(BigInt)
    disclosed: Mapped[int] = mapped_column(BigInt)


class DisclosureCount(Base):
    """Numbers of lookups about one tag by one platform on one UTC day, for one purpose and order and with one set of
    tags. It replaces rows of `lookup_log` that are too old to be kept one by one (`ledger.server.lookups.disclosures`).

    `lookup_set` distinguishes sets of tags, so that a person with several tags sees each lookup once. Where a platform
    has too many rows for a tag and day, further lookups are counted in one row per purpose whose `order_ref` and
    `lookup_set` are zeros. `claim`, `tier`, `consent_ref` and `lookup_id` are those of the newest lookup.
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


class IdBlock(Base):
    """The next free integer of each kind of public id. Processes reserve blocks of them."""

    __tablename__ = "id_block"

    name: Mapped[str] = mapped_column(String(16), primary_key=True)
    next: Mapped[int] = mapped_column(BigInt)
