"""False snapshots that a server, or an attacker on the network, could show: each is refused by name."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import (
    Equivocation,
    InvalidBucket,
    InvalidCheckpoint,
    InvalidFilter,
    InvalidInclusion,
    InvalidLeaf,
    InvalidManifest,
    InvalidReceipt,
    LedgerError,
    PolicyInvalid,
    SnapshotExpired,
    SnapshotStale,
    StaleEpoch,
    UnexpectedAnswer,
)
from ledger.protocol.encoding import b64url
from ledger.protocol.tags import prefix
from ledger.snapshots import fuse_filter as fuse
from ledger.snapshots import sealed
from ledger.snapshots.manifest import manifest_body, sign_manifest
from ledger.tlog.entries import GovernanceType
from tests.client.small_ledger import SmallLedger, canonical_text

LISTED = {"phone": "+86 138 0013 8000"}


def list_somebody(ledger: SmallLedger, **changes: Any) -> None:
    ledger.publish({("phone", LISTED["phone"]): [ledger.event()]}, **changes)


def _other_key(ledger: SmallLedger) -> None:
    manifest = ledger.published[-1].manifest
    ledger.forge_latest(signature=b64url(sign_manifest(manifest, Ed25519PrivateKey.generate())))


def _altered(ledger: SmallLedger) -> None:
    body = ledger.published[-1].latest["manifest"]
    ledger.forge_latest(manifest={**body, "cut": body["cut"] + 1})


def _another_in_the_log(ledger: SmallLedger) -> None:
    """Signed with the true key, but made for this member alone: the log holds another one."""
    manifest = replace(ledger.published[-1].manifest, buckets_root=secrets.token_bytes(32))
    ledger.forge_latest(manifest=manifest_body(manifest), signature=b64url(sign_manifest(manifest, ledger.log_key)))


def _never_logged(ledger: SmallLedger) -> None:
    """With a leaf of its own that no log holds."""
    manifest = replace(ledger.published[-1].manifest, buckets_root=secrets.token_bytes(32))
    leaf = json.loads(ledger.published[-1].latest["leaf"]) | {"body": manifest_body(manifest)}
    ledger.forge_latest(
        manifest=manifest_body(manifest),
        signature=b64url(sign_manifest(manifest, ledger.log_key)),
        leaf=canonical_text(leaf),
    )


def _leaf_of_another_sort(ledger: SmallLedger) -> None:
    index = ledger.append(GovernanceType.POLICY, ledger.published[-1].latest["manifest"])
    ledger.forge_latest(leaf=ledger.leaves[index].decode(), proof=ledger.proof(index))


def _other_index(ledger: SmallLedger) -> None:
    ledger.forge_latest(proof=ledger.proof(0))


def _false_hash(ledger: SmallLedger) -> None:
    lines = ledger.published[-1].latest["proof"].split("\n")
    lines[2] = "A" * 43 + "="
    ledger.forge_latest(proof="\n".join(lines))


def _unsigned_checkpoint(ledger: SmallLedger) -> None:
    other = SmallLedger(ledger.folder)
    other.leaves = ledger.leaves
    ledger.forge_latest(proof=other.proof(len(ledger.leaves) - 1))


def _two_histories(ledger: SmallLedger) -> None:
    """The operator signs another history for this member, after it has seen the true one."""
    with ledger.connect() as acme:
        acme.refresh_snapshot()
    del ledger.leaves[1:]
    ledger.append(GovernanceType.PLATFORM_STATUS, {"status": "another"})
    list_somebody(ledger)


def _replayed(ledger: SmallLedger) -> None:
    """An older snapshot with true signatures, which no client saw while it was current."""
    ledger.published.insert(0, ledger.published[-1])
    list_somebody(ledger)
    with ledger.connect() as acme:
        acme.refresh_snapshot()
    ledger.published.append(ledger.published[0])


def _other_policy(ledger: SmallLedger) -> None:
    text = ledger.published[-1].latest["policy_toml"]
    ledger.forge_latest(policy_toml=text.replace("expiry_minutes = 15", "expiry_minutes = 16"))


def _expired(ledger: SmallLedger) -> None:
    ledger.now += timedelta(hours=24)


def _made_in_the_future(ledger: SmallLedger) -> None:
    ledger.now -= timedelta(minutes=6)


def _other_service(ledger: SmallLedger) -> None:
    list_somebody(ledger, service="other.test")


def _unknown_epoch(ledger: SmallLedger) -> None:
    ledger.new_key(7)
    list_somebody(ledger, epoch=7)


MANIFESTS: dict[str, tuple[Callable[[SmallLedger], Any], type[LedgerError]]] = {
    "another key": (_other_key, InvalidManifest),
    "altered": (_altered, InvalidManifest),
    "signature of another length": (lambda ledger: ledger.forge_latest(signature="AAAA"), InvalidManifest),
    "another service": (_other_service, InvalidManifest),
    "another version": (lambda ledger: ledger.forge_latest(version=b64url(bytes(16))), InvalidManifest),
    "another one in the log": (_another_in_the_log, InvalidManifest),
    "not in the log": (_never_logged, InvalidInclusion),
    "entry of another sort": (_leaf_of_another_sort, InvalidManifest),
    "entry malformed": (lambda ledger: ledger.forge_latest(leaf="{}"), InvalidLeaf),
    "proof of another entry": (_other_index, InvalidLeaf),
    "false proof": (_false_hash, InvalidInclusion),
    "no proof": (lambda ledger: ledger.forge_latest(proof="none"), InvalidReceipt),
    "checkpoint of another key": (_unsigned_checkpoint, InvalidCheckpoint),
    "two histories": (_two_histories, Equivocation),
    "replayed": (_replayed, SnapshotStale),
    "another policy": (_other_policy, PolicyInvalid),
    "expired": (_expired, SnapshotExpired),
    "made in the future": (_made_in_the_future, InvalidManifest),
    "epoch that is not listed": (_unknown_epoch, StaleEpoch),
    "not an object": (lambda ledger: ledger.forge("/v1/snapshots/latest", lambda body: b"[]"), UnexpectedAnswer),
    "manifest missing": (lambda ledger: ledger.forge_latest(manifest=None), UnexpectedAnswer),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_false_manifest(ledger: SmallLedger, name: str) -> None:
    list_somebody(ledger)
    forge, error = MANIFESTS[name]
    forge(ledger)
    ledger.asked()
    with ledger.connect() as acme:
        for buckets in (False, True):
            with pytest.raises(error) as refused:
                acme.refresh_snapshot(buckets=buckets)
            assert type(refused.value) is error
    assert not [path for path in ledger.asked() if path.endswith(("filter", "buckets.bin"))], "no more is fetched of it"


def _truncated(data: bytes) -> bytes:
    return data[:-1]


def _longer(data: bytes) -> bytes:
    return data + b"\0"


def _flipped(data: bytes) -> bytes:
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("change", [_truncated, _longer, _flipped, lambda data: b""])
@pytest.mark.parametrize(("what", "error"), [("filter", InvalidFilter), ("buckets.bin", InvalidBucket)])
def test_a_false_file(
    ledger: SmallLedger, what: str, error: type[LedgerError], change: Callable[[bytes], bytes]
) -> None:
    list_somebody(ledger)
    snapshot = ledger.published[0]
    ledger.forge(ledger.path(snapshot, what), change)
    with ledger.connect() as acme:
        with pytest.raises(error):
            acme.check(ledger.buyer(LISTED))
        files = [path.name for path in (ledger.folder / "state" / "snapshots").rglob("*") if path.is_file()]
        assert {"filter": "filter.bin", "buckets.bin": "buckets.bin"}[what] not in files
        ledger.replace.clear()
        assert acme.check(ledger.buyer(LISTED)).events == 1


def test_a_filter_of_another_version(ledger: SmallLedger) -> None:
    """It is of the same length and whole in itself, but lacks the person."""
    list_somebody(ledger)
    other = fuse.build(secrets.token_bytes(32), secrets.token_bytes(32))
    assert len(other) == len(ledger.published[0].filter)
    ledger.forge(ledger.path(ledger.published[0], "filter"), lambda data: other)
    with ledger.connect() as acme, pytest.raises(InvalidFilter):
        acme.check(ledger.buyer(LISTED))


def _of_another_prefix(ledger: SmallLedger, number: int) -> bytes:
    snapshot = ledger.published[0]
    return snapshot.buckets[number ^ 1] + snapshot.paths[number ^ 1]


def _of_another_version(ledger: SmallLedger, number: int) -> bytes:
    list_somebody(ledger)
    snapshot = ledger.published.pop()
    return snapshot.buckets[number] + snapshot.paths[number]


def _reordered(ledger: SmallLedger, number: int) -> bytes:
    bucket, snapshot = ledger.published[0].buckets[number], ledger.published[0]
    return bucket[128:] + bucket[:128] + snapshot.paths[number]


def _without_the_entry(ledger: SmallLedger, number: int) -> bytes:
    keys = sealed.snapshot_keys(secrets.token_bytes(32), secrets.token_bytes(16))
    return sealed.pad_bucket([], 64, number, keys) + ledger.published[0].paths[number]


BUCKETS: dict[str, Callable[[SmallLedger, int], bytes]] = {
    "another prefix": _of_another_prefix,
    "another version": _of_another_version,
    "reordered": _reordered,
    "without the entry": _without_the_entry,
    "short": lambda ledger, number: ledger.published[0].buckets[number],
    "empty": lambda ledger, number: b"",
    "path altered": lambda ledger, number: (
        ledger.published[0].buckets[number] + _flipped(ledger.published[0].paths[number])
    ),
    "bit flipped": lambda ledger, number: (
        _flipped(ledger.published[0].buckets[number]) + ledger.published[0].paths[number]
    ),
}


@pytest.mark.parametrize("name", BUCKETS)
def test_a_false_bucket(ledger: SmallLedger, name: str) -> None:
    list_somebody(ledger)
    buyer = ledger.buyer(LISTED)
    number = prefix(buyer.subjects[0].tag, 3)
    false = BUCKETS[name](ledger, number)
    ledger.forge(ledger.path(ledger.published[0], f"buckets/{number:08x}"), lambda data: false)
    with ledger.connect() as acme:
        with pytest.raises(InvalidBucket):
            acme.check(buyer, policy="private")
        ledger.replace.clear()
        assert acme.check(buyer, policy="private").events == 1, "nothing false was kept"


def test_a_true_one_passes_all_of_this(ledger: SmallLedger) -> None:
    list_somebody(ledger)
    with ledger.connect() as acme:
        assert acme.check(ledger.buyer(LISTED)).events == 1
