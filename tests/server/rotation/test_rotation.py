"""Key rotation: the same people under another key, with no row lost, and no data of the old key left at the end."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select

from ledger.errors import ConfigurationError, LogFrozen, RotationRefused, StaleEpoch, Unavailable
from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import subject_commitment, tag
from ledger.server.db.engine import reading, writing
from ledger.server.db.tables.oprf import OprfUse
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.keys.files import load_oprf, oprf_path
from ledger.server.log import queries as log_store
from ledger.server.oprf import budget_queries
from ledger.server.reports.reports import submit_report
from ledger.server.rotation.audit import audit_dir
from ledger.server.rotation.convert import RotationStage, exclusive_run
from ledger.server.rotation.retire import SETTLE, destroy_settled, retire
from ledger.server.rotation.run import announce, rotate, status
from ledger.tlog.key_rotation import rotation_factor
from tests.rotations import (
    GRACE,
    audited,
    batches,
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
from tests.support import lookup_request, opened, report_payload, submit_lookup

pytestmark = pytest.mark.one_engine


def test_the_same_people_under_a_new_key(ledger: LedgerFixture) -> None:
    first = report(ledger, ledger.acme, 1, 1)
    report(ledger, ledger.bolt, 1, 1)
    report(ledger, ledger.acme, 2, 1)
    gone = report(ledger, ledger.acme, 3, 1)
    ledger.withdraw(ledger.acme, gone["id"])
    ledger.restitute(ledger.acme, first, format_time(ledger.clock()))
    before = {number: seen(ledger, number, 1) for number in (1, 2, 3, 4)}
    assert [answer[0] for answer in before.values()] == ["watch", "watch", "clear", "clear"]

    done = rotated(ledger)
    rows = epochs(ledger.rt.engine)
    assert [rows[1].state, rows[2].state, ledger.rt.keys.epoch] == ["previous", "current", 2]
    assert (rows[2].switch_index, rows[1].grace_until) == (done.entry_index, ledger.clock() + GRACE)
    for epoch in (1, 2):
        assert {number: seen(ledger, number, epoch) for number in before} == before
    assert places(ledger.rt.engine, Subject, 1) == places(ledger.rt.engine, Subject, 2)
    assert len(places(ledger.rt.engine, Subject, 2)) == 8, "a withdrawn report's subjects are turned and proved too"
    assert places(ledger.rt.engine, Listing, 1) == places(ledger.rt.engine, Listing, 2)
    with reading(ledger.rt.engine) as connection:
        stored = set(connection.scalars(select(Subject.element).where(Subject.epoch == 2)))
        listed = set(connection.scalars(select(Listing.tag).where(Listing.epoch == 2)))
    expected = [subject for number in (1, 2, 3) for subject in subjects_under(ledger.rt.settings, 2, number)]
    assert {bytes(element) for element in stored} == {element for _, element in expected}
    assert {bytes(listed_tag) for listed_tag in listed} == {tag(kind, element) for kind, element in expected[:4]}
    assert audited(ledger.rt, done.audit_dir).elements == done.elements == 8


def test_what_the_log_says(ledger: LedgerFixture) -> None:
    report(ledger, ledger.acme, 1, 1)
    settings, engine = ledger.rt.settings, ledger.rt.engine
    genesis = body_of(engine, 0)
    new = announce(settings, engine, ledger.clock())
    holder = {"id": "ledger", "public_key": b64url(new.public_key)}
    announced = {"kind": "announce", "next": {"epoch": 2, "holders": [holder]}}
    assert body_of(engine, new.entry_index) == {**genesis, **announced}
    done = rotated(ledger, grace_days=7)
    until = format_time(ledger.clock() + timedelta(days=7))
    assert body_of(engine, done.entry_index) == {
        "epoch": 2,
        "holders": [holder],
        "kind": "switch",
        "log": genesis["log"],
        "retired": [],
        "previous": {"epoch": 1, "holders": genesis["holders"], "until": until},
        "rotation": {"from": 1, "to": 2, "elements": 2, "root": b64url(done.root)},
    }
    retired(ledger)
    with reading(engine) as connection:
        head = log_store.read_head(connection)
    assert head is not None
    assert body_of(engine, head.size - 1) == {
        "epoch": 2,
        "holders": [holder],
        "kind": "retire",
        "log": genesis["log"],
        "retired": [1],
    }


@on_one_engine
def test_announcing_first_lets_platforms_tag_anew(ledger: LedgerFixture) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    with writing(engine) as connection:
        connection.execute(insert(OprfUse).values(platform="acme", day=20_000, elements=700_000))
    new = announce(settings, engine, ledger.clock())
    assert announce(settings, engine, ledger.clock()) == new, "again changes nothing"
    assert oprf_path(settings, 2).stat().st_mode & 0o777 == 0o600
    ledger.rt.members.refresh()
    assert ledger.rt.keys.evaluating(2).secret == load_oprf(settings, 2)[2]
    with reading(engine) as connection:
        grants = {name: budget_queries.read_grants(connection, name) for name in ("acme", "acme2", "bolt")}
    assert [grant.elements for grant in grants["acme"]] == [700_000]
    assert [grant.elements for grant in grants["bolt"]] == [settings.oprf_daily_quota_elements]
    assert grants["bolt"][0].expires_at == new.announced_at + timedelta(days=90)
    for refused in (lambda: seen(ledger, 1, 2), lambda: report(ledger, ledger.acme, 1, 2)):
        with pytest.raises(StaleEpoch) as caught:
            refused()
        assert caught.value.details["epoch"] == 1
    assert rotated(ledger).new_epoch == 2
    with reading(engine) as connection:
        assert len(budget_queries.read_grants(connection, "bolt")) == 1


def test_in_grace_a_report_is_found_under_both_epochs(ledger: LedgerFixture) -> None:
    rotated(ledger)
    new = report(ledger, ledger.acme, 1, 2)
    late = report(ledger, ledger.bolt, 1, 1)
    assert seen(ledger, 1, 1) == seen(ledger, 1, 2)
    assert seen(ledger, 1, 2)[2:4] == (1, 2), "two groups report one act"
    rows = {(new["entry_index"], slot) for slot in (0, 1)}, {(late["entry_index"], slot) for slot in (0, 1)}
    engine = ledger.rt.engine
    assert places(engine, Subject, 1) == rows[1], "only what was made under the old epoch is kept under it"
    assert places(engine, Subject, 2) == places(engine, Listing, 1) == places(engine, Listing, 2) == rows[0] | rows[1]
    with reading(engine) as connection:
        signed = json.loads(log_store.read_body(connection, late["entry_index"])[2])["body"]  # type: ignore[index]
        own = connection.execute(select(Subject.salt, Subject.element).where(Subject.epoch == 1)).all()
    kinds = (Kind.PHONE, Kind.PAYMENT)
    openings = {b64url(subject_commitment(salt, 1, kind, element)) for salt, element in own for kind in kinds}
    assert {subject["c"] for subject in signed["subjects"]} <= openings
    ledger.withdraw(ledger.acme, new["id"])
    ledger.withdraw(ledger.bolt, late["id"])
    assert places(engine, Listing, 1) == places(engine, Listing, 2) == set()


@pytest.mark.parametrize("table", [Subject, Listing])
def test_a_switch_is_refused_when_a_row_is_missing(ledger: LedgerFixture, table: Any) -> None:
    lost = report(ledger, ledger.acme, 1, 1)
    report(ledger, ledger.acme, 2, 1)

    def lose(stage: RotationStage, done: int, _total: int) -> None:
        if stage is RotationStage.SWITCH and done == 0:
            with writing(ledger.rt.engine) as connection:
                connection.execute(delete(table).where(table.epoch == 2, table.report_id == lost["entry_index"]))

    with pytest.raises(RotationRefused, match="no row under the next epoch"):
        rotated(ledger, progress=lose)
    assert epochs(ledger.rt.engine)[1].state == "current"
    if table is Subject:  # a subject is filled again, and its listing exists
        assert rotated(ledger).elements == 4


def test_what_comes_in_while_it_runs_is_in_it(ledger: LedgerFixture) -> None:
    """There are reports, a withdrawal and a restitution between the stages, more than the switch converts at once."""
    standing = [report(ledger, ledger.acme, number, 1) for number in range(3)]
    came: list[RotationStage] = []

    def live(stage: RotationStage, done: int, total: int) -> None:
        if stage in came or (stage is RotationStage.SWITCH and done):
            return
        came.append(stage)
        many = 60 if stage is RotationStage.SWITCH else 1
        for number in range(many):
            report(ledger, ledger.bolt, 100 * (1 + len(came)) + number, 1)
        if stage is RotationStage.PROVE:
            ledger.withdraw(ledger.acme, standing[0]["id"])
            ledger.restitute(ledger.acme, standing[1], format_time(ledger.clock()))

    done = rotated(ledger, progress=live)
    engine = ledger.rt.engine
    assert came == [RotationStage.ANNOUNCE, RotationStage.FILL, RotationStage.PROVE, RotationStage.SWITCH]
    assert done.elements == 2 * (3 + 3 + 60) == len(places(engine, Subject, 2))
    assert audited(ledger.rt, done.audit_dir).elements == done.elements
    assert places(engine, Listing, 1) == places(engine, Listing, 2)
    for number in (0, 1, 2, 200, 300, 400, 500, 559):
        assert seen(ledger, number, 2) == seen(ledger, number, 1)
    assert [seen(ledger, number, 2)[2] for number in (0, 1, 500)] == [0, 1, 1]
    assert seen(ledger, 1, 2)[1] < seen(ledger, 2, 2)[1], "restitution halved it"


def test_an_erased_report_is_not_filled_again(ledger: LedgerFixture) -> None:
    old = report(ledger, ledger.acme, 1, 1)
    ledger.clock.moment += timedelta(days=500)
    report(ledger, ledger.acme, 2, 1)

    def erase(stage: RotationStage, done: int, _total: int) -> None:
        if stage is RotationStage.FILL and done == 0:
            assert ledger.rt.maintenance.round() == 1

    assert rotated(ledger, progress=erase).elements == 2
    assert old["entry_index"] not in {place[0] for place in places(ledger.rt.engine, Subject, 2)}


@on_one_engine
def test_one_run_at_a_time(ledger: LedgerFixture) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    with exclusive_run(settings):
        for refused in (
            lambda: rotate(settings, engine, ledger.clock),
            lambda: announce(settings, engine, ledger.clock()),
            lambda: retire(settings, engine, ledger.clock),
        ):
            with pytest.raises(RotationRefused, match="at work"):
                refused()
    assert list(epochs(engine)) == [1]
    assert not oprf_path(settings, 2).exists()


def test_a_frozen_log_takes_no_rotation(ledger: LedgerFixture) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    announce(settings, engine, ledger.clock())
    with writing(engine) as connection:
        log_store.set_frozen(connection, "a test")
    with pytest.raises(LogFrozen):
        rotate(settings, engine, ledger.clock)
    assert epochs(engine)[1].state == "current"


@on_one_engine
def test_a_key_file_of_another_machine_is_not_taken(ledger: LedgerFixture) -> None:
    settings, engine = ledger.rt.settings, ledger.rt.engine
    announce(settings, engine, ledger.clock())
    path = oprf_path(settings, 2)
    text_there = path.read_text()
    path.write_text(oprf_path(settings, 1).read_text().replace('"epoch": 1', '"epoch": 2'))
    with pytest.raises(ConfigurationError, match="not the key that the log names"):
        rotate(settings, engine, ledger.clock)
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        rotate(settings, engine, ledger.clock)
    path.write_text(text_there)
    path.chmod(0o600)
    assert rotated(ledger).new_epoch == 2


@on_one_engine
def test_audit_files_are_for_their_owner_and_go_where_they_are_wanted(ledger: LedgerFixture, tmp_path: Path) -> None:
    report(ledger, ledger.acme, 1, 1)
    chosen = tmp_path / "audit"
    done = rotated(ledger, folder=chosen)
    assert done.audit_dir == audit_dir(ledger.rt.settings, 1, 2) == chosen
    assert chosen.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in chosen.iterdir())
    (chosen / "note.txt").write_text("the operator's own")
    retired(ledger)
    ledger.clock.moment += SETTLE
    destroy_settled(ledger.rt.settings, ledger.rt.engine, ledger.clock)
    assert [path.name for path in chosen.iterdir()] == ["note.txt"]
    assert batches(chosen) == []


@on_one_engine
def test_status_tells_how_far_it_is(ledger: LedgerFixture) -> None:
    report(ledger, ledger.acme, 1, 1)
    announce(ledger.rt.settings, ledger.rt.engine, ledger.clock())
    first, second = status(ledger.rt.settings, ledger.rt.engine)
    assert (first.row.state, first.subjects, first.key_here) == ("current", 2, True)
    assert (second.row.state, second.subjects, second.key_here) == ("next", 0, True)
    os.unlink(oprf_path(ledger.rt.settings, 2))
    assert not status(ledger.rt.settings, ledger.rt.engine)[1].key_here


@on_one_engine
def test_the_quotient_of_the_keys_does_not_show(ledger: LedgerFixture) -> None:
    shown: list[str] = []
    report(ledger, ledger.acme, 1, 1)
    rotated(ledger, progress=lambda *progress: shown.append(repr(progress)))
    factor = rotation_factor(*[load_oprf(ledger.rt.settings, epoch)[2] for epoch in (1, 2)])
    assert factor.hex() not in "".join(shown)
    with reading(ledger.rt.engine) as connection:
        assert connection.scalar(select(func.count()).select_from(Subject)) == 4


def test_a_process_that_has_not_noticed_the_switch(ledger: LedgerFixture) -> None:
    """The transaction that records a report reads the epochs; the state of the process that accepted it is not used."""
    settings = ledger.rt.settings
    with opened(settings.model_copy(update={"auth_refresh_seconds": 5.0}), ledger.clock) as slow:
        announce(settings, ledger.rt.engine, ledger.clock())
        slow.members.refresh()
        rotate(settings, ledger.rt.engine, ledger.clock)
        assert slow.keys.epoch == 1
        for number, epoch in ((1, 1), (2, 2)):
            payload = report_payload(slow, ledger.acme, subjects_under(settings, epoch, number), epoch=epoch)
            submit_report(slow.reports, ledger.acme.member(), payload, f"k{number}").result(60)
        assert slow.keys.epoch == 1
    ledger.rt.members.refresh()
    assert [seen(ledger, number, epoch)[2] for number in (1, 2) for epoch in (1, 2)] == [1, 1, 1, 1]


@on_one_engine
def test_a_machine_without_the_old_key_takes_no_reports_in_grace(ledger: LedgerFixture) -> None:
    """The machine could not list reports under both epochs. Lookups need no key."""
    settings = ledger.rt.settings
    report(ledger, ledger.acme, 1, 1)
    rotated(ledger)
    old = {number: subjects_under(settings, 1, number) for number in (1, 2)}
    oprf_path(settings, 1).unlink()
    with opened(settings, ledger.clock) as rt:
        for epoch, subjects in ((1, old[2]), (2, subjects_under(settings, 2, 2))):
            with pytest.raises(Unavailable):
                submit_report(
                    rt.reports, ledger.acme.member(), report_payload(rt, ledger.acme, subjects, epoch=epoch), "k"
                )
        request = lookup_request(rt, old[1], epoch=1)
        answer = submit_lookup(rt, ledger.bolt.member(), request).result(60)
        assert json.loads(answer)["events"] == 1
