"""A snapshot's manifest: the cut of the log, its time, and the digests of the files that clients download.

It is signed with the log's key, so a snapshot can be fetched from any server. Its body is also the `snapshot`
governance entry of the log, which would lack a manifest that was made for one member only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature as SignatureRefused
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import InvalidManifest, LedgerError, NewerFormat, SnapshotExpired
from ledger.protocol.encoding import MAX_INTEGER, b64url, canonical_json, format_time, parse_time, unb64url
from ledger.protocol.tags import MAX_EPOCH
from ledger.snapshots.layout import CAPACITY_STEP, ENTRY_BYTES, MAX_BITS, MAX_CAPACITY, VERSION_BYTES
from ledger.tlog.entries import GovernanceType, Leaf
from ledger.tlog.merkle import HASH_BYTES

FORMAT = 1
MAX_LIFETIME_HOURS = 24
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""How far `as_of` may be ahead of the reader's clock."""

MAX_FILTER_BYTES = 2**40
MAX_TAGS = 2**40
MAX_POLICY_VERSION = 2**31 - 1

# A checkpoint note signed by the same key begins with the log's origin, which holds no white space (C2SP signed-note;
# `checkpoint.sign` refuses others), on a line of its own. This line has spaces, so no bytes can be read both as a
# manifest and as a checkpoint, and a signature on one is never valid for the other.
_SIGNED_AS = b"refund-ledger snapshot manifest v1\n"

_SERVICE = re.compile(r"[!-~]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One snapshot of the ledger of `service`: the state at `as_of` of the log's first `cut` entries.

    `version` (16 bytes) names it; it must not be used from `not_after` on. `epoch` is the key epoch of its tags,
    `policy` and `policy_sha256` (32 bytes) are the policy of its standings. There are 2^`bits` buckets of `capacity`
    entries under `buckets_root` (32 bytes), and a filter file of `filter_bytes` bytes that holds `tags` tags.
    """

    service: str
    version: bytes
    cut: int
    as_of: datetime
    not_after: datetime
    epoch: int
    policy: int
    policy_sha256: bytes
    bits: int
    capacity: int
    filter_bytes: int
    filter_sha256: bytes
    tags: int
    buckets_root: bytes

    @property
    def bucket_bytes(self) -> int:
        """The bytes of one bucket, without its path."""
        return self.capacity * ENTRY_BYTES

    @property
    def buckets_bytes(self) -> int:
        """The bytes of all buckets together (`buckets.bin`)."""
        return self.bucket_bytes << self.bits


_BYTES = {"version": VERSION_BYTES, "policy_sha256": 32, "filter_sha256": 32, "buckets_root": HASH_BYTES}
_INTEGERS = {
    "cut": (0, MAX_INTEGER),
    "epoch": (0, MAX_EPOCH),
    "policy": (1, MAX_POLICY_VERSION),
    "bits": (1, MAX_BITS),
    "capacity": (CAPACITY_STEP, MAX_CAPACITY),
    "filter_bytes": (1, MAX_FILTER_BYTES),
    "tags": (0, MAX_TAGS),
}
_TIMES = ("as_of", "not_after")
_KEYS = {"v", *(item.name for item in fields(Manifest))}


def manifest_body(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest as JSON, which is also the body of its entry in the log. Raises InvalidManifest for
    impossible values."""
    _check(manifest)
    body: dict[str, Any] = {"v": FORMAT, "service": manifest.service}
    for name in _INTEGERS:
        body[name] = getattr(manifest, name)
    for name in _BYTES:
        body[name] = b64url(getattr(manifest, name))
    for name in _TIMES:
        body[name] = format_time(getattr(manifest, name))
    return body


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the canonical JSON of `manifest_body`. Raises InvalidManifest for impossible values."""
    return canonical_json(manifest_body(manifest))


def parse_manifest(value: Mapping[str, Any]) -> Manifest:
    """Parse the manifest in `value` and check the bounds of each known member.

    Members that a later version added are ignored; the signature and the log's entry cover them too. No signature is
    verified here: use `open_manifest`. Raises InvalidManifest, and NewerFormat for a manifest with a higher format
    number.
    """
    # `True` and 1.0 equal 1, so the types are compared.
    if type(value.get("v")) is int and FORMAT < value["v"] <= MAX_INTEGER:
        raise NewerFormat(
            "This snapshot is in a format that this version does not read. Update the program.", format=value["v"]
        )
    if not value.keys() >= _KEYS or type(value["v"]) is not int or value["v"] != FORMAT:
        raise InvalidManifest("This is not a snapshot manifest of a version that is known here.")
    parsed: dict[str, Any] = {"service": value["service"]} | {name: value[name] for name in _INTEGERS}
    try:
        parsed |= {name: unb64url(value[name], length) for name, length in _BYTES.items()}
        parsed |= {name: parse_time(value[name]) for name in _TIMES}
    except LedgerError as error:
        raise InvalidManifest("A snapshot manifest holds a value in a wrong form.") from error
    manifest = Manifest(**parsed)
    _check(manifest)
    return manifest


def sign_manifest(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """Return the log key's Ed25519 signature (64 bytes) over a fixed first line and `manifest_bytes`. Deterministic.

    It can never be used as the signature of a checkpoint, see `_SIGNED_AS`. Raises InvalidManifest.
    """
    return key.sign(_SIGNED_AS + manifest_bytes(manifest))


def open_manifest(value: Mapping[str, Any], signature: bytes, public_key: bytes, service: str) -> Manifest:
    """Verify the signature by the log's `public_key` (32 bytes) and return the manifest of `service` in `value`.

    The signature is checked before the content is parsed. The caller checks that the manifest is current
    (`check_current`) and in the log (`snapshot_leaf_matches`). The signature is verified over all of `value`, with the
    members that this version does not know. Raises InvalidManifest, and NewerFormat for a manifest with a valid
    signature and a higher format number.
    """
    try:
        signed = _SIGNED_AS + canonical_json(dict(value))
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (SignatureRefused, LedgerError, TypeError, ValueError) as error:
        raise InvalidManifest("The log's key did not sign this snapshot manifest.") from error
    manifest = parse_manifest(value)
    if manifest.service != service:
        raise InvalidManifest("This snapshot belongs to another service.")
    return manifest


def check_current(manifest: Manifest, now: datetime) -> None:
    """Check that a snapshot may be used at `now` (aware).

    Raises SnapshotExpired from `not_after` on, and InvalidManifest if `as_of` is more than 5 minutes in the future: one
    of the two clocks is wrong, and the remaining time is unknown.
    """
    if now >= manifest.not_after:
        raise SnapshotExpired("This snapshot is past its end; fetch the latest.")
    if manifest.as_of > now + MAX_CLOCK_SKEW:
        raise InvalidManifest("This snapshot was made in the future: one of the clocks is wrong.")


def snapshot_leaf_matches(leaf: Leaf, value: Mapping[str, Any]) -> bool:
    """True if `leaf`, a record of the log, is the `snapshot` entry of the manifest `value`, which is the JSON object as
    it was received, because it may have members that this version does not know. Raises InvalidCanonicalForm for a
    value that has no canonical form."""
    if leaf.type != GovernanceType.SNAPSHOT or leaf.body is None:
        return False
    return canonical_json(dict(leaf.body)) == canonical_json(dict(value))


def _check(manifest: Manifest) -> None:
    """Check the values of a manifest. Check the values of a manifest. Raises InvalidManifest for values that no
    snapshot has."""
    for name, (low, high) in _INTEGERS.items():
        number = getattr(manifest, name)
        if type(number) is not int or not low <= number <= high:
            raise InvalidManifest(f"The {name} of a snapshot must be an integer from {low} to {high}.")
    if manifest.capacity % CAPACITY_STEP:
        raise InvalidManifest(f"The capacity of a snapshot's buckets must be a multiple of {CAPACITY_STEP}.")
    if any(len(getattr(manifest, name)) != length for name, length in _BYTES.items()):
        raise InvalidManifest("A digest or the version of a snapshot has a wrong length.")
    if not isinstance(manifest.service, str) or not _SERVICE.match(manifest.service):
        raise InvalidManifest("A snapshot names the service it belongs to.")
    as_of, not_after = manifest.as_of, manifest.not_after
    if any(moment.tzinfo is None or moment.microsecond for moment in (as_of, not_after)):
        raise InvalidManifest("The times of a snapshot must carry their zone and be whole seconds.")
    if not timedelta(0) < not_after - as_of <= timedelta(hours=MAX_LIFETIME_HOURS):
        raise InvalidManifest(f"A snapshot must be valid for at most {MAX_LIFETIME_HOURS} hours.")
