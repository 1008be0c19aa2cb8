"""Fetching buckets of a snapshot over real HTTP, against bare ASGI that sends as many bytes.

10^5 listed: their buckets are half as large as those of 10^6, so what an answer costs beside its bytes shows more.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2

from tests.bench import load
from tests.bench.bare_app import BUCKET_BYTES_VARIABLE
from tests.bench.bench_snapshots import fill
from tests.bench.servers import against, measured, uvicorn
from tests.support import Platform, mint, new_ledger, serving

LISTED = 100_000
SECONDS = 3.0
ROUNDS = 3


def run(new_database: Any, folder: Path) -> list[dict[str, Any]]:
    """The row of the issue's table."""
    settings = new_ledger(
        new_database(), folder, publish_interval_ms=100, auth_refresh_seconds=1, snapshots_dir=folder / "snapshots"
    )
    platform = Platform("bench", "bench-group", "bench-1").enrol(settings)
    fill(settings, LISTED)
    with serving(settings) as server:
        authorization = f"Bearer {mint(platform.key, platform.kid, platform.name, settings.service)}"
        manifest = _published(server.url, authorization)
        base = f"{server.url}/v1/snapshots/{manifest['version']}/buckets/"
        paths = [f"{base}{number:08x}" for number in range(2 ** manifest["bits"])]
        size = len(httpx2.get(paths[0], headers={"Authorization": authorization}).content)
        ours = [load.request("GET", path, Authorization=authorization) for path in paths]
        measured(server.url, ours, 1)
        with uvicorn("tests.bench.bare_app:create_app", **{BUCKET_BYTES_VARIABLE: str(size)}) as url:
            theirs = [load.request("GET", f"{url}/", Authorization=authorization)]
            result = against((server.url, ours), (url, theirs), seconds=SECONDS, rounds=ROUNDS)
    return [
        {
            "name": f"bucket fetch ({size // 1024} KiB) against bare ASGI, 16 connections",
            "ours": round(result[0], 1),
            "baseline": round(result[1], 1),
            "ratio": round(result[2], 2),
            "unit": "buckets/s",
            "target": 0.5,
            "met": result[2] >= 0.5,
        }
    ]


def _published(url: str, authorization: str) -> dict[str, Any]:
    """The manifest of the snapshot that the server builds by itself when it starts."""
    end = time.monotonic() + 300
    while True:
        answer = httpx2.get(f"{url}/v1/snapshots/latest", headers={"Authorization": authorization})
        if answer.status_code == 200:
            return dict(answer.json()["manifest"])
        assert time.monotonic() < end, answer.text
        time.sleep(0.5)
