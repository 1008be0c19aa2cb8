"""Accounts of the people who work with the ledger. Every change is in the audit log, in the same transaction.

An account begins with a random password, to be changed at the first login, and a one-time-code seed; both are shown
once. There is always one admin who can sign in: the last one can be neither disabled nor given another role.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from ledger.core.cases import Staff
from ledger.errors import AlreadyExists, NotFound, StaffInvalid
from ledger.i18n import LOCALES
from ledger.service import passwords, sealing
from ledger.service.audit import record
from ledger.service.passwords import RandomBytes
from ledger.store import staff as store
from ledger.store.engine import reading, writing
from ledger.store.staff import StaffRow
from ledger.store.staff_tables import ROLES

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}\Z")


@dataclass(frozen=True, slots=True)
class StaffMember:
    """Somebody who is signed in, as pages and services see them; `control_group` is the members' group they are of."""

    id: int
    name: str
    role: str
    control_group: str | None
    language: str
    must_change_password: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """An account as an admin sees it."""

    id: int
    name: str
    role: str
    control_group: str | None
    language: str
    must_change_password: bool
    disabled: bool
    locked_until: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A new or reset account with its secrets, which are shown once and kept nowhere. `repr` leaves them out."""

    staff: StaffMember
    password: str
    totp_uri: str

    def __repr__(self) -> str:
        return f"Enrolment(staff={self.staff!r})"


def add_staff(
    engine: Engine,
    sealing_key: bytes,
    *,
    name: str,
    role: str,
    control_group: str | None = None,
    language: str = "en",
    service: str,
    now: datetime,
    random_bytes: RandomBytes,
    by: int | None = None,
) -> Enrolment:
    """Make an account. `service` is the issuer that authenticator apps show, `by` the admin (None: the command line).

    Raises StaffInvalid (also for a control group that no platform has: a slip there would let people decide about their
    own group's reports), AlreadyExists, TooManyAttempts, DatabaseUnavailable.
    """
    _require(_NAME.match(name), "A login name is 2 to 64 of a-z, 0-9 and ._-, starting with a letter or digit.")
    _check_role(role)
    _require(language in LOCALES, "The language must be en or zh-CN.")
    password = passwords.initial_password(random_bytes)
    seed = random_bytes(passwords.SEED_BYTES)
    hashed = passwords.hash_password(password)
    try:
        with writing(engine) as connection:
            known = control_group is None or store.control_group_known(connection, control_group)
            _require(known, "No platform has this control group. Enrol the platform first.")
            if store.lock_by_name(connection, name) is not None:
                raise AlreadyExists("There is an account of this name already.")
            staff_id = store.insert_staff(
                connection,
                name=name,
                role=role,
                control_group=control_group,
                language=language,
                password_hash=hashed,
                totp_secret=b"",
                must_change_password=True,
                failed_count=0,
                created_at=now,
            )
            sealed = _seal(sealing_key, staff_id, seed, random_bytes)
            store.update_staff(connection, staff_id, totp_secret=sealed)
            record(connection, now, by, "staff_added", "staff", str(staff_id), f"{name}: {role}")
    except IntegrityError as error:  # the same command twice at once
        raise AlreadyExists("There is an account of this name already.") from error
    member = StaffMember(staff_id, name, role, control_group, language, True)
    return Enrolment(member, password, passwords.totp_uri(seed, name, service))


def reset_staff(
    engine: Engine,
    sealing_key: bytes,
    name: str,
    *,
    service: str,
    now: datetime,
    random_bytes: RandomBytes,
    by: int | None = None,
) -> Enrolment:
    """Give an account a new password and a new seed, end its sessions and any lock. A disabled one stays disabled.

    Raises NotFound, TooManyAttempts, DatabaseUnavailable.
    """
    password = passwords.initial_password(random_bytes)
    seed = random_bytes(passwords.SEED_BYTES)
    hashed = passwords.hash_password(password)
    with writing(engine) as connection:
        row = _locked(connection, name)
        store.update_staff(
            connection,
            row.id,
            password_hash=hashed,
            totp_secret=_seal(sealing_key, row.id, seed, random_bytes),
            totp_last_step=None,
            must_change_password=True,
            **_UNLOCKED,
        )
        store.delete_sessions(connection, row.id)
        record(connection, now, by, "staff_reset", "staff", str(row.id), name)
    return Enrolment(member_of(row, must_change_password=True), password, passwords.totp_uri(seed, name, service))


def disable_staff(engine: Engine, name: str, now: datetime, by: int | None = None) -> None:
    """Shut an account and end its sessions. Raises NotFound, StaffInvalid (the last admin), DatabaseUnavailable."""
    with writing(engine) as connection:
        admins = store.lock_active_admins(connection)
        row = _locked(connection, name)
        if row.disabled_at is None:
            _check_not_last(admins, row)
            store.update_staff(connection, row.id, disabled_at=now)
            store.delete_sessions(connection, row.id)
            record(connection, now, by, "staff_disabled", "staff", str(row.id), name)


def enable_staff(engine: Engine, name: str, now: datetime, by: int | None = None) -> None:
    """Open an account again, and lift a lock after wrong attempts. Raises NotFound, DatabaseUnavailable."""
    with writing(engine) as connection:
        row = _locked(connection, name)
        if row.disabled_at is not None or row.locked_until is not None or row.failed_count:
            store.update_staff(connection, row.id, disabled_at=None, **_UNLOCKED)
            record(connection, now, by, "staff_enabled", "staff", str(row.id), name)


def set_role(engine: Engine, name: str, role: str, now: datetime, by: int | None = None) -> None:
    """Give an account another role, and end its sessions: what they show is of the old one.

    Raises NotFound, StaffInvalid (no such role, the last admin), DatabaseUnavailable.
    """
    _check_role(role)
    with writing(engine) as connection:
        admins = store.lock_active_admins(connection)
        row = _locked(connection, name)
        if row.role != role:
            _check_not_last(admins, row)
            store.update_staff(connection, row.id, role=role)
            store.delete_sessions(connection, row.id)
            record(connection, now, by, "role_changed", "staff", str(row.id), f"{name}: {row.role} -> {role}")


def set_language(engine: Engine, staff_id: int, language: str) -> None:
    """Set the language in which somebody reads pages. Raises StaffInvalid, DatabaseUnavailable."""
    _require(language in LOCALES, "The language must be en or zh-CN.")
    with writing(engine) as connection:
        store.update_staff(connection, staff_id, language=language)


def list_staff(engine: Engine) -> list[Account]:
    """All accounts, by name."""
    with reading(engine) as connection:
        rows = store.read_all(connection)
    return [
        Account(
            id=row.id,
            name=row.name,
            role=row.role,
            control_group=row.control_group,
            language=row.language,
            must_change_password=row.must_change_password,
            disabled=row.disabled_at is not None,
            locked_until=row.locked_until,
            created_at=row.created_at,
        )
        for row in rows
    ]


def working_staff(engine: Engine, staff_id: int) -> StaffMember | None:
    """The member of staff of this id, None where there is none or the account is disabled."""
    with reading(engine) as connection:
        row = store.read_by_id(connection, staff_id)
    return None if row is None or row.disabled_at is not None else member_of(row)


def as_staff(member: StaffMember) -> Staff:
    """As the rules about cases see them."""
    return Staff(member.id, member.role, member.control_group)


def control_groups(engine: Engine) -> list[str]:
    """The control groups that an account may belong to."""
    with reading(engine) as connection:
        return store.read_control_groups(connection)


def needs_admin(engine: Engine) -> bool:
    """Whether nobody can sign in as an admin yet."""
    with reading(engine) as connection:
        return not store.has_active_admin(connection)


def member_of(row: StaffRow, must_change_password: bool | None = None) -> StaffMember:
    """The member of staff whose account this is."""
    must = row.must_change_password if must_change_password is None else must_change_password
    return StaffMember(row.id, row.name, row.role, row.control_group, row.language, must)


def seed_of(sealing_key: bytes, row: StaffRow) -> bytes:
    """The account's one-time-code seed. Raises ConfigurationError where the key is another one."""
    return sealing.unseal(sealing_key, _owner(row.id), row.totp_secret)


_UNLOCKED: dict[str, Any] = {"failed_count": 0, "locked_until": None}


def _seal(sealing_key: bytes, staff_id: int, seed: bytes, random_bytes: RandomBytes) -> bytes:
    return sealing.seal(sealing_key, random_bytes(sealing.NONCE_BYTES), _owner(staff_id), seed)


def _owner(staff_id: int) -> str:
    return f"staff:{staff_id}"


def _locked(connection: Connection, name: str) -> StaffRow:
    row = store.lock_by_name(connection, name)
    if row is None:
        raise NotFound("There is no account of this name.")
    return row


def _check_not_last(admins: list[int], row: StaffRow) -> None:
    _require(admins != [row.id], "This is the last admin who can sign in. Make another one first.")


def _check_role(role: str) -> None:
    _require(role in ROLES, "The role must be reviewer, supervisor, auditor or admin.")


def _require(condition: object, message: str) -> None:
    if not condition:
        raise StaffInvalid(message)
