"""The snapshots that are served: those covered by a checkpoint, not past their end, with their files; newest first."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from ledger.errors import DatabaseUnavailable, SnapshotUnknown
from ledger.protocol.encoding import b64url, day_floor, from_day, unb64url
from ledger.protocol.tags import prefix, tag
from ledger.server.db.engine import open_engine, writing
from ledger.server.db.tables.snapshots import Snapshot
from ledger.server.keys.files import load_log_key
from ledger.server.settings import Settings
from ledger.server.snapshots import queries as store
from ledger.server.snapshots import served as module
from ledger.server.snapshots.builder import PublishedSnapshot, build_and_publish
from ledger.server.snapshots.files import BUCKETS, FILTER, POLICY, TREE, folder_of
from ledger.server.snapshots.queries import SnapshotRow
from ledger.server.snapshots.served import ServedSnapshot, SnapshotServer
from ledger.snapshots.buckets import check_bucket, split_answer
from ledger.snapshots.fuse_filter import FuseFilter
from ledger.snapshots.manifest import open_manifest, snapshot_leaf_matches
from ledger.tlog.checkpoint import open_checkpoint, parse_verifier_key
from ledger.tlog.entries import parse_leaf
from ledger.tlog.merkle import leaf_hash, verify_inclusion
from ledger.tlog.proof import parse_proof
from tests.server.conftest import LedgerFixture, LedgerSeed
from tests.support import opened, publish

pytestmark = pytest.mark.one_engine
"""What the database does here, other tests do on both engines."""


@pytest.fixture
def settings(seed: LedgerSeed, database_url: str, tmp_path: Path) -> Settings:
    return seed.copy_to(database_url, tmp_path, snapshots_kept=2)


def snapshot(ledger: LedgerFixture, *, covered: bool = True) -> PublishedSnapshot:
    """Publish one more snapshot, and a checkpoint that covers its entry."""
    settings = ledger.rt.settings
    published = build_and_publish(
        settings, ledger.rt.engine, load_log_key(settings), ledger.clock(), random_bytes=secrets.token_bytes
    )
    if covered:
        publish(settings)
    return published


@pytest.fixture
def snapshot_server(ledger: LedgerFixture) -> SnapshotServer:
    """Return a snapshot server that refreshes only when the test calls `refresh`."""
    return another_server(ledger)


def another_server(ledger: LedgerFixture) -> SnapshotServer:
    return SnapshotServer(ledger.rt.settings, ledger.rt.engine, ledger.clock)


def are_served(snapshot_server: SnapshotServer, published: list[PublishedSnapshot]) -> list[bool]:
    """Return for each of the snapshots whether it is served."""
    flags = []
    for item in published:
        try:
            flags.append(snapshot_server.find(b64url(item.version)).manifest == item.manifest)
        except SnapshotUnknown:
            flags.append(False)
    return flags


def test_the_introduction_proves_the_snapshot(ledger: LedgerFixture, snapshot_server: SnapshotServer) -> None:
    ledger.report(ledger.acme, ledger.person())
    published = snapshot(ledger)
    snapshot_server.refresh()
    latest = json.loads(snapshot_server.latest().latest)
    assert latest.keys() == {"version", "manifest", "signature", "leaf", "proof", "policy_toml"}
    origin, log_key = parse_verifier_key(ledger.rt.keys.log_verifier_key)
    manifest = open_manifest(latest["manifest"], unb64url(latest["signature"], 64), log_key, ledger.rt.settings.service)
    assert manifest == published.manifest
    assert latest["version"] == b64url(manifest.version)
    leaf = latest["leaf"].encode()
    assert snapshot_leaf_matches(parse_leaf(leaf), latest["manifest"])
    proof = parse_proof(latest["proof"])
    assert (proof.index, proof.extra) == (published.entry_index, None)
    checkpoint = open_checkpoint(proof.checkpoint_note, origin, log_key)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes, checkpoint.root)
    assert manifest.policy_sha256 == hashlib.sha256(latest["policy_toml"].encode()).digest()


def test_every_bucket_comes_with_its_path_in_one_length(ledger: LedgerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        ledger.report(ledger.acme, ledger.person(number))
    snapshot(ledger)
    for laid_out in (True, False):
        monkeypatch.setattr(module, "PATHS_BITS", 20 if laid_out else 0)
        snapshot_server = another_server(ledger)
        snapshot_server.refresh()
        assert bool(snapshot_server.latest().paths) is laid_out
        every_bucket_has_its_path(ledger, snapshot_server.latest())


def every_bucket_has_its_path(ledger: LedgerFixture, newest: ServedSnapshot) -> None:
    manifest = newest.manifest
    answers = [newest.bucket(number) for number in range(2**manifest.bits)]
    assert {len(answer) for answer in answers} == {manifest.bucket_bytes + 32 * manifest.bits}
    whole = newest.buckets_path.read_bytes()
    for number, answer in enumerate(answers):
        bucket, path = split_answer(answer, manifest)
        check_bucket(bucket, path, number, manifest.version, manifest.bits, manifest.buckets_root)
        assert bucket == whole[number * manifest.bucket_bytes : (number + 1) * manifest.bucket_bytes]
    for number in (-1, 2**manifest.bits):
        with pytest.raises(SnapshotUnknown):
            newest.bucket(number)
    local = FuseFilter.open(newest.filter_path.read_bytes(), manifest.filter_sha256)
    assert all(tag(*who) in local for number in range(8) for who in ledger.person(number))


def test_a_refresh_that_began_earlier_does_not_replace_the_result_of_a_later_one(
    ledger: LedgerFixture, snapshot_server: SnapshotServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.report(ledger.acme, ledger.person())
    published = [snapshot(ledger)]
    has_read, go_on = threading.Event(), threading.Event()
    real = store.published

    def held(connection: Connection) -> list[SnapshotRow]:
        rows = list(real(connection))
        if threading.current_thread() is earlier:
            has_read.set()
            assert go_on.wait(60)
        return rows

    earlier = threading.Thread(target=snapshot_server.refresh)
    monkeypatch.setattr(store, "published", held)
    earlier.start()
    assert has_read.wait(60)
    published.append(snapshot(ledger))
    snapshot_server.refresh()
    go_on.set()
    earlier.join(20)
    assert are_served(snapshot_server, published) == [True, True]


def test_a_fetch_is_counted_for_the_alarm(ledger: LedgerFixture, settings: Settings) -> None:
    ledger.report(ledger.acme, ledger.person())
    published = snapshot(ledger)
    ledger.rt.snapshots.refresh()
    kind, element = ledger.person()[0]
    number = prefix(tag(kind, element), published.manifest.bits)
    served, body = ledger.rt.snapshots.fetch_bucket(ledger.bolt.member(), b64url(published.version), f"{number:08x}")
    assert body == served.bucket(number)
    assert 'refund_ledger_bucket_fetches_total{platform="bolt"} 1.0' in ledger.rt.metrics.text().decode()
    for name, text in (
        (b64url(published.version), f"{2**published.manifest.bits:08x}"),
        (b64url(published.version), "0000000A"),
        (b64url(published.version), "0"),
        (b64url(published.version), "+0000001"),
        (b64url(published.version), "0000_001"),
        (b64url(secrets.token_bytes(16)), "00000000"),
        ("latest", "00000000"),
    ):
        with pytest.raises(SnapshotUnknown):
            ledger.rt.snapshots.fetch_bucket(ledger.bolt.member(), name, text)


def test_nothing_is_served_before_a_checkpoint_covers_it(
    ledger: LedgerFixture, snapshot_server: SnapshotServer
) -> None:
    snapshot_server.refresh()
    with pytest.raises(SnapshotUnknown):
        snapshot_server.latest()
    first = snapshot(ledger)
    ledger.clock.moment += timedelta(hours=1)
    second = snapshot(ledger, covered=False)
    snapshot_server.refresh()
    assert are_served(snapshot_server, [first, second]) == [True, False]
    publish(ledger.rt.settings)
    snapshot_server.refresh()
    assert are_served(snapshot_server, [first, second]) == [True, True]
    assert snapshot_server.latest().manifest == second.manifest


def test_the_introduction_does_not_change_while_a_snapshot_is_served(
    ledger: LedgerFixture, snapshot_server: SnapshotServer
) -> None:
    snapshot(ledger)
    snapshot_server.refresh()
    before = snapshot_server.latest()
    ledger.report(ledger.acme, ledger.person())
    publish(ledger.rt.settings)
    snapshot_server.refresh()
    assert snapshot_server.latest() is before
    assert before.latest_etag == snapshot_server.latest().latest_etag


def test_a_snapshot_ends_by_the_clock_and_older_ones_make_room(
    ledger: LedgerFixture, snapshot_server: SnapshotServer
) -> None:
    ledger.clock.moment = from_day(day_floor(ledger.clock()) + 2) - timedelta(hours=1)
    published = []
    for _ in range(3):
        published.append(snapshot(ledger))
        snapshot_server.refresh()
        ledger.clock.moment += timedelta(hours=1)
    assert are_served(snapshot_server, published) == [False, True, True], "two are kept"
    newest = snapshot_server.latest()
    assert snapshot_server.seconds_left(newest) == 23 * 3600
    ledger.clock.moment = newest.manifest.not_after - timedelta(seconds=1)
    assert are_served(snapshot_server, published) == [False, False, True]
    assert snapshot_server.seconds_left(newest) == 1
    ledger.clock.moment += timedelta(seconds=1)
    assert are_served(snapshot_server, published) == [False, False, False], "without another look"
    assert snapshot_server.seconds_left(newest) == 0
    with pytest.raises(SnapshotUnknown):
        snapshot_server.latest()
    snapshot_server.refresh()
    with pytest.raises(SnapshotUnknown):
        snapshot_server.latest()


def test_where_the_files_are_missing_an_older_one_stays_the_latest(
    ledger: LedgerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    harms = ("folder", FILTER, BUCKETS, TREE, POLICY, "cut")
    older = snapshot(ledger)
    servers = {harm: another_server(ledger) for harm in harms}
    for server in servers.values():
        server.refresh()
    ledger.clock.moment += timedelta(hours=1)
    newer = snapshot(ledger)
    for harm, server in servers.items():
        caplog.clear()
        stays_until_the_files_are_there(ledger, server, harm, older, newer, caplog)


def stays_until_the_files_are_there(
    ledger: LedgerFixture,
    snapshot_server: SnapshotServer,
    harm: str,
    older: PublishedSnapshot,
    newer: PublishedSnapshot,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = folder_of(ledger.rt.settings, newer.version)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    if harm == "folder":
        shutil.rmtree(folder)
    elif harm == "cut":
        (folder / BUCKETS).write_bytes((folder / BUCKETS).read_bytes()[:-1])
    else:
        (folder / harm).unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            snapshot_server.refresh()
    assert snapshot_server.latest().manifest == older.manifest
    # The runtime has a snapshot server too, with a thread of its own.
    here = [record for record in caplog.records if record.threadName == "MainThread"]
    assert [record.getMessage() for record in here].count("snapshot_files_missing") == 1
    shutil.rmtree(folder, ignore_errors=True)
    kept.rename(folder)
    snapshot_server.refresh()
    assert snapshot_server.latest().manifest == newer.manifest, "they have been copied here meanwhile"


def test_files_that_are_deleted_stay_readable(ledger: LedgerFixture, snapshot_server: SnapshotServer) -> None:
    published = snapshot(ledger)
    snapshot_server.refresh()
    newest = snapshot_server.latest()
    expected = newest.bucket(0)
    shutil.rmtree(folder_of(ledger.rt.settings, published.version))
    assert newest.bucket(0) == expected


def test_a_process_looks_by_itself_and_after_a_restart(ledger: LedgerFixture) -> None:
    published = snapshot(ledger)
    wait_for(ledger.rt.snapshots, published)
    with opened(ledger.rt.settings, ledger.clock) as again:
        wait_for(again.snapshots, published)
        assert again.snapshots.alive()
    assert not again.snapshots.alive()


def wait_for(snapshot_server: SnapshotServer, published: PublishedSnapshot) -> None:
    end = time.monotonic() + 20
    while are_served(snapshot_server, [published]) != [True]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_without_a_database_what_is_served_stays(ledger: LedgerFixture, tmp_path: Path) -> None:
    snapshot(ledger)
    gone = tmp_path / "gone"
    gone.mkdir()
    engine = open_engine(f"sqlite:///{gone / 'ledger.db'}")
    snapshot_server = SnapshotServer(ledger.rt.settings, ledger.rt.engine, ledger.clock)
    snapshot_server.refresh()
    before = snapshot_server.latest()
    shutil.rmtree(gone)
    snapshot_server._engine = engine
    with pytest.raises(DatabaseUnavailable):
        snapshot_server.refresh()
    assert snapshot_server.latest() is before
    engine.dispose()


def test_a_snapshot_that_cannot_be_read_keeps_no_other_from_being_served(
    ledger: LedgerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    published = [snapshot(ledger), snapshot(ledger)]
    for broken in ("{}", "{", '{"a":1}'):
        caplog.clear()
        snapshot_server = another_server(ledger)
        with writing(ledger.rt.engine) as connection:
            connection.execute(update(Snapshot).where(Snapshot.version == published[1].version).values(manifest=broken))
        for _ in range(2):
            snapshot_server.refresh()
            assert are_served(snapshot_server, published) == [True, False]
        # The ledger's own server of snapshots refreshes in a thread, and may log the same.
        mine = threading.current_thread().name
        records = [record for record in caplog.records if record.name == module.__name__ and record.threadName == mine]
        assert [record.message for record in records] == ["snapshot_unreadable"]


def test_an_empty_file_is_as_good_as_none(ledger: LedgerFixture, snapshot_server: SnapshotServer) -> None:
    published = [snapshot(ledger), snapshot(ledger)]
    (folder_of(ledger.rt.settings, published[1].version) / BUCKETS).write_bytes(b"")
    snapshot_server.refresh()
    assert are_served(snapshot_server, published) == [True, False]
