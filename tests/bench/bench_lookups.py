"""Direct lookups over real HTTP, 10^6 listed: hits and clean ones, against a plain FastAPI + SQLAlchemy endpoint on the
same database and against bare ASGI; and what a hundredfold number of listed people costs."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import psycopg

from ledger.protocol.encoding import b64url, day_floor, hour_floor
from ledger.rules.standing import Tier
from ledger.server.db.engine import open_engine, writing
from ledger.server.runtime import utc_now
from ledger.server.settings import Settings
from ledger.server.stats.queries import insert_daily_tiers
from tests.bench import load
from tests.bench.servers import against, measured, uvicorn
from tests.support import CONSENT, Platform, mint, new_ledger, server_environment, serving

LISTED, FEW = 1_000_000, 10_000
KEPT = 5_000
SECONDS = 3.0
ROUNDS = 3
METRICS_TOKEN = "only-for-the-benchmark"

Row = dict[str, Any]


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


class Ledger:
    """A ledger with `listed` people, and requests about them and about unlisted people."""

    def __init__(self, database_url: str, folder: Path, listed: int) -> None:
        self.settings = new_ledger(
            database_url, folder, publish_interval_ms=1000, auth_refresh_seconds=1, metrics_token=METRICS_TOKEN
        )
        self._platform = Platform("bench", "bench-group", "bench-1").enrol(self.settings)
        self.tags = fill(self.settings, listed, KEPT)
        self.strangers = [secrets.token_bytes(32) for _ in range(KEPT)]
        self._count_tiers()

    def _count_tiers(self) -> None:
        """The day's count of tiers as done: a server makes it once a day, which takes minutes with 10^6 tags."""
        engine = open_engine(self.settings.database_url, pool_size=1)
        with writing(engine) as connection:
            insert_daily_tiers(connection, day_floor(utc_now()), {tier.value: 0 for tier in Tier})
        engine.dispose()

    def requests(self, url: str, tags: Iterable[bytes]) -> list[bytes]:
        """A lookup of each tag, with a nonce as the SDK sends it, and a token that lasts ten minutes."""
        token = mint(self._platform.key, self._platform.kid, self._platform.name, self.settings.service)
        return [
            load.request(
                "POST",
                f"{url}/v1/lookups",
                orjson.dumps(
                    {
                        "epoch": 1,
                        "subjects": [{"kind": "phone", "tag": b64url(tag)}],
                        "purpose": "refund_review",
                        "order_ref": b64url(secrets.token_bytes(32)),
                        "consent_ref": CONSENT,
                        "refund": {"amount_minor": 100, "currency": "CNY", "claim": "damaged"},
                        "nonce": b64url(secrets.token_bytes(16)),
                    }
                ),
                Authorization=f"Bearer {token}",
            )
            for tag in tags
        ]

    def warm_up(self, url: str) -> None:
        """Go on until clean lookups are answered from memory."""
        clean = self.requests(url, self.strangers[:100])
        end = time.monotonic() + 60
        while from_memory(url) == 0:
            assert time.monotonic() < end, "the filter was never ready"
            load.run(url, clean, connections=4)
        measured(url, self.requests(url, self.tags), 1)


def from_memory(url: str) -> float:
    """Lookups that were answered from memory so far."""
    text = httpx2.get(f"{url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}).text
    name = 'refund_ledger_lookups_total{answer="clean",source="memory"} '
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


def run(new_database: Any, folder: Path) -> list[Row]:
    """The rows of the issues' tables."""
    many = Ledger(new_database(), folder / "many", LISTED)
    few = Ledger(new_database(), folder / "few", FEW)
    environment = server_environment(many.settings)
    with serving(many.settings) as server:
        many.warm_up(server.url)
        with uvicorn("tests.bench.baseline_app:create_app", **environment) as url:
            rows = [load.request("POST", f"{url}/v1/rows", orjson.dumps({"tag": b64url(tag)})) for tag in many.tags]
            measured(url, rows, 1)
            hits = against(
                (server.url, many.requests(server.url, many.tags)), (url, rows), seconds=SECONDS, rounds=ROUNDS
            )
            clean = many.requests(server.url, many.strangers)
            plain = against((server.url, clean), (url, rows), seconds=SECONDS, rounds=ROUNDS)
        with uvicorn("tests.bench.bare_app:create_app") as url:
            bare = against(
                (server.url, clean), (url, many.requests(url, many.strangers)), seconds=SECONDS, rounds=ROUNDS
            )
        with serving(few.settings) as other:
            few.warm_up(other.url)
            grown = growth((server.url, many), (other.url, few))
    return [
        rate("direct lookup with a hit, 10^6 listed, 16 connections", hits, 2.4),
        rate("clean direct lookup, 10^6 listed, 16 connections", plain, 7.0),
        rate("clean direct lookup against bare ASGI", bare, 0.33),
        {
            "name": "direct lookup p50, 10^6 against 10^4 listed (at most)",
            "ours": round(grown[0], 3),
            "baseline": round(grown[1], 3),
            "ratio": round(grown[2], 2),
            "unit": "ms",
            "target": 1.15,
            "met": grown[2] <= 1.15,
        },
    ]


def rate(name: str, result: tuple[float, float, float], target: float) -> Row:
    """A row of requests a second."""
    ours, baseline, ratio = result
    return {
        "name": name,
        "ours": round(ours, 1),
        "baseline": round(baseline, 1),
        "ratio": round(ratio, 2),
        "unit": "lookups/s",
        "target": target,
        "met": ratio >= target,
    }


def growth(many: tuple[str, Ledger], few: tuple[str, Ledger]) -> tuple[float, float, float]:
    """Median p50 in milliseconds at both, and their ratio, of lookups that are clean or hits: the worse of the two
    ratios. Four connections, so that it is the answer that is timed and not the queue."""
    results = []
    for kind in ("strangers", "tags"):
        p50: tuple[list[float], list[float]] = [], []
        for _ in range(2 * ROUNDS):
            for times, (url, ledger) in zip(p50, (many, few), strict=True):
                requests = ledger.requests(url, getattr(ledger, kind))
                times.append(measured(url, requests, SECONDS / 3, connections=4).p50_ms)
        ours, baseline = statistics.median(p50[0]), statistics.median(p50[1])
        results.append((ours, baseline, ours / baseline))
    return max(results, key=lambda row: row[2])
