"""Checks of a snapshot's parts: the answer that names the newest one, and the files that its manifest pins."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ledger.client.identity.suite import Suite
from ledger.client.models.decoding import Model, decode_json
from ledger.errors import (
    InvalidBucket,
    InvalidEncoding,
    InvalidFilter,
    InvalidManifest,
    NewerFormat,
    PolicyInvalid,
)
from ledger.protocol.encoding import b64url, unb64url
from ledger.rules.policy.values import Policy, read_policy
from ledger.snapshots.buckets import bucket_leaf, bucket_root, build_tree
from ledger.snapshots.manifest import Manifest, open_manifest, snapshot_leaf_matches
from ledger.tlog.proof import open_leaf_proof, parse_proof


@dataclass(frozen=True, slots=True)
class Latest:
    """A verified answer of `GET /v1/snapshots/latest`: signed by the log's key and included in the log.

    `policy` is the one that standings are computed with, `note` the signed checkpoint under which the log holds the
    manifest, `answer` the whole answer as received.
    """

    manifest: Manifest
    policy: Policy
    note: str
    answer: bytes


class _LatestAnswer(Model, frozen=True):
    """The answer of `GET /v1/snapshots/latest`."""

    manifest: dict[str, Any]
    signature: str
    version: str
    leaf: str
    proof: str
    policy_toml: str


def open_latest(answer: bytes, suite: Suite) -> Latest:
    """Return the snapshot that `answer` names, verified against the pinned service and log key. Whether it is current,
    and whether its checkpoint continues the history seen before, is for the caller to ask.

    Raises UnexpectedAnswer (not of this form), InvalidManifest (false signature, another service, or not what the
    entry says), InvalidReceipt, InvalidCheckpoint, InvalidLeaf, InvalidInclusion (the log does not hold the entry),
    PolicyInvalid (another policy than the manifest pins), NewerFormat (a manifest or a policy that only a later version
    reads).
    """
    pinned, public_key = suite.pinned, suite.log_public
    latest = decode_json(answer, _LatestAnswer)
    value, proof, policy_toml = latest.manifest, latest.proof, latest.policy_toml
    try:
        signature = unb64url(latest.signature, 64)
    except InvalidEncoding as error:
        raise InvalidManifest("The signature of the snapshot's manifest is malformed.") from error
    manifest = open_manifest(value, signature, public_key, pinned.service)
    leaf, _ = open_leaf_proof(proof, latest.leaf.encode(), pinned.log_origin, public_key)
    if not snapshot_leaf_matches(leaf, value) or latest.version != b64url(manifest.version):
        raise InvalidManifest("The log's entry is not that of this snapshot's manifest.")
    if hashlib.sha256(policy_toml.encode()).digest() != manifest.policy_sha256:
        raise PolicyInvalid("This is not the policy that the snapshot's manifest pins.")
    try:
        policy = read_policy(policy_toml)
    except PolicyInvalid as error:  # the text is the one that was signed
        raise NewerFormat("The policy of this snapshot cannot be read by this version. Update the program.") from error
    if policy.version != manifest.policy:
        raise PolicyInvalid("The policy has another version than the snapshot's manifest says.")
    return Latest(manifest, policy, parse_proof(proof).checkpoint_note, answer)


class FilterSink:
    """Receives the parts of a filter file, and compares its digest with the manifest's at the end."""

    def __init__(self, manifest: Manifest) -> None:
        self.size = manifest.filter_bytes
        self._expected = manifest.filter_sha256
        self._digest = hashlib.sha256()

    def write(self, part: bytes) -> None:
        """Add the next part."""
        self._digest.update(part)

    def finish(self) -> None:
        """Raises InvalidFilter."""
        if self._digest.digest() != self._expected:
            raise self.wrong("This is not the filter that the manifest names.")

    def wrong(self, message: str) -> InvalidFilter:
        """Return the error of a wrong filter."""
        return InvalidFilter(message)


class BucketsSink:
    """Receives the parts of `buckets.bin`, and compares the root over all buckets with the manifest's."""

    def __init__(self, manifest: Manifest) -> None:
        self.size = manifest.buckets_bytes
        self._manifest = manifest
        self._waiting = bytearray()
        self._leaves: list[bytes] = []

    def write(self, part: bytes) -> None:
        """Add the next part. Holds less than one bucket and this part in memory."""
        self._waiting += part
        length = self._manifest.bucket_bytes
        done = len(self._waiting) // length * length
        with memoryview(self._waiting) as waiting:
            for start in range(0, done, length):
                leaf = bucket_leaf(self._manifest.version, len(self._leaves), waiting[start : start + length])
                self._leaves.append(leaf)
        del self._waiting[:done]

    def finish(self) -> None:
        """Raises InvalidBucket."""
        manifest = self._manifest
        if self._waiting or len(self._leaves) != 2**manifest.bits:
            raise self.wrong("The buckets do not have the length that the manifest says.")
        if bucket_root(build_tree(self._leaves), manifest.bits) != manifest.buckets_root:
            raise self.wrong("These are not the buckets that the snapshot's root commits to.")

    def wrong(self, message: str) -> InvalidBucket:
        """Return the error of wrong buckets."""
        return InvalidBucket(message)


def checked_buckets(manifest: Manifest, data: memoryview) -> memoryview:
    """Return `data`, if it is the whole `buckets.bin` of the manifest. Raises InvalidBucket."""
    sink = BucketsSink(manifest)
    step = max(1, (1 << 20) // manifest.bucket_bytes) * manifest.bucket_bytes
    for start in range(0, len(data), step):
        sink.write(bytes(data[start : start + step]))
    sink.finish()
    return data
