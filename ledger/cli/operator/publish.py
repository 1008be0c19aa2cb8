"""`publish`: build and publish a snapshot now, independent of the schedule."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.operator.server import read_settings
from ledger.cli.progress import stage_bars

if TYPE_CHECKING:
    from ledger.server.snapshots.builder import PublishedSnapshot

STAGES = {
    "counting": "counting listed tags",
    "sealing": "sealing entries",
    "filter": "building the filter",
    "buckets": "filling buckets",
    "storing": "writing files",
    "publishing": "appending to the log",
    "cleaning": "removing old snapshots",
}


@command
def publish() -> None:
    """Build and publish a snapshot: filter, sealed buckets and manifest. Needs the log key. `serve` does this every
    hour."""
    from ledger.server.db.engine import reading
    from ledger.server.db.migrate import check_current
    from ledger.server.keys.files import load_log_key
    from ledger.server.log.logged_keys import check_log_key
    from ledger.server.snapshots.builder import build_and_publish, builder_engine

    settings = read_settings()
    key = load_log_key(settings)
    started = time.monotonic()
    engine = builder_engine(settings)
    try:
        check_current(engine)
        with reading(engine) as connection:
            check_log_key(key, settings, connection)
        with stage_bars(STAGES) as progress:
            published = build_and_publish(
                settings, engine, key, datetime.now(UTC), random_bytes=secrets.token_bytes, progress=progress
            )
    finally:
        engine.dispose()
    _report(published, time.monotonic() - started)


def _report(published: PublishedSnapshot, seconds: float) -> None:
    from ledger.protocol.encoding import b64url, format_time

    manifest = published.manifest
    value = {
        "version": b64url(published.version),
        "cut": manifest.cut,
        "entry_index": published.entry_index,
        "as_of": format_time(manifest.as_of),
        "not_after": format_time(manifest.not_after),
        "epoch": manifest.epoch,
        "tags": manifest.tags,
        "entries": published.entries,
        "bits": manifest.bits,
        "capacity": manifest.capacity,
        "bytes": published.bytes_total,
        "seconds": round(seconds, 2),
    }
    output.emit(value, lambda console: console.print(output.fields(value)))
