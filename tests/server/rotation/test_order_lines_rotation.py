"""A key rotation keeps the data that order lines need: the tags of contested and held reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from ledger.rules.appeals import Outcome
from ledger.server.appeals.consumer_record import own_record
from ledger.server.db.engine import reading
from ledger.server.db.tables.reports import Listing
from ledger.server.reports import held
from tests.rotations import report as report_under
from tests.rotations import retired, rotated, subjects_under
from tests.server.appeals.test_appeals import contest, session_of
from tests.server.conftest import LedgerFixture
from tests.server.reports.lines import HEAD, decide
from tests.server.reports.test_held import explain

pytestmark = pytest.mark.one_engine


def test_a_rotation_neither_loses_nor_is_broken_by_what_is_held(ledger: LedgerFixture) -> None:
    """A report contested under an old epoch makes a report under a new one held, and the held report is released after
    the rotation."""
    old = ledger.rt.keys.epoch
    before = subjects_under(ledger.rt.settings, old, 7)
    (case,) = contest(ledger, before, report_under(ledger, ledger.acme, 7, old))
    decide(ledger, case, Outcome.OVERTURNED)
    waits = report_under(ledger, ledger.acme, 7, old)
    assert waits["status"] == "held"
    rotated(ledger)
    after = subjects_under(ledger.rt.settings, old + 1, 7)
    for subjects, epoch in ((after, old + 1), (before, old)):
        late = report_under(ledger, ledger.acme, 7, epoch)
        assert late["status"] == "held"
        session = replace(session_of(ledger, subjects), epoch=epoch)
        record = own_record(ledger.rt.context, ledger.rt.members.weights(), session)
        assert {waits["id"], late["id"]} < {report["id"] for report in record["reports"]}
    explain(ledger, waits)
    held.release(ledger.rt.context, waits["id"], HEAD, "It is another order.", seen=1)
    for subjects, epoch in ((after, old + 1), (before, old)):
        assert ledger.lookup(subjects, epoch=epoch)["events"] == 1, "under both epochs"
    retired(ledger)
    ledger.clock.moment += timedelta(minutes=5)
    ledger.rt.maintenance.round()
    last = report_under(ledger, ledger.acme, 7, old + 1)
    assert last["status"] == "held", "the tags of what was contested have moved"
    explain(ledger, last)
    held.release(ledger.rt.context, last["id"], HEAD, "It is another order.", seen=1)
    assert ledger.lookup(after, epoch=old + 1)["events"] == 2
    with reading(ledger.rt.engine) as connection:
        assert set(connection.scalars(select(Listing.epoch))) == {old + 1}
