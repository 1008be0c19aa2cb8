"""The manifest: a strict round trip, one signature that serves for nothing else, and every tampering refused."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import InvalidCheckpoint, InvalidManifest, NewerFormat, SnapshotExpired
from ledger.protocol.encoding import MAX_INTEGER, canonical_json
from ledger.snapshots.manifest import (
    MAX_CLOCK_SKEW,
    MAX_FILTER_BYTES,
    MAX_TAGS,
    Manifest,
    check_current,
    manifest_body,
    manifest_bytes,
    open_manifest,
    parse_manifest,
    sign_manifest,
    snapshot_leaf_matches,
)
from ledger.tlog import checkpoint
from ledger.tlog.entries import GovernanceType, Leaf, event_leaf, governance_leaf, parse_leaf
from tests.counts import trials

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
AS_OF = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVICE = "refund-ledger.test"
MANIFEST = Manifest(
    service=SERVICE,
    version=bytes(range(16)),
    cut=1234,
    as_of=AS_OF,
    not_after=AS_OF + timedelta(hours=24),
    epoch=1,
    policy=3,
    policy_sha256=b"\x01" * 32,
    bits=12,
    capacity=384,
    filter_bytes=1_150_000,
    filter_sha256=b"\x02" * 32,
    tags=1_000_000,
    buckets_root=b"\x03" * 32,
)
BODY = manifest_body(MANIFEST)
SIGNATURE = sign_manifest(MANIFEST, KEY)

moments = st.integers(0, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
digests = st.binary(min_size=32, max_size=32)
manifests = st.builds(
    lambda lifetime, **values: Manifest(not_after=values["as_of"] + lifetime, **values),
    lifetime=st.integers(1, 86400).map(lambda seconds: timedelta(seconds=seconds)),
    service=st.from_regex(r"[a-z0-9.-]{1,64}", fullmatch=True),
    version=st.binary(min_size=16, max_size=16),
    cut=st.integers(0, MAX_INTEGER),
    as_of=moments,
    epoch=st.integers(0, 2**32 - 1),
    policy=st.integers(1, 2**31 - 1),
    policy_sha256=digests,
    bits=st.integers(1, 20),
    capacity=st.integers(1, 1024).map(lambda steps: 64 * steps),
    filter_bytes=st.integers(1, MAX_FILTER_BYTES),
    filter_sha256=digests,
    tags=st.integers(0, MAX_TAGS),
    buckets_root=digests,
)


@given(manifests)
@settings(max_examples=trials(36, 60))
def test_a_manifest_comes_back_from_its_json(manifest: Manifest) -> None:
    data = manifest_bytes(manifest)
    assert parse_manifest(json.loads(data)) == manifest
    signature = sign_manifest(manifest, KEY)
    assert open_manifest(json.loads(data), signature, PUBLIC, manifest.service) == manifest
    leaf = parse_leaf(governance_leaf(7, GovernanceType.SNAPSHOT, manifest.as_of, manifest_body(manifest)))
    assert snapshot_leaf_matches(leaf, manifest_body(manifest))


def test_what_is_signed() -> None:
    assert {"v": 1} | BODY == BODY
    assert BODY.keys() == {"v", *(item.name for item in fields(Manifest))}
    text = b"refund-ledger snapshot manifest v1\n" + canonical_json(BODY)
    KEY.public_key().verify(SIGNATURE, text)
    assert sign_manifest(MANIFEST, KEY) == SIGNATURE
    assert manifest_bytes(MANIFEST) == canonical_json(BODY)


def test_sizes_follow_from_it() -> None:
    assert MANIFEST.bucket_bytes == 384 * 128
    assert MANIFEST.buckets_bytes == 384 * 128 * 4096


def _altered(value: Any) -> Any:
    if isinstance(value, int):
        return value + 64
    return value[:-2] + ("A" if value[-2] != "A" else "B") + value[-1]


@pytest.mark.parametrize("name", BODY)
def test_every_field_is_under_the_signature(name: str) -> None:
    altered = {**BODY, name: _altered(BODY[name])}
    assert altered != BODY
    missing = {key: value for key, value in BODY.items() if key != name}
    values: list[dict[str, Any]] = [altered, missing, {**BODY, name: None}, {**BODY, f"{name}_": BODY[name]}]
    for value in values:
        with pytest.raises(InvalidManifest, match="did not sign"):
            open_manifest(value, SIGNATURE, PUBLIC, SERVICE)


@pytest.mark.parametrize("bit", range(0, 512, 7))
def test_every_bit_of_the_signature_counts(bit: int) -> None:
    altered = (int.from_bytes(SIGNATURE, "big") ^ 1 << bit).to_bytes(64, "big")
    with pytest.raises(InvalidManifest):
        open_manifest(BODY, altered, PUBLIC, SERVICE)


def test_other_keys_services_and_lengths_are_refused() -> None:
    for signature, public_key in [
        (sign_manifest(MANIFEST, OTHER), PUBLIC),
        (SIGNATURE, OTHER.public_key().public_bytes_raw()),
        (SIGNATURE[:-1], PUBLIC),
        (SIGNATURE + b"\0", PUBLIC),
        (b"", PUBLIC),
        (SIGNATURE, PUBLIC[:-1]),
        (SIGNATURE, b""),
    ]:
        with pytest.raises(InvalidManifest):
            open_manifest(BODY, signature, public_key, SERVICE)
    with pytest.raises(InvalidManifest, match="another service"):
        open_manifest(BODY, SIGNATURE, PUBLIC, "elsewhere.test")


def test_a_manifest_and_a_checkpoint_never_share_a_signature() -> None:
    first_line = "refund-ledger snapshot manifest v1"
    with pytest.raises(InvalidCheckpoint):
        checkpoint.checkpoint_body(checkpoint.Checkpoint(first_line, 1, bytes(32)))
    note = checkpoint.sign(checkpoint.Checkpoint(f"{SERVICE}/log", 1, bytes(32)), KEY)
    signature = checkpoint.parse(note)[1][0].signature
    with pytest.raises(InvalidManifest):
        open_manifest(BODY, signature, PUBLIC, SERVICE)
    with pytest.raises(InvalidManifest):
        open_manifest(BODY, KEY.sign(manifest_bytes(MANIFEST)), PUBLIC, SERVICE)


WRONG: list[tuple[str, Any]] = [
    *[("v", value) for value in (0, "1", True, None)],
    *[("service", value) for value in ("", "a b", "a\n", "x" * 256, "é", 5, None)],
    *[("version", value) for value in ("", "AAAA", "A" * 21 + "B", "A" * 22 + "==", 5)],
    *[("cut", value) for value in (-1, 2**53, "1", True, None, [1])],
    *[("epoch", value) for value in (-1, 2**32, False)],
    *[("policy", value) for value in (0, -1, 2**31, True)],
    *[(name, value) for name in ("policy_sha256", "filter_sha256", "buckets_root") for value in ("AA", "A" * 44, None)],
    *[("bits", value) for value in (0, -1, 21, "12", True)],
    *[("capacity", value) for value in (0, -64, 1, 63, 65, 2**16 + 64, True)],
    *[("filter_bytes", value) for value in (0, -1, 2**40 + 1)],
    *[("tags", value) for value in (-1, 2**40 + 1)],
    *[("as_of", value) for value in ("2026-03-01", "2026-03-01T12:00:00+00:00", 5, None, "2026-03-02T12:00:00Z")],
    ("not_after", "2026-03-01T12:00:00Z"),
    ("not_after", "2026-03-01T11:59:59Z"),
    ("not_after", "2026-03-02T12:00:01Z"),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
def test_a_manifest_outside_its_bounds_is_refused_though_truly_signed(name: str, value: Any) -> None:
    body = {**BODY, name: value}
    with pytest.raises(InvalidManifest):
        parse_manifest(body)
    # Not `canonical_json`, which refuses some of these values itself.
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    with pytest.raises(InvalidManifest):
        open_manifest(body, KEY.sign(b"refund-ledger snapshot manifest v1\n" + text.encode()), PUBLIC, SERVICE)


def _signed(body: dict[str, Any]) -> bytes:
    return KEY.sign(b"refund-ledger snapshot manifest v1\n" + canonical_json(body))


TEXTS = st.text(max_size=5).map(partial(unicodedata.normalize, "NFC"))
"""Texts that a canonical form takes."""


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{2,12}", fullmatch=True).filter(lambda name: name not in BODY),
        st.none() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXTS | st.lists(st.booleans(), max_size=2),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=25)
def test_members_of_later_versions_are_ignored_and_stay_under_the_signature(further: dict[str, Any]) -> None:
    body = {**BODY, **further}
    assert open_manifest(body, _signed(body), PUBLIC, SERVICE) == MANIFEST
    leaf = parse_leaf(governance_leaf(7, GovernanceType.SNAPSHOT, AS_OF, body))
    assert snapshot_leaf_matches(leaf, body)
    # What was understood is not what was signed: the manifest without the further members is another one.
    with pytest.raises(InvalidManifest):
        open_manifest(BODY, _signed(body), PUBLIC, SERVICE)
    assert not snapshot_leaf_matches(leaf, BODY)
    for name in further:
        with pytest.raises(InvalidManifest):
            open_manifest({**body, name: "altered"}, _signed(body), PUBLIC, SERVICE)


@pytest.mark.parametrize("number", [2, 7, 2**53 - 1])
def test_a_later_format_is_refused_by_name_once_its_signature_is_verified(number: int) -> None:
    body = {"v": number, "service": SERVICE, "shape": "another"}
    with pytest.raises(NewerFormat) as caught:
        open_manifest(body, _signed(body), PUBLIC, SERVICE)
    assert caught.value.details == {"format": number}
    with pytest.raises(InvalidManifest):  # signed by another key, it proves nothing
        open_manifest(body, SIGNATURE, PUBLIC, SERVICE)


@pytest.mark.parametrize(
    "change",
    [
        {"not_after": AS_OF},
        {"not_after": AS_OF + timedelta(hours=24, seconds=1)},
        {"as_of": AS_OF.replace(microsecond=1)},
        {"as_of": AS_OF.replace(tzinfo=None)},
        {"bits": 0},
        {"capacity": 100},
        {"cut": -1},
        {"version": bytes(15)},
        {"buckets_root": bytes(31)},
        {"service": ""},
    ],
    ids=str,
)
def test_an_impossible_manifest_is_never_signed(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        sign_manifest(replace(MANIFEST, **change), KEY)


@pytest.mark.parametrize("value", [{}, [], 5, None, "text", {1: 2}, {"v": 1.0}])
def test_what_is_no_manifest_at_all_is_refused(value: Any) -> None:
    with pytest.raises(InvalidManifest):
        open_manifest(value, SIGNATURE, PUBLIC, SERVICE)


def test_a_snapshot_is_current_from_its_making_to_its_end() -> None:
    second = timedelta(seconds=1)
    zone = timezone(timedelta(hours=8))
    for now in (AS_OF - MAX_CLOCK_SKEW, AS_OF, MANIFEST.not_after - second, (AS_OF + second).astimezone(zone)):
        check_current(MANIFEST, now)
    for now in (MANIFEST.not_after, MANIFEST.not_after + second, MANIFEST.not_after.astimezone(zone)):
        with pytest.raises(SnapshotExpired):
            check_current(MANIFEST, now)
    with pytest.raises(InvalidManifest):
        check_current(MANIFEST, AS_OF - MAX_CLOCK_SKEW - second)


@pytest.mark.parametrize("name", [name for name in BODY if name != "v"])
def test_the_log_holds_this_manifest_and_no_other(name: str) -> None:
    leaf = Leaf(7, GovernanceType.SNAPSHOT.value, AS_OF, body=BODY)
    assert snapshot_leaf_matches(leaf, BODY)
    assert not snapshot_leaf_matches(replace(leaf, body={**BODY, name: _altered(BODY[name])}), BODY)
    assert not snapshot_leaf_matches(replace(leaf, type=GovernanceType.POLICY.value), BODY)
    assert not snapshot_leaf_matches(parse_leaf(event_leaf(7, AS_OF, bytes(32))), BODY)
