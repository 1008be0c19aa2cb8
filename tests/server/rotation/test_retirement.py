"""The end of a key epoch: late reports are proved, then all data of the old key is destroyed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert, select, text

from ledger.errors import RotationRefused, StaleEpoch
from ledger.protocol.encoding import b64url
from ledger.protocol.tags import tag
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.lookups import LookupTag
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.db.tables.snapshots import Snapshot
from ledger.server.keys.epochs import read_epochs
from ledger.server.keys.files import oprf_path
from ledger.server.rotation.audit import late_dir
from ledger.server.rotation.retire import LATE_DAYS, SETTLE, destroy_settled, retire, unsettled
from ledger.server.rotation.run import announce
from tests.rotations import (
    GRACE,
    audited,
    body_of,
    epochs,
    on_one_engine,
    places,
    report,
    retired,
    rotated,
    seen,
    subjects_under,
)
from tests.server.conftest import LedgerFixture
from tests.support import opened

pytestmark = pytest.mark.one_engine


def test_late_reports_are_proved_when_the_epoch_retires(ledger: LedgerFixture) -> None:
    report(ledger, ledger.acme, 1, 1)
    done = rotated(ledger)
    report(ledger, ledger.acme, 2, 2)
    late = report(ledger, ledger.bolt, 3, 1)
    retired(ledger)
    late_folder = late_dir(ledger.rt.settings, 1, 2)
    checked = audited(ledger.rt, late_folder)
    assert (checked.elements, checked.late, checked.places.switch_entry) == (2, True, done.entry_index)
    assert not audited(ledger.rt, done.audit_dir).late
    assert seen(ledger, 3, 2)[2] == 1
    for refused in (lambda: seen(ledger, 3, 1), lambda: report(ledger, ledger.acme, 3, 1)):
        with pytest.raises(StaleEpoch) as caught:
            refused()
        assert caught.value.details["epoch"] == 2
    assert late["entry_index"] in {place[0] for place in places(ledger.rt.engine, Subject, 1)}, "nothing is deleted yet"


def test_nothing_is_left_of_the_old_key(ledger: LedgerFixture) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    report(ledger, ledger.acme, 1, 1)
    withdrawn = report(ledger, ledger.acme, 2, 1)
    seen(ledger, 1, 1)
    seen(ledger, 2, 1)
    ledger.withdraw(ledger.acme, withdrawn["id"])
    done = rotated(ledger)
    report(ledger, ledger.acme, 3, 2)
    seen(ledger, 3, 1)  # in the grace period, under the old tag of a report of the new epoch
    report(ledger, ledger.bolt, 4, 1)
    for epoch in (1, 2):
        _snapshot(ledger, epoch)
    looked_up = {tag(*subject) for number in (1, 2, 3) for subject in subjects_under(settings, 2, number)}
    retired(ledger)
    assert destroy_settled(settings, engine, ledger.clock) == [], "not before every process must have noticed"
    with reading(engine) as connection:
        assert unsettled(read_epochs(connection), settings, ledger.clock()) == ledger.clock() + SETTLE
    ledger.clock.moment += SETTLE
    assert destroy_settled(settings, engine, ledger.clock) == [1]

    assert places(engine, Subject, 1) == places(engine, Listing, 1) == set()
    assert not oprf_path(settings, 1).exists()
    assert not done.audit_dir.exists()
    with reading(engine) as connection:
        assert set(connection.scalars(select(Snapshot.epoch))) == {2}
        stored = {bytes(lookup_tag) for lookup_tag in connection.scalars(select(LookupTag.tag))}
        assert stored == looked_up, "people can still see who looked them up"
    assert [path.name for path in settings.snapshots_dir.iterdir()] == [b64url(bytes([2]) * 16)]
    assert [seen(ledger, number, 2)[2] for number in (1, 2, 3, 4)] == [1, 0, 1, 1]
    assert destroy_settled(settings, engine, ledger.clock) == []

    assert late_dir(settings, 1, 2).exists(), "an auditor has a week for what was proved at the end"
    ledger.clock.moment += timedelta(days=LATE_DAYS)
    destroy_settled(settings, engine, ledger.clock)
    assert not late_dir(settings, 1, 2).exists()
    with opened(settings) as again:
        assert again.keys.epoch == 2


def _snapshot(ledger: LedgerFixture, epoch: int) -> None:
    """Create a published snapshot's row and folder."""
    version, now = bytes([epoch]) * 16, ledger.clock()
    with writing(ledger.rt.engine) as connection:
        connection.execute(
            insert(Snapshot).values(
                version=version, status="published", cut=2, as_of=now, not_after=now + timedelta(days=99), epoch=epoch,
                policy=1, weights="{}", manifest="{}", signature=b"s" * 64, entry_index=epoch, published_at=now,
            )
        )  # fmt: skip
    (ledger.rt.settings.snapshots_dir / b64url(version)).mkdir(parents=True)


def test_maintenance_ends_it_by_itself(ledger: LedgerFixture) -> None:
    report(ledger, ledger.acme, 1, 1)
    rotated(ledger)
    ledger.rt.maintenance.round()
    assert epochs(ledger.rt.engine)[1].state == "previous"
    ledger.clock.moment += GRACE
    ledger.rt.maintenance.round()
    assert (epochs(ledger.rt.engine)[1].state, oprf_path(ledger.rt.settings, 1).exists()) == ("retired", True)
    ledger.clock.moment += SETTLE
    ledger.rt.maintenance.round()
    assert not oprf_path(ledger.rt.settings, 1).exists()
    ledger.rt.members.refresh()
    assert seen(ledger, 1, 2)[0] == "watch"


def test_one_rotation_after_another(ledger: LedgerFixture) -> None:
    report(ledger, ledger.acme, 1, 1)
    before = seen(ledger, 1, 1)[2:]
    for epoch in (2, 3):
        done = rotated(ledger)
        assert (done.new_epoch, done.elements) == (epoch, 2 * (epoch - 1))
        audited(ledger.rt, done.audit_dir)
        with pytest.raises(RotationRefused, match="still answers"):
            rotated(ledger)
        retired(ledger)
        ledger.clock.moment += SETTLE
        destroy_settled(ledger.rt.settings, ledger.rt.engine, ledger.clock)
        assert seen(ledger, 1, epoch)[2:] == before
        report(ledger, ledger.acme, 5, epoch)
    assert body_of(ledger.rt.engine, max(_governance(ledger)))["retired"] == [1, 2]


def _governance(ledger: LedgerFixture) -> list[int]:
    with reading(ledger.rt.engine) as connection:
        query = text("SELECT entry_index FROM governance_entry WHERE sort = 'key_rotation'")
        return list(connection.scalars(query))


@on_one_engine
def test_the_wrong_moment_is_refused(ledger: LedgerFixture) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    with pytest.raises(RotationRefused, match="No epoch"):
        retire(settings, engine, ledger.clock)
    rotated(ledger)
    with pytest.raises(RotationRefused, match="grace") as caught:
        retire(settings, engine, ledger.clock)
    assert caught.value.details["grace_until"] == ledger.clock() + GRACE
    with pytest.raises(RotationRefused, match="still answers"):
        announce(settings, engine, ledger.clock())
    assert retire(settings, engine, ledger.clock, early=True).state == "retired"
