"""Snapshots: what is in them and what is not, that they follow from row and cut alone, that one is built at a time."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, make_url, update

from ledger.errors import ConfigurationError, LogFrozen, StaleEpoch, Unavailable
from ledger.protocol.encoding import b64url, day_floor, format_time, from_day
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.protocol.tags import prefix, tag
from ledger.rules.policy.shipped import shipped_policy
from ledger.server.db.bulk import insert_rows
from ledger.server.db.engine import open_engine, reading, snapshot_reading, writing
from ledger.server.db.tables.reports import Listing, Subject
from ledger.server.db.tables.snapshots import Snapshot
from ledger.server.keys.epochs import EpochRow, change_epoch, insert_epoch
from ledger.server.keys.files import load_log_key, raw_public
from ledger.server.log import queries as log_store
from ledger.server.platforms.members import set_status
from ledger.server.snapshots import queries as store
from ledger.server.snapshots.builder import PublishedSnapshot, build_and_publish, capacity_alarms, publish_due
from ledger.server.snapshots.files import MAX_EVENTS, BuildStage, Progress, Rules, folder_of, silent, write_files
from ledger.server.snapshots.queries import SnapshotRow
from ledger.snapshots import sealed
from ledger.snapshots.buckets import bucket_path, capacity_for, check_bucket
from ledger.snapshots.fuse_filter import FuseFilter
from ledger.snapshots.manifest import Manifest, open_manifest, snapshot_leaf_matches
from ledger.snapshots.private_standing import standing_of
from ledger.snapshots.sealed import SealedEvent
from ledger.tlog.entries import PlatformState, parse_leaf
from tests.server.conftest import LedgerFixture, Subjects
from tests.support import Platform, evidence, sqlite_schema

pytestmark = pytest.mark.one_engine


def snapshot(ledger: LedgerFixture, progress: Progress = silent, **changes: Any) -> PublishedSnapshot:
    """Build and publish one now; `changes` are settings."""
    settings = ledger.rt.settings.model_copy(update=changes)
    key = load_log_key(settings)
    return build_and_publish(
        settings, ledger.rt.engine, key, ledger.clock(), random_bytes=secrets.token_bytes, progress=progress
    )


def due(ledger: LedgerFixture, **changes: Any) -> PublishedSnapshot | None:
    """As `snapshot`, if one is due."""
    settings = ledger.rt.settings.model_copy(update=changes)
    return publish_due(
        settings, ledger.rt.engine, load_log_key(settings), ledger.clock(), random_bytes=secrets.token_bytes
    )


def rows(ledger: LedgerFixture) -> list[SnapshotRow]:
    with reading(ledger.rt.engine) as connection:
        return [*store.published(connection), *store.read_building(connection)]


def folders(ledger: LedgerFixture) -> set[str]:
    return {path.name for path in ledger.rt.settings.snapshots_dir.iterdir() if path.is_dir()}


def opened_bucket(ledger: LedgerFixture, manifest: Manifest, kind: Kind, element: bytes) -> list[SealedEvent]:
    """What a client that holds `element` reads, with everything verified that a client verifies."""
    folder = folder_of(ledger.rt.settings, manifest.version)
    number = prefix(tag(kind, element), manifest.bits)
    data, tree = (folder / "buckets.bin").read_bytes(), (folder / "tree.bin").read_bytes()
    assert len(data) == manifest.buckets_bytes
    bucket = data[number * manifest.bucket_bytes : (number + 1) * manifest.bucket_bytes]
    path = bucket_path(tree, manifest.bits, number)
    check_bucket(bucket, path, number, manifest.version, manifest.bits, manifest.buckets_root)
    return sealed.open_bucket(bucket, element, kind, manifest.version, number)


def change_listing(ledger: LedgerFixture, report: dict[str, Any], **values: Any) -> None:
    number = decode_id("rp", report["id"], ledger.rt.settings.service)
    with writing(ledger.rt.engine) as connection:
        connection.execute(update(Listing).where(Listing.report_id == number).values(**values))


def ledger_with_a_past(ledger: LedgerFixture) -> dict[str, tuple[Subjects, list[str]]]:
    """People, and the conducts that a snapshot must tell of each."""
    now = ledger.clock()
    people = {
        name: ledger.person(number)
        for number, name in enumerate(
            ["plain", "many", "withdrawn", "cooling", "warming", "disputed", "unconfirmed", "overdue", "expired",
             "victim", "suspended", "nobody"]
        )
    }  # fmt: skip
    made = {name: ledger.report(ledger.acme, people[name]) for name in ("plain", "withdrawn", "expired", "disputed")}
    for _ in range(6):
        ledger.report(ledger.acme2, people["many"])
    ledger.report(ledger.bolt, people["many"], conduct="wardrobing", evidence=evidence("intake_photo", "policy_clause"))
    ledger.withdraw(ledger.acme, made["withdrawn"]["id"])
    ledger.report(ledger.acme, people["cooling"], notice_sent_at=format_time(now - timedelta(hours=40)))
    # It cools until the coming UTC midnight, within the snapshot's day whatever the time of day is now.
    midnight = from_day(day_floor(now) + 1)
    ledger.report(ledger.acme, people["warming"], notice_sent_at=format_time(midnight - timedelta(hours=72)))
    change_listing(ledger, made["disputed"], disputed=True)
    change_listing(ledger, ledger.report(ledger.acme, people["unconfirmed"]), unconfirmed=True)
    change_listing(ledger, ledger.report(ledger.acme, people["overdue"]), unconfirmed=True, disputed=True)
    change_listing(ledger, made["expired"], expires_day=1)
    ledger.report(ledger.bolt, people["victim"], conduct="impersonated", evidence=evidence("admission"))
    carol = Platform("carol", "carol-group", "carol-1").enrol(ledger.rt.settings)
    ledger.rt.members.refresh()
    ledger.report(carol, people["suspended"])
    set_status(ledger.rt.engine, platform="carol", status=PlatformState.SUSPENDED, now=now, urgent=True)
    ledger.rt.members.refresh()
    one = ["fake_return_tracking"]
    told = {
        "plain": one,
        "many": one * 6 + ["wardrobing"],
        "disputed": one,
        "overdue": one,
        "victim": ["impersonated"],
    }
    return {name: (subjects, told.get(name, [])) for name, subjects in people.items()}


def test_it_tells_exactly_what_is_listed_and_says_what_a_direct_lookup_says(ledger: LedgerFixture) -> None:
    people = ledger_with_a_past(ledger)
    done = snapshot(ledger)
    manifest = done.manifest
    filter_file = (folder_of(ledger.rt.settings, done.version) / "filter.bin").read_bytes()
    assert len(filter_file) == manifest.filter_bytes
    found = FuseFilter.open(filter_file, manifest.filter_sha256)
    assert found.keys_count == manifest.tags == 2 * sum(1 for _, conducts in people.values() if conducts)
    assert done.entries == manifest.tags + 2
    for name, (subjects, conducts) in people.items():
        for kind, element in subjects:
            events = opened_bucket(ledger, manifest, kind, element)
            assert sorted(event.conduct for event in events) == sorted(conducts), name
            assert not conducts or tag(kind, element) in found
            folded = standing_of(
                [(kind, tag(kind, element), events)], ledger.rt.policy, manifest.as_of, ledger.clock()
            ).standing
            direct = ledger.lookup([(kind, element)])
            for field in ("tier", "credit", "points", "events", "reporters", "disputed", "protected"):
                assert getattr(folded, field) == direct[field], (name, field)


def test_what_is_published_is_signed_logged_and_without_its_secret(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    done = snapshot(ledger)
    (row,) = rows(ledger)
    assert (row.version, row.status, row.secret, row.entry_index) == (done.version, "published", None, done.entry_index)
    public = raw_public(load_log_key(ledger.rt.settings))
    assert row.manifest is not None
    assert row.signature is not None
    opened = open_manifest(json.loads(row.manifest), row.signature, public, ledger.rt.settings.service)
    assert opened == done.manifest
    assert opened.cut == done.entry_index
    with reading(ledger.rt.engine) as connection:
        leaf = log_store.read_leaf(connection, done.entry_index)
    assert leaf is not None
    assert snapshot_leaf_matches(parse_leaf(leaf), json.loads(row.manifest))
    folder = folder_of(ledger.rt.settings, done.version)
    assert json.loads((folder / "manifest.json").read_text()) == {
        "manifest": json.loads(row.manifest),
        "signature": b64url(row.signature),
    }
    assert (folder / "policy.toml").read_text() == shipped_policy()[0]
    assert sum(path.stat().st_size for path in folder.iterdir()) == done.bytes_total
    assert {path.name for path in folder.iterdir()} == {
        "filter.bin", "buckets.bin", "tree.bin", "policy.toml", "manifest.json",
    }  # fmt: skip


def test_an_empty_ledger_has_a_snapshot_too(ledger: LedgerFixture) -> None:
    done = snapshot(ledger)
    assert (done.manifest.tags, done.entries, done.manifest.bits) == (0, 0, 1)
    assert opened_bucket(ledger, done.manifest, *ledger.person()[0]) == []


def test_what_is_logged_during_the_build_is_not_in_it(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person(1))
    reported: list[dict[str, Any]] = []

    def progress(stage: BuildStage, _done: int, _total: int) -> None:
        if stage == BuildStage.SEALING and not reported:
            reported.append(ledger.report(ledger.acme, ledger.person(2)))

    done = snapshot(ledger, progress)
    assert reported[0]["entry_index"] == done.manifest.cut
    assert [len(opened_bucket(ledger, done.manifest, *ledger.person(number)[0])) for number in (1, 2)] == [1, 0]
    assert done.entry_index == done.manifest.cut + 1
    again = snapshot(ledger)
    assert len(opened_bucket(ledger, again.manifest, *ledger.person(2)[0])) == 1


def test_the_files_follow_from_row_and_listings_on_both_engines(
    ledger: LedgerFixture, make_database: Callable[..., str], tmp_path: Path
) -> None:
    """The rows of one engine, copied to the other, give the same bytes; another secret gives other ones."""
    ledger_with_a_past(ledger)
    here = ledger.rt.engine.dialect.name
    there = make_database("sqlite")
    Path(str(make_url(there).database)).write_bytes(sqlite_schema())
    text, policy = shipped_policy()
    now = ledger.clock()
    row = SnapshotRow(
        b"v" * 16, "building", 40, now, now + timedelta(hours=24), 1, policy.version,
        json.dumps({"acme-group": 35, "bolt-group": 40, "carol-group": 0}), b"s" * 32,
    )  # fmt: skip
    hour, day = int(now.timestamp()) // 3600, int(now.timestamp()) // 86400
    key, rules = load_log_key(ledger.rt.settings), Rules(ledger.rt.settings.service, policy, text)
    second = open_engine(there, pool_size=1)
    try:
        with reading(ledger.rt.engine) as connection, writing(second) as copied:
            for model in (Listing, Subject):
                insert_rows(copied, model, [dict(one._mapping) for one in connection.execute(model.__table__.select())])
        made = []
        for number, (engine, built) in enumerate(
            [(ledger.rt.engine, row), (ledger.rt.engine, row), (second, row), (second, replace(row, secret=b"t" * 32))]
        ):
            folder = tmp_path / f"built-{number}"
            folder.mkdir()
            with snapshot_reading(engine) as connection:
                count = store.listed_tags_count(connection, 1, hour, day)
                write_files(folder, built, store.stream_listed(connection, 1, hour, day), count, rules, key)
            made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    finally:
        second.dispose()
    assert made[0] == made[1] == made[2], here
    assert {name for name in made[0] if made[0][name] == made[3][name]} == {"policy.toml"}


def test_two_builders_at_once(ledger: LedgerFixture) -> None:
    refused: list[str] = []

    def progress(stage: BuildStage, _done: int, _total: int) -> None:
        if stage == BuildStage.BUCKETS and not refused:
            with pytest.raises(Unavailable) as caught:
                snapshot(ledger)
            refused.append(str(caught.value))

    first = snapshot(ledger, progress)
    second = snapshot(ledger)
    assert "Another process" in refused[0]
    assert first.version != second.version
    assert folders(ledger) == {b64url(first.version), b64url(second.version)}


@pytest.mark.parametrize("stage", [BuildStage.COUNTING, BuildStage.BUCKETS])
def test_a_frozen_log_publishes_nothing(ledger: LedgerFixture, stage: BuildStage) -> None:
    def progress(now: BuildStage, _done: int, _total: int) -> None:
        if now == stage:
            with writing(ledger.rt.engine) as connection:
                log_store.set_frozen(connection, "test")

    with pytest.raises(LogFrozen):
        snapshot(ledger, progress)
    assert rows(ledger) == []
    assert folders(ledger) == set()
    assert due(ledger) is None


def switch_epoch(ledger: LedgerFixture) -> None:
    """What a rotation's switch does to the key epochs."""
    with writing(ledger.rt.engine) as connection:
        change_epoch(connection, 1, state="previous")
        insert_epoch(connection, EpochRow(2, "current", "ledger", bytes(32), 1, 1, announced_at=ledger.clock()))


def test_a_switch_of_the_key_epoch_during_the_build_abandons_it(ledger: LedgerFixture) -> None:
    ledger.report(ledger.acme, ledger.person())
    switched: list[bool] = []

    def progress(stage: BuildStage, _done: int, _total: int) -> None:
        if stage == BuildStage.BUCKETS and not switched:
            switched.append(True)
            switch_epoch(ledger)

    with pytest.raises(StaleEpoch):
        snapshot(ledger, progress)
    assert rows(ledger) == []
    assert folders(ledger) == set()
    done = snapshot(ledger)
    assert (done.manifest.epoch, done.manifest.tags) == (2, 0)


def test_what_is_due_and_what_is_removed(ledger: LedgerFixture) -> None:
    ledger.clock.moment = from_day(day_floor(ledger.clock()) + 1) + timedelta(hours=9)
    first = due(ledger)
    assert first is not None
    assert due(ledger) is None
    notes = ledger.rt.settings.snapshots_dir / "notes"
    notes.mkdir()
    ledger.clock.moment += timedelta(hours=1)
    second = due(ledger)
    assert second is not None
    shutil.rmtree(folder_of(ledger.rt.settings, second.version))
    third = due(ledger)
    assert third is not None, "one without its files is made anew"
    assert [row.version for row in rows(ledger)] == [third.version, second.version, first.version]
    ledger.clock.moment += timedelta(hours=1)
    fourth = due(ledger, snapshots_kept=2)
    assert fourth is not None
    assert [row.version for row in rows(ledger)] == [fourth.version, third.version]
    assert folders(ledger) == {b64url(fourth.version), b64url(third.version), "notes"}
    switch_epoch(ledger)
    fifth = due(ledger)
    assert fifth is not None
    assert fifth.manifest.epoch == 2
    with writing(ledger.rt.engine) as connection:
        log_store.set_frozen(connection, "test")
    ledger.clock.moment = fifth.manifest.not_after
    assert due(ledger) is None
    assert rows(ledger) == []
    assert folders(ledger) == {"notes"}, "nothing outlives its end, in a frozen log neither"


def test_an_overfull_bucket_grows_all_and_raises_the_alarm(
    ledger: LedgerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever could choose tags would fill one bucket: these four begin alike and have as many events as fit."""
    now = ledger.clock()
    day, hour = int(now.timestamp()) // 86400, int(now.timestamp()) // 3600
    subjects: list[dict[str, Any]] = []
    listings: list[dict[str, Any]] = []
    elements = [bytes([number]) * 32 for number in range(1, 5)]
    for place, element in enumerate(elements):
        for number in range(MAX_EVENTS + 5):
            report = 10_000 * (place + 1) + number
            subjects.append(
                {"report_id": report, "slot": 0, "epoch": 1, "kind": "phone", "element": element, "salt": element}
            )
            listings.append(
                {"tag": bytes(31) + element[:1], "report_id": report, "slot": 0, "epoch": 1, "kind": "phone",
                 "act_id": report, "control_group": "acme-group", "conduct": "wardrobing", "amount_minor": 1,
                 "currency": "CNY", "act_day": day - (number < 5), "effective_hour": hour - 1,
                 "expires_day": day + 80, "disputed": False, "unconfirmed": False, "restituted": False,
                 "has_statement": False}
            )  # fmt: skip
    with writing(ledger.rt.engine) as connection:
        insert_rows(connection, Subject, subjects)
        insert_rows(connection, Listing, listings)
    with caplog.at_level(logging.WARNING):
        done = snapshot(ledger)
    manifest = done.manifest
    events = {record.message for record in caplog.records}
    assert events == {"snapshot_capacity_exceeded", "snapshot_events_left_out"}
    assert capacity_alarms(ledger.rt.settings) == 1
    assert done.entries == 4 * sealed.MAX_SLOTS == manifest.capacity > capacity_for(done.entries, manifest.bits)
    buckets = (folder_of(ledger.rt.settings, done.version) / "buckets.bin").read_bytes()
    for element in elements:
        found = sealed.open_bucket(buckets[: manifest.bucket_bytes], element, "phone", manifest.version, 0)
        assert [event.act_day for event in found] == [day] * MAX_EVENTS, "those of the latest acts"


def test_a_folder_that_cannot_be_used(ledger: LedgerFixture, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        snapshot(ledger, snapshots_dir=tmp_path / "file")


def test_a_row_that_another_process_took_away_is_not_published(ledger: LedgerFixture) -> None:
    def progress(stage: BuildStage, _done: int, _total: int) -> None:
        if stage == BuildStage.PUBLISHING:
            with writing(ledger.rt.engine) as connection:
                connection.execute(delete(Snapshot))

    with pytest.raises(Unavailable, match="abandoned"):
        snapshot(ledger, progress)
    assert rows(ledger) == []
    assert folders(ledger) == set()
