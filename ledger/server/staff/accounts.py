"""Accounts of the people who work with the ledger. Every change is in the audit log, in the same transaction.

An account begins with a random password, to be changed at the first login, and a one-time-code seed; both are shown
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
from ledger.rules.staff_independence import Vouched, hand_of, may_confirm
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
    revision: int
    last_login_at: datetime | None
    open_cases: int
    invited: bool
    """The person has not used the enrolment link yet."""
    enrolled_by: str | None
    """The admin who enrolled the account or asked for its role; None for the command line."""
    confirmed_by: str | None
    awaits_confirmation: bool
    pending_role: str | None
    alone: bool
    """The account rests on the word of one admin alone."""
    confirmers: frozenset[int]
    """Admins who may confirm what is not confirmed."""


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
    language: str = DEFAULT_LOCALE,
    service: str,
    now: datetime,
    random_bytes: RandomBytes,
) -> Enrolment:
    """Make an account from the command line. `service` is the issuer that authenticator apps show.

    Raises StaffInvalid (also for a control group that no platform has: a slip there would let people decide about their
    own group's reports), AlreadyExists, TooManyAttempts, DatabaseUnavailable.
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
    """Give an account, from the command line, a new password and a new seed, end its sessions and any lock. A disabled
    one stays disabled; one that waits for a second admin waits no longer.

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
    """Shut an account and end its sessions. Raises NotFound, StaffInvalid (the last admin), DatabaseUnavailable."""
    with writing(engine) as connection:
        admins = store.lock_active_admins(connection)
        row = locked(connection, name)
        if row.disabled_at is None:
            check_not_last(admins, row)
            store.update_staff(connection, row.id, disabled_at=now)
            store.delete_sessions(connection, row.id)
            record(connection, now, by, "staff_disabled", "staff", str(row.id), name)


def enable_staff(engine: Engine, name: str, now: datetime, by: int | None = None) -> None:
    """Open an account again, and lift a lock after wrong attempts. Raises NotFound, DatabaseUnavailable."""
    with writing(engine) as connection:
        row = locked(connection, name)
        if row.disabled_at is not None or row.locked_until is not None or row.failed_count:
            store.update_staff(connection, row.id, disabled_at=None, **_UNLOCKED)
            record(connection, now, by, "staff_enabled", "staff", str(row.id), name)


def set_role(engine: Engine, name: str, role: str, now: datetime) -> None:
    """Give an account another role from the command line, and end its sessions: what they show is of the old one.

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
    """Set the language in which somebody reads pages. Raises StaffInvalid, DatabaseUnavailable."""
    _require(language in LOCALES, f"The language must be {' or '.join(LOCALES)}.")
    with writing(engine) as connection:
        store.update_staff(connection, staff_id, language=language)


def list_staff(engine: Engine, reader_group: str | None = None) -> list[Account]:
    """All accounts, by name, for a reader of the control group `reader_group` (None: of no group): cases about reports
    of that group are in no number."""
    with reading(engine) as connection:
        rows = store.read_all(connection)
        admins = store.active_admins(connection)
        cases = store.open_cases_by_reviewer(connection, reader_group)
    names = {row.id: row.name for row in rows}
    vouched = {row.id: Vouched(row.enrolled_by, row.confirmed_by) for row in rows}
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
            enrolled_by=names.get(_asked_by(row) or 0),
            confirmed_by=names.get(row.confirmed_by or 0),
            awaits_confirmation=row.awaits_confirmation,
            pending_role=row.pending_role,
            alone=hand_of(vouched, row.id) != row.id or row.enrolled_by == row.id,
            confirmers=_confirmers(row, vouched, admins),
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


def check_new_account(connection: Connection, name: str, role: str, control_group: str | None, language: str) -> None:
    """Whether an account of this name may be made.

    Raises StaffInvalid (also for a control group that no platform has: a slip there would let people decide about
    their own group's reports), AlreadyExists.
    """
    _require(_NAME.match(name), "A login name is 2 to 64 of a-z, 0-9 and ._-, starting with a letter or digit.")
    check_role(role)
    _require(language in LOCALES, f"The language must be {' or '.join(LOCALES)}.")
    known = control_group is None or store.control_group_known(connection, control_group)
    _require(known, "No platform has this control group. Enrol the platform first.")
    if store.lock_by_name(connection, name) is not None:
        raise AlreadyExists("There is an account of this name already.")


def member_of(row: StaffRow, must_change_password: bool | None = None) -> StaffMember:
    """The member of staff whose account this is."""
    must = row.must_change_password if must_change_password is None else must_change_password
    return StaffMember(row.id, row.name, row.role, row.control_group, row.language, must)


def seed_of(sealing_key: bytes, row: StaffRow) -> bytes:
    """The account's one-time-code seed. Raises ConfigurationError where the key is another one."""
    return sealing.unseal(sealing_key, _owner(row.id), row.totp_secret)


_UNLOCKED: dict[str, Any] = {"failed_count": 0, "locked_until": None}


def seal_seed(sealing_key: bytes, staff_id: int, seed: bytes, random_bytes: RandomBytes) -> bytes:
    """The seed of this account's one-time codes as it is stored."""
    return sealing.seal(sealing_key, random_bytes(sealing.NONCE_BYTES), _owner(staff_id), seed)


def _owner(staff_id: int) -> str:
    return f"staff:{staff_id}"


def locked(connection: Connection, name: str) -> StaffRow:
    """The account of this name, locked until the transaction ends. Raises NotFound."""
    row = store.lock_by_name(connection, name)
    if row is None:
        raise NotFound("There is no account of this name.")
    return row


def check_not_last(admins: list[int], row: StaffRow) -> None:
    """Whether an admin is left without this account; `admins` can sign in. Raises StaffInvalid."""
    _require(admins != [row.id], "This is the last admin who can sign in. Make another one first.")


def check_role(role: str) -> None:
    """Raises StaffInvalid where there is no such role."""
    _require(role in ROLES, "The role must be reviewer, supervisor, auditor or admin.")


def _asked_by(row: StaffRow) -> int | None:
    return row.role_asked_by if row.pending_role is not None else row.enrolled_by


def _confirmers(row: StaffRow, vouched: Mapping[int, Vouched], admins: Collection[int]) -> frozenset[int]:
    asked_by = _asked_by(row)
    if asked_by is None or (row.pending_role is None and row.confirmed_by is not None):
        return frozenset()
    return frozenset(one for one in admins if may_confirm(vouched, asked_by, row.id, one))


def _require(condition: object, message: str) -> None:
    if not condition:
        raise StaffInvalid(message)
