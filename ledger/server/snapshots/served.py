"""The snapshots that this process serves, mapped into memory and ready to be sent.

A thread reads every second which snapshots are published, and keeps the newest `snapshots_kept` of them that a
published checkpoint covers and whose files are on this machine. A prepared snapshot never changes: the answer of
`latest` contains the first checkpoint covering the entry that this process read, and everything else follows from the
manifest.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from ledger.errors import LedgerError, SnapshotUnknown
from ledger.protocol.encoding import b64url
from ledger.server.db.engine import reading
from ledger.server.log import queries as log_store
from ledger.server.log.queries import PublishedCheckpoint
from ledger.server.log.writer import tile_reader
from ledger.server.platforms.members import Member
from ledger.server.process.supervision import Worker
from ledger.server.settings import Settings
from ledger.server.snapshots import queries as store
from ledger.server.snapshots.files import BUCKETS, FILTER, POLICY, TREE, folder_of
from ledger.server.snapshots.queries import SnapshotRow
from ledger.snapshots.buckets import bucket_path
from ledger.snapshots.manifest import Manifest, parse_manifest
from ledger.tlog.entries import parse_canonical
from ledger.tlog.merkle import HASH_BYTES, inclusion_proof
from ledger.tlog.proof import TlogProof, format_proof

REFRESH_SECONDS = 1.0

PATIENCE_SECONDS = 30.0
"""Time for which the refresh may fail or hang before the process reports it. Mapping a large snapshot takes seconds."""

PATHS_BITS = 14
"""Merkle paths are computed in advance for snapshots of at most this number of prefix bits (7 MiB)."""

_PREFIX = re.compile(r"[0-9a-f]{8}\Z")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedSnapshot:
    """A snapshot that is served. `name` is its version in URLs, `latest` the JSON that describes and proves it."""

    name: str
    manifest: Manifest
    latest: bytes
    folder: Path
    buckets: memoryview
    tree: bytes
    paths: bytes
    """The Merkle paths of all buckets, one after another, if there are at most 2^PATHS_BITS buckets; else empty."""

    @property
    def latest_etag(self) -> str:
        """Return the entity tag of `latest`, which depends on the checkpoint that this process read first."""
        return f'"{hashlib.sha256(self.latest).hexdigest()[:32]}"'

    @property
    def filter_path(self) -> Path:
        """Return the path of the filter file."""
        return self.folder / FILTER

    @property
    def buckets_path(self) -> Path:
        """Return the path of the file with all buckets, one after another."""
        return self.folder / BUCKETS

    def bucket(self, prefix: int) -> bytes:
        """Return bucket `prefix`, followed by its Merkle path from the leaf's sibling upwards. Raises SnapshotUnknown
        if there is no such bucket."""
        manifest = self.manifest
        if not 0 <= prefix < 1 << manifest.bits:
            raise SnapshotUnknown("This snapshot has no such bucket.")
        size, path_bytes = manifest.bucket_bytes, manifest.bits * HASH_BYTES
        bucket = self.buckets[prefix * size : (prefix + 1) * size]
        path = self.paths[prefix * path_bytes : (prefix + 1) * path_bytes]
        return b"".join((bucket, path or bucket_path(self.tree, manifest.bits, prefix)))


class SnapshotServer:
    """Serves the published snapshots from memory (see the module docstring). Reading takes no lock."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        now: Callable[[], datetime],
        on_bucket: Callable[[str, bytes, int, int], object] = lambda *_: None,
    ) -> None:
        """`on_bucket` is called with (platform, version, prefix, bits) for each bucket that a platform fetches."""
        self._settings = settings
        self._engine = engine
        self._now = now
        self._on_bucket = on_bucket
        self._served: dict[str, ServedSnapshot] = {}
        self._refreshing = threading.Lock()
        self._begun = self._served_by = 0
        """The number of refreshes that have begun, and the number of the one whose result is in `_served`."""
        self._missing: set[bytes] = set()
        # While a refresh fails, the snapshots of the last one are still served.
        self.worker = Worker(
            "shelf", lambda: self.refresh(), seconds=REFRESH_SECONDS, patience_seconds=PATIENCE_SECONDS
        )

    def start(self) -> SnapshotServer:
        """Start the thread that looks for snapshots, and return this object at once."""
        self.worker.start()
        return self

    def close(self, timeout_seconds: float | None = None) -> None:
        """Stop the thread, and wait for it at most `timeout_seconds`."""
        self.worker.close(timeout_seconds)

    def alive(self) -> bool:
        """True if the thread looks for new snapshots and does not hang."""
        return self.worker.progress().state not in ("stopped", "stuck")

    def latest(self) -> ServedSnapshot:
        """Return the newest snapshot that has not ended. Raises SnapshotUnknown if there is none."""
        for served in self._served.values():
            if self._now() < served.manifest.not_after:
                return served
        raise SnapshotUnknown("There is no snapshot yet.")

    def find(self, version: str) -> ServedSnapshot:
        """Return the snapshot of this version. Raises SnapshotUnknown if it is unknown, superseded or past its end."""
        served = self._served.get(version)
        if served is None or self._now() >= served.manifest.not_after:
            raise SnapshotUnknown("This snapshot is not served any more. Fetch the latest.")
        return served

    def fetch_bucket(self, member: Member, version: str, prefix: str) -> tuple[ServedSnapshot, bytes]:
        """Return the snapshot of this version, and its bucket `prefix` (8 lower-case hexadecimal digits) with the
        bucket's Merkle path. The fetch is counted, not recorded. Raises SnapshotUnknown."""
        snapshot = self.find(version)
        if not _PREFIX.match(prefix):
            raise SnapshotUnknown("A bucket's number has 8 hexadecimal digits.")
        number = int(prefix, 16)
        body = snapshot.bucket(number)
        self._on_bucket(member.platform, snapshot.manifest.version, number, snapshot.manifest.bits)
        return snapshot, body

    def seconds_left(self, snapshot: ServedSnapshot) -> int:
        """Return the whole seconds until the snapshot's end; 0 after the end."""
        return max(0, int((snapshot.manifest.not_after - self._now()).total_seconds()))

    def refresh(self) -> None:
        """Serve the snapshots that are published now. Raises DatabaseUnavailable; nothing changes then."""
        with self._refreshing:
            self._begun += 1
            number = self._begun
        snapshots: dict[str, ServedSnapshot] = {}
        with reading(self._engine) as connection:
            checkpoint = log_store.latest_checkpoint(connection)
            for row in store.published(connection):
                if len(snapshots) == self._settings.snapshots_kept:
                    break
                served = self._served.get(b64url(row.version)) or self._open(connection, row, checkpoint)
                if served is not None and row.not_after > self._now():
                    snapshots[served.name] = served
        with self._refreshing:
            # Of two concurrent refreshes, the one that began first must not replace the result of the other.
            if number > self._served_by:
                self._served, self._served_by = snapshots, number

    def _open(
        self, connection: Connection, row: SnapshotRow, checkpoint: PublishedCheckpoint | None
    ) -> ServedSnapshot | None:
        """Return the snapshot of `row`; None if no checkpoint covers it yet or its files are not on this machine."""
        index = row.entry_index
        if checkpoint is None or index is None or checkpoint.size <= index or row.manifest is None:
            return None
        leaf = log_store.read_leaf(connection, index)
        assert leaf is not None
        hashes = inclusion_proof(index, checkpoint.size, tile_reader(connection))
        folder = folder_of(self._settings, row.version)
        try:
            manifest = parse_manifest(parse_canonical(row.manifest.encode()))
            policy_text = (folder / POLICY).read_text(encoding="utf-8")
            _check_size((folder / FILTER).stat().st_size, manifest.filter_bytes)
            buckets, tree = _map(folder / BUCKETS, manifest.buckets_bytes), (folder / TREE).read_bytes()
            _check_size(len(tree), (2 ** (manifest.bits + 1) - 1) * HASH_BYTES)
            paths = _all_paths(tree, manifest.bits) if manifest.bits <= PATHS_BITS else b""
        except (OSError, ValueError, LedgerError) as error:  # the other snapshots are still served
            if row.version not in self._missing:
                self._missing.add(row.version)
                missing = isinstance(error, OSError)
                event = "snapshot_files_missing" if missing else "snapshot_unreadable"
                log.warning(event, exc_info=None if missing else error, extra={"version": b64url(row.version)})
            return None
        answer = {
            "version": b64url(row.version),
            "manifest": json.loads(row.manifest),
            "signature": b64url(row.signature or b""),
            "leaf": bytes(leaf).decode(),
            "proof": format_proof(TlogProof(index, tuple(hashes), checkpoint.note)),
            "policy_toml": policy_text,
        }
        return ServedSnapshot(b64url(row.version), manifest, json.dumps(answer).encode(), folder, buckets, tree, paths)


def _all_paths(tree: bytes, bits: int) -> bytes:
    return b"".join([bucket_path(tree, bits, number) for number in range(1 << bits)])


def _map(path: Path, size: int) -> memoryview:
    """Map the file into memory, read-only. Raises OSError, also if it does not have `size` bytes."""
    with path.open("rb") as file:
        _check_size(os.fstat(file.fileno()).st_size, size)
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _check_size(size: int, expected: int) -> None:
    if size != expected:
        raise OSError("a file of this snapshot has another size than its manifest says")
