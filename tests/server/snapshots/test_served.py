"""Which snapshots are served: covered by a checkpoint, not past their end, with their files here; the newest first."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from ledger.errors import DatabaseUnavailable, SnapshotUnknown
from ledger.protocol.encoding import b64url, day_floor, from_day, unb64url
from ledger.protocol.tags import prefix, tag
from ledger.server.db.engine import open_engine, writing
from ledger.server.db.tables.snapshots import Snapshot
from ledger.server.keys.files import load_log_key
from ledger.server.settings import Settings
from ledger.server.snapshots import served as module
from ledger.server.snapshots.builder import PublishedSnapshot, build_and_publish
from ledger.server.snapshots.files import BUCKETS, FILTER, POLICY, TREE, folder_of
from ledger.server.snapshots.served import SnapshotServer
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
    """One more snapshot, and a checkpoint that covers its entry."""
    settings = ledger.rt.settings
    made = build_and_publish(
        settings, ledger.rt.engine, load_log_key(settings), ledger.clock(), random_bytes=secrets.token_bytes
    )
    if covered:
        publish(settings)
    return made


@pytest.fixture
def shelf(ledger: LedgerFixture) -> SnapshotServer:
    """A shelf that looks when the test says so."""
    return SnapshotServer(ledger.rt.settings, ledger.rt.engine, ledger.clock)


def names(shelf: SnapshotServer, made: list[PublishedSnapshot]) -> list[bool]:
    """Which of the snapshots are served."""
    found = []
    for one in made:
        try:
            found.append(shelf.find(b64url(one.version)).manifest == one.manifest)
        except SnapshotUnknown:
            found.append(False)
    return found


def test_the_introduction_proves_the_snapshot(ledger: LedgerFixture, shelf: SnapshotServer) -> None:
    ledger.report(ledger.acme, ledger.person())
    made = snapshot(ledger)
    shelf.refresh()
    latest = json.loads(shelf.latest().latest)
    assert latest.keys() == {"version", "manifest", "signature", "leaf", "proof", "policy_toml"}
    origin, log_key = parse_verifier_key(ledger.rt.keys.log_verifier_key)
    manifest = open_manifest(latest["manifest"], unb64url(latest["signature"], 64), log_key, ledger.rt.settings.service)
    assert manifest == made.manifest
    assert latest["version"] == b64url(manifest.version)
    leaf = latest["leaf"].encode()
    assert snapshot_leaf_matches(parse_leaf(leaf), latest["manifest"])
    proof = parse_proof(latest["proof"])
    assert (proof.index, proof.extra) == (made.entry_index, None)
    checkpoint = open_checkpoint(proof.checkpoint_note, origin, log_key)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(leaf), proof.hashes, checkpoint.root)
    assert manifest.policy_sha256 == hashlib.sha256(latest["policy_toml"].encode()).digest()


@pytest.mark.parametrize("laid_out", [True, False])
def test_every_bucket_comes_with_its_path_in_one_length(
    ledger: LedgerFixture, shelf: SnapshotServer, laid_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATHS_BITS", 20 if laid_out else 0)
    for number in range(8):
        ledger.report(ledger.acme, ledger.person(number))
    snapshot(ledger)
    shelf.refresh()
    one = shelf.latest()
    assert bool(one.paths) is laid_out
    manifest = one.manifest
    answers = [one.bucket(number) for number in range(2**manifest.bits)]
    assert {len(answer) for answer in answers} == {manifest.bucket_bytes + 32 * manifest.bits}
    whole = one.buckets_path.read_bytes()
    for number, answer in enumerate(answers):
        bucket, path = split_answer(answer, manifest)
        check_bucket(bucket, path, number, manifest.version, manifest.bits, manifest.buckets_root)
        assert bucket == whole[number * manifest.bucket_bytes : (number + 1) * manifest.bucket_bytes]
    for number in (-1, 2**manifest.bits):
        with pytest.raises(SnapshotUnknown):
            one.bucket(number)
    local = FuseFilter.open(one.filter_path.read_bytes(), manifest.filter_sha256)
    assert all(tag(*who) in local for number in range(8) for who in ledger.person(number))


def test_a_fetch_is_counted_for_the_alarm(ledger: LedgerFixture, settings: Settings) -> None:
    ledger.report(ledger.acme, ledger.person())
    made = snapshot(ledger)
    ledger.rt.snapshots.refresh()
    kind, element = ledger.person()[0]
    number = prefix(tag(kind, element), made.manifest.bits)
    one, body = ledger.rt.snapshots.fetch_bucket(ledger.bolt.member(), b64url(made.version), f"{number:08x}")
    assert body == one.bucket(number)
    assert 'refund_ledger_bucket_fetches_total{platform="bolt"} 1.0' in ledger.rt.metrics.text().decode()
    for name, text in (
        (b64url(made.version), f"{2**made.manifest.bits:08x}"),
        (b64url(made.version), "0000000A"),
        (b64url(made.version), "0"),
        (b64url(made.version), "+0000001"),
        (b64url(made.version), "0000_001"),
        (b64url(secrets.token_bytes(16)), "00000000"),
        ("latest", "00000000"),
    ):
        with pytest.raises(SnapshotUnknown):
            ledger.rt.snapshots.fetch_bucket(ledger.bolt.member(), name, text)


def test_nothing_is_served_before_a_checkpoint_covers_it(ledger: LedgerFixture, shelf: SnapshotServer) -> None:
    shelf.refresh()
    with pytest.raises(SnapshotUnknown):
        shelf.latest()
    first = snapshot(ledger)
    ledger.clock.moment += timedelta(hours=1)
    second = snapshot(ledger, covered=False)
    shelf.refresh()
    assert names(shelf, [first, second]) == [True, False]
    publish(ledger.rt.settings)
    shelf.refresh()
    assert names(shelf, [first, second]) == [True, True]
    assert shelf.latest().manifest == second.manifest


def test_the_introduction_does_not_change_while_a_snapshot_is_served(
    ledger: LedgerFixture, shelf: SnapshotServer
) -> None:
    snapshot(ledger)
    shelf.refresh()
    before = shelf.latest()
    ledger.report(ledger.acme, ledger.person())
    publish(ledger.rt.settings)
    shelf.refresh()
    assert shelf.latest() is before
    assert before.latest_etag == shelf.latest().latest_etag


def test_a_snapshot_ends_by_the_clock_and_older_ones_make_room(ledger: LedgerFixture, shelf: SnapshotServer) -> None:
    ledger.clock.moment = from_day(day_floor(ledger.clock()) + 2) - timedelta(hours=1)
    made = []
    for _ in range(3):
        made.append(snapshot(ledger))
        shelf.refresh()
        ledger.clock.moment += timedelta(hours=1)
    assert names(shelf, made) == [False, True, True], "two are kept"
    one = shelf.latest()
    assert shelf.seconds_left(one) == 23 * 3600
    ledger.clock.moment = one.manifest.not_after - timedelta(seconds=1)
    assert names(shelf, made) == [False, False, True]
    assert shelf.seconds_left(one) == 1
    ledger.clock.moment += timedelta(seconds=1)
    assert names(shelf, made) == [False, False, False], "without another look"
    assert shelf.seconds_left(one) == 0
    with pytest.raises(SnapshotUnknown):
        shelf.latest()
    shelf.refresh()
    with pytest.raises(SnapshotUnknown):
        shelf.latest()


@pytest.mark.parametrize("harm", ["folder", FILTER, BUCKETS, TREE, POLICY, "cut"])
def test_where_the_files_are_missing_an_older_one_stays_the_latest(
    ledger: LedgerFixture, shelf: SnapshotServer, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    older = snapshot(ledger)
    shelf.refresh()
    ledger.clock.moment += timedelta(hours=1)
    newer = snapshot(ledger)
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
            shelf.refresh()
    assert shelf.latest().manifest == older.manifest
    here = [record for record in caplog.records if record.threadName == "MainThread"]  # a runtime keeps a shelf too
    assert [record.getMessage() for record in here].count("snapshot_files_missing") == 1
    shutil.rmtree(folder, ignore_errors=True)
    kept.rename(folder)
    shelf.refresh()
    assert shelf.latest().manifest == newer.manifest, "they have been copied here meanwhile"


def test_files_that_are_deleted_stay_readable(ledger: LedgerFixture, shelf: SnapshotServer) -> None:
    made = snapshot(ledger)
    shelf.refresh()
    one = shelf.latest()
    expected = one.bucket(0)
    shutil.rmtree(folder_of(ledger.rt.settings, made.version))
    assert one.bucket(0) == expected


def test_a_process_looks_by_itself_and_after_a_restart(ledger: LedgerFixture) -> None:
    made = snapshot(ledger)
    wait_for(ledger.rt.snapshots, made)
    with opened(ledger.rt.settings, ledger.clock) as again:
        wait_for(again.snapshots, made)
        assert again.snapshots.alive()
    assert not again.snapshots.alive()


def wait_for(shelf: SnapshotServer, made: PublishedSnapshot) -> None:
    end = time.monotonic() + 20
    while names(shelf, [made]) != [True]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_without_a_database_what_is_served_stays(ledger: LedgerFixture, tmp_path: Path) -> None:
    snapshot(ledger)
    gone = tmp_path / "gone"
    gone.mkdir()
    engine = open_engine(f"sqlite:///{gone / 'ledger.db'}")
    shelf = SnapshotServer(ledger.rt.settings, ledger.rt.engine, ledger.clock)
    shelf.refresh()
    before = shelf.latest()
    shutil.rmtree(gone)
    shelf._engine = engine
    with pytest.raises(DatabaseUnavailable):
        shelf.refresh()
    assert shelf.latest() is before
    engine.dispose()


@pytest.mark.parametrize("broken", ["{}", "{", '{"a":1}'])
def test_a_snapshot_that_cannot_be_read_keeps_no_other_from_being_served(
    ledger: LedgerFixture, shelf: SnapshotServer, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = [snapshot(ledger), snapshot(ledger)]
    with writing(ledger.rt.engine) as connection:
        connection.execute(update(Snapshot).where(Snapshot.version == made[1].version).values(manifest=broken))
    for _ in range(2):
        shelf.refresh()
        assert names(shelf, made) == [True, False]
    assert [one.message for one in caplog.records if one.name == module.__name__] == ["snapshot_unreadable"]


def test_an_empty_file_is_as_good_as_none(ledger: LedgerFixture, shelf: SnapshotServer) -> None:
    made = [snapshot(ledger), snapshot(ledger)]
    (folder_of(ledger.rt.settings, made[1].version) / BUCKETS).write_bytes(b"")
    shelf.refresh()
    assert names(shelf, made) == [True, False]
