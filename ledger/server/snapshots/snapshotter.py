"""The snapshotter: builds and publishes a snapshot when one is due, by default every hour.

It runs as its own process (`python -m ledger.server.snapshots.snapshotter`) beside the publisher. Like the publisher it
reads the log key and never the OPRF key. After an error it tries again at the next check; a build that is stopped is
abandoned.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine

from ledger.errors import Unavailable
from ledger.protocol.encoding import b64url
from ledger.server.db.engine import reading
from ledger.server.keys.files import load_log_key
from ledger.server.log.logged_keys import check_log_key
from ledger.server.process.child import main, orphaned, tell
from ledger.server.settings import Settings
from ledger.server.snapshots.builder import builder_engine, publish_due
from ledger.server.snapshots.files import BuildStage

LOOK_SECONDS = 2.0
"""Time between two checks whether a snapshot is due."""

log = logging.getLogger("ledger.server.snapshots.snapshotter")  # it runs as __main__


class _StoppedError(Exception):
    """Raised to end a build because the process stops."""


def run(settings: Settings, stop: threading.Event, parent: int | None = None) -> int:
    """Publish snapshots that are due until `stop` is set; return the exit code 0. Prints one JSON line when it is
    ready.

    `parent` is the id of the process that started this one; the loop ends also when that process has ended. Raises
    ConfigurationError if the key is not the one in the log, DatabaseUnavailable only before it is ready.
    """
    key = load_log_key(settings)
    engine = builder_engine(settings)

    def stopped() -> bool:
        return stop.is_set() or orphaned(parent)

    try:
        with reading(engine) as connection:
            check_log_key(key, settings, connection)
        tell({"ready": True})
        while not stopped():
            _look(settings, engine, key, stopped)
            stop.wait(min(LOOK_SECONDS, settings.snapshot_interval_seconds))
    finally:
        engine.dispose()
    return 0


def _look(settings: Settings, engine: Engine, key: Ed25519PrivateKey, stopped: Callable[[], bool]) -> None:
    def progress(_stage: BuildStage, _done: int, _total: int) -> None:
        if stopped():
            raise _StoppedError

    try:
        snapshot = publish_due(
            settings, engine, key, datetime.now(UTC), random_bytes=secrets.token_bytes, progress=progress
        )
        if snapshot is not None:
            log.info("snapshot_published %s cut %d", b64url(snapshot.version), snapshot.manifest.cut)
    except _StoppedError:
        log.info("snapshot_abandoned")
    except Unavailable as error:  # the database is away, or another process builds
        log.warning("snapshot_postponed %s", error.code)
    except Exception:
        # The process goes on, so that it can build again when the cause of the error has ended.
        log.exception("snapshot_failed")


if __name__ == "__main__":
    raise SystemExit(main("snapshotter", run))
