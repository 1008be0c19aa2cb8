"""Reports a second with 3 x 10^6 reports stored, against those with 10^4: intake must not slow down with the ledger.

Both ledgers are PostgreSQL databases on one server, each with an API process of its own, and take turns. What is stored
is written by SQL, with ids below those of the log, as if the reports had come before everything else.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import psycopg

from ledger.protocol.encoding import b64url, day_floor, hour_floor
from ledger.rules.standing import Tier
from ledger.server.runtime import utc_now
from ledger.server.settings import Settings
from tests.bench import load
from tests.bench.bench_lookups import METRICS_TOKEN, from_memory
from tests.bench.bench_reports import payloads
from tests.bench.servers import uvicorn
from tests.support import CONSENT, Platform, mint, new_ledger, opened, server_environment

MANY, FEW = 3_000_000, 10_000
ROUNDS, REPORTS = 7, 400
CONNECTIONS = 64
TARGET = 0.8

_FILL = """
INSERT INTO report (id, platform, control_group, order_ref, conduct, amount_minor, currency, outcome, act_ended_at,
  notice_sent_at, recorded_at, effective_hour, expires_day, act_id, live, replaces)
SELECT -n, 'member-' || n %% 50, 'group-' || n %% 50, sha256(int8send(n)), 'switched_return', 9900, 'CNY',
  'refund_refused', now() - interval '30 days', now() - interval '28 days', now() - interval '28 days', %(hour)s,
  %(day)s + 1095, -n, true, NULL FROM generate_series(1, %(count)s) AS n;
INSERT INTO subject (report_id, slot, epoch, kind, element, salt)
SELECT -n, 0, 1, 'phone', sha256(int8send(n + 1000000000)), sha256(int8send(n + 2000000000))
  FROM generate_series(1, %(count)s) AS n;
INSERT INTO listing (tag, report_id, slot, epoch, kind, act_id, control_group, conduct, amount_minor, currency, act_day,
  effective_hour, expires_day, disputed, unconfirmed, restituted, has_statement)
SELECT sha256(int8send(n + 3000000000)), -n, 0, 1, 'phone', -n, 'group-' || n %% 50, 'switched_return', 9900, 'CNY',
  %(day)s, %(hour)s, %(day)s + 1095, false, false, false, false FROM generate_series(1, %(count)s) AS n;
"""


def fill(settings: Settings, count: int) -> None:
    """`count` reports of 50 platforms about as many people, and the day's tiers as counted (a process counts them once
    a day, beside everything else). Indexes are made after the rows."""
    now = utc_now()
    values = {"count": count, "day": day_floor(now) - 30, "hour": hour_floor(now) - 24 * 20}
    url = settings.database_url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url) as connection:
        connection.execute(
            "SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET statement_timeout = 0"
        )
        with _without_indexes(connection, ("report", "subject", "listing")):
            for statement in _FILL.split(";")[:-1]:
                connection.execute(statement, values)
        for tier in Tier:
            connection.execute(
                "INSERT INTO daily_tiers (day, tier, tags) VALUES (%s, %s, 0)", (day_floor(now), tier.value)
            )
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE report, subject, listing")
        connection.execute("CHECKPOINT")


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any], tables: Iterable[str]) -> Iterator[None]:
    """Drop the indexes and primary keys of `tables`, and make them again."""
    again: list[str] = []
    for table in tables:
        keys = connection.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = %s::regclass AND contype = 'p'",
            (table,),
        ).fetchall()
        again += [f'ALTER TABLE "{table}" ADD CONSTRAINT "{name}" {definition}' for name, definition in keys]
        indexes = connection.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = %s::regclass AND NOT indisprimary",
            (table,),
        ).fetchall()
        again += [definition for _, definition in indexes]
        for name, _ in keys:
            connection.execute(f'ALTER TABLE "{table}" DROP CONSTRAINT "{name}"')
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
    yield
    for statement in again:
        connection.execute(statement)


class Ledger:
    """A ledger with `stored` reports, and new ones to be recorded."""

    def __init__(self, database_url: str, folder: Path, stored: int) -> None:
        self.settings = new_ledger(
            database_url, folder, publish_interval_ms=1000, auth_refresh_seconds=1, metrics_token=METRICS_TOKEN
        )
        self._platform = Platform("bench", "bench-group", "bench-1").enrol(self.settings)
        with opened(self.settings) as rt:
            self.reports = payloads(rt, self._platform, (ROUNDS + 1) * REPORTS)
        fill(self.settings, stored)

    def _authorization(self) -> str:
        token = mint(self._platform.key, self._platform.kid, self._platform.name, self.settings.service)
        return f"Bearer {token}"

    def settle(self, url: str) -> None:
        """Wait until clean lookups are answered from memory: by then a process has read what it reads at its start."""
        body = {
            "epoch": 1,
            "subjects": [{"kind": "phone", "tag": b64url(secrets.token_bytes(32))}],
            "purpose": "appeal",
            "order_ref": b64url(secrets.token_bytes(32)),
            "consent_ref": CONSENT,
        }
        asked = load.request("POST", f"{url}/v1/lookups", orjson.dumps(body), Authorization=self._authorization())
        end = time.monotonic() + 300
        while from_memory(url) == 0:
            assert time.monotonic() < end, "the filter was never ready"
            load.run(url, [asked] * 4, connections=1)

    def per_second(self, url: str) -> float:
        """Reports a second, of the next `REPORTS`."""
        some, self.reports = self.reports[:REPORTS], self.reports[REPORTS:]
        authorization = self._authorization()
        requests = [
            load.request(
                "POST",
                f"{url}/v1/reports",
                orjson.dumps(report),
                Authorization=authorization,
                Idempotency_Key=secrets.token_hex(16),
            )
            for report in some
        ]
        result = load.run(url, requests, connections=CONNECTIONS)
        assert set(result.statuses) == {201}, result
        return result.per_second


def run(new_database: Callable[[], str], folder: Path) -> list[dict[str, Any]]:
    """The row of the issue's table."""
    many = Ledger(new_database(), folder / "many", MANY)
    few = Ledger(new_database(), folder / "few", FEW)
    with (
        uvicorn("api.app:create_app", True, **server_environment(many.settings)) as many_url,
        uvicorn("api.app:create_app", True, **server_environment(few.settings)) as few_url,
    ):
        many.settle(many_url)
        few.settle(few_url)
        # The first round warms both up.
        pairs = [(many.per_second(many_url), few.per_second(few_url)) for _ in range(ROUNDS + 1)]
    ours, baseline, ratio = (
        statistics.median(column)
        for column in zip(*[(value, two, value / two) for value, two in pairs[1:]], strict=True)
    )
    return [
        {
            "name": "reports one by one, 3 x 10^6 stored against 10^4",
            "ours": round(ours, 1),
            "baseline": round(baseline, 1),
            "ratio": round(ratio, 2),
            "unit": "reports/s",
            "target": TARGET,
            "met": ratio >= TARGET,
        }
    ]
