"""Accounts of staff in tests: made quickly, with codes that are always fresh."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyotp
from argon2 import PasswordHasher
from sqlalchemy import Engine

from ledger.service import staff as service
from ledger.service.staff import StaffMember
from ledger.service.staff_sessions import SessionTimes
from ledger.store import staff as store
from ledger.store.engine import writing

ROLES = ("reviewer", "supervisor", "auditor", "admin")
PASSWORD = "correct horse battery staple"
SEALING_KEY = bytes(range(32))
TIMES = SessionTimes(timedelta(minutes=30), timedelta(hours=12))

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
    made = service.add_staff(
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
        return Person(made.staff, made.totp_uri, made.password)
    with writing(engine) as connection:
        store.update_staff(connection, made.staff.id, password_hash=cheap.hash(PASSWORD), must_change_password=False)
    return Person(made.staff, made.totp_uri)


def forget_codes(engine: Engine, person: Person) -> None:
    """Let the current code be used again: a test that signs in twice need not wait for the next one."""
    with writing(engine) as connection:
        store.update_staff(connection, person.staff.id, totp_last_step=None)
