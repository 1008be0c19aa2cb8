"""Reports a second, one by one and in batches, against one transaction a report in the same run.

The baseline is the same server on the same PostgreSQL with `appender_max_batch=1` and no lingering: every report is
its own durable transaction that integrates the log, which is what a plain implementation would do.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import orjson

from ledger.protocol import sodium
from ledger.protocol.identifiers import Kind
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from tests.bench import load
from tests.support import Platform, mint, new_ledger, opened, report_payload, serving

SINGLE, BATCHES, BASELINE = 6_000, 10, 1_500
CONNECTIONS = 64


def payloads(rt: Runtime, platform: Platform, count: int) -> list[dict[str, Any]]:
    """Signed reports about `count` different people."""
    created = []
    for _ in range(count):
        element = sodium.scalarmult_base(sodium.scalar_reduce(secrets.token_bytes(64)))
        created.append(report_payload(rt, platform, [(Kind.PHONE, element)]))
    return created


def _ledger(database_url: str, folder: Path, **overrides: Any) -> tuple[Settings, Platform]:
    settings = new_ledger(database_url, folder, publish_interval_ms=1000, auth_refresh_seconds=1, **overrides)
    return settings, Platform("bench", "bench-group", "bench-1").enrol(settings)


def _single(settings: Settings, platform: Platform, reports: list[dict[str, Any]]) -> load.Load:
    with serving(settings) as server:
        token = mint(platform.key, platform.kid, platform.name, settings.service)
        requests = [
            load.request(
                "POST",
                f"{server.url}/v1/reports",
                orjson.dumps(report),
                Authorization=f"Bearer {token}",
                Idempotency_Key=secrets.token_hex(16),
            )
            for report in reports
        ]
        load.run(server.url, requests[:200], connections=CONNECTIONS)  # warm up
        result = load.run(server.url, requests[200:], connections=CONNECTIONS)
    assert set(result.statuses) == {201}, result
    return result


def _batches(settings: Settings, platform: Platform, reports: list[dict[str, Any]]) -> load.Load:
    with serving(settings) as server:
        token = mint(platform.key, platform.kid, platform.name, settings.service)
        requests = []
        for start in range(0, len(reports), 1000):
            items = [{"idempotency_key": secrets.token_hex(16), **report} for report in reports[start : start + 1000]]
            requests.append(
                load.request(
                    "POST",
                    f"{server.url}/v1/reports/batch",
                    orjson.dumps({"reports": items}),
                    Authorization=f"Bearer {token}",
                )
            )
        result = load.run(server.url, requests, connections=2)
    assert set(result.statuses) == {200}, result
    return result


def run(new_database: Any, folder: Path) -> list[dict[str, Any]]:
    """The two rows of the issue's table. `new_database()` gives an empty PostgreSQL database."""
    settings, platform = _ledger(new_database(), folder / "baseline", appender_max_batch=1, appender_linger_ms=0)
    with opened(settings) as rt:
        baseline = _single(settings, platform, payloads(rt, platform, BASELINE))
    settings, platform = _ledger(new_database(), folder / "ours")
    with opened(settings) as rt:
        single = _single(settings, platform, payloads(rt, platform, SINGLE))
        batches = _batches(settings, platform, payloads(rt, platform, BATCHES * 1000))
    rows = [
        ("reports one by one, 64 clients", single.per_second, 5.0),
        ("reports in batches of 1000", batches.per_second * 1000, 10.0),
    ]
    return [
        {
            "name": name,
            "ours": round(ours, 1),
            "baseline": round(baseline.per_second, 1),
            "ratio": round(ours / baseline.per_second, 2),
            "unit": "reports/s",
            "target": target,
            "met": ours / baseline.per_second >= target,
        }
        for name, ours, target in rows
    ]
