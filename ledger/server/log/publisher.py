"""The publisher: signs the committed log once a second when it grew, and freezes it when it must not be signed.

It runs as its own process (`python -m ledger.server.log.publisher`), which holds the log key and never the OPRF key.
Each round reads the head, computes the root from the tiles, compares with the last-signed checkpoint, signs, makes the
new checkpoint durable in the checkpoint lock file, and publishes it. If it is killed in between, the next run detects
that the signed checkpoint is ahead of the published one and publishes it.

Of several publishers on one database one has the lease (`ledger.server.log.publisher_lease`); the others stand by. All
writes are done under the lock and fence of the lease.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from ledger.errors import DatabaseUnavailable, InvalidCheckpoint, LedgerError
from ledger.server.db.engine import reading, within, writing
from ledger.server.db.opening import open_database
from ledger.server.keys.files import load_log_key, raw_public
from ledger.server.log import queries as log_store
from ledger.server.log.checkpoint_lock import CheckpointLock
from ledger.server.log.logged_keys import check_log_key
from ledger.server.log.publisher_lease import RENEW_SECONDS, Lease, LostLeaseError, identity, refusal
from ledger.server.log.queries import PublishedCheckpoint
from ledger.server.log.writer import tile_reader
from ledger.server.process import queries as process_store
from ledger.server.process.child import main, orphaned, tell
from ledger.server.settings import Settings
from ledger.tlog.checkpoint import Checkpoint, sign
from ledger.tlog.merkle import ReadTile, consistency_proof, tree_root, verify_consistency

_MISSING = "the guard is missing"
_LOCKED = "another publisher on this machine holds the guard's lock"

log = logging.getLogger("ledger.server.log.publisher")  # it runs as __main__


@dataclass(frozen=True, slots=True)
class PublisherVerdict:
    """The result of one round: the size that is signed, or why the log is frozen, or why this publisher stands by."""

    signed_size: int | None
    frozen: str | None
    standby: str | None = None


def publish_once(
    engine: Engine,
    checkpoint_lock: CheckpointLock,
    key: Ed25519PrivateKey,
    origin: str,
    now: datetime,
    lease: Lease | None = None,
) -> PublisherVerdict:
    """Run one round. The caller holds the lock of `checkpoint_lock`. Without `lease` it takes one for this round and
    releases it.

    Raises DatabaseUnavailable; then nothing was published.
    """
    if lease is not None:
        return _round_under(lease, engine, checkpoint_lock, key, origin, now)
    lease = Lease(engine, identity(checkpoint_lock.folder, checkpoint_lock.lock_id()))
    try:
        return _round_under(lease, engine, checkpoint_lock, key, origin, now)
    finally:
        lease.release()


def _round_under(
    lease: Lease, engine: Engine, checkpoint_lock: CheckpointLock, key: Ed25519PrivateKey, origin: str, now: datetime
) -> PublisherVerdict:
    with reading(engine) as connection:
        head = log_store.read_head(connection)
        published = log_store.latest_checkpoint(connection)
        size = 0 if head is None else head.size
        read_tile = tile_reader(connection)
        row, seen_at = process_store.read_lease(connection), process_store.database_now(connection)
        last_signed, guard_fault = _guarded(checkpoint_lock, published)
        standby = refusal(row, lease.me, seen_at, guard_fault)
        if standby is not None:
            return PublisherVerdict(None, None, standby)
        root, reason = b"", guard_fault
        if last_signed is not None and reason is None:
            root, reason = _follow(last_signed[0], size, read_tile)
    frozen = head.frozen if head is not None else None
    try:
        if last_signed is None or reason is not None:
            return _freeze(lease, reason or _MISSING, guard_fault, frozen, lease.wants_renewal(row, seen_at))
        checkpoint, note = last_signed
        grown = size > checkpoint.size
        unpublished = published is None or published.size < max(size, checkpoint.size)
        if frozen is not None or grown or (unpublished and size > 0) or lease.wants_renewal(row, seen_at):
            with lease.held() as connection:
                if frozen is not None:
                    # Database and checkpoint file agree again: every signed checkpoint is a prefix of the log.
                    log.warning("log_thawed")
                    log_store.set_frozen(connection, None)
                if grown:
                    checkpoint = Checkpoint(origin, size, root)
                    note = sign(checkpoint, key)
                    checkpoint_lock.write(note)
                if checkpoint.size > 0 and unpublished:
                    log_store.publish_checkpoint(
                        connection, PublishedCheckpoint(checkpoint.size, checkpoint.root, note), now
                    )
    except LostLeaseError as error:
        return PublisherVerdict(None, None, str(error))
    return PublisherVerdict(checkpoint.size, None)


def _guarded(
    checkpoint_lock: CheckpointLock, published: PublishedCheckpoint | None
) -> tuple[tuple[Checkpoint, str] | None, str | None]:
    """Return the last-signed checkpoint and its note (None: there is none that can be used), and what is wrong with the
    checkpoint file."""
    try:
        last_signed = checkpoint_lock.read()
    except InvalidCheckpoint:
        return None, "the guard is not a checkpoint of this log"
    if last_signed is None:
        return None, _MISSING
    if published is not None and published.size > last_signed[0].size:
        return last_signed, "a newer checkpoint is published than the guard knows: an old guard?"
    return last_signed, None


def _follow(signed: Checkpoint, size: int, read_tile: ReadTile) -> tuple[bytes, str | None]:
    """Return the root of the committed log, and why the log does not extend the signed checkpoint (None: it does).

    A consistency proof (RFC 6962 section 2.1.2) links the new root to the signed one, and is verified as any monitor
    would verify it: a check of the old root alone would miss a tile that was changed, extended and restored.
    """
    if size < signed.size:
        return b"", f"the log has {size} entries, but {signed.size} were signed: an old backup?"
    try:
        root = tree_root(size, read_tile)
        verify_consistency(signed.size, signed.root, size, root, consistency_proof(signed.size, size, read_tile))
    except LedgerError:  # also when a tile is missing or has the wrong length
        return b"", "the log's past differs from what was signed"
    return root, None


def _freeze(lease: Lease, reason: str, guard_fault: str | None, already: str | None, renew: bool) -> PublisherVerdict:
    """Freeze the log for `reason`. Raises LostLeaseError, DatabaseUnavailable."""
    if already != reason or renew:
        with lease.held(guard_fault) as connection:
            if already != reason:
                log.error("log_frozen", extra={"reason": reason})
                log_store.set_frozen(connection, reason[:200])
    return PublisherVerdict(None, reason)


def run(settings: Settings, stop: threading.Event, parent: int | None = None) -> int:
    """Publish until `stop`, and return the exit status. Prints a JSON line for the first verdict (the supervisor waits
    for it) and for each change.

    `parent`: stop also when the process of this id, which started this one, has ended. Raises ConfigurationError,
    DatabaseUnavailable at the start.
    """
    key = load_log_key(settings)
    engine = within(open_database(settings, pool_size=1), settings.write_deadline_ms)
    checkpoint_lock = CheckpointLock(settings.guard_dir, settings.origin, raw_public(key))
    lease = Lease(engine, identity(checkpoint_lock.folder, checkpoint_lock.lock_id()))
    reporter = VerdictReporter()
    try:
        with reading(engine) as connection:
            check_log_key(key, settings, connection)
        while not stop.is_set() and not orphaned(parent):
            # If the lock is taken, another publisher runs; wait to take over.
            locked = checkpoint_lock.try_lock()
            verdict = (
                _round(engine, checkpoint_lock, key, settings, lease)
                if locked
                else PublisherVerdict(None, None, _LOCKED)
            )
            if verdict is not None:
                reporter.say(verdict)
                _beat(engine, lease.me.holder, reporter)
            stop.wait(settings.publish_interval_ms / 1000)
        _leave(engine, lease)
    finally:
        checkpoint_lock.close()
        engine.dispose()
    return 0


@dataclass(slots=True)
class VerdictReporter:
    """The last verdict that was reported to the supervisor, and the time of the last heartbeat."""

    verdict: PublisherVerdict | None = None
    beat_at: float = 0.0

    def say(self, verdict: PublisherVerdict) -> None:
        """Report changes to the supervisor: the first verdict, and each beginning or end of standing by or freezing."""
        before, self.verdict = self.verdict, verdict
        if before is not None and (before.frozen, before.standby) == (verdict.frozen, verdict.standby):
            return
        self.beat_at = 0.0
        if verdict.standby is not None:
            log.warning("publisher_stands_by", extra={"reason": verdict.standby})
            tell({"standby": verdict.standby})
            return
        if before is not None and before.standby is not None:
            log.warning("publisher_signs")
        tell({"signed_size": verdict.signed_size, "frozen": verdict.frozen})


def _beat(engine: Engine, process: str, reporter: VerdictReporter) -> None:
    """Write the heartbeat every RENEW_SECONDS: that this publisher runs, and whether it stands by."""
    if time.monotonic() - reporter.beat_at < RENEW_SECONDS or reporter.verdict is None:
        return
    reporter.beat_at = time.monotonic()
    verdict = reporter.verdict
    state = (
        f"stands by: {verdict.standby}" if verdict.standby else f"frozen: {verdict.frozen}" if verdict.frozen else ""
    )
    try:
        with writing(engine) as connection:
            process_store.beat(connection, process, "publisher", socket.gethostname(), state)
    except LedgerError:
        log.warning("publisher_database_unavailable")


def _leave(engine: Engine, lease: Lease) -> None:
    """Release the lease and delete the heartbeat, so that another publisher need not wait."""
    try:
        lease.release()
        with writing(engine) as connection:
            process_store.forget(connection, lease.me.holder)
    except Exception:
        log.warning("publisher_lease_not_released")


def _round(
    engine: Engine, checkpoint_lock: CheckpointLock, key: Ed25519PrivateKey, settings: Settings, lease: Lease
) -> PublisherVerdict | None:
    try:
        return publish_once(engine, checkpoint_lock, key, settings.origin, datetime.now(UTC), lease)
    except DatabaseUnavailable:
        log.warning("publisher_database_unavailable")
    except Exception:
        # Signing nothing is always safe. If this process ended, no publisher would sign once the cause is gone.
        log.exception("publisher_round_failed")
    return None


if __name__ == "__main__":
    raise SystemExit(main("publisher", run))
