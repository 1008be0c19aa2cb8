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
from ledger.rules.disclosures import DISCLOSURE_DAYS
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.log import EntryBody, LogEntry, Tile
from ledger.server.db.tables.lookups import LookupLog, LookupTag
from ledger.server.db.tables.reports import Idempotency, Listing, Report, Restitution, Reversal, Subject
from ledger.server.log import queries as log_store
from ledger.server.reports.erasure import MAX_REPORTS, erase_due, forget_disclosures
from ledger.server.reports.reports import get_receipt, get_report
from ledger.tlog.entries import commitment, parse_leaf
from ledger.tlog.merkle import leaf_hash
from tests.oracles import root_of
from tests.server.conftest import LedgerFixture
from tests.support import opened, publish

pytestmark = pytest.mark.one_engine

OPENINGS: tuple[Any, ...] = (Subject, Listing, Idempotency, Reversal, Restitution)


def erase(ledger: LedgerFixture) -> int:
    return erase_due(ledger.rt.context, ledger.rt.settings)


def ids(ledger: LedgerFixture, table: Any) -> set[int]:
    with reading(ledger.rt.engine) as connection:
        column = table.id if table is Report else table.report_id
        return set(connection.scalars(select(column)))


def test_nothing_is_erased_before_its_time(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    ledger.clock.moment += timedelta(days=365 - 6 + 59)
    assert erase(ledger) == 0
    assert get_report(ledger.rt.context, ledger.acme.member(), report["id"])["status"] == "expired"
    ledger.clock.moment += timedelta(days=1)
    assert erase(ledger) == 1
    assert erase(ledger) == 0


@pytest.mark.both_engines
def test_everything_that_opens_a_report_goes(ledger: LedgerFixture) -> None:
    old = ledger.report(ledger.acme, ledger.person())
    paid = ledger.report(ledger.acme, ledger.person(1))
    ledger.restitute(ledger.acme, paid, format_time(ledger.clock()))
    ledger.withdraw(ledger.acme, old["id"])
    ledger.clock.moment += timedelta(days=500)
    young = ledger.report(ledger.acme, ledger.person(), key="young")
    assert erase(ledger) == 2
    assert ids(ledger, Report) == {young["entry_index"]}
    for table in OPENINGS:
        assert ids(ledger, table) <= {young["entry_index"]}, table
    for report in (old, paid):
        with pytest.raises(NotFound):
            get_report(ledger.rt.context, ledger.acme.member(), report["id"])
        with pytest.raises(NotFound):
            get_receipt(ledger.rt.context, ledger.acme.member(), report["id"])
    with reading(ledger.rt.engine) as connection:
        bodies = [kind for (kind,) in connection.execute(select(EntryBody.type))]
    # the genesis and governance entries are public and have no body
    assert sorted(bodies) == ["erasure", "erasure", "report"]


def test_the_log_still_verifies_and_tells_nothing(ledger: LedgerFixture) -> None:
    report = ledger.report(ledger.acme, ledger.person())
    with reading(ledger.rt.engine) as connection:
        opening = log_store.read_body(connection, report["entry_index"])
        leaf = log_store.read_leaf(connection, report["entry_index"])
    assert opening is not None
    assert leaf is not None
    assert parse_leaf(bytes(leaf)).commitment == commitment(bytes(opening[1]), bytes(opening[2]))
    ledger.clock.moment += timedelta(days=500)
    erase(ledger)
    assert publish(ledger.rt.settings).frozen is None
    with reading(ledger.rt.engine) as connection:
        leaves = list(connection.scalars(select(LogEntry.leaf).order_by(LogEntry.entry_index)))
        tile = connection.scalar(select(Tile.data).where(Tile.level == 0, Tile.tile_index == 0))
        published = log_store.latest_checkpoint(connection)
    assert leaves[report["entry_index"]] == leaf
    assert tile == b"".join(leaf_hash(bytes(one)) for one in leaves)
    assert published is not None
    assert published.root == root_of([leaf_hash(bytes(one)) for one in leaves[: published.size]])


def test_the_replacement_keeps_its_own_entry(ledger: LedgerFixture) -> None:
    first = ledger.report(ledger.acme, ledger.person(), order="A-1")
    second = ledger.report(ledger.acme, ledger.person(), order="A-1", replaces=first["id"], **ledger.told_now())
    with writing(ledger.rt.engine) as connection:  # earlier versions let a replacement expire later
        later = update(Report).where(Report.id == second["entry_index"])
        connection.execute(later.values(expires_day=Report.expires_day + 300))
    ledger.clock.moment += timedelta(days=450)
    assert erase(ledger) == 1
    assert ids(ledger, Report) == {second["entry_index"]}
    with reading(ledger.rt.engine) as connection:
        assert log_store.read_body(connection, second["entry_index"]) is not None


def test_a_frozen_log_erases_nothing(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    ledger.clock.moment += timedelta(days=500)
    with writing(ledger.rt.engine) as connection:
        log_store.set_frozen(connection, "a test")
    with pytest.raises(LogFrozen):
        erase(ledger)
    assert len(ids(ledger, Report)) == 1


def test_maintenance_does_it_by_itself(ledger: LedgerFixture) -> None:
    for number in range(3):
        ledger.report(ledger.acme, [(Kind.PHONE, ledger.person(number)[0][1])])
    ledger.clock.moment += timedelta(days=500)
    assert ledger.rt.maintenance.round() == 3
    assert MAX_REPORTS >= 3
    assert ids(ledger, Report) == ids(ledger, Idempotency) == set()


def test_the_process_does_a_round_when_it_starts(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    ledger.clock.moment += timedelta(days=500)
    with opened(ledger.rt.settings, ledger.clock, upkeep=True):
        until = time.monotonic() + 30
        while ids(ledger, Report) and time.monotonic() < until:
            time.sleep(0.02)
    assert ids(ledger, Report) == set()
    assert ids(ledger, Idempotency) == set()


@pytest.mark.both_engines
def test_records_of_lookups_are_forgotten_after_three_years(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    ledger.lookup(ledger.person())
    ledger.clock.moment += timedelta(days=DISCLOSURE_DAYS)
    assert forget_disclosures(ledger.rt.engine, ledger.clock()) == 0
    ledger.clock.moment += timedelta(seconds=1)
    assert forget_disclosures(ledger.rt.engine, ledger.clock()) == 1
    with reading(ledger.rt.engine) as connection:
        assert list(connection.scalars(select(LookupTag.tag))) == []
        assert list(connection.scalars(select(LookupLog.id))) == []
