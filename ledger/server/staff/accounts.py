"""Accounts of the people who work with the ledger. Every change writes the audit log in the same transaction.

A new account has a random password, which must be changed at the first login, and a one-time-code seed; both are shown
once. There is always one admin who can sign in: the last one can be neither disabled nor given another role.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from ledger.errors import AlreadyExists, NotFound, StaffInvalid
from ledger.i18n import DEFAULT_LOCALE, LOCALES
from ledger.rules.case_machine import Staff
from ledger.rules.staff_independence import ResponsibleAdmins, controller_of, may_confirm
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.staff import ROLES
from ledger.server.keys import sealing
from ledger.server.staff import passwords
from ledger.server.staff import queries as store
from ledger.server.staff.audit import record
from ledger.server.staff.passwords import RandomBytes
from ledger.server.staff.queries import StaffRow

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}\Z")


@dataclass(frozen=True, slots=True)
class StaffMember:
    """A member of staff who is signed in. `control_group` is the members' control group that they belong to; None for
    staff of the ledger itself."""

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
    revision: int
    last_login_at: datetime | None
    open_cases: int
    invited: bool
    """The person has not used the enrolment link yet."""
    enrolled_by: str | None
    """The admin who enrolled the account or requested its role; None for the command line."""
    confirmed_by: str | None
    awaits_confirmation: bool
    pending_role: str | None
    alone: bool
    """One admin alone is responsible for the account."""
    confirmers: frozenset[int]
    """Ids of the admins who may confirm what is not confirmed yet."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A new or reset account with its secrets, which are shown once and not stored in this form. `repr` leaves them
    out."""

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
    language: str = DEFAULT_LOCALE,
    service: str,
    now: datetime,
    random_bytes: RandomBytes,
) -> Enrolment:
    """Create an account from the command line. `service` is the issuer that authenticator apps show.

    Raises StaffInvalid (also for a control group that no platform has: after a spelling mistake there, the person could
    decide about reports of their own group), AlreadyExists, TooManyAttempts, DatabaseUnavailable.
    """
    password = passwords.initial_password(random_bytes)
    seed = random_bytes(passwords.SEED_BYTES)
    hashed = passwords.hash_password(password)
    try:
        with writing(engine) as connection:
            check_new_account(connection, name, role, control_group, language)
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
            sealed = seal_seed(sealing_key, staff_id, seed, random_bytes)
            store.update_staff(connection, staff_id, totp_secret=sealed)
            record(connection, now, None, "staff_added", "staff", str(staff_id), f"{name}: {role}")
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
) -> Enrolment:
    """Give an account a new password and a new seed from the command line, and end its sessions and any lock. A
    disabled account stays disabled. An account that waits for a second admin does not wait any longer.

    Raises NotFound, TooManyAttempts, DatabaseUnavailable.
    """
    password = passwords.initial_password(random_bytes)
    seed = random_bytes(passwords.SEED_BYTES)
    hashed = passwords.hash_password(password)
    with writing(engine) as connection:
        row = locked(connection, name)
        store.update_staff(
            connection,
            row.id,
            password_hash=hashed,
            totp_secret=seal_seed(sealing_key, row.id, seed, random_bytes),
            totp_last_step=None,
            must_change_password=True,
            enrolled_by=None,
            confirmed_by=None,
            awaits_confirmation=False,
            link_hash=None,
            link_expires_at=None,
            link_opened=False,
            revision=row.revision + 1,
            **_UNLOCKED,
        )
        store.delete_sessions(connection, row.id)
        record(connection, now, None, "staff_reset", "staff", str(row.id), name)
    return Enrolment(member_of(row, must_change_password=True), password, passwords.totp_uri(seed, name, service))


def disable_staff(engine: Engine, name: str, now: datetime, by: int | None = None) -> None:
    """Disable an account and end its sessions. Raises NotFound, StaffInvalid (the last admin), DatabaseUnavailable."""
    with writing(engine) as connection:
        admins = store.lock_active_admins(connection)
        row = locked(connection, name)
        if row.disabled_at is None:
            check_not_last(admins, row)
            store.update_staff(connection, row.id, disabled_at=now)
            store.delete_sessions(connection, row.id)
            record(connection, now, by, "staff_disabled", "staff", str(row.id), name)


def enable_staff(engine: Engine, name: str, now: datetime, by: int | None = None) -> None:
    """Enable an account again, and end a lock after wrong attempts. Raises NotFound, DatabaseUnavailable."""
    with writing(engine) as connection:
        row = locked(connection, name)
        if row.disabled_at is not None or row.locked_until is not None or row.failed_count:
            store.update_staff(connection, row.id, disabled_at=None, **_UNLOCKED)
            record(connection, now, by, "staff_enabled", "staff", str(row.id), name)


def set_role(engine: Engine, name: str, role: str, now: datetime) -> None:
    """Give an account another role from the command line, and end its sessions, which belong to the old role.

    Raises NotFound, StaffInvalid (no such role, the last admin), DatabaseUnavailable.
    """
    check_role(role)
    with writing(engine) as connection:
        admins = store.lock_active_admins(connection)
        row = locked(connection, name)
        if row.role != role:
            check_not_last(admins, row)
            values = {"role": role, "pending_role": None, "role_asked_by": None, "revision": row.revision + 1}
            store.update_staff(connection, row.id, **values)
            store.delete_sessions(connection, row.id)
            record(connection, now, None, "role_changed", "staff", str(row.id), f"{name}: {row.role} -> {role}")


def set_language(engine: Engine, staff_id: int, language: str) -> None:
    """Set the language in which a member of staff reads pages. Raises StaffInvalid, DatabaseUnavailable."""
    _require(language in LOCALES, f"The language must be {' or '.join(LOCALES)}.")
    with writing(engine) as connection:
        store.update_staff(connection, staff_id, language=language)


def list_staff(engine: Engine, reader_group: str | None = None) -> list[Account]:
    """Return all accounts, by name, for a reader of the control group `reader_group` (None: of no group). Numbers of
    open cases leave out cases about reports of that group. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        rows = store.read_all(connection)
        admins = store.active_admins(connection)
        cases = store.open_cases_by_reviewer(connection, reader_group)
    names = {row.id: row.name for row in rows}
    responsible = {row.id: ResponsibleAdmins(row.enrolled_by, row.confirmed_by) for row in rows}
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
            revision=row.revision,
            last_login_at=row.last_login_at,
            open_cases=cases.get(row.id, 0),
            invited=row.link_hash is not None,
            enrolled_by=names.get(_requested_by(row) or 0),
            confirmed_by=names.get(row.confirmed_by or 0),
            awaits_confirmation=row.awaits_confirmation,
            pending_role=row.pending_role,
            alone=controller_of(responsible, row.id) != row.id or row.enrolled_by == row.id,
            confirmers=_confirmers(row, responsible, admins),
        )
        for row in rows
    ]


def working_staff(engine: Engine, staff_id: int) -> StaffMember | None:
    """Return the member of staff with this id; None if there is none or the account is disabled. Raises
    DatabaseUnavailable."""
    with reading(engine) as connection:
        row = store.read_by_id(connection, staff_id)
    return None if row is None or row.disabled_at is not None else member_of(row)


def as_staff(member: StaffMember) -> Staff:
    """Return the member of staff in the form that the rules about cases use."""
    return Staff(member.id, member.role, member.control_group)


def control_groups(engine: Engine) -> list[str]:
    """Return the names of the control groups that an account may belong to. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        return store.read_control_groups(connection)


def needs_admin(engine: Engine) -> bool:
    """True if there is no admin yet who can sign in. Raises DatabaseUnavailable."""
    with reading(engine) as connection:
        return not store.has_active_admin(connection)


def check_new_account(connection: Connection, name: str, role: str, control_group: str | None, language: str) -> None:
    """Check that an account with these values may be created.

    Raises StaffInvalid (also for a control group that no platform has, see `add_staff`), AlreadyExists.
    """
    _require(_NAME.match(name), "A login name is 2 to 64 of a-z, 0-9 and ._-, starting with a letter or digit.")
    check_role(role)
    _require(language in LOCALES, f"The language must be {' or '.join(LOCALES)}.")
    known = control_group is None or store.control_group_known(connection, control_group)
    _require(known, "No platform has this control group. Enrol the platform first.")
    if store.lock_by_name(connection, name) is not None:
        raise AlreadyExists("There is an account of this name already.")


def member_of(row: StaffRow, must_change_password: bool | None = None) -> StaffMember:
    """Return the member of staff of an account row. `must_change_password` replaces the stored value unless None."""
    must = row.must_change_password if must_change_password is None else must_change_password
    return StaffMember(row.id, row.name, row.role, row.control_group, row.language, must)


def seed_of(sealing_key: bytes, row: StaffRow) -> bytes:
    """Return the account's one-time-code seed. Raises ConfigurationError if it was sealed with another key."""
    return sealing.unseal(sealing_key, _owner(row.id), row.totp_secret)


_UNLOCKED: dict[str, Any] = {"failed_count": 0, "locked_until": None}


def seal_seed(sealing_key: bytes, staff_id: int, seed: bytes, random_bytes: RandomBytes) -> bytes:
    """Return the seed of this account's one-time codes, sealed as it is stored."""
    return sealing.seal(sealing_key, random_bytes(sealing.NONCE_BYTES), _owner(staff_id), seed)


def _owner(staff_id: int) -> str:
    return f"staff:{staff_id}"


def locked(connection: Connection, name: str) -> StaffRow:
    """Return the account of this name, locked until the transaction ends. Raises NotFound."""
    row = store.lock_by_name(connection, name)
    if row is None:
        raise NotFound("There is no account of this name.")
    return row


def check_not_last(admins: list[int], row: StaffRow) -> None:
    """Check that an admin remains without this account; `admins` are the ids of those who can sign in. Raises
    StaffInvalid."""
    _require(admins != [row.id], "This is the last admin who can sign in. Make another one first.")


def check_role(role: str) -> None:
    """Check that the role exists. Raises StaffInvalid."""
    _require(role in ROLES, "The role must be reviewer, supervisor, auditor or admin.")


def _requested_by(row: StaffRow) -> int | None:
    """Return the id of the admin who requested what may have to be confirmed: the pending role, or the enrolment."""
    return row.role_asked_by if row.pending_role is not None else row.enrolled_by


def _confirmers(row: StaffRow, responsible: Mapping[int, ResponsibleAdmins], admins: Collection[int]) -> frozenset[int]:
    requested_by = _requested_by(row)
    if requested_by is None or (row.pending_role is None and row.confirmed_by is not None):
        return frozenset()
    return frozenset(admin for admin in admins if may_confirm(responsible, requested_by, row.id, admin))


def _require(condition: object, message: str) -> None:
    if not condition:
        raise StaffInvalid(message)
