"""Tables of reused pictures: hashes of reports, searches with a hit, the number of searches of each platform, and
pictures that the operator has marked as benign.

A hash is part of a report's opening and is erased with it. It is of a picture, not of a person, so key epochs do not
apply to it. The subject of a search is not kept: only the reports that it matched.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, Integer, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class PictureHash(Base):
    """A PDQ hash of a report that other platforms may match. Written under the log's lock, with an id that increases
    with the log's index: a reader that has read all ids up to one has read all that was committed before."""

    __tablename__ = "picture_hash"
    __table_args__ = (Index("ix_picture_hash_report_id", "report_id"),)

    id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    report_id: Mapped[int] = mapped_column(BigInt)
    pdq: Mapped[bytes] = mapped_column(Bytes32)


class PictureSearch(Base):
    """A search that matched reports: which platform made it, for which order or report, and when. The persons of those
    reports can see it."""

    __tablename__ = "picture_search"
    __table_args__ = (Index("ix_picture_search_asked_at", "asked_at"),)

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    platform: Mapped[str] = mapped_column(String(32))
    order_ref: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PictureHit(Base):
    """The reports that a search matched."""

    __tablename__ = "picture_hit"
    __table_args__ = (Index("ix_picture_hit_report_id", "report_id"),)

    search_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    report_id: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)


class PictureUse(Base):
    """The number of hashes that a platform searched for in a UTC day, counted and committed before the search."""

    __tablename__ = "picture_use"

    platform: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    hashes: Mapped[int] = mapped_column(BigInt)


class PictureBenign(Base):
    """A picture that honest people send too: hashes within the match distance of it are ignored. Rows are never
    deleted, so that two counts show a process whether its copy is the newest."""

    __tablename__ = "picture_benign"
    __table_args__ = (
        Index(
            "uq_picture_benign_pdq",
            "pdq",
            unique=True,
            sqlite_where=text("removed_at IS NULL"),
            postgresql_where=text("removed_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    pdq: Mapped[bytes] = mapped_column(Bytes32)
    reason: Mapped[str] = mapped_column(String(128))
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
