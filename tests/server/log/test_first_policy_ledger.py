"""A ledger that began under policy version 1 continues with it: weights in twentieths that change at once, and
snapshots in format 1 from which a client computes the result of a direct lookup."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.protocol.tags import prefix, tag
from ledger.rules.appeals import Outcome
from ledger.rules.policy.shipped import shipped_version
from ledger.server.keys.files import load_log_key
from ledger.server.log import genesis
from ledger.server.snapshots.builder import build_and_publish
from ledger.server.snapshots.files import folder_of
from ledger.snapshots.private_standing import standing_of
from ledger.snapshots.sealed import open_bucket
from tests.server.appeals.test_appeals import contest
from tests.server.appeals.test_appeals_upkeep import decided
from tests.server.conftest import Clock, LedgerFixture
from tests.support import Platform, new_ledger, opened


@pytest.fixture
def older(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedgerFixture]:
    """A ledger whose log begins with the first policy, as an earlier version wrote it."""
    with monkeypatch.context() as patch:
        patch.setattr(genesis, "shipped_policy", lambda: shipped_version(1))
        settings = new_ledger(database_url, tmp_path)
    acme = Platform("acme", "acme-group", "acme-1").enrol(settings)
    acme2 = Platform("acme2", "acme-group", "acme2-1").enrol(settings)
    bolt = Platform("bolt", "bolt-group", "bolt-1", profile="EU").enrol(settings)
    clock = Clock()
    with opened(settings, clock) as rt:
        yield LedgerFixture(rt, clock, acme, acme2, bolt)


def test_it_goes_on_under_its_policy(older: LedgerFixture) -> None:
    assert older.rt.policy == shipped_version(1)[1]
    lost = older.person(1)
    (case,) = contest(older, lost, older.report(older.acme, lost))
    person = older.person()
    older.report(older.acme, person)
    older.rt.members.refresh()
    assert older.rt.members.weights()["acme-group"] == 40
    decided(older, case, Outcome.OVERTURNED)
    older.rt.members.refresh()
    assert older.rt.members.weights()["acme-group"] == 36, "18 twentieths, at once"
    settings = older.rt.settings
    done = build_and_publish(
        settings, older.rt.engine, load_log_key(settings), older.clock(), random_bytes=secrets.token_bytes
    )
    manifest = done.manifest
    buckets = (folder_of(settings, done.version) / "buckets.bin").read_bytes()
    for kind, element in person:
        number = prefix(tag(kind, element), manifest.bits)
        bucket = buckets[number * manifest.bucket_bytes : (number + 1) * manifest.bucket_bytes]
        events = open_bucket(bucket, element, kind, manifest.version, number)
        assert [(event.weight, event.severity) for event in events] == [(36, None)]
        folded = standing_of([(kind, tag(kind, element), events)], older.rt.policy, manifest.as_of, older.clock())
        direct = older.lookup([(kind, element)])
        for name in ("tier", "credit", "points", "events", "reporters"):
            assert getattr(folded.standing, name) == direct[name]
        assert direct["policy"] == 1
