"""Tables of member platforms: control groups, platforms and their public keys."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Integer, SmallInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import Bytes32, UtcDateTime


class ControlGroup(Base):
    """Accounts under one control. `weight_twentieths` is its weight under a policy whose weights follow each decision
    at once (version 1); other weights are computed from `case_outcome` on each read."""

    __tablename__ = "control_group"
    __table_args__ = (CheckConstraint("weight_twentieths BETWEEN 0 AND 20", name="weight"),)

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    weight_twentieths: Mapped[int] = mapped_column(SmallInteger)


class Platform(Base):
    """A member platform. `name` is the `iss` of its tokens.

    `status_changed_at` is the time of its last change of status. `weighed_before` is whether its reports carried weight
    at the UTC midnight before that change. Both are None if the status never changed.
    """

    __tablename__ = "platform"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    control_group: Mapped[str] = mapped_column(ForeignKey("control_group.name"))
    profile: Mapped[str] = mapped_column(String(2))
    scopes: Mapped[str] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(16))
    oprf_daily_quota_elements: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    status_changed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    weighed_before: Mapped[bool | None] = mapped_column(Boolean)


class PlatformKey(Base):
    """A platform's Ed25519 public key. Only public keys are stored; each can be revoked."""

    __tablename__ = "platform_key"
    __table_args__ = (UniqueConstraint("public_key"),)

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    platform: Mapped[str] = mapped_column(ForeignKey("platform.name"), index=True)
    public_key: Mapped[bytes] = mapped_column(Bytes32)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
