"""A ledger with three platforms, two of them under one control, on both engines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from ledger.protocol.encoding import format_time
from ledger.protocol.identifiers import Kind
from ledger.server.db.engine import open_engine, reading, writing
from ledger.server.db.schema import Base
from ledger.server.reports.reports import restitute_report, submit_report, withdraw_report
from ledger.server.runtime import Runtime, utc_now
from ledger.server.settings import Settings
from tests.kept import run
from tests.support import (
    Platform,
    element_of,
    ledger_settings,
    lookup_request,
    new_ledger,
    opened,
    report_payload,
    submit_lookup,
)
from tests.webhook_kit import post, receiver

__all__ = ["post", "receiver"]

Subjects = list[tuple[Kind, bytes]]


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.moment = utc_now().replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.moment


@dataclass
class LedgerFixture:
    """The ledger and its members: acme and acme2 under one control, bolt on its own."""

    rt: Runtime
    clock: Clock
    acme: Platform
    acme2: Platform
    bolt: Platform

    def person(self, number: int = 0) -> Subjects:
        """Phone and payment of a person."""
        phone = element_of(self.rt, Kind.PHONE, f"+86138001380{number:02d}")
        wallet = element_of(self.rt, Kind.PAYMENT, f"alipay/20880000000000{number:02d}")
        return [(Kind.PHONE, phone), (Kind.PAYMENT, wallet)]

    def report(self, platform: Platform, subjects: Subjects, key: str | None = None, **changes: Any) -> dict[str, Any]:
        """Record a report; the answer."""
        payload = report_payload(self.rt, platform, subjects, **changes)
        stored = submit_report(self.rt.reports, platform.member(), payload, key or payload["signature"]).result(60)
        return dict(json.loads(stored.body))

    def told_now(self) -> dict[str, Any]:
        """What a further report of an order needs: a notice of its own, sent now."""
        return {"notice_sent_at": format_time(self.clock())}

    def withdraw(self, platform: Platform, report_id: str, key: str = "w", reason: str = "other") -> dict[str, Any]:
        """Take a report back; the report."""
        done = withdraw_report(self.rt.reports, platform.member(), report_id, reason, key + report_id).result(60)
        return dict(json.loads(done.body))

    def restitute(self, platform: Platform, report: dict[str, Any], received_at: str, **changes: Any) -> dict[str, Any]:
        """Record restitution of 129.00 CNY; the report."""
        values = {"amount_minor": 12_900, "currency": "CNY", **changes}
        done = restitute_report(
            self.rt.reports, platform.member(), report["id"], received_at, values["amount_minor"], values["currency"],
            values.get("key", "r" + report["id"]),
        )  # fmt: skip
        return dict(json.loads(done.result(60).body))

    def lookup(self, subjects: Subjects, **changes: Any) -> dict[str, Any]:
        """bolt's lookup; the answer without padding."""
        request = lookup_request(self.rt, subjects, **changes)
        answer = json.loads(submit_lookup(self.rt, self.bolt.member(), request).result(60))
        del answer["padding"]
        return dict(answer)


class LedgerSeed:
    """A new ledger with its members, made once and copied for each test: keys, guard, log."""

    def __init__(self, home: Path) -> None:
        self.home = home
        settings = new_ledger(f"sqlite:///{home / 'ledger.db'}", home)
        engine = open_engine(settings.database_url, pool_size=1)
        self.acme = Platform("acme", "acme-group", "acme-1").join(engine)
        self.acme2 = Platform("acme2", "acme-group", "acme2-1").join(engine)
        self.bolt = Platform("bolt", "bolt-group", "bolt-1", profile="EU").join(engine)
        engine.dispose()
        self._copied = ""

    def copy_to(self, database_url: str, folder: Path, **overrides: Any) -> Settings:
        """A copy in this database, which has the schema and no rows, and in this folder."""
        for part in ("keys", "guard"):
            shutil.copytree(self.home / part, folder / part)
        if database_url.startswith("sqlite"):
            shutil.copyfile(self.home / "ledger.db", str(make_url(database_url).database))
        else:
            self._copy_to_postgresql(database_url)
        return ledger_settings(database_url, folder, **overrides)

    def _copy_to_postgresql(self, database_url: str) -> None:
        """Row by row at first, then from a schema beside it, which stays."""
        first = self._copied == ""
        if first:
            source, sink = open_engine(f"sqlite:///{self.home / 'ledger.db'}"), open_engine(database_url)
            with reading(source) as read, writing(sink) as write:
                found = [(table, [*read.execute(table.select()).mappings()]) for table in Base.metadata.sorted_tables]
                for table, rows in found:
                    if rows:
                        write.execute(table.insert(), [dict(row) for row in rows])
            source.dispose()
            sink.dispose()
            names = [table.name for table, rows in found if rows]
            kept = [f'CREATE TABLE seed."{name}" AS TABLE "{name}"' for name in names]
            self._copied = "; ".join(f'INSERT INTO "{name}" SELECT * FROM seed."{name}"' for name in names)
        run(database_url, "; ".join(["CREATE SCHEMA seed", *kept]) if first else self._copied)


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> LedgerSeed:
    return LedgerSeed(tmp_path_factory.mktemp("seed"))


@pytest.fixture
def settings(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Settings:
    """The settings of a copy of the seed where a test uses the fixture `ledger`, else of a new ledger."""
    if "ledger" in request.fixturenames:
        seed: LedgerSeed = request.getfixturevalue("seed")
        return seed.copy_to(database_url, tmp_path)
    return new_ledger(database_url, tmp_path)


@pytest.fixture
def ledger(settings: Settings, seed: LedgerSeed) -> Iterator[LedgerFixture]:
    clock = Clock()
    with opened(settings, clock) as rt:
        yield LedgerFixture(rt, clock, seed.acme, seed.acme2, seed.bolt)


@pytest.fixture
def database_url(migrated_url: str) -> str:
    """Here every test starts from a database with the schema."""
    return migrated_url
