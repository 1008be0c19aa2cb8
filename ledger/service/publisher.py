"""The publisher: signs what is committed, once a second when the log grew, and freezes the log when it must not.

It runs as its own process (`python -m ledger.service.publisher`), which holds the log key and never the OPRF key. Order
of every step: read the head, recompute the root from the tiles, compare with the guard, sign, make the guard
durable, publish. Killed anywhere in between, the next run finds the guard ahead of what is published and finishes.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from ledger.core.checkpoint import Checkpoint, sign
from ledger.core.merkle import ReadTile, consistency_proof, tree_root, verify_consistency
from ledger.errors import DatabaseUnavailable, InvalidCheckpoint, LedgerError
from ledger.service.database import open_database
from ledger.service.guard import Guard
from ledger.service.keys import check_log_key, load_log_key, raw_public
from ledger.service.log_writer import tile_reader
from ledger.service.processes import main, orphaned, tell
from ledger.settings import Settings
from ledger.store import log as log_store
from ledger.store.engine import reading, within, writing
from ledger.store.log import Published

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one round found: the size that is signed, or why the log is frozen."""

    signed_size: int | None
    frozen: str | None


def publish_once(engine: Engine, guard: Guard, key: Ed25519PrivateKey, origin: str, now: datetime) -> Verdict:
    """One round. The caller holds the guard's lock. Raises DatabaseUnavailable; then nothing was signed."""
    with reading(engine) as connection:
        head = log_store.read_head(connection)
        published = log_store.latest_checkpoint(connection)
        size = 0 if head is None else head.size
        read_tile = tile_reader(connection)
        found, reason = _guarded(guard)
        root = b""
        if found is not None:
            root, reason = _follow(found[0], size, published, read_tile)
    if found is None or reason is not None:
        _freeze(engine, reason or "the guard is missing", head.frozen if head is not None else None)
        return Verdict(None, reason)
    checkpoint, note = found
    if head is not None and head.frozen is not None:
        _thaw(engine)
    if size > checkpoint.size:
        checkpoint = Checkpoint(origin, size, root)
        note = sign(checkpoint, key)
        guard.write(note)
    if checkpoint.size > 0 and (published is None or published.size < checkpoint.size):
        with writing(engine) as connection:
            log_store.publish_checkpoint(connection, Published(checkpoint.size, checkpoint.root, note), now)
    return Verdict(checkpoint.size, None)


def _guarded(guard: Guard) -> tuple[tuple[Checkpoint, str] | None, str | None]:
    """The guard's checkpoint and note, or why there is none to go by."""
    try:
        found = guard.read()
    except InvalidCheckpoint:
        return None, "the guard is not a checkpoint of this log"
    return found, "the guard is missing" if found is None else None


def _follow(guard: Checkpoint, size: int, published: Published | None, read_tile: ReadTile) -> tuple[bytes, str | None]:
    """The root of the committed log, and why it cannot follow what was signed (None: it can).

    The new root is tied to the signed one by a consistency proof (RFC 6962 section 2.1.2) that is verified as any
    monitor would: looking at the old root alone would miss a tile that was changed, grown over and put back.
    """
    if size < guard.size:
        return b"", f"the log has {size} entries, but {guard.size} were signed: an old backup?"
    if published is not None and published.size > guard.size:
        return b"", "a newer checkpoint is published than the guard knows: an old guard?"
    try:
        root = tree_root(size, read_tile)
        verify_consistency(guard.size, guard.root, size, root, consistency_proof(guard.size, size, read_tile))
    except LedgerError:  # also when a tile is missing or has the wrong length
        return b"", "the log's past differs from what was signed"
    return root, None


def _freeze(engine: Engine, reason: str, already: str | None) -> None:
    if already != reason:
        log.error("log_frozen", extra={"reason": reason})
        with writing(engine) as connection:
            log_store.set_frozen(connection, reason[:200])


def _thaw(engine: Engine) -> None:
    """The right database and guard are back together: every signed checkpoint is a prefix again."""
    log.warning("log_thawed")
    with writing(engine) as connection:
        log_store.set_frozen(connection, None)


def run(settings: Settings, stop: threading.Event, parent: int | None = None) -> int:
    """Publish until `stop`. Prints one JSON line for the first verdict (the supervisor waits for it).

    `parent`: stop as well when the process of this id, which started this one, is gone.
    """
    key = load_log_key(settings)
    engine = within(open_database(settings, pool_size=1), settings.write_deadline_ms)
    guard = Guard(settings.guard_dir, settings.origin, raw_public(key))
    told = False
    try:
        with reading(engine) as connection:
            check_log_key(key, settings, connection)
        while not stop.is_set() and not orphaned(parent):
            # Without the lock another publisher is at work; wait to take over.
            if guard.try_lock():
                verdict = _round(engine, guard, key, settings)
                if verdict is not None and not told:
                    tell({"signed_size": verdict.signed_size, "frozen": verdict.frozen})
                    told = True
            elif not told:
                tell({"standby": True})
                told = True
            stop.wait(settings.publish_interval_ms / 1000)
    finally:
        guard.close()
        engine.dispose()
    return 0


def _round(engine: Engine, guard: Guard, key: Ed25519PrivateKey, settings: Settings) -> Verdict | None:
    try:
        return publish_once(engine, guard, key, settings.origin, datetime.now(UTC))
    except DatabaseUnavailable:
        log.warning("publisher_database_unavailable")
    except Exception:
        # Signing nothing is always safe; dying would leave nobody to sign once the cause is gone.
        log.exception("publisher_round_failed")
    return None


if __name__ == "__main__":
    raise SystemExit(main("publisher", run))
