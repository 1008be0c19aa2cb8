"""Writes the files of a snapshot. Every byte follows from its row, the listings at its cut, the policy and the log key.

A folder `snapshots_dir/<version as base64url>/` contains

- `filter.bin`     the local filter over all tags that have an entry,
- `buckets.bin`    2^bits buckets of capacity x 128 bytes, in the order of their prefixes,
- `tree.bin`       the Merkle tree over the buckets, leaves first,
- `policy.toml`    the policy with which standings are computed,
- `manifest.json`  {"manifest", "signature"}, for operators who serve the folder from a CDN.

Listings are read in the order of their tags, which is the order of the buckets. The size of buckets depends on the
fullest one, so entries are stored in a temporary file first. Only one bucket, the tags and the filter's tables are in
memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.protocol.encoding import b64url, canonical_json
from ledger.protocol.tags import prefix
from ledger.rules.policy.values import Policy
from ledger.server.settings import Settings
from ledger.server.snapshots.queries import ListedRow, SnapshotRow
from ledger.snapshots import fuse_filter as fuse
from ledger.snapshots import sealed
from ledger.snapshots.buckets import actual_capacity, bits_for, bucket_leaf, bucket_root, build_tree, capacity_for
from ledger.snapshots.layout import ENTRY_BYTES
from ledger.snapshots.manifest import Manifest, manifest_body, sign_manifest
from ledger.snapshots.private_standing import listed_events, sealed_format, to_packed

FILTER, BUCKETS, TREE = "filter.bin", "buckets.bin", "tree.bin"
POLICY, MANIFEST = "policy.toml", "manifest.json"
_SPOOL = "entries.tmp"

_BUFFER_BYTES = 1 << 20
_TICK = 512
"""Number of tags or buckets between two calls of `progress`."""

log = logging.getLogger(__name__)

MAX_EVENTS = sealed.MAX_SLOTS * sealed.EVENTS_PER_ENTRY
"""The most events of one tag in a snapshot. If there are more, it contains those of the latest acts."""


class BuildStage(StrEnum):
    """The stages of a build, in this order."""

    COUNTING = "counting"
    SEALING = "sealing"
    FILTER = "filter"
    BUCKETS = "buckets"
    STORING = "storing"
    PUBLISHING = "publishing"
    CLEANING = "cleaning"


Progress = Callable[[BuildStage, int, int], None]
"""Called with a stage, the amount of work done in it, and the total amount (0 if it is not known). An exception that it
raises ends the build."""


def silent(_stage: BuildStage, _done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a snapshot: the name of the service, the policy, and its text as logged."""

    service: str
    policy: Policy
    policy_text: str


@dataclass(frozen=True, slots=True)
class Written:
    """A finished folder. `formula` is the capacity that follows from the number of entries, `observed` the number of
    entries in the fullest bucket. If `observed` is greater, the capacity is raised and an alarm is written."""

    manifest: Manifest
    signature: bytes
    entries: int
    formula: int
    observed: int
    bytes_total: int


def folder_of(settings: Settings, version: bytes) -> Path:
    """Return the folder of the files of a snapshot. `version` has 16 bytes."""
    return settings.snapshots_dir / b64url(version)


def write_files(
    folder: Path,
    row: SnapshotRow,
    rows: Iterable[ListedRow],
    tags_count: int,
    rules: Rules,
    key: Ed25519PrivateKey,
    progress: Progress = silent,
) -> Written:
    """Write the snapshot of `row`, whose status is building, into the empty `folder`, and return what was written. The
    files are synced to disk then.

    `rows` are from `stream_listed`, in the order of (tag, report); `tags_count` is the number of their tags. Needs
    about 100 bytes of memory for each tag. Raises ValueError if the snapshot is published already.
    """
    if row.secret is None:
        raise ValueError("the snapshot is published: its secret is gone")
    bits, keys = bits_for(tags_count), sealed.snapshot_keys(row.secret, row.version)
    tags, counts = _seal_all(folder / _SPOOL, row, rows, tags_count, bits, rules.policy, keys, progress)
    progress(BuildStage.FILTER, 0, len(tags) // 32)
    filter_file = fuse.build(tags, keys.filter_seed)
    _write(folder / FILTER, filter_file)
    entries, observed = sum(counts), max(counts)
    formula = capacity_for(entries, bits)
    capacity = actual_capacity(formula, observed)
    tree = _write_buckets(folder, row.version, counts, capacity, keys, progress)
    _write(folder / TREE, tree)
    _write(folder / POLICY, rules.policy_text.encode())
    manifest = Manifest(
        service=rules.service,
        version=row.version,
        cut=row.cut,
        as_of=row.as_of,
        not_after=row.not_after,
        epoch=row.epoch,
        policy=row.policy,
        policy_sha256=hashlib.sha256(rules.policy_text.encode()).digest(),
        bits=bits,
        capacity=capacity,
        filter_bytes=len(filter_file),
        filter_sha256=hashlib.sha256(filter_file).digest(),
        tags=len(tags) // 32,
        buckets_root=bucket_root(tree, bits),
    )
    signature = sign_manifest(manifest, key)
    signed = {"manifest": manifest_body(manifest), "signature": b64url(signature)}
    _write(folder / MANIFEST, canonical_json(signed) + b"\n")
    bytes_total = sum(path.stat().st_size for path in folder.iterdir())
    return Written(manifest, signature, entries, formula, observed, bytes_total)


def _seal_all(
    spool: Path,
    row: SnapshotRow,
    rows: Iterable[ListedRow],
    tags_count: int,
    bits: int,
    policy: Policy,
    keys: sealed.SnapshotKeys,
    progress: Progress,
) -> tuple[bytearray, list[int]]:
    """Seal all entries into the file `spool`, bucket after bucket. Return the tags with an entry, packed, and the
    number of entries of each bucket."""
    weights: dict[str, int] = json.loads(row.weights)
    tags, counts = bytearray(), [0] * 2**bits
    with spool.open("wb", buffering=_BUFFER_BYTES) as file:
        for done, (tag, listed) in enumerate(groupby(rows, itemgetter(0))):
            if done % _TICK == 0:
                progress(BuildStage.SEALING, done, tags_count)
            number = prefix(tag, bits)
            entries = _seal_tag(tag, list(listed), row, number, weights, policy, keys)
            if entries:
                tags += tag
                counts[number] += len(entries)
                file.writelines(entries)
    progress(BuildStage.SEALING, tags_count, tags_count)
    return tags, counts


def _seal_tag(
    tag: bytes,
    listed: list[ListedRow],
    row: SnapshotRow,
    number: int,
    weights: dict[str, int],
    policy: Policy,
    keys: sealed.SnapshotKeys,
) -> list[bytes]:
    """Return the sealed entries of one tag, for bucket `number`; an empty list if no event of the tag is visible."""
    events = listed_events(listed, weights, policy, row.as_of)
    if len(events) > MAX_EVENTS:
        log.warning("snapshot_events_left_out", extra={"events": len(events) - MAX_EVENTS})
        events = sorted(events, key=attrgetter("act_day", "report_id"))[-MAX_EVENTS:]
    if not events:
        return []
    packed = to_packed(events, weights, policy, keys, tag, row.as_of)
    return sealed.seal_packed(events[0].element, events[0].kind, row.version, number, packed, sealed_format(policy))


def _write_buckets(
    folder: Path, version: bytes, counts: Sequence[int], capacity: int, keys: sealed.SnapshotKeys, progress: Progress
) -> bytes:
    """Pad the spooled buckets into `buckets.bin` and delete the spool; return the Merkle tree over the buckets."""
    leaves = []
    with (
        (folder / _SPOOL).open("rb", buffering=_BUFFER_BYTES) as spool,
        (folder / BUCKETS).open("xb", buffering=_BUFFER_BYTES) as file,
    ):
        for number, count in enumerate(counts):
            if number % _TICK == 0:
                progress(BuildStage.BUCKETS, number, len(counts))
            data = spool.read(count * ENTRY_BYTES)
            entries = [data[start : start + ENTRY_BYTES] for start in range(0, len(data), ENTRY_BYTES)]
            bucket = sealed.pad_bucket(entries, capacity, number, keys)
            file.write(bucket)
            leaves.append(bucket_leaf(version, number, bucket))
        progress(BuildStage.STORING, 0, 0)
        _sync(file)
    (folder / _SPOOL).unlink()
    return build_tree(leaves)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        _sync(file)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
