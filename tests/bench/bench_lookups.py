"""Direct lookups with a hit, 10^6 listed, against a plain FastAPI + SQLAlchemy endpoint on the same database."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import orjson
import psycopg

from ledger.core.encoding import b64url, day_floor, hour_floor
from ledger.service.runtime import utc_now
from ledger.settings import Settings
from tests.bench import load
from tests.support import ROOT, Platform, mint, new_ledger, server_environment, serving

LISTED = 1_000_000
CONNECTIONS = 16
SECONDS = 8.0


def fill(settings: Settings, count: int, keep: int) -> list[bytes]:
    """`count` listings of as many people, straight into the table; returns `keep` of the tags, spread evenly."""
    now = utc_now()
    act_day, hour = day_floor(now) - 30, hour_floor(now) - 24 * 20
    kept: list[bytes] = []
    url = settings.database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(
            "COPY listing (tag, report_id, slot, epoch, kind, act_id, control_group, conduct, amount_minor, currency,"
            " act_day, effective_hour, expires_day, disputed, unconfirmed, restituted, has_statement) FROM STDIN"
        ) as copy:
            for number in range(count):
                tag = secrets.token_bytes(32)
                if number % (count // keep) == 0:
                    kept.append(tag)
                copy.write_row(
                    (tag, 10_000_000 + number, 0, 1, "phone", 10_000_000 + number, f"group-{number % 50}",
                     "switched_return", 9_900, "CNY", act_day, hour, act_day + 1095, False, False, False, False)
                )  # fmt: skip
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE listing")
    return kept


def _baseline(settings: Settings, tags: list[bytes]) -> load.Load:
    port = 18_000 + os.getpid() % 1000
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", "tests.bench.baseline_app:create_app", "--port", str(port),
         "--no-access-log", "--log-level", "warning"],
        cwd=ROOT, env={**os.environ, **server_environment(settings)},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx2.get(f"{url}/openapi.json")
                break
            except httpx2.TransportError:
                time.sleep(0.05)
        requests = [load.request("POST", f"{url}/v1/rows", orjson.dumps({"tag": b64url(tag)})) for tag in tags]
        load.run(url, requests, connections=CONNECTIONS, seconds=2)
        result = load.run(url, requests, connections=CONNECTIONS, seconds=SECONDS)
    finally:
        process.terminate()
        process.wait()
    assert set(result.statuses) == {200}, result
    return result


def _ours(settings: Settings, platform: Platform, tags: list[bytes]) -> load.Load:
    with serving(settings) as server:
        token = mint(platform.key, platform.kid, platform.name, settings.service)
        requests = [
            load.request(
                "POST",
                f"{server.url}/v1/lookups",
                orjson.dumps(
                    {
                        "epoch": 1,
                        "subjects": [{"kind": "phone", "tag": b64url(tag)}],
                        "purpose": "refund_review",
                        "order_ref": b64url(secrets.token_bytes(32)),
                        "refund": {"amount_minor": 100, "currency": "CNY", "claim": "damaged"},
                    }
                ),
                Authorization=f"Bearer {token}",
            )
            for tag in tags
        ]
        load.run(server.url, requests, connections=CONNECTIONS, seconds=2)
        result = load.run(server.url, requests, connections=CONNECTIONS, seconds=SECONDS)
    assert set(result.statuses) == {200}, result
    return result


def run(new_database: Any, folder: Path) -> list[dict[str, Any]]:
    """The row of the issue's table."""
    settings = new_ledger(new_database(), folder, publish_interval_ms=1000, auth_refresh_seconds=1)
    platform = Platform("bench", "bench-group", "bench-1").enrol(settings)
    tags = fill(settings, LISTED, 5_000)
    baseline = _baseline(settings, tags)
    ours = _ours(settings, platform, tags)
    ratio = ours.per_second / baseline.per_second
    return [
        {
            "name": "direct lookup with a hit, 10^6 listed, 16 connections",
            "ours": round(ours.per_second, 1),
            "baseline": round(baseline.per_second, 1),
            "ratio": round(ratio, 2),
            "unit": "lookups/s",
            "target": 0.8,
            "met": ratio >= 0.8,
        }
    ]
