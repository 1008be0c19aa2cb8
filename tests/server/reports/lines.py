"""Persons, cases and decisions for tests of order lines: any number of them in one ledger, which the tests of a file
share. Each test has persons and orders of its own, and a clock that only goes forward."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from ledger.protocol import sodium
from ledger.protocol.identifiers import Kind
from ledger.rules.appeals import Outcome
from ledger.rules.case_machine import Staff
from ledger.rules.conduct import Conduct
from ledger.server.appeals import staff_actions
from ledger.server.appeals.consumer_record import own_record
from ledger.server.db.engine import reading
from ledger.server.platforms.queries import outcome_counts
from tests import pg
from tests.server.appeals.test_appeals import ANNA, BEN, session_of
from tests.server.conftest import Clock, LedgerFixture, LedgerSeed, Subjects
from tests.support import Platform, evidence, opened

PLACES = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("sqlite", "postgresql")]


@dataclass
class LedgerPart(LedgerFixture):
    """A test's own part of a ledger that others use too: its order numbers are nobody else's."""

    prefix: str = ""

    def order(self, name: str) -> str:
        """The number of the order that this test calls `name`."""
        return f"{self.prefix}-{name}"

    def report(self, platform: Platform, subjects: Subjects, key: str | None = None, **changes: Any) -> dict[str, Any]:
        if "order" in changes:
            changes["order"] = self.order(changes["order"])
        return super().report(platform, subjects, key, **changes)


def shared_ledger(request: pytest.FixtureRequest, folder: Path, seed: LedgerSeed) -> Iterator[LedgerFixture]:
    """A ledger on `request.param`, for all tests of a file."""
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'ledger.db'}"
    else:
        template = make_url(request.getfixturevalue("postgresql_schema")())
        url = pg.create_database(template, template).render_as_string(hide_password=False)
        seed = copy(seed)
        seed._copied = ""
    clock = Clock()
    with opened(seed.copy_to(url, folder), clock) as rt:
        yield LedgerFixture(rt, clock, seed.acme, seed.acme2, seed.bolt)
    if request.param == "postgresql":
        pg.drop_database(url)


def ledger_part(ledger: LedgerFixture) -> LedgerPart:
    """A part of the ledger for one test."""
    return LedgerPart(ledger.rt, ledger.clock, ledger.acme, ledger.acme2, ledger.bolt, secrets.token_hex(4))


def lost(ledger: LedgerFixture, group: str = "acme-group") -> int:
    """How many reports of the group count as overturned."""
    with reading(ledger.rt.engine) as connection:
        return outcome_counts(connection, ledger.clock() - timedelta(days=700)).get(group, {}).get("overturned", 0)


HEAD = Staff(7, "supervisor")
"""A supervisor of no control group."""


def somebody(*kinds: Kind) -> Subjects:
    """Identifiers of a new person: phone and payment, unless others are named."""
    return [(kind, sodium.point_from_hash(secrets.token_bytes(64))) for kind in kinds or (Kind.PHONE, Kind.PAYMENT)]


def decide(ledger: LedgerFixture, case: str, outcome: Outcome, conduct: Conduct = Conduct.WARDROBING) -> None:
    """A reviewer takes the case and decides it; what takes two people gets its second signature."""
    more: dict[str, Any] = {}
    if outcome is Outcome.AMENDED:
        more["conduct"] = conduct
    if outcome is Outcome.UNLINKED:
        more["slots"] = (0,)
    staff_actions.take(ledger.rt.context, case, ANNA)
    row = staff_actions.decide(ledger.rt.context, case, ANNA, outcome, "It was looked into.", **more)
    if row.state == "awaiting_signoff":
        staff_actions.sign(ledger.rt.context, case, BEN)


def points(ledger: LedgerFixture, person: Subjects) -> float:
    """What the person's record weighs now."""
    return float(ledger.lookup(person)["points"])


def record(ledger: LedgerFixture, person: Subjects) -> dict[str, dict[str, Any]]:
    """The reports in the person's own record, by id."""
    found = own_record(ledger.rt.context, ledger.rt.members.weights(), session_of(ledger, person))
    return {one["id"]: one for one in found["reports"]}


def farm(ledger: LedgerFixture, linked: list[str], subjects: Subjects, **changes: Any) -> dict[str, Any]:
    """acme's report of linked accounts."""
    items = evidence(*["linked_instrument"] * len(linked))
    for item, report_id in zip(items, linked, strict=True):
        item["report_id"] = report_id
    return ledger.report(ledger.acme, subjects, conduct="account_farm", evidence=items, **changes)
