"""Persons, cases and decisions for tests of order lines: any number of them in one ledger."""

from __future__ import annotations

import secrets
from typing import Any

from ledger import sodium
from ledger.core.appeals import Outcome
from ledger.core.cases import Staff
from ledger.core.conduct import Conduct
from ledger.core.identifiers import Kind
from ledger.service.appeals import staff_actions as desk
from ledger.service.appeals.own_record import own_record
from tests.service.conftest import Subjects, Town
from tests.service.test_appeals import ANNA, BEN, CLEO, session_of
from tests.support import evidence

HEAD = Staff(7, "supervisor")
"""A supervisor of no control group."""


def somebody(*kinds: Kind) -> Subjects:
    """Identifiers of a new person: phone and payment, unless others are named."""
    return [(kind, sodium.point_from_hash(secrets.token_bytes(64))) for kind in kinds or (Kind.PHONE, Kind.PAYMENT)]


def decide(town: Town, case: str, outcome: Outcome, conduct: Conduct = Conduct.WARDROBING) -> None:
    """A reviewer takes the case and decides it; what takes two people gets its second signature."""
    more: dict[str, Any] = {}
    if outcome is Outcome.AMENDED:
        more["conduct"] = conduct
    if outcome is Outcome.UNLINKED:
        more["slots"] = (0,)
    desk.take(town.rt.context, case, ANNA)
    row = desk.decide(town.rt.context, case, ANNA, outcome, "It was looked into.", **more)
    if row.state == "awaiting_signoff":
        desk.sign(town.rt.context, case, BEN)


def points(town: Town, person: Subjects) -> float:
    """What the person's record weighs now."""
    return float(town.lookup(person)["points"])


def record(town: Town, person: Subjects) -> dict[str, dict[str, Any]]:
    """The reports in the person's own record, by id."""
    found = own_record(town.rt.context, town.rt.members.weights(), session_of(town, person))
    return {one["id"]: one for one in found["reports"]}


def farm(town: Town, linked: list[str], subjects: Subjects, **changes: Any) -> dict[str, Any]:
    """acme's report of linked accounts."""
    items = evidence(*["linked_instrument"] * len(linked))
    for item, report_id in zip(items, linked, strict=True):
        item["report_id"] = report_id
    return town.report(town.acme, subjects, conduct="account_farm", evidence=items, **changes)


__all__ = ["ANNA", "BEN", "CLEO", "HEAD", "decide", "farm", "points", "record", "somebody"]
