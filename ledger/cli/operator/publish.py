"""`refund-ledger publish`: build a snapshot now, whatever the schedule says."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ledger.cli import output
from ledger.cli.operator.server import read_settings
from ledger.cli.output import JsonFlag, guarded
from ledger.cli.progress import stage_bars

if TYPE_CHECKING:
    from ledger.server.snapshots.builder import Published

STAGES = {
    "counting": "counting what is listed",
    "sealing": "sealing entries",
    "filter": "building the filter",
    "buckets": "filling buckets",
    "storing": "putting files on disk",
    "publishing": "appending to the log",
    "cleaning": "removing old snapshots",
}


@guarded
def publish(json_output: JsonFlag = False) -> None:
    """Build and publish a snapshot: filter, sealed buckets and manifest. Needs the log key; `serve` does it hourly."""
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
            done = build_and_publish(
                settings, engine, key, datetime.now(UTC), random_bytes=secrets.token_bytes, progress=progress
            )
    finally:
        engine.dispose()
    _report(done, time.monotonic() - started)


def _report(done: Published, seconds: float) -> None:
    from ledger.protocol.encoding import b64url, format_time

    manifest = done.manifest
    value = {
        "version": b64url(done.version),
        "cut": manifest.cut,
        "entry_index": done.entry_index,
        "as_of": format_time(manifest.as_of),
        "not_after": format_time(manifest.not_after),
        "epoch": manifest.epoch,
        "tags": manifest.tags,
        "entries": done.entries,
        "bits": manifest.bits,
        "capacity": manifest.capacity,
        "bytes": done.bytes_total,
        "seconds": round(seconds, 2),
    }
    output.emit(value, lambda console: console.print(output.fields(value)))
