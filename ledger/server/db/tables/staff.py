"""Tables of the people who work with the ledger: accounts, sessions, and the log of their actions.

An account's password is kept as an argon2id hash, its one-time-code seed sealed under a key that is not in the
database. Of a session only the hash of its token is kept.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, Index, Integer, LargeBinary, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from ledger.server.db.base import Base
from ledger.server.db.types import BigInt, Bytes32, UtcDateTime

ROLES = ("reviewer", "supervisor", "auditor", "admin")

_ROLES = ", ".join(f"'{role}'" for role in ROLES)


class StaffAccount(Base):
    """One person. `control_group` is the members' group they belong to: they never decide about its reports.

    `totp_last_step` is the time step of the last accepted code, so that each is accepted once. `failed_count` is the
    number of attempts since the last successful one, counted before they are checked.

    `enrolled_by` is the admin who requested the present credentials or role (None: the command line), `confirmed_by`
    the second admin. While `awaits_confirmation`, the account cannot sign in. `pending_role` is a role that admin
    `role_asked_by` requested; it does not apply before it is confirmed. `link_hash` is the SHA-256 of an enrolment
    link's code, or of the code of the form that the opened link leads to (`link_opened`); while there is one, the
    account has no password. `revision` counts enrolments, so that a form that is sent twice acts once.
    """

    __tablename__ = "staff"
    __table_args__ = (
        CheckConstraint(f"role IN ({_ROLES})", name="role"),
        Index("uq_staff_link_hash", "link_hash", unique=True),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    control_group: Mapped[str | None] = mapped_column(String(32))
    language: Mapped[str] = mapped_column(String(8))
    password_hash: Mapped[str] = mapped_column(Text)
    totp_secret: Mapped[bytes] = mapped_column(LargeBinary)
    totp_last_step: Mapped[int | None] = mapped_column(BigInt)
    must_change_password: Mapped[bool] = mapped_column(Boolean)
    disabled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    failed_count: Mapped[int] = mapped_column(Integer)
    locked_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    enrolled_by: Mapped[int | None] = mapped_column(BigInt)
    confirmed_by: Mapped[int | None] = mapped_column(BigInt)
    awaits_confirmation: Mapped[bool] = mapped_column(Boolean, server_default=false())
    pending_role: Mapped[str | None] = mapped_column(String(16))
    role_asked_by: Mapped[int | None] = mapped_column(BigInt)
    link_hash: Mapped[bytes | None] = mapped_column(Bytes32)
    link_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    link_opened: Mapped[bool] = mapped_column(Boolean, server_default=false())
    revision: Mapped[int] = mapped_column(Integer, server_default="0")
    last_login_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class StaffSession(Base):
    """A signed-in browser. `seen_at` is written at most once a minute; the session ends at `expires_at` in any case."""

    __tablename__ = "staff_session"
    __table_args__ = (Index("ix_staff_session_staff_id", "staff_id"),)

    token_hash: Mapped[bytes] = mapped_column(Bytes32, primary_key=True)
    staff_id: Mapped[int] = mapped_column(BigInt)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StaffEvent(Base):
    """The audit log: rows are added, and no code of this program changes or deletes one.

    `staff_id` is None for the operator's command line. `object_id` is a public id (`ap_...`), never a tag.
    `about_group` is the control group whose report a row is about: its own staff do not see the row.
    """

    __tablename__ = "staff_event"
    __table_args__ = (
        Index("ix_staff_event_staff_id_id", "staff_id", "id"),
        Index("ix_staff_event_action_id", "action", "id"),
        Index("ix_staff_event_object_id_id", "object_id", "id"),
        Index("ix_staff_event_at", "at"),
    )

    id: Mapped[int] = mapped_column(BigInt, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    staff_id: Mapped[int | None] = mapped_column(BigInt)
    action: Mapped[str] = mapped_column(String(32))
    object_type: Mapped[str | None] = mapped_column(String(16))
    object_id: Mapped[str | None] = mapped_column(String(32))
    detail: Mapped[str | None] = mapped_column(String(200))
    about_group: Mapped[str | None] = mapped_column(String(32))
