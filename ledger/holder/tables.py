"""Tables of a key holder's database: admission, budgets, used tokens, and the state of the log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime


class HolderBase(DeclarativeBase):
    """The base class of a key holder's tables."""

    metadata = MetaData(naming_convention=Base.metadata.naming_convention)


# --- admission --------------------------------------------------------------------------------------------------


class AdmittedGroup(HolderBase):
    """A control group with its own daily budget of elements; None: the holder's default. Its platforms share the
    budgets."""

    __tablename__ = "admitted_group"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    daily_elements: Mapped[int | None] = mapped_column(BigInt)


class AdmittedPlatform(HolderBase):
    """A platform that the holder's people admitted. `suspended_at` is the time of their own suspension."""

    __tablename__ = "admitted_platform"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    control_group: Mapped[str] = mapped_column(ForeignKey("admitted_group.name"))
    admitted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    suspended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AdmittedKey(HolderBase):
    """An Ed25519 public key of an admitted platform. `endorsed_by` is the kid of the key that endorsed it; None: the
    holder's people admitted it."""

    __tablename__ = "admitted_key"

    platform: Mapped[str] = mapped_column(ForeignKey("admitted_platform.name"), primary_key=True)
    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    public_key: Mapped[bytes] = mapped_column(Bytes32, unique=True)
    endorsed_by: Mapped[str | None] = mapped_column(String(64))
    admitted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


# --- budgets ----------------------------------------------------------------------------------------------------


class GroupUse(HolderBase):
    """The number of elements evaluated for a control group within its daily budget in a UTC day."""

    __tablename__ = "group_use"

    control_group: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    elements: Mapped[int] = mapped_column(BigInt)


class GroupBurst(HolderBase):
    """The time at which a control group's burst allowance is full again, in microseconds since the Unix epoch."""

    __tablename__ = "group_burst"

    control_group: Mapped[str] = mapped_column(String(32), primary_key=True)
    whole_at_us: Mapped[int] = mapped_column(BigInt)


class GroupGrant(HolderBase):
    """Elements granted to a control group beyond its daily budget."""

    __tablename__ = "group_grant"
    __table_args__ = (
        Index("ix_group_grant_control_group_expires_at", "control_group", "expires_at"),
        CheckConstraint("used BETWEEN 0 AND elements", name="used"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    control_group: Mapped[str] = mapped_column(ForeignKey("admitted_group.name"))
    elements: Mapped[int] = mapped_column(BigInt)
    used: Mapped[int] = mapped_column(BigInt)
    reason: Mapped[str] = mapped_column(String(200))
    granted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class UsedToken(HolderBase):
    """The SHA-256 of a token's platform and id, and when the token expires (Unix seconds)."""

    __tablename__ = "used_token"

    digest: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    expires_at: Mapped[int] = mapped_column(BigInt, index=True)


# --- the log ----------------------------------------------------------------------------------------------------


class LogHead(HolderBase):
    """The one row of the log's last accepted head (`id` is 1).

    `edge` are the roots of the complete subtrees on the right edge of its tree, largest first, 32 bytes each. `seen_at`
    is when the holder last saw the log agree with the row. `fault` is what was wrong with the log at the last reading,
    None if nothing was; `fork_note` is the first signed checkpoint that contradicted the log, which stays.
    """

    __tablename__ = "log_head"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInt)
    root: Mapped[bytes] = mapped_column(Bytes32)
    edge: Mapped[bytes] = mapped_column(LargeBinary)
    note: Mapped[str] = mapped_column(Text)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    current_epoch: Mapped[int | None] = mapped_column(BigInt)
    next_epoch: Mapped[int | None] = mapped_column(BigInt)
    fault: Mapped[str | None] = mapped_column(String(64))
    fault_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    fork_note: Mapped[str | None] = mapped_column(Text)


class LoggedStatement(HolderBase):
    """A key statement in the log that the holder accepted, and when the holder saw it first. `statement` is its
    canonical bytes."""

    __tablename__ = "logged_statement"

    epoch: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    entry_index: Mapped[int] = mapped_column(BigInt)
    statement: Mapped[bytes] = mapped_column(LargeBinary)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RefusedStatement(HolderBase):
    """An entry of the log whose key statement the holder refused; `reason` is the code of the error."""

    __tablename__ = "refused_statement"

    entry_index: Mapped[int] = mapped_column(BigInt, primary_key=True, autoincrement=False)
    reason: Mapped[str] = mapped_column(String(64))


class LogSuspension(HolderBase):
    """A platform that the log says is suspended."""

    __tablename__ = "log_suspension"

    platform: Mapped[str] = mapped_column(String(64), primary_key=True)


class LogRevocation(HolderBase):
    """A platform's key that the log says is revoked."""

    __tablename__ = "log_revocation"

    platform: Mapped[str] = mapped_column(String(64), primary_key=True)
    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    public_key: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
