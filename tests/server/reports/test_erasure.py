"""Erasure: what is due goes with everything that opens it, and every proof still verifies."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from ledger.errors import LogFrozen, NotFound
from ledger.protocol.encoding import format_time
from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.ledger import (
    EntryBody,
    Idempotency,
    Listing,
    LogEntry,
    LookupLog,
    LookupTag,
    Report,
    Restitution,
    Reversal,
    Subject,
    Tile,
)
from ledger.server.log import queries as log_store
from ledger.server.reports.erasure import DISCLOSURE_DAYS, MAX_REPORTS, erase_due, forget_disclosures
from ledger.server.reports.receipts import receipt
from ledger.server.reports.reports import get_report
from ledger.tlog.entries import commitment, parse_leaf
from ledger.tlog.merkle import leaf_hash
from tests.oracles import root_of
from tests.server.conftest import Town
from tests.support import opened, publish

OPENINGS: tuple[Any, ...] = (Subject, Listing, Idempotency, Reversal, Restitution)


def erase(town: Town) -> int:
    return erase_due(town.rt.context, town.rt.settings)


def ids(town: Town, table: Any) -> set[int]:
    with reading(town.rt.engine) as connection:
        column = table.id if table is Report else table.report_id
        return set(connection.scalars(select(column)))


def test_nothing_is_erased_before_its_time(town: Town) -> None:
    report = town.report(town.acme, town.person())
    town.clock.moment += timedelta(days=365 - 6 + 59)
    assert erase(town) == 0
    assert get_report(town.rt, town.acme.member(), report["id"])["status"] == "expired"
    town.clock.moment += timedelta(days=1)
    assert erase(town) == 1
    assert erase(town) == 0


def test_everything_that_opens_a_report_goes(town: Town) -> None:
    old = town.report(town.acme, town.person())
    paid = town.report(town.acme, town.person(1))
    town.restitute(town.acme, paid, format_time(town.clock()))
    town.withdraw(town.acme, old["id"])
    town.clock.moment += timedelta(days=500)
    young = town.report(town.acme, town.person(), key="young")
    assert erase(town) == 2
    assert ids(town, Report) == {young["entry_index"]}
    for table in OPENINGS:
        assert ids(town, table) <= {young["entry_index"]}, table
    for report in (old, paid):
        with pytest.raises(NotFound):
            get_report(town.rt, town.acme.member(), report["id"])
        with pytest.raises(NotFound):
            receipt(town.rt, town.acme.member(), report["id"])
    with reading(town.rt.engine) as connection:
        bodies = [kind for (kind,) in connection.execute(select(EntryBody.type))]
    # the genesis and governance entries are public and have no body
    assert sorted(bodies) == ["erasure", "erasure", "report"]


def test_the_log_still_verifies_and_tells_nothing(town: Town) -> None:
    report = town.report(town.acme, town.person())
    with reading(town.rt.engine) as connection:
        opening = log_store.read_body(connection, report["entry_index"])
        leaf = log_store.read_leaf(connection, report["entry_index"])
    assert opening is not None
    assert leaf is not None
    assert parse_leaf(bytes(leaf)).commitment == commitment(bytes(opening[1]), bytes(opening[2]))
    town.clock.moment += timedelta(days=500)
    erase(town)
    assert publish(town.rt.settings).frozen is None
    with reading(town.rt.engine) as connection:
        leaves = list(connection.scalars(select(LogEntry.leaf).order_by(LogEntry.entry_index)))
        tile = connection.scalar(select(Tile.data).where(Tile.level == 0, Tile.tile_index == 0))
        published = log_store.latest_checkpoint(connection)
    assert leaves[report["entry_index"]] == leaf
    assert tile == b"".join(leaf_hash(bytes(one)) for one in leaves)
    assert published is not None
    assert published.root == root_of([leaf_hash(bytes(one)) for one in leaves[: published.size]])


def test_the_replacement_keeps_its_own_entry(town: Town) -> None:
    first = town.report(town.acme, town.person(), order="A-1")
    second = town.report(town.acme, town.person(), order="A-1", replaces=first["id"], **town.told_now())
    with writing(town.rt.engine) as connection:  # earlier versions let a replacement expire later
        later = update(Report).where(Report.id == second["entry_index"])
        connection.execute(later.values(expires_day=Report.expires_day + 300))
    town.clock.moment += timedelta(days=450)
    assert erase(town) == 1
    assert ids(town, Report) == {second["entry_index"]}
    with reading(town.rt.engine) as connection:
        assert log_store.read_body(connection, second["entry_index"]) is not None


def test_a_frozen_log_erases_nothing(town: Town) -> None:
    town.report(town.acme, town.person())
    town.clock.moment += timedelta(days=500)
    with writing(town.rt.engine) as connection:
        log_store.set_frozen(connection, "a test")
    with pytest.raises(LogFrozen):
        erase(town)
    assert len(ids(town, Report)) == 1


def test_maintenance_does_it_by_itself(town: Town) -> None:
    for number in range(3):
        town.report(town.acme, [(Kind.PHONE, town.person(number)[0][1])])
    town.clock.moment += timedelta(days=500)
    assert town.rt.maintenance.round() == 3
    assert MAX_REPORTS >= 3
    assert ids(town, Report) == ids(town, Idempotency) == set()


def test_the_process_does_a_round_when_it_starts(town: Town) -> None:
    town.report(town.acme, town.person())
    town.clock.moment += timedelta(days=500)
    with opened(town.rt.settings, town.clock, upkeep=True):
        until = time.monotonic() + 30
        while ids(town, Report) and time.monotonic() < until:
            time.sleep(0.02)
    assert ids(town, Report) == set()
    assert ids(town, Idempotency) == set()


def test_records_of_lookups_are_forgotten_after_three_years(town: Town) -> None:
    town.report(town.acme, town.person())
    town.lookup(town.person())
    town.clock.moment += timedelta(days=DISCLOSURE_DAYS)
    assert forget_disclosures(town.rt.engine, town.clock()) == 0
    town.clock.moment += timedelta(seconds=1)
    assert forget_disclosures(town.rt.engine, town.clock()) == 1
    with reading(town.rt.engine) as connection:
        assert list(connection.scalars(select(LookupTag.tag))) == []
        assert list(connection.scalars(select(LookupLog.id))) == []
