"""Enrolment of staff: links with which people set up their accounts, and the second admin who confirms them.

An admin who creates or resets an account, or changes its role, sees neither its password nor its seed. The account gets
a link that works once. The person who opens it chooses a password and gets a new seed for an authenticator app. A
second admin confirms an account with one of the roles in `GUARDED` before it can sign in. If no second admin is able
to, the first admin alone is responsible for the account: every list of accounts shows this, and
`check_independent_signers` does not accept two signatures of accounts that the same admin controls.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from ledger.errors import AlreadyExists, ConflictOfInterest, LinkInvalid, StaffChanged, StaffInvalid
from ledger.protocol.encoding import b64url
from ledger.rules.staff_independence import controller_of, may_confirm
from ledger.server.db.engine import reading, writing
from ledger.server.staff import passwords
from ledger.server.staff import queries as store
from ledger.server.staff.accounts import (
    StaffMember,
    check_new_account,
    check_not_last,
    check_role,
    locked,
    member_of,
    seal_seed,
    seed_of,
)
from ledger.server.staff.audit import record
from ledger.server.staff.passwords import RandomBytes
from ledger.server.staff.queries import StaffRow
from ledger.server.staff.sessions import token_hash

GUARDED = frozenset({"reviewer", "supervisor", "admin"})
"""Roles that decide about consumers, or that give others such a role."""

LINK_HOURS = 72
FORM_MINUTES = 30
"""Minutes within which the form of an opened link must be sent."""

NO_PASSWORD = "!"
"""Stored in place of a hash for an account without a password; no password matches it."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """An account that waits for its owner. `code` is the code of its link, which is shown once; `repr` leaves it out.
    `confirmed_later`: a second admin must confirm the account before it can sign in."""

    staff: StaffMember
    code: str
    expires_at: datetime
    confirmed_later: bool

    def __repr__(self) -> str:
        return f"Invitation(staff={self.staff!r}, expires_at={self.expires_at!r})"


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """The data of the form that finishes an enrolment: the code that the form sends back, and the seed of the one-time
    codes as an otpauth address for authenticator apps. `repr` leaves both out."""

    staff: StaffMember
    code: str
    totp_uri: str

    def __repr__(self) -> str:
        return f"OpenedLink(staff={self.staff!r})"


def invite(
    engine: Engine,
    sealing_key: bytes,
    *,
    name: str,
    role: str,
    control_group: str | None,
    language: str,
    now: datetime,
    random_bytes: RandomBytes,
    by: int,
) -> Invitation:
    """Create an account with an enrolment link. `by` is the id of the admin.

    Raises StaffInvalid, AlreadyExists, DatabaseUnavailable.
    """
    code = random_bytes(32)
    try:
        with writing(engine) as connection:
            check_new_account(connection, name, role, control_group, language)
            waits = role in GUARDED and _has_second_admin(connection, by)
            staff_id = store.insert_staff(
                connection,
                name=name,
                role=role,
                control_group=control_group,
                language=language,
                password_hash=NO_PASSWORD,
                totp_secret=b"",
                must_change_password=False,
                failed_count=0,
                created_at=now,
                **_linked(code, now, by, waits),
            )
            seed = random_bytes(passwords.SEED_BYTES)
            store.update_staff(connection, staff_id, totp_secret=seal_seed(sealing_key, staff_id, seed, random_bytes))
            record(connection, now, by, "staff_added", "staff", str(staff_id), f"{name}: {role}{_alone(role, waits)}")
    except IntegrityError as error:  # the same form twice at once
        raise AlreadyExists("There is an account of this name already.") from error
    member = StaffMember(staff_id, name, role, control_group, language)
    return Invitation(member, b64url(code), now + timedelta(hours=LINK_HOURS), waits)


def reset(engine: Engine, name: str, *, revision: int, now: datetime, random_bytes: RandomBytes, by: int) -> Invitation:
    """Delete an account's password, end its sessions, and give it a new enrolment link, which will replace its seed.

    `revision` is the revision of the account that the admin saw, so that a form that is sent twice resets once. Raises
    NotFound, StaffChanged (another revision), StaffInvalid (the admin's own account), DatabaseUnavailable.
    """
    code = random_bytes(32)
    with writing(engine) as connection:
        row = _locked_at(connection, name, revision)
        if row.id == by:
            raise StaffInvalid("You cannot reset your own account: ask another admin, or use the command line.")
        waits = row.role in GUARDED and _has_second_admin(connection, by, but=row.id)
        store.update_staff(
            connection,
            row.id,
            password_hash=NO_PASSWORD,
            totp_last_step=None,
            must_change_password=False,
            failed_count=0,
            locked_until=None,
            revision=row.revision + 1,
            **_linked(code, now, by, waits),
        )
        store.delete_sessions(connection, row.id)
        record(connection, now, by, "staff_reset", "staff", str(row.id), f"{name}{_alone(row.role, waits)}")
    return Invitation(member_of(row), b64url(code), now + timedelta(hours=LINK_HOURS), waits)


def change_role(engine: Engine, name: str, role: str, *, revision: int, now: datetime, by: int) -> bool:
    """Give an account another role and end its sessions; return True if it has the role now. A role in `GUARDED` waits
    for a second admin if there is one.

    Raises NotFound, StaffChanged, StaffInvalid (no such role, the last admin), DatabaseUnavailable.
    """
    check_role(role)
    with writing(engine) as connection:
        admins = store.lock_active_admins(connection)
        row = _locked_at(connection, name, revision)
        if row.role == role and row.pending_role is None:
            return True
        if row.role != role:
            check_not_last(admins, row)
        detail = f"{name}: {row.role} -> {role}"
        if role in GUARDED and row.role != role and _has_second_admin(connection, by, but=row.id):
            # The account keeps its role until the new one is confirmed.
            pending = {"pending_role": role, "role_asked_by": by, "revision": row.revision + 1}
            store.update_staff(connection, row.id, **pending)
            record(connection, now, by, "role_asked", "staff", str(row.id), detail)
            return False
        changed: dict[str, object] = {"role": role, "pending_role": None, "role_asked_by": None}
        if role in GUARDED and row.role != role:
            changed |= {"enrolled_by": by, "confirmed_by": None}
        store.update_staff(connection, row.id, revision=row.revision + 1, **changed)
        store.delete_sessions(connection, row.id)
        record(connection, now, by, "role_changed", "staff", str(row.id), detail + _alone(role, False))
    return True


def confirm(engine: Engine, name: str, *, revision: int, now: datetime, by: int) -> None:
    """Confirm, as the second admin, an account that another admin enrolled, or the role that another admin requested.

    Raises NotFound, StaffChanged, StaffInvalid (there is nothing to confirm), ConflictOfInterest (`by` is the account
    itself, the admin who enrolled it, or an account that this admin controls), DatabaseUnavailable.
    """
    with writing(engine) as connection:
        store.lock_active_admins(connection)
        row = _locked_at(connection, name, revision)
        requested_by = row.role_asked_by if row.pending_role is not None else row.enrolled_by
        if requested_by is None or (row.pending_role is None and row.confirmed_by is not None):
            raise StaffInvalid("There is nothing to confirm about this account.")
        if not may_confirm(store.responsible_admins(connection), requested_by, row.id, by):
            raise ConflictOfInterest("A second admin confirms, whose own account does not rest on the first one alone.")
        values: dict[str, object] = {
            "enrolled_by": requested_by, "confirmed_by": by, "awaits_confirmation": False, "revision": row.revision + 1,
        }  # fmt: skip
        detail = name
        if row.pending_role is not None:
            values |= {"role": row.pending_role, "pending_role": None, "role_asked_by": None}
            detail = f"{name}: {row.role} -> {row.pending_role}"
            store.delete_sessions(connection, row.id)
        store.update_staff(connection, row.id, **values)
        record(connection, now, by, "staff_confirmed", "staff", str(row.id), detail)


def open_link(
    engine: Engine, sealing_key: bytes, code: str, *, service: str, now: datetime, random_bytes: RandomBytes
) -> OpenedLink:
    """Open an enrolment link, which works once, and return the data of a form that must be sent within `FORM_MINUTES`.

    The seed is a new one, so that only the person who opened the link has it. If an admin opens the link first, the
    person notices it, because the link does not work any longer. `service` is the issuer that authenticator apps show.
    Raises LinkInvalid, DatabaseUnavailable.
    """
    next_code, seed = random_bytes(32), random_bytes(passwords.SEED_BYTES)
    with writing(engine) as connection:
        row = _by_code(connection, code, now, opened=False)
        store.update_staff(
            connection,
            row.id,
            link_hash=hashlib.sha256(next_code).digest(),
            link_expires_at=now + timedelta(minutes=FORM_MINUTES),
            link_opened=True,
            totp_secret=seal_seed(sealing_key, row.id, seed, random_bytes),
            totp_last_step=None,
        )
        record(connection, now, row.id, "link_opened", "staff", str(row.id), row.name)
    return OpenedLink(member_of(row), b64url(next_code), passwords.totp_uri(seed, row.name, service))


def opened_link(engine: Engine, sealing_key: bytes, code: str, *, service: str, now: datetime) -> OpenedLink:
    """Return the data of the form of an opened link again, after a mistake in it. Raises LinkInvalid,
    ConfigurationError (see `seed_of`), DatabaseUnavailable."""
    with writing(engine) as connection:
        row = _by_code(connection, code, now, opened=True)
    return OpenedLink(member_of(row), code, passwords.totp_uri(seed_of(sealing_key, row), row.name, service))


def finish(
    engine: Engine, sealing_key: bytes, code: str, *, password: str, one_time_code: str, now: datetime
) -> tuple[StaffMember, bool]:
    """Set the password that the person chose, if a code shows that their app works. Return the member of staff, and
    whether they can sign in now; if not, the account waits for a second admin.

    Raises LinkInvalid, StaffInvalid (the password is not good enough, or the code is wrong), TooManyAttempts,
    ConfigurationError (see `seed_of`), DatabaseUnavailable.
    """
    with writing(engine) as connection:
        row = _by_code(connection, code, now, opened=True)
    passwords.check_new_password(password, row.name)
    step = passwords.code_step(seed_of(sealing_key, row), one_time_code, now)
    if step is None:
        raise StaffInvalid("This is not the code that the app shows now. Check the time of your phone.")
    hashed = passwords.hash_password(password)
    with writing(engine) as connection:
        current = _by_code(connection, code, now, opened=True)
        store.take_step(connection, current.id, step)
        store.update_staff(
            connection,
            current.id,
            password_hash=hashed,
            link_hash=None,
            link_expires_at=None,
            link_opened=False,
            failed_count=0,
            locked_until=None,
        )
        record(connection, now, current.id, "staff_enrolled", "staff", str(current.id), current.name)
    return member_of(current), not current.awaits_confirmation


def has_second_admin(engine: Engine, by: int, but: int | None = None) -> bool:
    """True if an admin other than `but` can sign in and may confirm what admin `by` does. Raises
    DatabaseUnavailable."""
    with reading(engine) as connection:
        return _has_second_admin(connection, by, but)


def check_independent_signers(connection: Connection, first: int, second: int) -> None:
    """Check that two members of staff may give the two signatures of one decision.

    Raises ConflictOfInterest if the same admin controls both accounts (`rules.staff_independence`).
    """
    accounts = store.responsible_admins(connection)
    if controller_of(accounts, first) == controller_of(accounts, second):
        raise ConflictOfInterest(
            "The same admin alone enrolled both of you, so a second admin must confirm one of the accounts first."
        )


def _linked(code: bytes, now: datetime, by: int, waits: bool) -> dict[str, object]:
    return {
        "link_hash": hashlib.sha256(code).digest(),
        "link_expires_at": now + timedelta(hours=LINK_HOURS),
        "link_opened": False,
        "enrolled_by": by,
        "confirmed_by": None,
        "awaits_confirmation": waits,
    }


def _has_second_admin(connection: Connection, by: int, but: int | None = None) -> bool:
    """True if an admin other than `but` can sign in and may confirm what admin `by` does."""
    accounts = store.responsible_admins(connection)
    admins = [staff_id for staff_id in store.active_admins(connection) if staff_id != but]
    return any(may_confirm(accounts, by, -1, staff_id) for staff_id in admins)


def _alone(role: str, waits: bool) -> str:
    """Return the addition to the detail in the audit log if no second admin has to confirm."""
    return " (by one admin alone)" if role in GUARDED and not waits else ""


def _locked_at(connection: Connection, name: str, revision: int) -> StaffRow:
    row = locked(connection, name)
    if row.revision != revision:
        raise StaffChanged("The account was changed since you opened the page. Look at it again.")
    return row


def _by_code(connection: Connection, code: str, now: datetime, *, opened: bool) -> StaffRow:
    row = store.lock_by_link(connection, token_hash(code))
    usable = row is not None and row.link_opened == opened and row.disabled_at is None
    if row is None or not usable or row.link_expires_at is None or now >= row.link_expires_at:
        raise LinkInvalid("This link does not work (any more). Ask an admin for a new one.")
    return row
