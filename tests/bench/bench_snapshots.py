"""A snapshot of 10^6 listed identifiers on PostgreSQL: its time against sealing the entries alone, and its memory."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from ledger.protocol.encoding import day_floor, hour_floor
from ledger.protocol.tags import prefix, tag
from ledger.server.keys.files import load_log_key
from ledger.server.runtime import utc_now
from ledger.server.settings import Settings
from ledger.server.snapshots.builder import build_and_publish, builder_engine
from ledger.snapshots import sealed
from ledger.snapshots.buckets import bits_for
from ledger.snapshots.sealed import SealedEvent
from tests.support import ROOT, new_ledger, server_environment

LISTED = 1_000_000
KIND = "phone"
TIME_TARGET = 4.0
MEMORY_TARGET_MIB = 1024


def fill(settings: Settings, count: int) -> None:
    """`count` reports, each about a person of its own, straight into `listing` and `subject`.

    The elements are any 32 bytes: nothing here does arithmetic with them, and a million true ones would take a minute.
    """
    now = utc_now()
    act_day, hour = day_floor(now) - 30, hour_floor(now) - 24 * 20
    seed = secrets.token_bytes(32 * count)
    elements = [seed[start : start + 32] for start in range(0, len(seed), 32)]
    url = settings.database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(
            "COPY listing (tag, report_id, slot, epoch, kind, act_id, control_group, conduct, amount_minor, currency,"
            " act_day, effective_hour, expires_day, disputed, unconfirmed, restituted, has_statement) FROM STDIN"
        ) as copy:
            for number, element in enumerate(elements, 10_000_000):
                copy.write_row(
                    (tag(KIND, element), number, 0, 1, KIND, number, f"group-{number % 50}", "switched_return", 9_900,
                     "CNY", act_day, hour, act_day + 1095, False, False, False, False)
                )  # fmt: skip
        with connection.cursor().copy("COPY subject (report_id, slot, epoch, kind, element, salt) FROM STDIN") as copy:
            for number, element in enumerate(elements, 10_000_000):
                copy.write_row((number, 0, 1, KIND, element, element))
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE listing")
        connection.execute("VACUUM ANALYZE subject")


def seal_alone(count: int) -> float:
    """Seconds for sealing `count` entries of one event each, and nothing else."""
    version, bits = secrets.token_bytes(16), bits_for(count)
    seed = secrets.token_bytes(32 * count)
    work = [
        (seed[start : start + 32], prefix(seed[start : start + 32], bits), [_event(seed[start : start + 12])])
        for start in range(0, len(seed), 32)
    ]
    started = time.perf_counter()
    for element, number, events in work:
        sealed.seal(element, KIND, version, number, events)
    return time.perf_counter() - started


def _event(pseudonyms: bytes) -> SealedEvent:
    return SealedEvent(pseudonyms[:8], pseudonyms[8:], "switched_return", 20_000, 490_000, 20)


def build_once() -> dict[str, Any]:
    """One snapshot with the settings of the environment: seconds, tags, and this process's largest memory in MiB."""
    settings = Settings()
    engine = builder_engine(settings)
    started = time.perf_counter()
    done = build_and_publish(
        settings, engine, load_log_key(settings), utc_now(), random_bytes=secrets.token_bytes
    )  # fmt: skip
    seconds = time.perf_counter() - started
    engine.dispose()
    # The high-water mark of this program alone; `ru_maxrss` would begin with that of the process that started it.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    match = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    return {"seconds": seconds, "tags": done.manifest.tags, "memory_mib": int(match[1]) / 1024}


def run(new_database: Any, folder: Path, listed: int = LISTED) -> list[dict[str, Any]]:
    """The row of the issue's table, and the memory it took."""
    settings = new_ledger(new_database(), folder)
    fill(settings, listed)
    baseline = seal_alone(listed)
    built = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_snapshots"],
        cwd=ROOT,
        env={**os.environ, **server_environment(settings)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ours = json.loads(built.stdout)
    assert ours["tags"] == listed
    ratio, share = ours["seconds"] / baseline, ours["memory_mib"] / MEMORY_TARGET_MIB
    return [
        {
            "name": "snapshot of 10^6 listed (at most)",
            "ours": round(ours["seconds"], 1),
            "baseline": round(baseline, 1),
            "ratio": round(ratio, 2),
            "unit": "s",
            "target": TIME_TARGET,
            "met": ratio <= TIME_TARGET,
        },
        {
            "name": "memory of that snapshot (at most)",
            "ours": round(ours["memory_mib"]),
            "baseline": MEMORY_TARGET_MIB,
            "ratio": round(share, 2),
            "unit": "MiB",
            "target": 1.0,
            "met": share <= 1,
        },
    ]


if __name__ == "__main__":
    print(json.dumps(build_once()))
