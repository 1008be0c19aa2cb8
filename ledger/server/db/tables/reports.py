"""Tables of reports: each report with its links, reversal and restitution, its subjects and its listings.

Erasure deletes rows of `subject`, `listing`, `report` and `idempotency` (docs/reports.md). Lookups read `listing`. It
has no foreign keys and is ordered by tag; it holds all columns that folding needs except the weights.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, Index, Integer, SmallInteger, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class Report(Base):
    """A report as shown to the member that made it. `id` is the index of its log entry."""

    __tablename__ = "report"
    __table_args__ = (
        Index(
            "uq_report_live_order",
            "control_group",
            "order_ref",
            unique=True,
            sqlite_where=text("live"),
            postgresql_where=text("live"),
        ),
        Index("ix_report_control_group_order_ref", "control_group", "order_ref"),
        Index("ix_report_platform_id", "platform", "id"),
        Index("ix_report_platform_order_ref", "platform", "order_ref", "id"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
    control_group: Mapped[str] = mapped_column(String(32))
    order_ref: Mapped[bytes] = mapped_column(Bytes32)
    conduct: Mapped[str] = mapped_column(String(32))
    amount_minor: Mapped[int] = mapped_column(BigInt)
    currency: Mapped[str] = mapped_column(String(3))
    outcome: Mapped[str] = mapped_column(String(32))
    act_ended_at: Mapped[datetime] = mapped_column(UtcDateTime)
    notice_sent_at: Mapped[datetime] = mapped_column(UtcDateTime)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    effective_hour: Mapped[int] = mapped_column(Integer)
    expires_day: Mapped[int] = mapped_column(Integer, index=True)
    act_id: Mapped[int] = mapped_column(BigInt)
    live: Mapped[bool] = mapped_column(Boolean)
    replaces: Mapped[int | None] = mapped_column(BigInt, index=True)


class ReportLink(Base):
    """A report that an `account_farm` report is based on: one about a linked account. The `account_farm` report is void
    when one of these is."""

    __tablename__ = "report_link"
    __table_args__ = (Index("ix_report_link_linked_id", "linked_id"),)

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    linked_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)


class Reversal(Base):
    """The reversal of a report. The primary key ensures that no report is reversed twice."""

    __tablename__ = "reversal"

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    entry_index: Mapped[int] = mapped_column(BigInt, unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Restitution(Base):
    """The buyer paid the full amount back, which halves the points once."""

    __tablename__ = "restitution"

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    entry_index: Mapped[int] = mapped_column(BigInt, unique=True)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    recorded_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Subject(Base):
    """The blinded identifier of a report, with the salt of its commitment; one row for each key epoch. Erasure deletes
    it."""

    __tablename__ = "subject"

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    element: Mapped[bytes] = mapped_column(Bytes32)
    salt: Mapped[bytes] = mapped_column(Bytes32)


class Listing(Base):
    """A row that a lookup by tag reads: one for each subject of each live report, under each key epoch that answers."""

    __tablename__ = "listing"
    __table_args__ = (Index("ix_listing_report_id", "report_id"),)

    tag: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    slot: Mapped[int] = mapped_column(SmallInteger)
    epoch: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(String(16))
    act_id: Mapped[int] = mapped_column(BigInt)
    control_group: Mapped[str] = mapped_column(String(32))
    conduct: Mapped[str] = mapped_column(String(32))
    amount_minor: Mapped[int] = mapped_column(BigInt)
    currency: Mapped[str] = mapped_column(String(3))
    act_day: Mapped[int] = mapped_column(Integer)
    effective_hour: Mapped[int] = mapped_column(Integer)
    expires_day: Mapped[int] = mapped_column(Integer)
    disputed: Mapped[bool] = mapped_column(Boolean)
    unconfirmed: Mapped[bool] = mapped_column(Boolean)
    restituted: Mapped[bool] = mapped_column(Boolean)
    has_statement: Mapped[bool] = mapped_column(Boolean)


class Idempotency(Base):
    """The response of a POST that wrote, kept for 24 hours. `request_mac` is an HMAC, so that no body can be guessed
    from it."""

    __tablename__ = "idempotency"
    __table_args__ = (Index("ix_idempotency_created_at", "created_at"), Index("ix_idempotency_report_id", "report_id"))

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_mac: Mapped[bytes] = mapped_column(Bytes32)
    report_id: Mapped[int] = mapped_column(BigInt)
    status: Mapped[int] = mapped_column(SmallInteger)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FormerLabel(Base):
    """A report with a label that identified its file by earlier rules, but does not by the rules for new reports.

    The migration that introduced the present rules filled this table; no row is added afterwards.
    """

    __tablename__ = "former_label"
    __table_args__ = (Index("ix_former_label_platform_report_id", "platform", "report_id"),)

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    platform: Mapped[str] = mapped_column(String(32))
