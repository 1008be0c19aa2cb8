"""Builds snapshots: from the state of the ledger at one moment, then moved into place, then published by one
transaction.

The row (version, cut, weights, secret) is committed before the build starts. A lock in the snapshots' folder allows one
builder at a time. The order of the steps makes every crash harmless: no client uses a version whose row is not
published, and the next run deletes its row and its files (docs/decisions, number 8).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Engine

from ledger.errors import ConfigurationError, InvalidEncoding, LedgerError, LogFrozen, StaleEpoch, Unavailable
from ledger.protocol.encoding import b64url, day_floor, hour_floor, unb64url
from ledger.rules.policy.timeline import PolicyTimeline
from ledger.rules.webhooks import MessageSource, WebhookType
from ledger.server.appeals.weights import refresh_weights
from ledger.server.db.engine import reading, snapshot_reading, writing
from ledger.server.db.opening import open_database
from ledger.server.keys.epochs import current_of, read_epochs
from ledger.server.keys.files import fsync_folder
from ledger.server.log import queries as log_store
from ledger.server.log.policies import read_timeline
from ledger.server.log.writer import append_governance
from ledger.server.platforms.group_weights import weights_at
from ledger.server.settings import Settings
from ledger.server.snapshots import queries as store
from ledger.server.snapshots.files import BuildStage, Progress, Rules, Written, folder_of, silent, write_files
from ledger.server.snapshots.queries import SnapshotRow
from ledger.server.webhooks.emit import emit_all
from ledger.snapshots.manifest import Manifest, manifest_body, manifest_bytes
from ledger.snapshots.times import ends_at, is_due
from ledger.tlog.entries import GovernanceType

VERSION_BYTES, SECRET_BYTES = 16, 32
BUILD_TIMEOUT_MS = 15 * 60 * 1000
"""PostgreSQL's time limit in a build for one statement, and for the pause between two statements."""

LOCK_FILE, ALARM_FILE = ".lock", ".capacity-exceeded"
_BUILDING = ".building-"

log = logging.getLogger(__name__)

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class PublishedSnapshot:
    """A published snapshot: its manifest, the index of its log entry, the number of its sealed entries and the size of
    its files."""

    manifest: Manifest
    entry_index: int
    entries: int
    bytes_total: int

    @property
    def version(self) -> bytes:
        """Return the version of the snapshot, 16 bytes."""
        return self.manifest.version


def builder_engine(settings: Settings) -> Engine:
    """Return an engine whose statements may take as long as a build does. Raises as `open_database`."""
    return open_database(settings, statement_timeout_ms=BUILD_TIMEOUT_MS, idle_timeout_ms=BUILD_TIMEOUT_MS, pool_size=2)


def build_and_publish(
    settings: Settings,
    engine: Engine,
    log_key: Ed25519PrivateKey,
    now: datetime,
    *,
    random_bytes: RandomBytes,
    progress: Progress = silent,
) -> PublishedSnapshot:
    """Build a snapshot of the present ledger, publish it, and delete the snapshots that it replaces.

    Raises Unavailable while another process builds, LogFrozen, StaleEpoch if the key epoch changed meanwhile,
    ConfigurationError before genesis or if the folder cannot be written, DatabaseUnavailable. Nothing is published
    then, except that DatabaseUnavailable may also mean that the answer to the last commit was lost.
    """
    with _building_alone(settings):
        return _build(settings, engine, log_key, now, random_bytes, progress)


def publish_due(
    settings: Settings,
    engine: Engine,
    log_key: Ed25519PrivateKey,
    now: datetime,
    *,
    random_bytes: RandomBytes,
    progress: Progress = silent,
) -> PublishedSnapshot | None:
    """Call `build_and_publish` if a snapshot is due, else return None. In both cases, delete snapshots past their end.

    A snapshot is due if the newest one is older than `snapshot_interval_seconds`, of an earlier UTC day (see
    `ledger.snapshots.times`), of another key epoch than the current one, or without its files. None is due while the
    log is frozen. Raises as `build_and_publish`.
    """
    if not any(_work_to_do(settings, engine, now)):
        return None
    with _building_alone(settings):
        due, _ = _work_to_do(settings, engine, now)  # another process may have built one until now
        if due:
            return _build(settings, engine, log_key, now, random_bytes, progress)
        clean_up(settings, engine, now)
    return None


def clean_up(settings: Settings, engine: Engine, now: datetime) -> None:
    """Delete what no client may fetch any longer: rows and files of abandoned builds, and of snapshots past their end
    or beyond `snapshots_kept`. The caller holds the builder's lock. Raises DatabaseUnavailable.

    Rows are deleted first, so that no server offers a snapshot without its files. A server that has a file open can
    still read it.
    """
    with writing(engine) as connection:
        kept, ended = _kept_and_ended(settings, connection, now)
        store.delete_snapshots(connection, [row.version for row in (*ended, *store.read_building(connection))])
    names = {b64url(row.version) for row in kept}
    for path in list(settings.snapshots_dir.iterdir()):
        if path.name not in names and _is_snapshot(path):
            shutil.rmtree(path, ignore_errors=True)


def capacity_alarms(settings: Settings) -> int:
    """Return how many snapshots were published so far whose fullest bucket exceeded the capacity of the formula."""
    try:
        return int((settings.snapshots_dir / ALARM_FILE).read_text())
    except (OSError, ValueError):
        return 0


# --- building ---------------------------------------------------------------------------------------------------


def _build(
    settings: Settings,
    engine: Engine,
    log_key: Ed25519PrivateKey,
    now: datetime,
    random_bytes: RandomBytes,
    progress: Progress,
) -> PublishedSnapshot:
    clean_up(settings, engine, now)
    version = random_bytes(VERSION_BYTES)
    folder = settings.snapshots_dir / f"{_BUILDING}{b64url(version)}"
    try:
        progress(BuildStage.COUNTING, 0, 0)
        with reading(engine) as connection:
            policy = read_timeline(connection).at(now)
        refresh_weights(engine, policy, now)  # the stored weights may follow from an earlier policy
        with snapshot_reading(engine) as connection:
            row, rules = _begin(settings, connection, version, random_bytes(SECRET_BYTES), now)
            with writing(engine) as second:
                store.insert_building(second, row)
            folder.mkdir(mode=0o700)
            hour, day = hour_floor(row.as_of), day_floor(row.as_of)
            tags_count = store.listed_tags_count(connection, row.epoch, hour, day)
            rows = store.stream_listed(connection, row.epoch, hour, day)
            written = write_files(folder, row, rows, tags_count, rules, log_key, progress)
        _put_in_place(settings, folder, version)
        progress(BuildStage.PUBLISHING, 0, 0)
        with writing(engine) as connection:
            entry_index = _publish(settings, connection, row, written, now)
        _raise_alarm(settings, written)
        progress(BuildStage.CLEANING, 0, 0)
    finally:
        _clean_up_quietly(settings, engine, now)
    return PublishedSnapshot(written.manifest, entry_index, written.entries, written.bytes_total)


def _begin(
    settings: Settings, connection: Connection, version: bytes, secret: bytes, now: datetime
) -> tuple[SnapshotRow, Rules]:
    """Return the row of a new snapshot, and the rules for its build, all read at one moment."""
    head = log_store.read_head(connection)
    if head is None:
        raise ConfigurationError("The ledger has no log yet. Run `refund-ledger keys init` first.")
    if head.frozen is not None:
        raise LogFrozen("The log is frozen: no snapshot can be published.", retry_after_seconds=60)
    as_of = now.replace(microsecond=0)
    timeline = read_timeline(connection)
    policy, text = timeline.at(as_of), timeline.entry_at(as_of).text or ""
    weights = weights_at(connection, policy, as_of)
    row = SnapshotRow(
        version=version,
        status="building",
        cut=head.size,
        as_of=as_of,
        not_after=_end(as_of, settings.snapshot_lifetime_hours, timeline),
        epoch=current_of(read_epochs(connection)).epoch,
        policy=policy.version,
        weights=json.dumps(weights, sort_keys=True),
        secret=secret,
    )
    return row, Rules(settings.service, policy, text)


def _end(as_of: datetime, lifetime_hours: int, timeline: PolicyTimeline) -> datetime:
    """Return the end of a snapshot cut at `as_of`. Everything in it follows from one policy, so it ends at the latest
    when the next policy comes into effect (docs/decisions/0019-policy-in-the-log.md)."""
    end, following = ends_at(as_of, timedelta(hours=lifetime_hours)), timeline.next_after(as_of)
    return end if following is None else min(end, following.in_effect_at)


def _put_in_place(settings: Settings, folder: Path, version: bytes) -> None:
    folder.chmod(0o755)
    fsync_folder(folder)
    folder.rename(folder_of(settings, version))
    fsync_folder(settings.snapshots_dir)


def _publish(settings: Settings, connection: Connection, row: SnapshotRow, written: Written, now: datetime) -> int:
    """Append the log entry and mark the row as published; return the entry's index. After an exception, neither is
    stored."""
    manifest = written.manifest
    entry_index = append_governance(connection, GovernanceType.SNAPSHOT, manifest_body(manifest), now)
    # The head is held from here on, so no rotation can happen in between.
    if current_of(read_epochs(connection)).epoch != row.epoch:
        raise StaleEpoch("The key epoch changed while the snapshot was built. Build another.", epoch=row.epoch)
    if not store.mark_published(
        connection,
        row.version,
        manifest=manifest_bytes(manifest).decode(),
        signature=written.signature,
        entry_index=entry_index,
        published_at=now,
    ):
        raise Unavailable("Another process has abandoned this snapshot.", retry_after_seconds=1)
    data: dict[str, str | int] = {
        "version": b64url(row.version),
        "cut": row.cut,
        "epoch": row.epoch,
        "entry_index": entry_index,
    }
    source = MessageSource(settings.service, settings.environment)
    emit_all(connection, now, source, WebhookType.SNAPSHOT_PUBLISHED, data)
    return entry_index


def _raise_alarm(settings: Settings, written: Written) -> None:
    if written.observed <= written.formula:
        return
    log.warning("snapshot_capacity_exceeded", extra={"formula": written.formula, "observed": written.observed})
    (settings.snapshots_dir / ALARM_FILE).write_text(f"{capacity_alarms(settings) + 1}\n")


# --- snapshots that are due and snapshots that have ended -------------------------------------------------------


def _work_to_do(settings: Settings, engine: Engine, now: datetime) -> tuple[bool, bool]:
    """Return whether a snapshot is due, and whether a snapshot has ended."""
    with reading(engine) as connection:
        head = log_store.read_head(connection)
        kept, ended = _kept_and_ended(settings, connection, now)
        epoch = current_of(read_epochs(connection)).epoch
    newest = kept[0] if kept else None
    due = (
        newest is None
        or newest.epoch != epoch
        or is_due(newest.as_of, now, timedelta(seconds=settings.snapshot_interval_seconds))
        or not folder_of(settings, newest.version).is_dir()
    )
    return due and head is not None and head.frozen is None, bool(ended)


def _kept_and_ended(
    settings: Settings, connection: Connection, now: datetime
) -> tuple[list[SnapshotRow], list[SnapshotRow]]:
    """Return the published snapshots that are served, and those that have ended, both newest first."""
    kept: list[SnapshotRow] = []
    ended: list[SnapshotRow] = []
    for row in store.published(connection):
        serve = row.not_after > now and len(kept) < settings.snapshots_kept
        (kept if serve else ended).append(row)
    return kept, ended


def _clean_up_quietly(settings: Settings, engine: Engine, now: datetime) -> None:
    """Clean up without raising: a published snapshot stays published, and no second error hides the first one."""
    try:
        clean_up(settings, engine, now)
    except LedgerError as error:
        log.warning("snapshot_clean_up_postponed", extra={"code": error.code})


def _is_snapshot(path: Path) -> bool:
    """True if `path` is a folder that a build created. Nothing else in the snapshots' folder is ever deleted."""
    try:
        unb64url(path.name.removeprefix(_BUILDING), VERSION_BYTES)
    except InvalidEncoding:
        return False
    return path.is_dir() and not path.is_symlink()


@contextmanager
def _building_alone(settings: Settings) -> Iterator[None]:
    """Hold the builder's lock. Raises Unavailable if another process holds it, ConfigurationError for a folder that
    cannot be written."""
    folder = settings.snapshots_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"The folder {folder} for snapshots cannot be written: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                "Another process is building a snapshot. Try again when it is done.", retry_after_seconds=5
            ) from error
        yield
    finally:
        os.close(lock)
