"""Tables of order lines: closures, held reports, and requests and concessions of reporters in a case.

The rules are `ledger.rules.order_lines`. A line's history is read from the reports and cases themselves. These tables
hold only facts that reports and cases do not contain, or would not contain after they are erased.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, Index, Integer, SmallInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class OrderClosure(Base):
    """An order that accepts no further report of this control group, because of this case.

    Written when a contested report is withdrawn or erased. A decision closes a line without a row while its case
    exists. The row holds the minimum that keeps an order closed: it names no person, and remains after the report is
    erased.
    """

    __tablename__ = "order_closure"

    control_group: Mapped[str] = mapped_column(String(32), primary_key=True)
    order_ref: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    case_id: Mapped[int] = mapped_column(BigInt)


class HeldReport(Base):
    """A report that waits or waited for a release: it may concern the same matter as the contested report `like_id`,
    with the case `case_id`.

    `explanation` is the reporter's reason why it is another order; `revision` counts how often it was given (0: not
    yet). `proposer_id` released it, with a second signature by `signer_id` where two are required; `reasons` are shown
    to the reporter. `released_index` is the log entry of the release; `refused_at` is set if it was refused. Erased
    with the report.
    """

    __tablename__ = "held_report"
    __table_args__ = (
        Index("ix_held_report_void_at", "void_at"),
        Index("ix_held_report_released_index", "released_index"),
    )

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    control_group: Mapped[str] = mapped_column(String(32))
    case_id: Mapped[int] = mapped_column(BigInt)
    like_id: Mapped[int] = mapped_column(BigInt)
    void_at: Mapped[datetime] = mapped_column(UtcDateTime)
    explanation: Mapped[str | None] = mapped_column(Text)
    explained_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revision: Mapped[int] = mapped_column(SmallInteger)
    proposer_id: Mapped[int | None] = mapped_column(BigInt)
    signer_id: Mapped[int | None] = mapped_column(BigInt)
    reasons: Mapped[str | None] = mapped_column(Text)
    released_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    released_index: Mapped[int | None] = mapped_column(BigInt)
    refused_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ReportMark(Base):
    """The marks that an `account_farm` report has from one source: its own appeal (`source_id` is itself), or a report
    that it is based on. Its listings carry every mark of any source."""

    __tablename__ = "report_mark"

    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    source_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    disputed: Mapped[bool] = mapped_column(Boolean)
    unconfirmed: Mapped[bool] = mapped_column(Boolean)


class Concession(Base):
    """In a round of a case the reporter conceded that the report should name `conduct`, of no higher severity."""

    __tablename__ = "case_concession"

    case_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    round: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    conduct: Mapped[str] = mapped_column(String(32))
    severity: Mapped[int] = mapped_column(Integer)
    conceded_at: Mapped[datetime] = mapped_column(UtcDateTime)
    agreed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ReopeningRequest(Base):
    """The reporter's single request to reopen a case decided `unconfirmed` for new evidence.

    `granted` is None until a reviewer decides; `round` is the number of the granted round. Erased with the case.
    """

    __tablename__ = "reopening_request"
    __table_args__ = (Index("ix_reopening_request_granted", "granted", "requested_at"),)

    case_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    evidence_sha256: Mapped[bytes] = mapped_column(Bytes32)
    text: Mapped[str] = mapped_column(Text)
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    granted: Mapped[bool | None] = mapped_column(Boolean)
    round: Mapped[int | None] = mapped_column(SmallInteger)
    staff_id: Mapped[int | None] = mapped_column(BigInt)
    reasons: Mapped[str | None] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
