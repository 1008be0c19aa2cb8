"""Accounts of staff in tests: made quickly, with codes that are always fresh."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine

from ledger.errors import LoginRefused
from ledger.server.db.engine import reading, writing
from ledger.server.staff import accounts as service
from ledger.server.staff import audit, passwords, sessions
from ledger.server.staff import queries as store
from ledger.server.staff.accounts import StaffMember
from ledger.server.staff.audit import EventFilter
from ledger.server.staff.sessions import SessionTimes

ROLES = ("reviewer", "supervisor", "auditor", "admin")
PASSWORD = "correct horse battery staple"
SEALING_KEY = bytes(range(32))
TIMES = SessionTimes(timedelta(minutes=30), timedelta(hours=12))
NOON = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)

product_hasher = passwords.hasher
"""The product's own, in whose place all tests have `cheap` (tests/conftest.py)."""
cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Real argon2id, at a cost that a test can pay hundreds of times."""


@dataclass
class Person:
    """A member of staff in a test, with what they know."""

    staff: StaffMember
    uri: str
    password: str = PASSWORD

    @property
    def name(self) -> str:
        return self.staff.name

    def code_at(self, moment: datetime) -> str:
        """The code of the time step of `moment`."""
        totp = pyotp.parse_uri(self.uri)
        assert isinstance(totp, pyotp.TOTP)
        return totp.at(moment)


def enrol(
    engine: Engine,
    name: str,
    role: str = "reviewer",
    *,
    sealing_key: bytes = SEALING_KEY,
    control_group: str | None = None,
    language: str = "en",
    service_id: str = "refund-ledger.local",
    now: datetime | None = None,
    changed: bool = True,
) -> Person:
    """An account whose first password was changed to PASSWORD, unless `changed` is False."""
    created = service.add_staff(
        engine,
        sealing_key,
        name=name,
        role=role,
        control_group=control_group,
        language=language,
        service=service_id,
        now=now or datetime.now(UTC),
        random_bytes=secrets.token_bytes,
    )
    if not changed:
        return Person(created.staff, created.totp_uri, created.password)
    with writing(engine) as connection:
        store.update_staff(connection, created.staff.id, password_hash=cheap.hash(PASSWORD), must_change_password=False)
    return Person(created.staff, created.totp_uri)


def forget_codes(engine: Engine, person: Person) -> None:
    """Let the current code be used again: a test that signs in twice need not wait for the next one."""
    with writing(engine) as connection:
        store.update_staff(connection, person.staff.id, totp_last_step=None)


def sign_in(engine: Engine, person: Person, now: datetime = NOON, **changes: str | None) -> str:
    """A new session's token; by default with what the person knows."""
    values: dict[str, str | None] = {
        "name": person.name,
        "password": person.password,
        "code": person.code_at(now),
        "replaces": None,
        **changes,
    }
    return sessions.login(
        engine,
        SEALING_KEY,
        name=str(values["name"]),
        password=str(values["password"]),
        code=str(values["code"]),
        replaces=values["replaces"],
        times=TIMES,
        now=now,
        random_bytes=secrets.token_bytes,
    )


def refused(engine: Engine, person: Person, now: datetime = NOON, **changes: str | None) -> str:
    """The refusal's text."""
    with pytest.raises(LoginRefused) as caught:
        sign_in(engine, person, now, **changes)
    assert caught.value.details == {}
    return str(caught.value)


def account(engine: Engine, person: Person) -> store.StaffRow:
    """As stored."""
    with reading(engine) as connection:
        result = store.read_by_id(connection, person.staff.id)
    assert result is not None
    return result


def actions(engine: Engine) -> list[str]:
    """What the audit log holds, oldest first."""
    return [event.action for event in reversed(audit.page(engine, EventFilter(), None).events)]
