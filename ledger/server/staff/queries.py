"""Queries on staff accounts and their sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, or_, select, update

from ledger.rules.appeals import OPEN_STATES
from ledger.rules.staff_independence import ResponsibleAdmins
from ledger.server.db.tables.appeals import AppealCase
from ledger.server.db.tables.platforms import ControlGroup
from ledger.server.db.tables.staff import StaffAccount, StaffSession


@dataclass(frozen=True, slots=True)
class StaffRow:
    """An account as it is stored."""

    id: int
    name: str
    role: str
    control_group: str | None
    language: str
    password_hash: str
    totp_secret: bytes
    totp_last_step: int | None
    must_change_password: bool
    disabled_at: datetime | None
    failed_count: int
    locked_until: datetime | None
    created_at: datetime
    enrolled_by: int | None
    confirmed_by: int | None
    awaits_confirmation: bool
    pending_role: str | None
    role_asked_by: int | None
    link_hash: bytes | None
    link_expires_at: datetime | None
    link_opened: bool
    revision: int
    last_login_at: datetime | None

    def __repr__(self) -> str:
        return f"StaffRow(id={self.id}, name={self.name!r}, role={self.role!r})"  # without its secrets


@dataclass(frozen=True, slots=True)
class StaffSessionRow:
    """A session as it is stored, without the hash of its token."""

    staff_id: int
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


_ACTIVE_ADMIN = (
    StaffAccount.role == "admin",
    StaffAccount.disabled_at.is_(None),
    StaffAccount.link_hash.is_(None),
    StaffAccount.awaits_confirmation.is_(False),
)
"""Conditions for an admin who can sign in."""

_STAFF = select(*[getattr(StaffAccount, name) for name in StaffRow.__dataclass_fields__])


def insert_staff(connection: Connection, **values: Any) -> int:
    """Add an account and return its id. Raises SQLAlchemy's IntegrityError if the name is taken."""
    result = connection.execute(insert(StaffAccount).values(**values).returning(StaffAccount.id))
    return int(result.scalar_one())


def read_all(connection: Connection) -> list[StaffRow]:
    """Return all accounts, by name."""
    return [StaffRow(*row) for row in connection.execute(_STAFF.order_by(StaffAccount.name))]


def read_by_id(connection: Connection, staff_id: int) -> StaffRow | None:
    """Return the account with this id, None if there is none."""
    row = connection.execute(_STAFF.where(StaffAccount.id == staff_id)).one_or_none()
    return None if row is None else StaffRow(*row)


def read_by_name(connection: Connection, name: str) -> StaffRow | None:
    """Return the account of this name, None if there is none."""
    row = connection.execute(_STAFF.where(StaffAccount.name == name)).one_or_none()
    return None if row is None else StaffRow(*row)


def lock_by_name(connection: Connection, name: str) -> StaffRow | None:
    """Return the account of this name, locked until the transaction ends; None if there is none."""
    row = connection.execute(_STAFF.where(StaffAccount.name == name).with_for_update()).one_or_none()
    return None if row is None else StaffRow(*row)


def lock_by_id(connection: Connection, staff_id: int) -> StaffRow | None:
    """Return the account with this id, locked until the transaction ends; None if there is none."""
    row = connection.execute(_STAFF.where(StaffAccount.id == staff_id).with_for_update()).one_or_none()
    return None if row is None else StaffRow(*row)


def lock_active_admins(connection: Connection) -> list[int]:
    """Return the ids of all admins who can sign in. Their rows are locked in a fixed order, so that of two admins who
    demote each other one waits for the other."""
    query = select(StaffAccount.id).where(*_ACTIVE_ADMIN)
    return list(connection.execute(query.order_by(StaffAccount.id).with_for_update()).scalars())


def active_admins(connection: Connection) -> list[int]:
    """Return the ids of all admins who can sign in."""
    return list(connection.execute(select(StaffAccount.id).where(*_ACTIVE_ADMIN)).scalars())


def has_active_admin(connection: Connection) -> bool:
    """True if at least one admin can sign in."""
    return bool(connection.execute(select(exists().where(*_ACTIVE_ADMIN))).scalar_one())


def lock_by_link(connection: Connection, link_hash: bytes) -> StaffRow | None:
    """Return the account whose enrolment link has this hash, locked until the transaction ends; None if there is
    none."""
    row = connection.execute(_STAFF.where(StaffAccount.link_hash == link_hash).with_for_update()).one_or_none()
    return None if row is None else StaffRow(*row)


def responsible_admins(connection: Connection) -> dict[int, ResponsibleAdmins]:
    """Return the admins who are responsible for each account, by the account's id."""
    rows = connection.execute(select(StaffAccount.id, StaffAccount.enrolled_by, StaffAccount.confirmed_by))
    return {staff_id: ResponsibleAdmins(enrolled, confirmed) for staff_id, enrolled, confirmed in rows}


def open_cases_by_reviewer(connection: Connection, but_of: str | None = None) -> dict[int, int]:
    """Return how many open cases are assigned to each member of staff, by id, without cases about reports of control
    group `but_of`. Staff without an open case are left out."""
    query = (
        select(AppealCase.reviewer_id, func.count())
        .where(AppealCase.state.in_(sorted(state.value for state in OPEN_STATES)), AppealCase.reviewer_id.is_not(None))
        .group_by(AppealCase.reviewer_id)
    )
    if but_of is not None:
        query = query.where(AppealCase.control_group != but_of)
    rows = connection.execute(query)
    return {staff_id: cases for staff_id, cases in rows if staff_id is not None}


def control_group_known(connection: Connection, name: str) -> bool:
    """True if there is a control group of this name."""
    return bool(connection.execute(select(exists().where(ControlGroup.name == name))).scalar_one())


def read_control_groups(connection: Connection) -> list[str]:
    """Return the names of the members' control groups, in order."""
    return list(connection.execute(select(ControlGroup.name).order_by(ControlGroup.name)).scalars())


def update_staff(connection: Connection, staff_id: int, **values: Any) -> None:
    """Set columns of an account."""
    connection.execute(update(StaffAccount).where(StaffAccount.id == staff_id).values(**values))


def take_step(connection: Connection, staff_id: int, step: int) -> bool:
    """Record that the code of a time step was used; return False if this step or a later one was used before."""
    fresh = or_(StaffAccount.totp_last_step.is_(None), StaffAccount.totp_last_step < step)
    changed = connection.execute(
        update(StaffAccount).where(StaffAccount.id == staff_id, fresh).values(totp_last_step=step)
    )
    return changed.rowcount == 1


def insert_session(
    connection: Connection, token_hash: bytes, staff_id: int, now: datetime, expires_at: datetime
) -> None:
    """Add a session."""
    values = {"token_hash": token_hash, "staff_id": staff_id, "created_at": now, "seen_at": now}
    connection.execute(insert(StaffSession).values(**values, expires_at=expires_at))


def read_session(connection: Connection, token_hash: bytes) -> StaffSessionRow | None:
    """Return the session with this token hash, whatever its age; None if there is none."""
    query = select(StaffSession.staff_id, StaffSession.created_at, StaffSession.seen_at, StaffSession.expires_at).where(
        StaffSession.token_hash == token_hash
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else StaffSessionRow(*row)


def touch_session(connection: Connection, token_hash: bytes, now: datetime) -> None:
    """Record that a session was used at `now`, unless a later use is recorded."""
    connection.execute(
        update(StaffSession)
        .where(StaffSession.token_hash == token_hash, StaffSession.seen_at < now)
        .values(seen_at=now)
    )


def delete_session(connection: Connection, token_hash: bytes) -> bool:
    """Delete a session; return True if there was one."""
    return connection.execute(delete(StaffSession).where(StaffSession.token_hash == token_hash)).rowcount == 1


def delete_sessions(connection: Connection, staff_id: int, *, but: bytes | None = None) -> None:
    """Delete all sessions of an account, except the one with the token hash `but`."""
    query = delete(StaffSession).where(StaffSession.staff_id == staff_id)
    connection.execute(query if but is None else query.where(StaffSession.token_hash != but))


def delete_old_sessions(connection: Connection, now: datetime, idle_since: datetime) -> None:
    """Delete sessions that have ended: past their end, or not used since `idle_since`."""
    over = or_(StaffSession.expires_at <= now, StaffSession.seen_at <= idle_since)
    connection.execute(delete(StaffSession).where(over))


def names_of(connection: Connection, ids: Iterable[int]) -> dict[int, str]:
    """Return the login names of accounts, by id."""
    unique = sorted(set(ids))
    if not unique:
        return {}
    rows = connection.execute(select(StaffAccount.id, StaffAccount.name).where(StaffAccount.id.in_(unique)))
    return {staff_id: name for staff_id, name in rows}  # noqa: C416
